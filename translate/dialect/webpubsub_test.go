package dialect

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sidestream/translate"
)

const pubSubConnected = `{"type":"system","event":"connected","userId":"u","connectionId":"c","reconnectionToken":"t%d"}`

func pubSubSession(groups ...string) *webPubSub {
	return newWebPubSub(Options{
		Dial:      func() (Dial, error) { return Dial{URL: "wss://h/client/hubs/chat?access_token=a"}, nil },
		Subscribe: func() ([]string, error) { return groups, nil },
	}).(*webPubSub)
}

func (s *webPubSub) hears(t *testing.T, text string) Received {
	t.Helper()
	got, err := s.Receive(t.Context(), noon, Frame{Data: []byte(text)})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return got
}

// standing is a session of a group that was ready.
func standing(t *testing.T) *webPubSub {
	t.Helper()
	s := pubSubSession("a")
	_, _ = s.Open("")
	s.hears(t, fmt.Sprintf(pubSubConnected, 1))
	if got := s.hears(t, `{"type":"ack","ackId":1,"success":true}`); !got.Ready || !s.Resumable() {
		t.Fatalf("%+v", got)
	}
	return s
}

func pubSubNews(n int) string {
	return fmt.Sprintf(`{"type":"message","from":"group","group":"a","dataType":"json","data":%d,"sequenceId":%d}`, n, n)
}

func TestWebPubSubCheck(t *testing.T) {
	for line, want := range map[string]string{"a": "", "a.b:c/d": "", "a b": "is no group", `{"a":1}`: "is no group", strings.Repeat("x", maxPubSubGroup+1): "is no group"} {
		err := checkWebPubSub("", []string{"fine", line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%.40s: %v", line, err)
		}
	}
	s := pubSubSession("a b")
	_, _ = s.Open("")
	var refused *translate.Refused
	if _, err := s.Receive(t.Context(), noon, Frame{Data: fmt.Appendf(nil, pubSubConnected, 1)}); !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("%v", err)
	}
}

// What has come before does not come again, and what came is acknowledged, not number by number.
func TestWebPubSubNumbers(t *testing.T) {
	s := standing(t)
	acks := 0
	for n := 1; n <= 1000; n++ {
		got := s.hears(t, pubSubNews(n))
		acks += len(got.Acks)
		if len(got.Messages) != 1 {
			t.Fatalf("%+v", got)
		}
	}
	if last := s.Acks(); acks != 3 || len(last) != 1 || string(last[0].Data) != `{"sequenceId":1000,"type":"sequenceAck"}` || s.Acks() != nil {
		t.Errorf("%d acknowledgements, at last %v", acks, last)
	}
	if d, err := s.Dial(nil); err != nil || d.URL != "wss://h/client/hubs/chat?access_token=a&awps_connection_id=c&awps_reconnection_token=t1" {
		t.Errorf("%+v %v", d, err)
	}
	_, _ = s.Open("")
	if got := s.hears(t, pubSubNews(1000)); len(got.Messages) > 0 || got.Ready || s.Acks() != nil {
		t.Errorf("%+v", got)
	}
	if got := s.hears(t, fmt.Sprintf(pubSubConnected, 2)); !got.Ready || !got.Resumed || !got.Continued || len(got.Replies) > 0 || s.token != "t2" || len(s.Acks()) != 1 {
		t.Errorf("%+v", got)
	}
	if got := s.hears(t, pubSubNews(1002)); len(got.Messages) != 1 {
		t.Errorf("%+v", got)
	}
}

// Whatever tells that a session is gone ends it.
func TestWebPubSubGone(t *testing.T) {
	for name, tell := range map[string]func(s *webPubSub) error{
		"another id": func(s *webPubSub) error {
			_, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`{"type":"system","event":"connected","connectionId":"d","reconnectionToken":"t"}`)})
			return err
		},
		"1008": func(s *webPubSub) error { _ = s.Closed(1008, ""); return errors.New("") },
		"404":  func(s *webPubSub) error { return map[bool]error{true: errors.New("")}[s.Denied(404)] },
		"many tries": func(s *webPubSub) error {
			for s.tries = maxHubTries; s.Failed(); {
			}
			return errors.New("")
		},
	} {
		s := standing(t)
		_, _ = s.Open("")
		if err := tell(s); err == nil || s.Resumable() {
			t.Errorf("%s: %v", name, err)
		}
		if d, _ := s.Dial(nil); strings.Contains(d.URL, "awps") {
			t.Errorf("%s: %s", name, d.URL)
		}
	}
	s := standing(t)
	_, _ = s.Open("")
	if s.Denied(503) || s.Denied(429) || s.Closed(1006, "") != nil || !s.Failed() || !s.Resumable() {
		t.Error("it is given up")
	}
	if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`{"type":"system","event":"disconnected","message":"for a while"}`)}); err == nil || !s.Resumable() {
		t.Errorf("%v", err)
	}
}

func TestWebPubSubBounds(t *testing.T) {
	s := standing(t)
	for range maxPubSubSent {
		if _, err := s.Send(translate.Message{Data: []byte("a 1")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Send(translate.Message{Data: []byte("a 1")}); err == nil || len(s.sent) != maxPubSubSent {
		t.Errorf("%v", err)
	}
	for _, connected := range []string{`"connectionId":""`, `"connectionId":"` + strings.Repeat("x", maxPubSubID+1) + `"`, `"connectionId":"c","reconnectionToken":"` + strings.Repeat("x", maxHubToken+1) + `"`} {
		s := pubSubSession()
		_, _ = s.Open("")
		if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`{"type":"system","event":"connected",` + connected + `}`)}); err == nil {
			t.Errorf("%.60s", connected)
		}
	}
}

