package tunnel

import (
	"strings"

	"sidestream/proxy/peer"
)

// between stands between the id that a page has chosen and that of the replica that has it.
const between = "--"

// suffix is what the ids of pages that are here are to end in; "" nothing.
func (ps *Pages) suffix() string {
	if ps.Replica == "" {
		return ""
	}
	return between + ps.Replica
}

// Owner takes apart the id that a page comes with: the one that it has chosen, and the replica that has it, "" for this one, and for a
// page that nobody has yet. An id that was not handed out is taken as it is.
func (ps *Pages) Owner(id string) (chosen, replica string) {
	at := strings.LastIndex(id, between)
	if ps.Replica == "" || at < 0 || !peer.ValidID(id[at+len(between):]) {
		return id, ""
	}
	if chosen, replica = id[:at], id[at+len(between):]; replica == ps.Replica {
		return chosen, ""
	}
	return chosen, replica
}
