package dialect

import (
	"context"
	"net/http"
	"time"

	"sidestream/translate"
)

// Frame is one WebSocket message; where the dialect is spoken over HTTP, the body of a POST or the answer to one.
type Frame struct {
	Binary bool
	Held   bool // over HTTP the server may hold its answer for as long as it likes
	Data   []byte
}

// Session speaks one dialect for one stream. It outlives its connections: what is needed to resume lives here. It does
// no I/O, has no clock, and is not safe for concurrent use: the connection serialises its calls.
//
// The calls of one connection come in this order: Dial, again with an answer as long as it has a Request; Open; then Receive, Skipped,
// Send and Ping as things happen; and at its end Closed, if the upstream closed it or it was lost, or Leave, if it is closed from here.
//
// An error from any method ends the connection. Its type decides what follows: *[translate.Refused], retrying is pointless;
// [translate.ErrFinished], the stream is complete; *[translate.Later], reconnect, but not sooner; any other, reconnect after a
// pause.
//
// What a session keeps is bounded, whatever the legacy service sends. [Base] has the answers of a session that keeps
// nothing, to be embedded.
type Session interface {
	// Dial is called before each dial with nil. When its answer has a Request, that is made first, and its answer
	// is passed to the next call.
	Dial(last *HTTPResponse) (Dial, error)
	// Open begins a new connection and returns the frames to send on it. subprotocol is the one that the legacy service
	// chose among those offered, "" when none were.
	Open(subprotocol string) ([]Frame, error)
	// Receive takes one frame, which arrived at now and whose data is valid until the next call: what is kept is copied.
	// ctx bounds the jq programs run over it. Messages returned with an error still count.
	Receive(ctx context.Context, now time.Time, f Frame) (Received, error)
	// Skipped reports to the session that a frame was left out because it was over MAX_MESSAGE. Where frames are pieces of
	// a byte stream, that is the end of the connection.
	Skipped() error
	// Send puts m in the dialect's terms: a line of HELLO, a reply, a client's message.
	Send(m translate.Message) ([]Frame, error)
	// Timers is read after Open and after each Receive.
	Timers() Timers
	// Ping returns what to send once Timers.Every has passed. An error means that the ping before was not answered.
	Ping() ([]Frame, error)
	// Closed decides what it means that the legacy service closed the connection with code and reason; code is 0 when
	// it was lost without a close. nil is nothing in particular: reconnect after a pause.
	Closed(code int, reason string) error
	// Resumable is asked when a connection that was ready has ended, and reports whether the next one may bridge the
	// interruption; its Received.Resumed reports whether it did. Otherwise a gap is reported at once.
	Resumable() bool
	// Leave returns what to send before the connection is closed for good.
	Leave() []Frame
	// Cuts is asked then, and reports whether the connection is to be cut instead, without a word: the close of it would end what another
	// process goes on with.
	Cuts() bool
	// Sending is called with frames just before they are written, whatever they come from, in the order in which they leave.
	Sending(frames []Frame)
	// Acks returns what acknowledges the messages that were returned before, all of which are in the ring. It is asked whenever
	// Timers.Every has passed, after Ping.
	Acks() []Frame
	// Admit is asked before Send about what a client sends, and what the script sends is not: its error is for the client, which may not send that to a stream that
	// others read too.
	Admit(m translate.Message) error
	// Denied is called when the upgrade was answered with another status than 101, and reports whether to dial anew at once: the
	// legacy service does not know what the session wanted to go on with.
	Denied(status int) bool
	// Failed is called when a connection has ended before it was ready, or is given up by the script, and reports whether the next one goes on from the last that
	// was ready nevertheless: nothing of this one counts.
	Failed() bool
	// Save returns what the next connection needs to go on after the messages that were returned last, in this process or another; nil:
	// nothing, or what is known has not come to an end yet. It is at most [translate.MaxSaved] bytes.
	Save() []byte
	// HandOn lets the session know that what it saves is kept: what it has at the upstream must not end with its connection.
	HandOn()
	// Restore is called before the first Dial with what a session of the same settings has saved. After an error the session is as if there
	// were none.
	Restore(saved []byte) error
}

// Base answers for a session that keeps nothing, has no timers and sends nothing when it leaves.
type Base struct{}

// Skipped lets the connection go on.
func (Base) Skipped() error { return nil }

// Timers has none.
func (Base) Timers() Timers { return Timers{} }

// Ping has none to send.
func (Base) Ping() ([]Frame, error) { return nil, nil }

// Closed is nothing in particular.
func (Base) Closed(int, string) error { return nil }

// Resumable is false.
func (Base) Resumable() bool { return false }

// Leave sends nothing.
func (Base) Leave() []Frame { return nil }

// Cuts is false.
func (Base) Cuts() bool { return false }

// Sending does nothing.
func (Base) Sending([]Frame) {}

// Acks returns none.
func (Base) Acks() []Frame { return nil }

// Admit takes anything.
func (Base) Admit(translate.Message) error { return nil }

// Denied is false.
func (Base) Denied(int) bool { return false }

// Failed is false.
func (Base) Failed() bool { return false }

// HandOn does nothing.
func (Base) HandOn() {}

// Save is nil.
func (Base) Save() []byte { return nil }

// Restore takes nothing.
func (Base) Restore(saved []byte) error { return translate.ErrSaved }

// Dial is where and how to connect.
type Dial struct {
	Request      *HTTPRequest // to be made first; the rest does not count then
	URL          string       // ws or wss
	Header       http.Header
	Subprotocols []string // offered in this order; one of them must be chosen; none: none
}

// HTTPRequest is a request to be made before a dial. A redirect is followed on the same host only. An answer other than
// 2xx is judged like that to an upgrade and does not reach the session.
type HTTPRequest struct {
	Method string
	URL    string // http or https
	Header http.Header
	Body   []byte // none when empty
}

// HTTPResponse is its answer, 2xx, with a body of 1 MiB at most.
type HTTPResponse struct {
	Status int
	Header http.Header
	Body   []byte
}

// Received is what has become of one frame.
type Received struct {
	Replies    []Frame             // to be sent once the messages are in the ring; while the connection is not ready, at once
	Acks       []Frame             // the same, but never before that: the legacy service forgets what they confirm
	Messages   []translate.Message // in order
	Ready      bool                // once a connection: the opening is complete, that of the dialect and that of its script
	Resumed    bool                // with Ready: nothing was lost since the last connection
	Continued  bool                // with Resumed: what HELLO has asked for on the last one still stands, so that its steps are not taken again
	Moving     bool                // the service is about to go away, and the next dial is to another address: it can be made before this one ends
	Decoded    []Decoded           // what DECODE has made of payloads in the frame
	Failed     []error             // jq programs that failed, each a *translate.ProgramError; what they were for was left out
	Notes      []string            // which steps of the script have taken the frame, where [Script].Notes asks for that
	Complaints []string            // of the service, fit for logs, that do not end the connection
}

// Decoded is what DECODE has made of one payload.
type Decoded struct {
	Size int    // bytes of the payload
	Data []byte // of which this has become; nil with Err
	Err  error  // it does not decode, and was left out, or, with a gap in its place, is larger than MAX_MESSAGE then ([decode.ErrTooLarge])
}

// Timers are what a connection has to watch. They may change with each frame.
type Timers struct {
	Opening time.Duration // how long the present step may take; 0: the session is ready
	Step    int           // grows when Opening starts over
	Waiting string        // what for, and what to check when it does not come; "" is not reported
	Every   time.Duration // how often Ping is asked for; 0 never
	Silence time.Duration // nothing received for so long means the connection is dead; 0: no rule of the dialect
}