// What is not as it should be is a gap, and does not come again.
func TestWebPubSubBinary(t *testing.T) {
	s := standing(t)
	got := s.hears(t, `{"type":"message","from":"server","dataType":"binary","data":"?","sequenceId":1}`)
	if len(got.Messages) != 1 || got.Messages[0].Gap != translate.GapUpstream || len(got.Complaints) != 1 || s.last != 1 {
		t.Errorf("%+v", got)
	}
	got = s.hears(t, `{"type":"message","from":"server","dataType":"protobuf","data":"AAE=","sequenceId":2}`)
	if len(got.Messages) != 1 || string(got.Messages[0].Data) != "AAE=" || !got.Messages[0].Text {
		t.Errorf("%+v", got)
	}
}

// Another process goes on where nobody sends, whose messages might have numbers that the service has seen.
func TestWebPubSubSaved(t *testing.T) {
	s := standing(t)
	s.hears(t, pubSubNews(7))
	s.HandOn()
	next := pubSubSession("a")
	if err := next.Restore(s.Save()); err != nil || !next.Resumable() || next.last != 7 || next.calls != 1 || !s.Cuts() {
		t.Errorf("%+v %v", next.pubSubPlace, err)
	}
	s.Speaks = true
	if next = pubSubSession("a"); string(s.Save()) != "\x00" || next.Restore(s.Save()) != nil || next.Resumable() || next.Save() == nil || s.Cuts() {
		t.Errorf("%q", s.Save())
	}
	for _, bad := range [][]byte{nil, fieldsOf("a"), fieldsOf("", "t", "1", "1"), fieldsOf("c", "", "1", "1"), fieldsOf("c", "t", "x", "1"), fieldsOf("c", "t", "1", "-1"), fieldsOf("c", "t", "1", "1", "1"), fieldsOf(strings.Repeat("x", maxPubSubID+1), "t", "1", "1")} {
		if pubSubSession().Restore(bad) == nil {
			t.Errorf("%.60q", bad)
		}
	}
}

// A message that cannot be read would come again on the next WebSocket.
func TestWebPubSubUnreadable(t *testing.T) {
	for _, text := range []string{"?", `{"type":"message","from":"group","group":"a","dataType":"json","data":1,"sequenceId":-1}`, `{"type":"message","group":["a"],"sequenceId":2}`} {
		s := standing(t)
		s.hears(t, pubSubNews(1))
		if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(text)}); err == nil || s.Resumable() {
			t.Errorf("%s: %v, goes on: %v", text, err, s.Resumable())
		}
	}
}

// What comes before "connected" is lost with a WebSocket that does not become ready, and is not taken for known then.
func TestWebPubSubEarly(t *testing.T) {
	s := standing(t)
	s.hears(t, pubSubNews(1))
	_, _ = s.Open("")
	s.hears(t, pubSubNews(2))
	if !s.Failed() {
		return // a gap
	}
	_, _ = s.Open("")
	s.hears(t, fmt.Sprintf(pubSubConnected, 2))
	if got := s.hears(t, pubSubNews(2)); len(got.Messages) != 1 {
		t.Errorf("%+v", got)
	}
}

// What is acknowledged is the sidecar's to say, whatever clients send.
func TestWebPubSubClientAcks(t *testing.T) {
	s := standing(t)
	for _, text := range []string{`{"type":"sequenceAck","sequenceId":9}`, `{"type":"SequenceAck","sequenceId":9}`, `{"type":"event","Type":"sequenceAck"}`, `{"type":"event","event":"e","ACKID":1}`} {
		if frames, err := s.Send(translate.Message{Data: []byte(text)}); err == nil {
			t.Errorf("%s", frames[0].Data)
		}
	}
}

// A session without a token cannot be gone on with.
func TestWebPubSubTokenGone(t *testing.T) {
	s := standing(t)
	s.hears(t, `{"type":"system","event":"connected","connectionId":"c"}`)
	if s.Resumable() || string(s.Save()) != "\x00" {
		t.Errorf("%q", s.Save())
	}
}

func FuzzWebPubSub(f *testing.F) {
	connected := "\x00" + fmt.Sprintf(pubSubConnected, 1)
	f.Add(pieces(connected, "\x00{\"type\":\"ack\",\"ackId\":1,\"success\":true}", "\x00"+pubSubNews(1), "\x05", "\x04a 1", "\x06", "\x07", connected, "\x00"+pubSubNews(2)))
	f.Add(pieces(connected, "\x00{\"type\":\"ack\",\"ackId\":1,\"error\":{\"name\":\"Forbidden\",\"message\":\"no\"}}", "\x02\x01", "\x03"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := pubSubSession("a", "b")
		drive(t, s, script, func() {
			if len(s.waiting) > 2 || len(s.sent) > maxPubSubSent || len(s.id) > maxPubSubID || len(s.token) > maxHubToken || len(s.Save()) > translate.MaxSaved {
				t.Fatal("it grows")
			}
		})
	})
}
