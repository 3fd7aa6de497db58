package deliver

import (
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/stream"
	"sidestream/translate"
	"sidestream/translate/sse"
)

// words are what a client is told besides the events of its ring. Those that go before events can be said together.
type words uint8

const (
	sayOpening   words = 1 << iota // what an answer begins with: see opening
	sayRestart                     // a gap: its id is not known
	sayMissed                      // a gap: what it missed was evicted
	sayOpen                        // where it stands, which nothing else tells it
	sayBeat                        // a heartbeat
	sayBeatEvent                   // one that scripts can see
	sayRefused                     // the upstream would not go on, or the client may not stay
	sayHint                        // when to come back

	sayEnd words = 0 // the stream is complete, of which only the framing tells
)

// speech is what words for a client are made of.
type speech struct {
	ring    *stream.Ring
	route   *Pacing
	clients *Clients
}

// append appends what say says to a client that stands at c, but for its opening. A gap is counted as reported.
func (sp speech) append(dst []byte, say words, c cursor, f *facts) []byte {
	ring := sp.ring
	switch {
	case say&sayRestart != 0:
		ring.CountGap(translate.GapRestart)
		return sse.AppendGap(dst, ring.Position(f.from), translate.GapRestart, -1)
	case say&sayMissed != 0:
		ring.CountGap(translate.GapEvicted)
		return sse.AppendGap(dst, ring.Position(f.from), translate.GapEvicted, int64(f.missed))
	case say&sayOpen != 0:
		return sse.AppendOpen(dst, ring.Place(f.from))
	case say&sayBeat != 0:
		return append(dst, sse.Heartbeat...)
	case say&sayBeatEvent != 0:
		return sse.AppendHeartbeat(dst, ring.IDAt(c.at), sp.route.Heartbeat)
	case say&sayRefused != 0 && c.traits&isTerse != 0:
		return sp.refused(dst, f)
	case say&sayRefused != 0 && f.stands != access.Stays:
		return sse.AppendRefused(dst, ring.IDAt(c.at), int(f.stands))
	case say&sayRefused != 0:
		return sse.AppendRefused(dst, ring.LastID(), f.end.Status)
	case say&sayHint != 0:
		return sse.AppendRetry(dst, sp.clients.hint(sp.route, c.why))
	}
	return dst
}

// refused appends what a terse client is told that is refused.
func (sp speech) refused(dst []byte, f *facts) []byte {
	status := f.end.Status
	if f.stands != access.Stays {
		status = int(f.stands)
	}
	if sp.route.Refused == nil {
		return append(dst, sse.Heartbeat...) // nothing at all would be the end of a body
	}
	return sp.route.Refused(dst, status)
}

// opening is what an answer begins with. native: see looksNative; id is the last one that its client has.
func opening(native bool, id string, retry time.Duration) []byte {
	var b []byte
	if native {
		b = sse.AppendCut(b, id)
	}
	return sse.AppendRetry(b, retry)
}

// opening is what cl's answer begins with.
func (cl *Client) opening() []byte {
	return append(opening(cl.native, cl.LastID, cl.Route.RetryHint()), cl.Before...)
}
