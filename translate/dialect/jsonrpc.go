// This file is the dialect jsonrpc: JSON-RPC 2.0 over WebSockets, as a subscriber of what nodes of Ethereum, Solana and Polkadot, aria2 and Kodi notify
// of. Sources: the JSON-RPC 2.0 specification, EIP-1474 (errors), geth's Real-time Events, aria2 1.36.0, Hardhat 2 and the client rpc-websockets
// 10.0.1. A WebSocket message is one of these, or a list of them:
//
//	-> {"jsonrpc","id","method","params"?}                       a call; without id a notification, which has no answer
//	<- {"jsonrpc","id","result"}                                 its answer: of a subscription, the subscription's id
//	<- {"jsonrpc","id","error":{"code","message","data"?}}
//	<- {"jsonrpc","method","params":{"subscription","result"}}   an event of a subscription
//	<- {"jsonrpc","method","params"?}                            an event of no subscription
//
// The rules:
//
//   - A line of SUBSCRIBE is a call. Its id is the line's number; the calls of HELLO and of clients count on.
//   - Subscriptions have other ids on each connection: an event carries the name of its line. What comes before all lines are answered waits for
//     that, since an event may overtake the answer that says whose it is.
//   - A call that fails is judged by its code, see jsonrpc_refusal.go. An answer that nobody has asked for is no event: aria2 answers each WebSocket
//     ping with an error.
//   - A call of the service's own is an event, and answered with an error, as a client answers that has no such method.
//   - Signs of life are WebSocket pings, which IDLE sends. Nothing bridges a reconnect.

package dialect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"sidestream/translate"
)

const (
	maxRPCCalls     = 256       // calls whose answer is awaited, beside those of SUBSCRIBE
	maxRPCID        = 256       // bytes of a subscription's id
	maxRPCBatch     = 10_000    // messages in one list
	maxRPCHeld      = 256       // events that wait for the answers to SUBSCRIBE
	maxRPCHeldBytes = 256 << 10 // of them
	maxRPCAnswers   = 256       // calls of the service's in one message
)

// jsonrpc speaks the dialect.
type jsonrpc struct {
	Base
	Options

	// Of the present connection.
	ready  bool
	calls  int               // id of the last one
	asked  map[string]rpcAsk // calls of SUBSCRIBE that are not answered, by id
	topics map[string]string // topics of subscriptions, by id
	own    map[string]rpcOwn // other calls that are not answered, by id
	held   []rpcHeld
	size   int  // bytes of them
	lost   bool // some did not fit
}

// rpcAsk is a line of SUBSCRIBE that has been asked for.
type rpcAsk struct{ method, topic string }

// rpcOwn is a call of HELLO or a client's.
type rpcOwn struct {
	method string
	shown  bool // its answer is an event
}

// rpcHeld is an event of a subscription that is not known yet.
type rpcHeld struct {
	subscription string
	translate.Message
}

func newJSONRPC(o Options) Session { return &jsonrpc{Options: o} }

func (s *jsonrpc) Dial(*HTTPResponse) (Dial, error) { return s.Options.Dial() }

func (s *jsonrpc) Open(string) (frames []Frame, err error) {
	s.asked, s.topics, s.own = map[string]rpcAsk{}, map[string]string{}, map[string]rpcOwn{}
	s.held, s.size, s.lost, s.calls = nil, 0, false, 0
	lines, err := s.Subscribe()
	if err != nil {
		return nil, err
	}
	for i, line := range lines {
		c, err := parseRPCLine(line)
		if err != nil {
			return nil, refuseLine(i+1, err)
		}
		s.calls++
		s.asked[strconv.Itoa(s.calls)] = rpcAsk{c.method, c.topic}
		frames = append(frames, c.frame(s.calls))
	}
	s.ready = len(lines) == 0
	return frames, nil
}

func (s *jsonrpc) Timers() Timers {
	if s.ready {
		return Timers{}
	}
	return Timers{Opening: openingTime, Step: 1 + s.calls - len(s.asked), Waiting: "the answers to SUBSCRIBE; FROM must be an address of JSON-RPC 2.0 over WebSockets"}
}

// rpcMessage is any message.
type rpcMessage struct {
	ID     json.RawMessage
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  *rpcError
}

