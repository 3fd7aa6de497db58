package upstream

import (
	"strings"
	"sync/atomic"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

// Route is a compiled route: it makes a client's request into an upstream request. Safe for concurrent use.
type Route struct {
	// Stats counts what all sources of the route meet.
	Stats *Stats

	order listOrder // of its list, with MODE=items

	only atomic.Pointer[Request] // what Expand makes of every client's request, once it has turned out to use nothing of it

	settings                           SourceSettings
	from                               string // FROM as it was written
	own                                *pools // nil: those of all routes
	dialect                            dialect.Dialect
	table                              []*entry // see table.go
	display                            template // of From, in which values of the path are filled in
	begins                             bool     // with FIRST while there is no cursor
	steps                              []step
	reply                              *translate.Code
	cursor, next, reset, interval, key *translate.Code
	refused                            *translate.Code
	forgets                            bool // RESET is true of no answer
	statuses                           statuses
	program                            translate.Program
	drops                              drops
	trace                              *Trace            // nil: nobody looks on
	noisy                              Quiet             // programs that fail
	spelling                           map[string]string // of header names, by canonical name
	plain                              hosts             // whose compression cannot be read
	files                              files             // that settings stand in

	// What a feed asks for beside messages: see feed.go.
	state, resumed, pingEvery, pong, toDial *translate.Code
	closing                                 dialect.ClosePolicy
	ticketMethod                            string // "" no TICKET
	separator                               string
}

// step is a line of HELLO; code is set unless it sends, which the table knows what.
type step struct {
	mark byte
	code *translate.Code
}

// Polls reports whether the route asks over HTTP rather than subscribing over a WebSocket.
func (rt *Route) Polls() bool { return strings.HasPrefix(rt.settings.From, "http") }

// Protocol is the dialect that is spoken inside the WebSocket; "" where there is none.
func (rt *Route) Protocol() string {
	if rt.Polls() {
		return ""
	}
	return rt.settings.Protocol
}

// Programs are the jq programs that make events of messages, in the order in which they run.
func (rt *Route) Programs() (all []*translate.Code) {
	for _, code := range []*translate.Code{rt.program.Select, rt.program.Event, rt.program.Data, rt.program.ID, rt.program.Key, rt.key, rt.program.Done} {
		if code != nil {
			all = append(all, code)
		}
	}
	return all
}

// Forwards are the headers of the client's request that are copied upstream.
func (rt *Route) Forwards() []string { return rt.settings.Forward }

// Follows reports whether it asks once, for an answer that never ends.
func (rt *Route) Follows() bool { return rt.Polls() && rt.settings.Mode == ModeStream }

// From is where the events come from, fit for logs. See [Redact].
func (rt *Route) From() string { return redact(rt.from, rt.settings.FromFile) }

// Scoped reports whether each ?session= has an upstream of its own.
func (rt *Route) Scoped() bool { return rt.settings.Session }

// Resumes is what a source of the route can go on with where one in another process stopped, for people; "" for none.
func (rt *Route) Resumes() string {
	s := &rt.settings
	switch {
	case rt.cursor != nil:
		return "CURSOR, where the upstream still knows it"
	case rt.Follows():
		return "" // an upstream's own ids promise nothing
	case rt.Polls():
		return "the next poll"
	case s.Resumed != "":
		return "STATE, where RESUMED is true"
	}
	return rt.dialect.Resumes
}
