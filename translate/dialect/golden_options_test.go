package dialect

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"sidestream/translate/decode"
)

// named gives a session the name that it has made up in every transcript.
func named(s Session) Session {
	if n, ok := s.(*nats); ok {
		n.inbox = "inboxinboxinboxinbox"
	}
	return s
}

// with adds to s what else the parts set.
func (s *Script) with(t *testing.T, parts map[string]string) *Script {
	s.Capture, s.Resumed, s.Pong, s.Dial = compiled(t, "STATE", parts["STATE"]), compiled(t, "RESUMED", parts["RESUMED"]), compiled(t, "PONG", parts["PONG"]), compiled(t, "DIAL", parts["DIAL"])
	s.Interval = compiled(t, "PING_EVERY", parts["PING_EVERY"])
	var err error
	if s.Close, err = ParseClose(parts["CLOSE"]); err != nil {
		t.Fatal(err)
	}
	if address := parts["TICKET"]; address != "" {
		s.Ticket = func() (*HTTPRequest, error) {
			return &HTTPRequest{Method: "POST", URL: address, Header: http.Header{"Authorization": {"Bearer key"}}}, nil
		}
	}
	return s
}

func unquoted(t *testing.T, s string) string {
	t.Helper()
	text, err := strconv.Unquote(`"` + s + `"`)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return text
}

func decoding(t *testing.T, text string) decode.Steps {
	t.Helper()
	steps, err := decode.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// options are a route's with these settings.
func options(t *testing.T, d Dialect, parts map[string]string) Options {
	if d.Check != nil {
		if err := d.Check(parts["CONNECT"], SplitLines(parts["SUBSCRIBE"])); err != nil {
			t.Fatal(err)
		}
	}
	address := parts["FROM"]
	if address == "" {
		address = "ws://legacy.example/feed"
	}
	return Options{
		Dial: func() (Dial, error) {
			h := http.Header{}
			for line := range strings.Lines(parts["HEADERS"]) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
				h.Add(name, value)
			}
			return Dial{URL: address, Header: h, Subprotocols: d.Subprotocols}, nil
		},
		Connect:    func() (string, error) { return parts["CONNECT"], nil },
		Subscribe:  func() ([]string, error) { return SplitLines(parts["SUBSCRIBE"]), nil },
		Binary:     parts["BINARY"],
		Decode:     decoding(t, parts["DECODE"]),
		Separator:  unquoted(t, parts["SEPARATOR"]),
		MaxMessage: 1 << 20,
		Now:        func() time.Time { return noon },
	}
}
