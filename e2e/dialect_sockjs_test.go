//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// sockSeen is what servers/sockjs.mjs has seen of its clients.
type sockSeen struct {
	Connections, Beats int
	Got, URLs, Mute    []string
}

func (h *hub) sockSeen(t *testing.T) (seen sockSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

func TestDialectSockJS(t *testing.T) {
	t.Parallel()
	h := startHub(t, "sockjs", `{}`)
	s := startSidecar(t, hubRoute("sockjs", "ws://"+h.addr+"/echo?a=1", "MAX_MESSAGE=4KiB", "HELLO=> {\"hello\":{stream.n}}\n< .hello == 1")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	says := func(text string) { t.Helper(); h.reached(t, 1, map[string]any{"do": "emit", "text": text}) }
	eventually(t, "HELLO to be through", func() bool { return strings.Contains(s.apiStatus(t), `"connected"`) })
	says(`{"a":"é\n<&>\u2028"}`)
	says("no \"JSON\"\u2028\tat all")
	events.event(t, "", `{"a":"é\n<&>\u2028"}`)
	events.event(t, "", "no \"JSON\"\u2028\tat all")

	h.comesBack(t, events)
	eventually(t, "HELLO to be through again", func() bool { return len(h.sockSeen(t).Got) == 1 && strings.Contains(s.apiStatus(t), `"connected"`) })
	says(`2`)
	events.event(t, "", `2`)
	events.got.Reset()
	h.do(t, map[string]any{"do": "close", "code": 3000, "reason": "Go away!"}, nil)
	events.event(t, "stream.gap", gapEvent)
	s.explains(t, "closed by the upstream with SockJS code 3000: Go away!")
	eventually(t, "a third HELLO", func() bool { return len(h.sockSeen(t).Got) == 2 })
	form := regexp.MustCompile(`^/echo/[0-9]{3}/[a-z0-9]{16,}/websocket\?a=1$`)
	urls := h.sockSeen(t).URLs
	for _, url := range urls {
		if !form.MatchString(url) {
			t.Errorf("dialled %s", url)
		}
	}
	if len(urls) < 2 || urls[0] == urls[1] {
		t.Errorf("dialled %q", urls)
	}
	atLimit(t, events, says, func(filling string) int { return len(`a["` + filling + `"]`) }, 4096, func(filling string) string { return "data: " + filling + "\n" })
}

func TestDialectSockJSStomp(t *testing.T) {
	t.Parallel()
	h := startHub(t, "sockjs", `{}`)
	s := startSidecar(t, hubRoute("sockjs+stomp", "ws://"+h.addr+"/stomp", "CONNECT=login:me\npasscode:s3cret", "SUBSCRIBE=/topic/a\n/topic/b", "EVENT=topic")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	page := official(t, "stomp", "http://"+h.addr+"/stomp", `{"headers":{"login":"me","passcode":"s3cret"},"subscribe":["/topic/a","/topic/b"]}`)
	official(t, "stomp", "http://"+h.addr+"/stomp", `{"headers":{"passcode":"wrong"}}`).shows(t, `{"refused":"Access refused"}`)
	page.shows(t, `{"connected":true}`)
	h.reached(t, 2, map[string]any{"do": "publish", "topic": "/topic/a", "text": `{"n":1}`})
	h.reached(t, 2, map[string]any{"do": "publish", "topic": "/topic/b", "text": "in two é\nlines", "pieces": true})
	events.event(t, "/topic/a", `{"n":1}`)
	events.event(t, "/topic/b", "in two é\ndata: lines")
	page.shows(t, `{"topic":"/topic/a","body":"{\"n\":1}"}`)
	page.shows(t, `{"topic":"/topic/b","body":"in two é\nlines"}`)
	page.Process.Kill()
	<-page.ended
	h.comesBack(t, events)
	h.reached(t, 1, map[string]any{"do": "publish", "topic": "/topic/b", "text": `{"n":2}`})
	events.event(t, "/topic/b", `{"n":2}`)
}

func TestDialectSockJSRefusals(t *testing.T) {
	t.Parallel()
	h := startHub(t, "sockjs", `{}`)
	sio := startHub(t, "socketio", `{}`)
	for name, c := range map[string]struct {
		protocol, from string
		settings       []string
		status         int
		explained      string
	}{
		"credentials":  {"sockjs+stomp", h.addr + "/stomp", []string{"SUBSCRIBE=/topic/a", "CONNECT=passcode:wrong"}, 403, "Access refused"},
		"no prefix":    {"sockjs", h.addr + "/echo/websocket", nil, 404, "refused (404)"},
		"subprotocol":  {"sockjs", h.addr + "/echo", []string{"SUBPROTOCOL=v12.stomp"}, 200, "check SUBPROTOCOL"},
		"inside":       {"sockjs+socket.io", h.addr + "/echo", nil, 200, "Engine.IO open packet"},
		"no SockJS":    {"sockjs", sio.addr + "/echo", nil, 200, "connect"},
		"raw endpoint": {"raw", h.addr + "/echo/websocket", nil, 200, "upstream connected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute(c.protocol, "ws://"+c.from, c.settings...)...)
			if got := s.firstStatus(t); got != c.status {
				t.Errorf("answered %d, want %d", got, c.status)
			}
			s.explains(t, c.explained)
		})
	}
}

// An idle session lives for many heartbeats, which sockjs-node sends as pings; a client without pongs is closed.
func TestDialectSockJSKeepalive(t *testing.T) {
	t.Parallel()
	h := startHub(t, "sockjs", `{"heartbeat_delay":150}`)
	h.do(t, map[string]any{"do": "mute", "path": "/echo"}, nil)
	s := startSidecar(t, hubRoute("sockjs", "ws://"+h.addr+"/echo")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	h.reached(t, 2, map[string]any{"do": "emit", "text": "1"})
	events.event(t, "", "1")
	before := h.sockSeen(t).Connections
	eventually(t, "the mute one to be closed", func() bool { return strings.Contains(fmt.Sprint(h.sockSeen(t).Mute), "No response from heartbeat") })
	h.reached(t, 1, map[string]any{"do": "emit", "text": "2"})
	events.event(t, "", "2")
	if seen := h.sockSeen(t); seen.Connections != before || seen.Beats < 25 || strings.Contains(events.got.String(), "stream.gap") {
		t.Errorf("%+v; %q", seen, events.got.String())
	}
}
