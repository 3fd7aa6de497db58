package dialect

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"sidestream/translate"
	"sidestream/translate/sse"
)

// drive gives a session what the pieces of script say, separated by 0xff: the first byte of each tells the call. It
// holds what every session must keep, and calls kept after each to hold what is the dialect's own.
func drive(t *testing.T, s Session, script []byte, kept func()) {
	open := false
	for piece := range bytes.SplitSeq(script, []byte{0xff}) {
		if len(piece) == 0 {
			continue
		}
		call, data := piece[0]%8, bytes.Clone(piece[1:])
		if !open && call != 7 {
			frames, err := s.Open("")
			sendable(t, frames)
			s.Sending(frames)
			if err != nil {
				continue
			}
			open = true
		}
		var frames []Frame
		var err error
		switch call {
		case 0, 1:
			frames, err = receive(t, s, Frame{Data: data})
		case 2:
			frames, err = receive(t, s, Frame{Binary: true, Data: data})
		case 3:
			frames, err = s.Ping()
			frames = append(frames, s.Acks()...)
		case 4:
			frames, _ = s.Send(translate.Message{Data: data}) // an error is the sender's
		case 5:
			err = s.Skipped()
		case 6:
			s.Closed(len(data), string(data))
			s.Resumable()
			open = false
		case 7:
			d, _ := s.Dial(nil)
			if d.Request != nil {
				s.Dial(&HTTPResponse{Status: 200, Header: http.Header{}, Body: data})
			}
			open = false
		}
		sendable(t, frames)
		s.Sending(frames)
		s.Timers()
		open = open && err == nil
		kept()
	}
	sendable(t, s.Leave())
}

func receive(t *testing.T, s Session, f Frame) ([]Frame, error) {
	given := bytes.Clone(f.Data)
	got, err := s.Receive(context.Background(), noon, f)
	if !bytes.Equal(given, f.Data) {
		t.Fatal("the frame was written to")
	}
	for _, m := range got.Messages {
		if m.Gap == "" && !utf8.Valid(sse.AppendEvent(nil, "7", m.Event, m.Data)) {
			t.Fatalf("%q", m.Data)
		}
	}
	return slices.Concat(got.Replies, got.Acks), err
}

// sendable holds that text frames are UTF-8 (RFC 6455, section 5.6).
func sendable(t *testing.T, frames []Frame) {
	for _, f := range frames {
		if !f.Binary && !utf8.Valid(f.Data) {
			t.Fatalf("sent as text: %q", f.Data)
		}
	}
}

// pieces makes a script for drive.
func pieces(texts ...string) []byte { return []byte(strings.Join(texts, "\xff")) }

// An opening that takes too long tells what was waited for.
func TestOpeningsSayWhatTheyWaitFor(t *testing.T) {
	sessions := map[string]struct {
		session Session
		say     []string
		want    []string
	}{
		"signalr":   {hubSession("Join"), []string{"{}\x1e"}, []string{"hub of ASP.NET Core SignalR", "write stream before"}},
		classicName: {classicSession("A.B"), []string{`{"C":"d-1-A,0","S":1,"M":[]}`}, []string{"first message", "SUBSCRIBE invokes"}},
		pubSubName:  {pubSubSession("a"), []string{fmt.Sprintf(pubSubConnected, 1)}, []string{"connected", "groups of SUBSCRIBE"}},
		"phoenix":   {phxSession("ws://h/", "room:a"), nil, []string{"phx_join"}},
		"wamp":      {wampSession(`{"realm":"a","authid":"b","ticket":"c"}`, "com.a"), []string{`[4,"ticket",{}]`, `[2,1,{}]`}, []string{"WELCOME", "the login", "SUBSCRIBE"}},
	}
	for name, c := range sessions {
		if name == classicName {
			c.session.(*signalRClassic).connects(t)
		} else if _, err := c.session.Open(""); err != nil {
			t.Fatal(err)
		}
		for i, want := range c.want {
			timers := c.session.Timers()
			if timers.Opening == 0 || timers.Step != i+1 || !strings.Contains(timers.Waiting, want) {
				t.Errorf("%s: %+v, want %q", name, timers, want)
			}
			if i < len(c.say) {
				receive(t, c.session, Frame{Data: []byte(c.say[i])})
			}
		}
	}
}
