//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// fayeSeen is what servers/faye.mjs has seen of its clients.
type fayeSeen struct {
	Handshakes, Connects, Disconnects int
	Types                             []string
	Tokens, Published                 []any
}

func (h *hub) fayeSeen(t *testing.T) (seen fayeSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

// tells has n subscribers of a channel told something.
func (h *hub) tells(t *testing.T, n int, channel string, message any) {
	t.Helper()
	h.reached(t, n, map[string]any{"do": "say", "topic": channel, "message": message})
}

// told has whoever is subscribed to a channel, by a wildcard or itself, told something.
func (h *hub) told(t *testing.T, channel string, message any) {
	t.Helper()
	h.do(t, map[string]any{"do": "say", "topic": channel, "message": message}, nil)
}

func TestDialectBayeux(t *testing.T) {
	t.Parallel()
	for scheme, kind := range map[string]string{"ws": "websocket", "http": "long-polling"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := startHub(t, "faye", `{"timeout":1}`)
			s := startSidecar(t, hubRoute("bayeux", scheme+"://"+h.addr+"/bayeux", `CONNECT={"ext":{"token":"{query.token:t}"}}`, "SUBSCRIBE=/orders/*\n/prices", "EVENT=topic", `HELLO=/hello {"n":1.10}`)...)
			page := official(t, "bayeux", "http://"+h.addr+"/bayeux", `{"subscribe":["/orders/7"]}`)
			page.shows(t, `{"subscribed":"/orders/7"}`)
			events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
			h.tells(t, 1, "/orders/7", map[string]any{"text": "hé\n", "n": 1.5})
			events.event(t, "/orders/7", `{"n":1.5,"text":"hé\n"}`)
			page.shows(t, `{"channel":"/orders/7","data":{"n":1.5,"text":"hé\n"}}`)
			page.Process.Kill()
			<-page.ended
			h.tells(t, 1, "/prices", "1.50")
			events.event(t, "/prices", "1.50")
			eventually(t, "connects one after the other", func() bool { return h.fayeSeen(t).Connects >= 6 })
			seen := h.fayeSeen(t)
			if !slices.Contains(seen.Types, kind) || fmt.Sprint(seen.Published) != "[map[n:1.1] map[n:1.5 text:hé\n] 1.50]" || !slices.Contains(seen.Tokens, any("t")) {
				t.Errorf("%+v", seen)
			}

			// Cut: it goes on with the id that it had, and is given what was said meanwhile; what was on its way is not known, so a gap is said.
			handshakes := seen.Handshakes
			events.got.Reset()
			h.do(t, map[string]any{"do": "interrupt", "topic": "/prices", "message": "meanwhile"}, nil)
			events.event(t, "stream.gap", gapEvent)
			if scheme == "ws" { // over long polls Faye writes it into the answer that nobody waits for any more
				events.event(t, "/prices", "meanwhile")
			}
			if now := h.fayeSeen(t).Handshakes; now != handshakes {
				t.Errorf("%d handshakes, want %d", now, handshakes)
			}

			// A server that was restarted knows none of its clients.
			events.got.Reset()
			h.kill()
			h.start(t)
			events.event(t, "stream.gap", gapEvent)
			h.tells(t, 1, "/prices", 2)
			events.event(t, "/prices", "2")
			s.drain(t)
			eventually(t, "the goodbye", func() bool { return h.fayeSeen(t).Disconnects == 1 })
		})
	}
}

func TestDialectBayeuxRefusals(t *testing.T) {
	t.Parallel()
	h := startHub(t, "faye", "{}")
	for name, c := range map[string]struct {
		connect, subscribe string
		status             int
		says               string
	}{
		"handshake": {`{"ext":{"token":"bad"}}`, "/a", 403, "the handshake was refused: 403 Forbidden"},
		"channel":   {`{}`, "/a\n/secret", 403, "a subscription was refused: 403 Forbidden channel (/secret)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute("bayeux", "ws://"+h.addr+"/bayeux", "CONNECT="+c.connect, "SUBSCRIBE="+c.subscribe)...)
			if got := s.firstStatus(t); got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			s.explains(t, c.says)
		})
	}
	s := startSidecar(t, hubRoute("bayeux", "ws://"+h.addr+"/bayeux", "SUBSCRIBE=/a", "SEND=true")...)
	ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	resp, err := plain.Post("http://"+s.addr+"/events", "text/plain", strings.NewReader(`/sent {"n":1}`))
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	eventually(t, "the publication", func() bool { return len(h.fayeSeen(t).Published) == 1 })
	resp, err = plain.Post("http://"+s.addr+"/events", "text/plain", strings.NewReader(`/readonly 1`))
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	s.explains(t, "a publication to /readonly: 403 No publications")
}
