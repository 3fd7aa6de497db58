package upstream

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/translate"
	"sidestream/translate/decode"
	"sidestream/translate/dialect"
	"sidestream/translate/graphql"
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
	timed                              bool // a program asks what time it is
	statuses                           statuses
	program                            translate.Program
	drops                              drops
	trace                              *Trace            // nil: nobody looks on
	noisy                              Quiet             // programs that fail
	spelling                           map[string]string // of header names, by canonical name
	plain                              hosts             // whose compression cannot be read
	files                              files             // that settings stand in
	backwards                          sync.Once         // guards reverse
	reverse                            reverse           // see overheard.go

	// What a feed asks for beside messages: see feed.go.
	state, resumed, pingEvery, pong, toDial *translate.Code
	closing                                 dialect.ClosePolicy
	ticketMethod                            string // "" no TICKET
	separator                               string

	documents *graphql.Documents // that clients may have run; nil: any

	decode    decode.Steps // what messages are packed in
	undecoded Quiet        // those that do not decode
}

// step is a line of HELLO; code is set unless it sends, which the table knows what.
type step struct {
	mark byte
	code *translate.Code
	asks *asks // of one that makes a request, or is a header of one
}

// Polls reports whether the route asks over HTTP rather than subscribing over a WebSocket.
func (rt *Route) Polls() bool {
	return strings.HasPrefix(rt.settings.From, "http") && !rt.dialect.Posts
}

// posts reports whether the route's dialect is spoken in POSTs rather than over a WebSocket.
func (rt *Route) posts() bool { return strings.HasPrefix(rt.settings.From, "http") && rt.dialect.Posts }

// Posts reports whether the dialect called name may be spoken over HTTP, so that FROM may begin with http.
func Posts(name string) bool {
	d, err := dialect.Find(name)
	return err == nil && d.Posts
}

// Merges are the names of the routes whose streams the route merges, as FROM has them; none of one that has a legacy service.
func (rt *Route) Merges() []string { return MergedNames(rt.settings.From) }

// mergePrefix is what FROM begins with where it names routes.
const mergePrefix = "routes:"

// MergedNames are the routes that a FROM names, without the blanks around them; nil where it is an address.
func MergedNames(from string) []string {
	list, ok := strings.CutPrefix(from, mergePrefix)
	if !ok {
		return nil
	}
	names := strings.Split(list, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	return names
}

// Protocol is the dialect that is spoken inside the WebSocket; "" where there is none.
func (rt *Route) Protocol() string {
	if rt.Polls() || rt.Redis() || rt.Merges() != nil {
		return ""
	}
	return rt.settings.Protocol
}

// Decodes is what messages are packed in, as DECODE has it; "" nothing.
func (rt *Route) Decodes() string { return rt.decode.String() }

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

// Patches reports whether its events are patches of a document.
func (rt *Route) Patches() bool { return rt.Polls() && rt.settings.Mode == ModePatch }

// States reports whether it polls a state, of which a poller sees what is there when it asks, and no list or stream of messages.
func (rt *Route) States() bool {
	return rt.Polls() && !rt.Follows() && rt.settings.Mode != ModeItems && rt.cursor == nil
}

// Every is the interval of its polls; 0: at once after each answer.
func (rt *Route) Every() time.Duration { return rt.settings.Every }

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
	case rt.RedisStreams():
		return "the entry after the last one, where the stream still has it"
	case rt.Redis():
		return ""
	case rt.Polls():
		return "the next poll"
	case s.Resumed != "":
		return "STATE, where RESUMED is true"
	}
	return rt.dialect.Resumes
}
