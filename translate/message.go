package translate

import "net/http"

// Message is what the legacy service meant for its client: a name and data, not yet in a stream.
type Message struct {
	Event string // name; "" none
	ID    string // the upstream's own id; "" or invalid: the ring gives one
	Topic string // what the message was published under, in dialects that have it
	Data  []byte

	// Key is what a newer message replaces an older one by, where a client begins (KEY); "" none.
	Key string
	// State, if not nil, is what all messages so far come to: a client that begins after this one gets it, as an event
	// called snapshot, in their place.
	State []byte
	// Text marks Data as text whatever it looks like, so that jq sees a string: "1234" may be base64.
	Text bool
	// Gap, if not empty, makes this no message but the place where some are missing: one of the Gap constants.
	Gap string
	// Header and Status are those of the HTTP answer that the data came in; nil and 0 over WebSockets.
	Header http.Header
	Status int

	// Notice, if not empty, makes this an event of the sidecar's own by this name, which begins with "stream.", and Data its data as it is. With
	// Gap it is that gap's, with more to say than its reason.
	Notice string
	// Verbatim keeps the name as it is, but for those of the sidecar's own events: error and open, which a page would take for something else.
	Verbatim bool
	// Last marks the end of what a client has asked for: no program sees it, and nothing comes after it.
	Last bool
	// Mark is a comment that stands in front of the event; "" none. One line.
	Mark string
	// Stand, if not nil, is what a client that begins after this message gets in its place, and in that of all before with the same Key.
	Stand *Stand

	// Binary marks Data, which is to be sent, as bytes rather than text.
	Binary bool

	item    any            // the value of Data, where a program has taken it out of another message unchanged
	whole   bool           // so it has been, and is JSON; item was not made
	parsed  *input         // Data as programs see it, see Parse
	checked bool           // Data is a JSON document, see Check
	state   map[string]any // what the stream remembered after it, see SetState
	answer  any            // of the request of HELLO before it, see SetAnswer
}

// Size is about how many bytes a message that a dialect has made takes.
func (m *Message) Size() int {
	n := len(m.Event) + len(m.ID) + len(m.Topic) + len(m.Data)
	for name, values := range m.Header {
		n += len(name)
		for _, value := range values {
			n += len(value)
		}
	}
	return n
}

// Stand is an event that stands in for others.
type Stand struct {
	Event string // its name; "" none
	Data  []byte
}

// Reasons of a gap, as pages see them.
const (
	GapEvicted  = "evicted"  // the ring has let go of the events; their number is known
	GapRestart  = "restart"  // the id is of another epoch, or unknown
	GapHistory  = "history"  // the store of events was away, or has lost some
	GapUpstream = "upstream" // the upstream connection was lost or skipped something
)

// Content is Data in the one form in which equal values are equal: an upstream may write an object's names in another order
// each time. It is Data itself unless a program has read it.
func (m *Message) Content() []byte {
	item := m.item
	if m.whole {
		item, _ = ParseJSON(m.Data)
	}
	if item == nil {
		return m.Data
	}
	text, err := Written(item)
	if err != nil {
		return m.Data
	}
	return text
}

// SetState lets the programs that run over m from now on see what s holds now.
func (m *Message) SetState(s *State) {
	m.state = s.values
	if m.parsed != nil {
		m.parsed.setState(s.values)
	}
}

// SetAnswer lets the programs that run over m from now on see v as $answer: what a request in the middle of an opening was answered with.
func (m *Message) SetAnswer(v any) {
	m.answer = v
	if m.parsed != nil {
		m.parsed.know(answerIndex, v)
	}
}