func (s *jsonrpc) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	all, err := rpcMessages(f)
	if err != nil {
		return got, err
	}
	for _, one := range all {
		var m rpcMessage
		if !isObject(one) || json.Unmarshal(one, &m) != nil {
			return got, errRPC
		}
		if err := s.take(m, one, &got); err != nil {
			return got, err
		}
	}
	if !s.ready && len(s.asked) == 0 {
		s.ready, got.Ready = true, true
		s.release(&got)
	}
	return got, nil
}

var errRPC = errors.New("a message that is no JSON-RPC 2.0")

// rpcMessages are the messages in a frame.
func rpcMessages(f Frame) (all []json.RawMessage, err error) {
	if f.Binary {
		return nil, errRPC
	}
	text := bytes.TrimSpace(f.Data)
	if len(text) == 0 || text[0] != '[' {
		return []json.RawMessage{text}, nil
	}
	if json.Unmarshal(text, &all) != nil || len(all) > maxRPCBatch {
		return nil, errRPC
	}
	return all, nil
}

func (s *jsonrpc) take(m rpcMessage, data []byte, got *Received) error {
	switch {
	case m.Method != "":
		return s.notified(m, got)
	case m.Result != nil || m.Error != nil:
		return s.answered(m, data, got)
	}
	got.Complaints = append(got.Complaints, "a message that is neither a call nor an answer")
	return nil
}

// rpcEvent is what the params of a subscription's notification are.
type rpcEvent struct {
	Subscription json.RawMessage
	Result       json.RawMessage
	Error        json.RawMessage
}

// notified adds an event.
func (s *jsonrpc) notified(m rpcMessage, got *Received) error {
	if m.ID != nil && !isNull(m.ID) {
		if len(got.Replies) >= maxRPCAnswers {
			return errors.New("more calls of the service's in one message than are answered")
		}
		got.Replies = append(got.Replies, jsonFrame(rpcAnswer{"2.0", m.ID, rpcCode{rpcNoMethod, "Method not found"}}))
	}
	event := translate.Message{Event: m.Method, Data: bytes.Clone(m.Params)}
	if len(event.Data) == 0 {
		event.Data = []byte("null")
	}
	var e rpcEvent
	if !isObject(m.Params) || json.Unmarshal(m.Params, &e) != nil || !isRPCID(e.Subscription) {
		got.Messages = append(got.Messages, event)
		return nil
	}
	if e.Result != nil {
		event.Data = bytes.Clone(e.Result)
	}
	if s.ready {
		event.Topic = s.topics[string(e.Subscription)]
		got.Messages = append(got.Messages, event)
		return nil
	}
	s.hold(rpcHeld{string(e.Subscription), event})
	return nil
}

// hold keeps an event until all lines are answered.
func (s *jsonrpc) hold(e rpcHeld) {
	if len(s.held) == maxRPCHeld || s.size+len(e.Data) > maxRPCHeldBytes {
		s.lost = true
		return
	}
	s.held, s.size = append(s.held, e), s.size+len(e.Data)
}

// release adds the events that have waited.
func (s *jsonrpc) release(got *Received) {
	for _, e := range s.held {
		e.Topic = s.topics[e.subscription]
		got.Messages = append(got.Messages, e.Message)
	}
	if s.lost {
		got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
	}
	s.held, s.size, s.lost = nil, 0, false
}

// answered takes the answer to a call. To one that a client or HELLO has made as a message with an id of its own, it is an event.
func (s *jsonrpc) answered(m rpcMessage, data []byte, got *Received) error {
	id := string(m.ID)
	if ask, ours := s.asked[id]; ours {
		delete(s.asked, id)
		if m.Error != nil {
			return m.Error.meaning(ask.method)
		}
		if isRPCID(m.Result) && len(m.Result) <= maxRPCID {
			s.topics[string(m.Result)] = ask.topic
		}
		return nil
	}
	call, known := s.own[id]
	if !known {
		return nil
	}
	delete(s.own, id)
	if m.Error != nil {
		got.Complaints = append(got.Complaints, serverText(call.method)+": "+m.Error.text())
	}
	if call.shown {
		got.Messages = append(got.Messages, translate.Message{Data: bytes.Clone(data)})
	}
	return nil
}

// isRPCID reports whether v may be a subscription's id: a string or a number.
func isRPCID(v json.RawMessage) bool {
	return len(v) > 0 && (v[0] == '"' || v[0] == '-' || v[0] >= '0' && v[0] <= '9')
}
