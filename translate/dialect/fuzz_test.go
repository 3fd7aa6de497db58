package dialect

import (
	"context"
	"encoding/binary"
	"net/http"
	"slices"
	"testing"
	"unicode/utf8"

	"sidestream/translate"
)

// fuzzMax is the MAX_MESSAGE of sessions that are fuzzed.
const fuzzMax = 1 << 10

// fuzzSession opens sessions of a dialect and plays script to them: each step is an operation, a length and so many
// bytes. It holds what is true of every dialect: no panic, no frame of text that is not UTF-8, ready once a connection, and
// no message much larger than what came. kept returns how much memory the session holds, in bytes.
func fuzzSession(t *testing.T, name string, o Options, script []byte, kept func(Session) int) {
	d, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	o.Dial = func() (Dial, error) { return Dial{URL: "ws://legacy.example/feed", Header: http.Header{}}, nil }
	o.MaxMessage = fuzzMax
	s := d.New(o)
	open := func() (ready bool) {
		dial, err := s.Dial(nil)
		if err == nil && dial.Request != nil {
			_, err = s.Dial(&HTTPResponse{Status: 200, Body: script[:min(len(script), 100)]})
		}
		if err == nil {
			s.Open("")
		}
		return false
	}
	ready := open()
	received := 0
	for len(script) >= 3 {
		op, n := script[0], int(binary.BigEndian.Uint16(script[1:3]))
		data := script[3:min(len(script), 3+n)]
		script = script[3+len(data):]
		var frames []Frame
		switch op % 8 {
		case 0:
			ready, received = open(), 0
		case 1:
			frames, _ = s.Ping()
		case 2:
			frames, _ = s.Send(translate.Message{Data: data, Binary: op > 127})
		case 3:
			s.Closed(int(op)*20, string(data))
			s.Resumable()
			ready = open()
		case 4:
			s.Skipped()
		case 5:
			frames = s.Leave()
		default:
			received += len(data)
			got, err := s.Receive(context.Background(), noon, Frame{Binary: op%8 == 7, Data: data})
			if got.Ready && ready {
				t.Fatal("ready twice")
			}
			ready = ready || got.Ready
			size := 0
			for _, m := range got.Messages {
				size += len(m.Data)
			}
			if size > 8*received+fuzzMax*8 {
				t.Fatalf("%d bytes of messages out of %d", size, received)
			}
			frames = slices.Concat(got.Replies, got.Acks)
			if err != nil {
				ready = open()
			}
		}
		for _, f := range frames {
			if !f.Binary && !utf8.Valid(f.Data) {
				t.Fatalf("%q is sent as text", f.Data)
			}
		}
		if timers := s.Timers(); timers.Every < 0 || timers.Opening < 0 || timers.Silence < 0 {
			t.Fatalf("%+v", timers)
		}
		if n := kept(s); n > 64*fuzzMax+2*maxStompHead {
			t.Fatalf("%d bytes are kept", n)
		}
	}
}

// step is one operation of a script.
func step(op byte, data string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{op}, uint16(len(data))), data...)
}

func fixedLines(lines ...string) func() ([]string, error) {
	return func() ([]string, error) { return lines, nil }
}

func fixed(s string) func() (string, error) { return func() (string, error) { return s, nil } }
