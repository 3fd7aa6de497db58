// This file is how a session reads what another client of the same service is sent. It has sent nothing itself, so that the ids are the other's:
//
//	raw, socket.io (+msgpack), sockjs, signalr (+msgpack)   there are none
//	signalr-classic   answers     to what the client has invoked are left out
//	actioncable    identifiers    they are the lines themselves
//	graphql-*      operations     the id of the client's subscribe or start with an operation of SUBSCRIBE becomes the line's
//	stomp          subscriptions  a MESSAGE of another one than those to the destinations of SUBSCRIBE is left out
//	mqtt           packets        SUBACK is one for SUBSCRIBE; of PUBLISH, topics that no filter matches are left out
//	phoenix        joins          the refs of the client's phx_join become those of the line with its topic
//	jsonrpc        calls          the id of the client's call of a line's method with its params becomes the line's number
//	centrifuge     commands       the id of the client's subscribe to a line's channel becomes that of the session's own
//	nats           sids           the sid of the client's SUB of a line becomes the line's; of JetStream's nothing is read
//	webpubsub      acks           the ackId of the client's joinGroup of a line becomes the line's number
//	appsync        subscriptions  the id of the client's start or subscribe of what a line asks for becomes the line's
//	ddp            subscriptions  the id of the client's sub of a line becomes the line's; documents tell of none, so that a client with others says nothing
//	parse          requests       the requestId of the client's subscribe of a line becomes the line's number
//	wamp           requests       the request of the client's SUBSCRIBE, and the subscription, become those of the line with its topic
//	bayeux         channels       an event of a channel that no line of SUBSCRIBE is, or is a wildcard for, is left out
//
// What the client has subscribed to beside that is left out. What it is sent can be held against the session's messages only while it has asked
// for all lines of SUBSCRIBE, as they are written: with the same variables, selector, params or options. That is so from where the service
// confirms it - SUBSCRIBED, the phx_reply, SUBACK, confirm_subscription, or that the client was let in: connection_ack, CONNECTED - until the
// client, or the service, ends one of them. Without ids it is taken to be so all the time.

package dialect

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"sidestream/translate"
)

// Overhearing puts what another client is sent into the terms of a session that has sent nothing. It is used by one goroutine.
type Overhearing interface {
	// Hears reports whether what the client sends matters, so that Client is to be called.
	Hears() bool
	// Client takes a frame that the client has sent.
	Client(f Frame)
	// Server returns what the session is to be given in the place of a frame of the service's.
	Server(f Frame) []Frame
	// Wants reports whether a message of the session's is of what SUBSCRIBE asks for.
	Wants(m translate.Message) bool
	// Listening reports whether the client is sent all that SUBSCRIBE asks for.
	Listening() bool
	// Over reports whether nothing more can be read: one side does not speak the dialect, or another version than the session.
	Over() bool
}

// What is remembered of a client, which chooses it.
const (
	maxOverheard   = 256 // subscriptions; more where SUBSCRIBE has more lines
	maxOverheardID = 256 // bytes of what a client calls one
)

// Overhears reports whether Overhear knows the dialect called name.
func Overhears(name string) bool {
	return slices.Contains([]string{"raw", "socket.io", sioPacked, "socket.io-v2", "sockjs", "sockjs+raw", "actioncable", "signalr", hubPacked, classicName, gqlTransport, gqlLegacy, "stomp", "mqtt", "phoenix", "wamp", "bayeux", "jsonrpc", "centrifuge", "nats", pubSubName, "appsync", "ddp", "parse"}, name)
}

// Overhear returns what reads for a session of the dialect called name with these options; nil: nothing can.
func Overhear(name string, o Options) Overhearing {
	lines, err := o.Subscribe()
	if err != nil {
		return nil
	}
	switch name {
	case "raw", "socket.io", sioPacked, "socket.io-v2", "sockjs", "sockjs+raw", "signalr", hubPacked:
		return overhearAll{}
	case classicName:
		return overhearClassic{}
	case "actioncable":
		return newCableOverheard(lines)
	case gqlTransport, gqlLegacy:
		return newGraphQLOverheard(lines)
	case "stomp":
		return newStompOverheard(lines)
	case "mqtt":
		return newMQTTOverheard(o, lines)
	case "phoenix":
		return newPhxOverheard(lines)
	case "wamp":
		return newWAMPOverheard(lines)
	case "bayeux":
		return newBayeuxOverheard(lines)
	case "jsonrpc":
		return newRPCOverheard(lines)
	case "centrifuge":
		return newCentOverheard(lines)
	case "nats":
		return newNATSOverheard(o, lines)
	case pubSubName:
		return newPubSubOverheard(lines)
	case "appsync":
		return newAppSyncOverheard(lines)
	case "ddp":
		return newDDPOverheard(o, lines)
	case "parse":
		return newParseOverheard(lines)
	}
	return nil
}

