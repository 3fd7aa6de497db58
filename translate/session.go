// Package translate is the pure part of Sidestream: frames and bodies of a legacy service become messages, and
// messages become SSE bytes. No network, no clock, no goroutine.
package translate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Message is what the legacy service meant for its client: a name and data, not yet in a stream.
type Message struct {
	Event string // name; "" none
	ID    string // the upstream's own id; "" or invalid: the ring gives one
	Topic string // what the message was published under, in dialects that have it
	Data  []byte

	// Text says that Data is text whatever it looks like, so that jq sees a string: "1234" may be base64.
	Text bool
	// Gap, if not empty, makes this no message but the place where some are missing, for the reason named.
	Gap string
	// Header and Status are those of the HTTP answer that the data came in; nil and 0 over WebSockets.
	Header http.Header
	Status int

	parsed *input // what a script has parsed of Data already
}

// Frame is one WebSocket message.
type Frame struct {
	Binary bool
	Data   []byte
}

// Session speaks one dialect for one stream. It outlives its connections: what is needed to resume lives here. It does
// no I/O, has no clock, and is not safe for concurrent use: the connection serialises its calls.
//
// An error from any method ends the connection. Its type says what follows: *[Refused], retrying is pointless;
// [ErrFinished], the stream is complete; any other, connect again after a while.
type Session interface {
	// Dial is called before each dial.
	Dial() (Dial, error)
	// Open begins a new connection and returns the frames to send on it.
	Open() ([]Frame, error)
	// Receive takes one frame. ctx bounds the jq programs run over it.
	Receive(ctx context.Context, f Frame) (Received, error)
	// Send puts m in the dialect's terms: a line of HELLO, a reply, a client's message.
	Send(m Message) ([]Frame, error)
	// Timers is read after Open and after each Receive.
	Timers() Timers
}

// Dial is where and how to connect.
type Dial struct {
	URL          string // ws or wss
	Header       http.Header
	Subprotocols []string // offered in this order; one of them must be chosen; none: none
}

// Received is what became of one frame.
type Received struct {
	Replies  []Frame   // to be sent once the messages are in the ring
	Messages []Message // in order
	Ready    bool      // the dialect and its script are through
	Resumed  bool      // with Ready: nothing was lost since the last connection
	Failed   []error   // jq programs that failed, each a *ProgramError; what they were for was left out
}

// Timers are what a connection has to watch.
type Timers struct {
	Opening time.Duration // how long the present step may take; 0: the session is ready
	Step    int           // grows when Opening begins anew
	Every   time.Duration // how often Ping is sent; 0 never
	Ping    func() (Frame, error)
	Silence time.Duration // nothing received for so long means the connection is dead; 0: no rule of the dialect
}

// Refused says that asking again would be pointless: credentials, a wrong address, the legacy service's own verdict.
type Refused struct {
	Status int    // the HTTP status for the client, 400 to 499
	Reason string // for logs; holds no secret
}

func (e *Refused) Error() string {
	return fmt.Sprintf("upstream refused (%d): %s", e.Status, e.Reason)
}

// ErrFinished says that the upstream has said all it will say.
var ErrFinished = errors.New("upstream finished")
