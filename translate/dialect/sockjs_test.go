package dialect

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"sidestream/translate"
)

func sockSession(t testing.TB, name string, o Options) *sockjs {
	t.Helper()
	d, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	if o.Dial == nil {
		o.Dial = func() (Dial, error) { return Dial{URL: "ws://h/echo", Header: http.Header{}}, nil }
	}
	return d.New(o).(*sockjs)
}

func TestSockJSAddress(t *testing.T) {
	form := regexp.MustCompile(`^ws://h/echo/[0-9]{3}/[a-z0-9]{16,}/websocket$`)
	s := sockSession(t, "sockjs", Options{})
	seen := map[string]bool{}
	for range 50 {
		d, err := s.Dial(nil)
		if err != nil || !form.MatchString(d.URL) || seen[d.URL] {
			t.Fatalf("%s, %v", d.URL, err)
		}
		seen[d.URL] = true
	}
	for from, want := range map[string]string{
		"ws://h": "ws://h/1/2/websocket", "wss://h:1/a/": "wss://h:1/a/1/2/websocket", "ws://h/a%2Fb%20c?x=%7B&y": "ws://h/a%2Fb%20c/1/2/websocket?x=%7B&y",
	} {
		s := sockSession(t, "sockjs", Options{Dial: func() (Dial, error) { return Dial{URL: from}, nil }})
		s.address = func() string { return "/1/2/websocket" }
		if d, err := s.Dial(nil); err != nil || d.URL != want {
			t.Errorf("%s: %s, %v", from, d.URL, err)
		}
	}
	// What the inner dialect adds to the address stands before what SockJS does.
	s = sockSession(t, "sockjs+socket.io", Options{})
	s.address = func() string { return "/1/2/websocket" }
	if d, err := s.Dial(nil); err != nil || d.URL != "ws://h/echo/1/2/websocket?EIO=4&transport=websocket" {
		t.Errorf("%s, %v", d.URL, err)
	}
}