// overhearAll is for dialects without ids.
type overhearAll struct{}

func (overhearAll) Hears() bool                  { return false }
func (overhearAll) Client(Frame)                 {}
func (overhearAll) Server(f Frame) []Frame       { return []Frame{f} }
func (overhearAll) Wants(translate.Message) bool { return true }
func (overhearAll) Listening() bool              { return true }
func (overhearAll) Over() bool                   { return false }

// overhearClassic leaves out what answers the client's invocations, which have its ids.
type overhearClassic struct{ overhearAll }

func (overhearClassic) Server(f Frame) []Frame {
	var m classicMessage
	if json.Unmarshal(f.Data, &m) == nil && !isNull(m.I) {
		return nil
	}
	return []Frame{f}
}

// asked is which lines of SUBSCRIBE the client has asked for. Of several subscriptions to one line the first is read.
type asked struct {
	lines map[string]string // number by what the line asks for
	open  bool              // the service has let the client in, where it says so
	over  bool
	of    []asking // in the order in which the client has asked
	all   bool     // they are for all lines, and confirmed
}

// asking is one subscription of the client's.
type asking struct {
	id, line  string // the client's id, the line's number
	under     string // the service's id of it, where it has one
	confirmed bool
}

// newAsked begins without a subscription. what is what a line asks for, in the form in which the client's are looked up.
func newAsked(lines []string, what func(line string) (string, error)) asked {
	a := asked{lines: map[string]string{}}
	for i, line := range lines {
		if w, err := what(line); err == nil {
			a.lines[w] = strconv.Itoa(i + 1)
		}
	}
	a.settle()
	return a
}

func (a *asked) Hears() bool                  { return true }
func (a *asked) Wants(translate.Message) bool { return true }
func (a *asked) Listening() bool              { return a.open && a.all && !a.over }
func (a *asked) Over() bool                   { return a.over }

// settle finds out whether all lines are asked for.
func (a *asked) settle() {
	confirmed := map[string]bool{}
	for _, s := range a.of {
		if _, has := confirmed[s.line]; !has {
			confirmed[s.line] = s.confirmed
		}
	}
	a.all = true
	for _, line := range a.lines {
		a.all = a.all && confirmed[line]
	}
}

// ask notes that the client has subscribed to a line under an id, which it is done with otherwise; "": to none of SUBSCRIBE.
func (a *asked) ask(id, line string, confirmed bool) {
	a.forget(id)
	if line == "" || len(id) > maxOverheardID || len(a.of) >= max(maxOverheard, len(a.lines)) {
		return
	}
	a.of = append(a.of, asking{id: strings.Clone(id), line: line, confirmed: confirmed})
	a.settle()
}

// confirm notes that the service has accepted a subscription, under an id of its own.
func (a *asked) confirm(id, under string) {
	i := slices.IndexFunc(a.of, func(s asking) bool { return s.id == id })
	if i < 0 || len(under) > maxOverheardID {
		return
	}
	a.of[i].confirmed, a.of[i].under = true, strings.Clone(under)
	a.settle()
}

// forget notes that a subscription has ended.
func (a *asked) forget(id string) { a.drop(func(s asking) bool { return s.id == id }) }

func (a *asked) drop(which func(asking) bool) {
	if n := len(a.of); n > 0 {
		if a.of = slices.DeleteFunc(a.of, which); len(a.of) < n {
			a.settle()
		}
	}
}

// line is the number of the line that a subscription is read for; "": it is for none.
func (a *asked) line(is func(asking) bool) string {
	i := slices.IndexFunc(a.of, is)
	if i < 0 || a.first(a.of[i].line).id != a.of[i].id {
		return ""
	}
	return a.of[i].line
}

func (a *asked) lineOf(id string) string { return a.line(func(s asking) bool { return s.id == id }) }

// first is the subscription to a line that is read.
func (a *asked) first(line string) asking {
	if i := slices.IndexFunc(a.of, func(s asking) bool { return s.line == line }); i >= 0 {
		return a.of[i]
	}
	return asking{}
}

// anyJSON is a client's JSON, of whatever kind, with numbers as they are written; nil: it is none.
func anyJSON(data []byte) any {
	v, err := translate.ParseJSON(data)
	if err != nil {
		return nil
	}
	return v
}

// sortedJSON is equal for equal values. They are a client's, so that there may be anything in them.
func sortedJSON(v any) string {
	text, err := translate.Written([]any{v}) // names are sorted
	if err != nil {
		return ""
	}
	return string(text)
}
