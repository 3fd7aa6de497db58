//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// pubSubSeen is what servers/webpubsub.mjs has seen of its clients.
type pubSubSeen struct {
	Connected, Recovered, Refused, Acks, Pings, Duplicates int
	Received                                               []struct{ Type, Group, Event string }
}

func (h *hub) pubSubSeen(t *testing.T) (seen pubSubSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

// delivers has values said in a group.
func (h *hub) delivers(t *testing.T, group string, values ...any) {
	t.Helper()
	h.do(t, map[string]any{"do": "publish", "group": group, "values": values}, nil)
}

func pubSubRoute(addr string, settings ...string) []string {
	return hubRoute("webpubsub", "ws://"+addr+"/client/hubs/chat?access_token=good", settings...)
}

func TestDialectWebPubSub(t *testing.T) {
	t.Parallel()
	h := startHub(t, "webpubsub", `{}`)
	s := startSidecar(t, pubSubRoute(h.addr, "SUBSCRIBE=chat\nprices", `EVENT="\(topic) \($headers.user // "")"`, "SEND=true", `HELLO=> chat {"hello":1}`)...)
	events := ask(t, s.addr, "HTTP/1.1", "/events", "")
	s.explains(t, "upstream connected")
	events.event(t, "chat good", `{"hello":1}`)
	page := official(t, "webpubsub", "ws://"+h.addr+"/client/hubs/chat?access_token=poor", `{"subscribe":["chat","closed"],"send":[["chat",{"from":"page"}]]}`)
	page.shows(t, `{"joined":"chat"}`)
	page.shows(t, `"name":"Forbidden"`)
	events.event(t, "chat poor", `{"from":"page"}`)
	h.do(t, map[string]any{"do": "publish", "group": "prices", "dataType": "text", "values": []string{"zwei\nß"}}, nil)
	events.until(t, "event: prices \ndata: zwei\ndata: ß\n")
	h.do(t, map[string]any{"do": "publish", "group": "chat", "dataType": "binary", "values": []string{"AAH/"}}, nil)
	events.event(t, "chat ", "AAH/")
	page.shows(t, `{"group":"chat","data":"0001ff"}`)
	h.do(t, map[string]any{"do": "tell", "data": map[string]any{"n": 1}}, nil)
	page.shows(t, `{"server":{"n":1}}`)
	events.event(t, "null ", `{"n":1}`)
	if !s.posts(`chat {"from":"sidecar"}`) || !s.posts(`{"type":"event","event":"e","dataType":"text","data":"x"}`) || !s.posts("broken 1") || s.posts("chat") {
		t.Error("a message is refused, or what is none is taken")
	}
	page.shows(t, `{"group":"chat","data":{"from":"sidecar"}}`)
	s.explains(t, "what was sent is not taken: Internal server error (InternalServerError)")
	eventually(t, "everything to be acknowledged", func() bool {
		var kept []int
		h.do(t, map[string]any{"do": "kept"}, &kept)
		return len(kept) == 2 && kept[0] == 0
	})

	// Both go on where they were.
	events.got.Reset()
	h.do(t, map[string]any{"do": "drop"}, nil)
	h.delivers(t, "chat", "meanwhile")
	events.event(t, "chat ", "meanwhile")
	page.shows(t, `{"group":"chat","data":"meanwhile"}`)
	if text, seen := events.got.String(), h.pubSubSeen(t); strings.Contains(text, "stream.gap") || s.connects() != 2 || seen.Recovered != 2 || seen.Connected != 2 || seen.Duplicates != 0 {
		t.Errorf("%d connections, %+v: %s", s.connects(), seen, text)
	}

	// A session that is gone is a gap.
	for n, does := range []string{"lose", "end"} {
		events.got.Reset()
		h.do(t, map[string]any{"do": does}, nil)
		h.delivers(t, "chat", "to nobody")
		events.event(t, "stream.gap", gapEvent)
		eventually(t, "another session", func() bool { return s.connects() == 3+n })
		h.delivers(t, "chat", does)
		events.event(t, "chat ", does)
	}
	s.explains(t, "the service ends the connection: closed by the server")
}

func TestDialectWebPubSubRefusals(t *testing.T) {
	t.Parallel()
	h := startHub(t, "webpubsub", `{}`)
	for name, r := range map[string]struct {
		token, subscribe string
		status           int
		says             string
	}{
		"token": {"bad", "chat", 401, "401"},
		"group": {"poor", "closed", 403, "the group closed: The client does not have permission to join the group. (Forbidden)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute("webpubsub", "ws://"+h.addr+"/client/hubs/chat?access_token="+r.token, "SUBSCRIBE="+r.subscribe)...)
			if got := s.firstStatus(t); got != r.status {
				t.Errorf("status %d, want %d", got, r.status)
			}
			s.explains(t, r.says)
		})
	}
	s := startSidecar(t, pubSubRoute(h.addr, "SUBSCRIBE=broken")...)
	ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "the group broken: Internal server error")
}

// TestDialectWebPubSubCuts cuts connections in mid-frame again and again under load: each message arrives once and in order, and no gap is said.
// The server keeps as much as is said in the longest pause between two attempts.
func TestDialectWebPubSubCuts(t *testing.T) {
	t.Parallel()
	h := startHub(t, "webpubsub", `{"limit":1000000}`)
	after := []int{3000 + rand.IntN(3000)}
	for range 7 {
		after = append(after, 100+rand.IntN(6000)) // some within the opening of the connection that goes on
	}
	u := startUnsteady(t, h.addr, after...)
	s := startSidecar(t, pubSubRoute(u.addr, "SUBSCRIBE=a\nb")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "upstream connected")
	var want []string
	for round := 0; !u.done() || round < 20; round++ {
		for _, group := range []string{"a", "b"} {
			var batch []any
			for range 1 + rand.IntN(20) {
				batch = append(batch, len(want))
				want = append(want, fmt.Sprint("data: ", len(want)))
			}
			h.delivers(t, group, batch...)
		}
		time.Sleep(10 * time.Millisecond)
	}
	events.until(t, want[len(want)-1]+"\n")
	var got []string
	for line := range strings.Lines(events.got.String()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "data: ") && line != "data: {}" {
			got = append(got, line)
		}
	}
	if !slices.Equal(got, want) || strings.Contains(events.got.String(), "stream.gap") {
		t.Errorf("%d of %d, or out of order; a gap: %v: %v", len(got), len(want), strings.Contains(events.got.String(), "stream.gap"), got)
	}
	if seen := h.pubSubSeen(t); seen.Connected != 1 || seen.Recovered < 8 || seen.Acks == 0 {
		t.Errorf("%+v", seen)
	}
}
