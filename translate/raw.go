package translate

import (
	"context"
)

// raw is the dialect without a protocol: a WebSocket message is a message.
type raw struct {
	Base
	Options
}

func newRaw(o Options) Session { return &raw{Options: o} }

func (s *raw) Dial(*HTTPResponse) (Dial, error) { return s.Options.Dial() }

func (s *raw) Open(string) ([]Frame, error) { return nil, nil }

func (s *raw) Receive(_ context.Context, f Frame) (Received, error) {
	m := Message{Data: f.Data}
	if f.Binary && !s.binary(&m) {
		return Received{}, nil
	}
	return Received{Messages: []Message{m}}, nil
}

func (s *raw) Send(m Message) ([]Frame, error) { return []Frame{{Binary: m.Binary, Data: m.Data}}, nil }
