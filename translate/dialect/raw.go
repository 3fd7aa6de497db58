package dialect

import (
	"bytes"
	"context"
	"time"

	"sidestream/translate"
)

// raw is the dialect without a protocol: a WebSocket message is a message, or with SEPARATOR several.
type raw struct {
	Base
	Options
}

// maxRecords bounds the records in one message; those after them are a gap.
const maxRecords = 1 << 16

func newRaw(o Options) Session { return &raw{Options: o} }

func (s *raw) Dial(*HTTPResponse) (Dial, error) { return s.Options.Dial() }

func (s *raw) Open(string) ([]Frame, error) { return nil, nil }

func (s *raw) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	if f.Binary && len(s.Decode) > 0 { // text is what it is: feeds that compress their news have pings that are not
		var ok bool
		if f.Data, ok = s.decode(f.Data, &got); !ok {
			return got, nil
		}
		f.Binary = false
	}
	if s.Separator == "" {
		s.take(f.Binary, f.Data, &got)
		return got, nil
	}
	for rest, more := f.Data, true; more; {
		var record []byte
		record, rest, more = bytes.Cut(rest, []byte(s.Separator))
		if len(record) == 0 {
			continue
		}
		if len(got.Messages) == maxRecords {
			got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
			break
		}
		s.take(f.Binary, record, &got)
	}
	return got, nil
}

// take adds one record in the form that BINARY gives it.
func (s *raw) take(binary bool, data []byte, got *Received) {
	m := translate.Message{Data: data}
	if binary {
		s.binary(m, got)
		return
	}
	got.Messages = append(got.Messages, m)
}

func (s *raw) Send(m translate.Message) ([]Frame, error) {
	if s.Separator != "" {
		m.Data = append(bytes.Clone(m.Data), s.Separator...)
	}
	return []Frame{{Binary: m.Binary, Data: m.Data}}, nil
}
