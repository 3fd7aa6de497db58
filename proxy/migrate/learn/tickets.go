package learn

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"
)

// ticketFor is how long before a WebSocket is dialled its ticket may have been asked for.
const ticketFor = time.Minute

// ticket is a request whose answer holds what is in the address of the WebSockets that clients dial after it.
type ticket struct {
	method, path string
	name         string // in the query; "": the answer is the whole address
	value        string // jq over the answer
}

// ticket finds the ticket of conversations; nil when there is none.
func (c *conclusion) ticket(g *group) *ticket {
	for _, name := range g.queryNames() {
		if t := c.issued(g, name, func(r *Request) string { v, _ := value(r.Query, name); return v }); t != nil {
			return t
		}
	}
	return nil
}

// issued is the ticket under a name of the query, whose values of tells.
func (c *conclusion) issued(g *group, name string, of func(*Request) string) (found *ticket) {
	for _, r := range g.all {
		v := of(r)
		if len(v) < minSecret {
			return nil
		}
		t := c.issuedBefore(r, v)
		if t == nil || found != nil && *t != *found {
			return nil
		}
		found = t
	}
	if found != nil {
		found.name = name
	}
	return found
}

// issuedBefore is the last answer before r that holds a value, and where.
func (c *conclusion) issuedBefore(r *Request, v string) *ticket {
	for _, a := range slices.Backward(c.o.Answers) {
		if a.Base != r.Base || a.At.After(r.At) || r.At.Sub(a.At) > ticketFor || a.Client != r.Client || len(a.Query) > 0 || !learnable(a.Path) || shape(a.Path) != a.Path {
			continue
		}
		leaves, _ := leavesOf(a.Data)
		for _, l := range leaves {
			if l.quoted && l.text == v && !strings.Contains(l.path, "[") {
				return &ticket{method: cmp.Or(a.Method, http.MethodGet), path: a.Path, value: l.path}
			}
		}
	}
	return nil
}

// tickets sets TICKET and DIAL where clients ask for a ticket before they dial. from is the address without it.
func (d *draft) tickets(g *group, t *ticket, from string) {
	if ours.MatchString(from) {
		d.note("%s comes from the answer to %s %s: write TICKET and DIAL, where the rest of the address is a client's", shownNames([]string{t.name}), t.method, t.path)
		return
	}
	method := t.method + " "
	if t.method == http.MethodPost {
		method = ""
	}
	d.set("TICKET", method+d.service(false)+t.path)
	d.set("DIAL", quote(withQuery(from, escapeQuery(t.name)+"="))+"+("+t.value+"|@uri)")
	d.note("%s of the address comes from the answer to %s %s, which is asked before each dial", shownNames([]string{t.name}), t.method, t.path)
}
