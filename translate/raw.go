package translate

import (
	"context"
	"encoding/base64"
	"fmt"
)

// What becomes of binary messages (BINARY).
const (
	BinaryBase64 = "base64" // standard encoding with padding (RFC 4648, section 4)
	BinaryText   = "text"   // taken as UTF-8
	BinaryDrop   = "drop"
)

// raw is the dialect without a protocol: a WebSocket message is a message.
type raw struct{ Options }

func newRaw(o Options) Session { return &raw{o} }

func (s *raw) Dial() (Dial, error) { return s.Options.Dial() }

func (s *raw) Open() ([]Frame, error) { return nil, nil }

func (s *raw) Receive(_ context.Context, f Frame) (Received, error) {
	m := Message{Data: f.Data}
	if f.Binary {
		switch s.Binary {
		case BinaryDrop:
			return Received{}, nil
		case BinaryText:
		default:
			m.Data, m.Text = base64.StdEncoding.AppendEncode(nil, f.Data), true
		}
	}
	return Received{Messages: []Message{m}}, nil
}

func (s *raw) Send(m Message) ([]Frame, error) { return []Frame{{Data: m.Data}}, nil }

func (s *raw) Timers() Timers { return Timers{} }

// Options are what a dialect needs of its route and request.
type Options struct {
	Dial   func() (Dial, error) // the request's own address and header, made anew for each dial
	Binary string               // one of the Binary constants
}

// Dialect is one row of the table of dialects.
type Dialect struct {
	Name string
	New  func(Options) Session
}

// Dialects are those that this version speaks, by the name that PROTOCOL gives them.
var Dialects = []Dialect{
	{"raw", newRaw},
}

// FindDialect returns the dialect called name, or an error that lists the known ones.
func FindDialect(name string) (Dialect, error) {
	var known string
	for _, d := range Dialects {
		if d.Name == name {
			return d, nil
		}
		known += " " + d.Name
	}
	return Dialect{}, fmt.Errorf("%q is no dialect of this version, which speaks:%s", name, known)
}
