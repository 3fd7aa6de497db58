package dialect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"sidestream/translate"
)

func hubSession(lines ...string) *signalr {
	return newSignalR(Options{
		Dial:      func() (Dial, error) { return Dial{URL: "wss://legacy.example/hub", Header: http.Header{}}, nil },
		Subscribe: func() ([]string, error) { return lines, nil },
	}).(*signalr)
}

func TestSignalRCheck(t *testing.T) {
	for line, want := range map[string]string{
		`Join`: "", `Join ["a", {"b":1}]`: "", `stream Counter [10]`: "", `stream Counter`: "", `stream`: "", `stream [1]`: "",
		`Join a`: "no JSON array", `Join {"a":1}`: "no JSON array", `Join ["a"`: "no JSON array", `["a"]`: "no method", `stream Counter 10`: "no JSON array",
		`{"type":1}`: "no method",
	} {
		err := checkSignalR("", []string{"Fine", line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestSignalRBounds(t *testing.T) {
	s := hubSession()
	s.Open("")
	if _, err := s.Receive(context.Background(), noon, hubFrame("{}")); err != nil {
		t.Fatal(err)
	}
	wanted := strings.Repeat(`{"type":1,"target":"Ask","arguments":[],"invocationId":"1"}`+"\x1e", maxHubResults+1)
	got, err := s.Receive(context.Background(), noon, Frame{Data: []byte(wanted)})
	if err == nil || len(got.Replies) != maxHubResults {
		t.Errorf("%d results, %v", len(got.Replies), err)
	}
	s.Dial(nil)
	for range maxHubHops {
		if _, err := s.Dial(&HTTPResponse{Status: 200, Body: []byte(`{"url":"https://other.example/"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Dial(&HTTPResponse{Status: 200, Body: []byte(`{"url":"https://other.example/"}`)}); err == nil || !strings.Contains(err.Error(), "redirected more than") {
		t.Errorf("%v", err)
	}
	for _, answer := range []string{
		fmt.Sprintf(`{"url":"https://other.example/%s"}`, strings.Repeat("x", maxHubAddress)),
		fmt.Sprintf(`{"url":"https://other.example/","accessToken":"%s"}`, strings.Repeat("x", maxHubToken+1)),
		fmt.Sprintf(`{"connectionToken":"%s","negotiateVersion":1,"availableTransports":[{"transport":"WebSockets","transferFormats":["Text"]}]}`, strings.Repeat("x", maxHubToken+1)),
	} {
		s.Dial(nil)
		if _, err := s.Dial(&HTTPResponse{Status: 200, Body: []byte(answer)}); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.60s: %v", answer, err)
		}
	}
}

// What was meant for the first host stays there, even when the redirect lacks what it should have.
func TestSignalRForeignHost(t *testing.T) {
	for address, kept := range map[string]bool{
		"https://legacy.example/x": true, "https://LEGACY.example:443/x": true, "https://legacy.example:8443/x": false, "https://legacy.example.evil/x": false, "https://evil/legacy.example": false,
	} {
		s := hubSession()
		s.Options.Dial = func() (Dial, error) {
			return Dial{URL: "wss://legacy.example/hub", Header: http.Header{"Authorization": {"own"}, "Cookie": {"own"}, "X-Key": {"own"}}}, nil
		}
		s.Dial(nil)
		d, err := s.Dial(&HTTPResponse{Status: 200, Body: []byte(`{"url":"` + address + `"}`)})
		if err != nil || d.Request == nil {
			t.Fatal(err)
		}
		h := d.Request.Header
		if (h.Get("Authorization") == "own") != kept || (h.Get("Cookie") == "own") != kept || (h.Get("X-Key") == "own") != kept {
			t.Errorf("%s: %v", address, h)
		}
	}
}

func TestSignalRUnaskedAnswer(t *testing.T) {
	if _, err := hubSession().Dial(&HTTPResponse{Status: 200, Body: []byte(`{}`)}); err == nil {
		t.Error("an answer without a question was taken")
	}
}

func TestSignalRBadLine(t *testing.T) {
	s := hubSession("Join {")
	s.Open("")
	var refused *translate.Refused
	if _, err := s.Receive(context.Background(), noon, hubFrame("{}")); !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("%v", err)
	}
}

func FuzzSignalR(f *testing.F) {
	agreed := "\x00{}\x1e"
	f.Add(pieces(agreed, "\x00{\"type\":1,\"target\":\"T\",\"arguments\":[1,{\"a\":2}],\"invocationId\":\"1\"}\x1e{\"type\":6}\x1e", "\x03", "\x04Say [1]"))
	f.Add(pieces(agreed, "\x00{\"type\":3,\"invocationId\":\"subscribe-1\"}\x1e", "\x00{\"type\":2,\"invocationId\":\"subscribe-2\",\"item\":1}\x1e{\"type\":3,\"invocationId\":\"subscribe-2\"}\x1e"))
	f.Add(pieces("\x07{\"url\":\"https://a/b\",\"accessToken\":\"t\"}", "\x07{\"connectionId\":\"1\",\"availableTransports\":[{\"transport\":\"WebSockets\",\"transferFormats\":[\"Text\"]}]}"))
	f.Add(pieces(agreed, "\x00{\"type\":7,\"allowReconnect\":true}\x1e", agreed, "\x02\x01", "\x04{\"type\":1}"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := hubSession("Join [1]", "stream Counter")
		drive(t, s, script, func() {
			if len(s.waiting) > 1 || len(s.streams) > 1 || s.hops > maxHubHops+1 {
				t.Fatal("it grows")
			}
		})
	})
}