func TestSockJSDialects(t *testing.T) {
	for _, d := range Table {
		over, err := Find(sockJSPrefix + d.Name)
		if d.Binary {
			if err == nil || !strings.Contains(err.Error(), "SockJS carries text alone") {
				t.Errorf("%s: %v", d.Name, err)
			}
			continue
		}
		if d.Name == "sockjs" {
			if err == nil {
				t.Error("sockjs over sockjs is known")
			}
			continue
		}
		if err != nil || over.Name != sockJSPrefix+d.Name || over.Connects != d.Connects || over.Subscribes != d.Subscribes || over.Required != d.Required || len(over.Subprotocols) > 0 || over.Stream {
			t.Errorf("%+v, %v", over, err)
		}
	}
	for _, name := range []string{"soap", "sockjs+soap", "sockjs+", "stomp+sockjs", "sockjs+sockjs+stomp"} {
		if _, err := Find(name); err == nil || !strings.Contains(err.Error(), "stomp, ") || !strings.Contains(err.Error(), "or sockjs+ and one of them") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Bytes cannot be sent through SockJS, whoever wants to.
func TestSockJSIsText(t *testing.T) {
	s := sockSession(t, "sockjs", Options{})
	s.Open("")
	sioSay(t, s, "o")
	if frames, err := s.Send(translate.Message{Data: []byte{1}, Binary: true}); err == nil || !strings.Contains(err.Error(), "text alone") {
		t.Errorf("%v, %v", frames, err)
	}
	inner := overSockJS(Dialect{Name: "mqtt", New: newMQTT}).New(Options{Connect: fixed(""), Subscribe: fixedLines("a")})
	inner.Open("")
	var refused *translate.Refused
	if _, err := inner.Receive(context.Background(), noon, Frame{Data: []byte("o")}); !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("MQTT: %v", err)
	}
	if frames, err := s.Send(translate.Message{Data: []byte("\xff")}); err != nil || string(frames[0].Data) != "[\"\\ufffd\"]" {
		t.Errorf("%+v, %v", frames, err)
	}
}

func TestSockJSBounds(t *testing.T) {
	s := sockSession(t, "sockjs", Options{})
	s.Open("")
	got := sioSay(t, s, "o", "a["+strings.Repeat(`"",`, maxSockJSTexts-1)+`"last"]`)
	if n := len(got.Messages); n != maxSockJSTexts || string(got.Messages[n-1].Data) != "last" {
		t.Errorf("%d messages", n)
	}
	got = sioSay(t, s, "a["+strings.Repeat(`"",`, maxSockJSTexts)+`"over"]`)
	if n := len(got.Messages); n != maxSockJSTexts+1 || got.Messages[n-1].Gap != translate.GapUpstream {
		t.Errorf("%d messages", n)
	}
}

// What the inner dialect has to say of time and ends counts once it is open.
func TestSockJSInner(t *testing.T) {
	s := sockSession(t, "sockjs+socket.io", Options{Connect: fixed(""), Subscribe: fixedLines()})
	s.Open("")
	if timers := s.Timers(); timers.Opening != openingTime || !strings.Contains(timers.Waiting, "the SockJS open frame") {
		t.Errorf("%+v", timers)
	}
	sioSay(t, s, "o")
	if timers := s.Timers(); timers.Step != 1 || !strings.Contains(timers.Waiting, "the Engine.IO open packet") {
		t.Errorf("%+v", timers)
	}
	sioSay(t, s, `a["0{}"]`)
	if got := sioSay(t, s, `a["40{\"sid\":\"a\",\"pid\":\"p\"}","42[\"n\",1,\"o\"]"]`); !got.Ready || len(got.Messages) != 1 || s.Timers().Silence == 0 {
		t.Errorf("%+v, %+v", got, s.Timers())
	}
	if !s.Resumable() {
		t.Error("not resumable")
	}
	s.Open("")
	if got := sioSay(t, s, "o", `a["0{}"]`); string(got.Replies[0].Data) != `["40{\"pid\":\"p\",\"offset\":\"o\"}"]` {
		t.Errorf("%s", got.Replies[0].Data)
	}
	if got := sioSay(t, s, `a["40{\"sid\":\"a\",\"pid\":\"p\"}"]`); !got.Ready || !got.Resumed {
		t.Errorf("%+v", got)
	}
}

// What acknowledges is in SockJS's form too, also where it is asked for later: here the connect that waits for its interval.
func TestSockJSAcknowledgements(t *testing.T) {
	s := sockSession(t, "sockjs+bayeux", Options{Connect: fixed(""), Subscribe: fixedLines("/a")})
	s.Open("")
	bayeux := func(text string) string { return "a[" + string(jsonString(text)) + "]" }
	sioSay(t, s, "o", bayeux(`[{"channel":"/meta/handshake","successful":true,"clientId":"c","ext":{"ack":true},"advice":{"interval":1000}}]`),
		bayeux(`[{"channel":"/meta/subscribe","successful":true,"subscription":"/a"}]`), bayeux(`[{"channel":"/meta/connect","successful":true,"ext":{"ack":1}}]`))
	acks := s.Acks()
	if len(acks) != 1 || !strings.HasPrefix(string(acks[0].Data), `["[{\"channel\":\"/meta/connect\"`) {
		t.Errorf("%+v", acks)
	}
	if acks = s.Acks(); acks != nil {
		t.Errorf("%d are sent again", len(acks))
	}
}

func FuzzSockJS(f *testing.F) {
	f.Add(pieces("\x00o", "\x00a[\"0{}\",\"40{\\\"sid\\\":\\\"a\\\"}\"]", "\x00m\"42[\\\"a\\\",1]\"", "\x00h", "\x04[\"a\"]", "\x00c[3000,\"x\"]", "\x06"))
	f.Add(pieces("\x00c[1", "\x00o", "\x00a{}", "\x02o", "\x00a[\"2\"]", "\x05", "\x03"))
	f.Fuzz(func(t *testing.T, script []byte) {
		for _, name := range []string{"sockjs", "sockjs+socket.io", "sockjs+stomp"} {
			s := sockSession(t, name, Options{Connect: fixed(""), Subscribe: fixedLines("/a"), MaxMessage: 64})
			drive(t, s, script, func() {})
		}
	})
}
