//go:build e2e

package e2e

import (
	"net"
	"strings"
	"testing"
	"time"
)

// startRails starts Action Cable on puma, without Rails; the hub's commands work as with servers of node.
func startRails(t *testing.T) *hub {
	t.Helper()
	h := &hub{name: "cable.ru", addr: freeAddr(t)}
	h.startRails(t)
	return h
}

// startRails begins, also anew after a kill.
func (h *hub) startRails(t *testing.T) {
	t.Helper()
	h.process = launch(t, h.env, "puma", "-b", "tcp://"+h.addr, "-t", "2:8", "-w", "0", "-e", "production", "servers/cable.ru")
	p := h.process
	eventually(t, "puma to listen", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("puma ended: %s%s", &p.stdout, &p.stderr)
		default:
		}
		conn, err := net.Dial("tcp", h.addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// chats has a room say something once n are subscribed to it.
func (h *hub) chats(t *testing.T, n int, room string, message any) {
	t.Helper()
	h.reached(t, n, map[string]any{"do": "say", "topic": room, "message": message})
}

func (h *hub) number(t *testing.T, what string) (n int) {
	t.Helper()
	h.do(t, map[string]any{"do": what}, &n)
	return n
}

func TestDialectActionCable(t *testing.T) {
	t.Parallel()
	h := startRails(t)
	s := startSidecar(t, hubRoute("actioncable", "ws://"+h.addr+"/cable?token={query.token:t}",
		`SUBSCRIBE={"channel":"ChatChannel","room":"{query.room:a}","greet":true}`, "EVENT=topic|fromjson.room",
		"HELLO={\"action\":\"speak\",\"text\":\"hello\"}\n< .said == \"hello\"", "IDLE=1s")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	events.event(t, "a", `{"greets":"a"}`)
	h.chats(t, 1, "a", map[string]any{"n": 1.5, "text": "hé\n"})
	events.event(t, "a", `{"n":1.5,"text":"hé\n"}`)
	h.chats(t, 1, "a", "<b>1234</b>")
	events.event(t, "a", `<b>1234</b>`)
	h.chats(t, 1, "a", "1234")
	events.event(t, "a", `1234`)
	other := ask(t, s.addr, "HTTP/1.0", "/events?room=x%22%5C%7D", "retry: ")
	other.event(t, `x"\}`, `{"greets":"x\"\\}"}`)
	other.conn.Close()

	events.got.Reset()
	h.kill()
	events.event(t, "stream.gap", gapEvent)
	h.startRails(t)
	events.event(t, "a", `{"greets":"a"}`)
	h.chats(t, 1, "a", 7)
	events.event(t, "a", "7")
}

// A restart asks for another connection; a server that wants us no more is obeyed.
func TestDialectActionCableDisconnects(t *testing.T) {
	t.Parallel()
	h := startRails(t)
	s := startSidecar(t, hubRoute("actioncable", "ws://"+h.addr+"/cable", `SUBSCRIBE={"channel":"ChatChannel","room":"a"}`)...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	h.reached(t, 1, map[string]any{"do": "restart", "topic": "a"})
	events.event(t, "stream.gap", gapEvent)
	s.explains(t, "the server disconnects: server_restart")
	eventually(t, "a second connection", func() bool { return h.number(t, "connects") == 2 })
	h.chats(t, 1, "a", 7)
	events.event(t, "", "7")
	h.reached(t, 1, map[string]any{"do": "refuse", "topic": "a"})
	events.event(t, "stream.refused", `{"status":403}`)
}

func TestDialectActionCableRefusals(t *testing.T) {
	t.Parallel()
	h := startRails(t)
	for name, c := range map[string]struct {
		from, subscribe string
		more            []string
		status          int
		says            string
	}{
		"unauthorized": {"/cable?token=bad", `{"channel":"ChatChannel","room":"a"}`, nil, 401, "the server disconnects: unauthorized"},
		"rejected":     {"/cable", "{\"channel\":\"ChatChannel\",\"room\":\"a\"}\n{\"channel\":\"ChatChannel\",\"room\":\"secret\"}", nil, 403, "the subscription of line 2 was rejected"},
		"origin":       {"/cable", `{"channel":"ChatChannel","room":"a"}`, []string{"HEADERS=Origin: http://foreign.example"}, 404, ""},
		"protocol":     {"/cable", `{"channel":"ChatChannel","room":"a"}`, []string{"SUBPROTOCOL=actioncable-v2,actioncable-unsupported"}, 400, "set SUBPROTOCOL"},
		"no channel":   {"/cable", `{"channel":"NopeChannel"}`, nil, 200, "waiting for confirm_subscription; Rails is silent about a channel"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute("actioncable", "ws://"+h.addr+c.from, append(c.more, "SUBSCRIBE="+c.subscribe)...)...)
			if c.status == 200 {
				ask(t, s.addr, "HTTP/1.0", "/events", "retry: ") // stays, as the stream does
			} else if got := s.firstStatus(t); got != c.status {
				t.Errorf("answered %d, want %d", got, c.status)
			}
			s.explains(t, c.says)
		})
	}
}

func TestDialectActionCableLimit(t *testing.T) {
	t.Parallel()
	h := startRails(t)
	s := startSidecar(t, hubRoute("actioncable", "ws://"+h.addr+"/cable", `SUBSCRIBE={"channel":"ChatChannel","room":"a"}`, "MAX_MESSAGE=4KiB")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	size := func(filling string) int {
		return len(`{"identifier":"{\"channel\":\"ChatChannel\",\"room\":\"a\"}","message":"` + filling + `"}`)
	}
	atLimit(t, events, func(filling string) { h.chats(t, 1, "a", filling) }, size, 4096, func(filling string) string { return "data: " + filling + "\n" })
}

// A session with nothing to say lives through many of Rails' pings, here of 200 ms; one whose server falls silent is given up.
func TestDialectActionCableIdle(t *testing.T) {
	t.Parallel()
	h := &hub{name: "cable.ru", addr: freeAddr(t), env: []string{"BEAT=0.2"}}
	h.startRails(t)
	s := startSidecar(t, hubRoute("actioncable", "ws://"+h.addr+"/cable", `SUBSCRIBE={"channel":"ChatChannel","room":"a"}`, "IDLE=1s")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	h.chats(t, 1, "a", "first")
	events.event(t, "", "first")
	h.idles(t, s, events, 5*time.Second, func() { h.chats(t, 1, "a", "still") }, "still")
}

// anyCableSeen is what servers/anycable.mjs has seen of its clients.
type anyCableSeen struct {
	Dials, Protocols, Commands, Ends []string
	Pings                            int
}

func (h *hub) anyCableSeen(t *testing.T) (seen anyCableSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

// pongs waits until n pings were answered.
func (h *hub) pongs(t *testing.T, n int) {
	t.Helper()
	eventually(t, "pongs", func() bool {
		return strings.Count(strings.Join(h.anyCableSeen(t).Commands, " ")+" ", "pong ") >= n
	})
}

// What was said while nobody was there arrives, whether the session is restored or not, and no gap is said; the
// official client agrees with the server.
func TestDialectAnyCable(t *testing.T) {
	t.Parallel()
	h := startHub(t, "anycable", `{"ping":200,"pongs":true}`)
	page := official(t, "anycable", "ws://"+h.addr+"/cable", `{"room":"b","ping":200}`)
	page.shows(t, `{"subscribed":"b"}`)
	h.pongs(t, 1)
	h.chats(t, 1, "b", map[string]any{"n": 1})
	page.shows(t, `{"message":{"n":1},"offset":1}`)
	h.do(t, map[string]any{"do": "interrupt", "topic": "b", "messages": []any{map[string]any{"n": 2}}}, nil)
	page.shows(t, `{"message":{"n":2},"offset":2}`)
	page.Process.Kill()
	<-page.ended

	s := startSidecar(t, hubRoute("actioncable", "ws://"+h.addr+"/cable", "SUBSCRIBE={\"channel\":\"ChatChannel\",\"room\":\"a\"}\n{\"channel\":\"ChatChannel\",\"room\":\"quiet\"}")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	h.chats(t, 1, "a", map[string]any{"n": 1})
	events.event(t, "", `{"n":1}`)
	before := len(h.anyCableSeen(t).Dials)
	s.explains(t, "the server disconnects: no_pong") // which teaches it to answer
	eventually(t, "the next connection", func() bool { return len(h.anyCableSeen(t).Dials) > before })
	events.event(t, "stream.gap", gapEvent) // of the quiet room, whose session ended, nothing is known
	events.got.Reset()
	h.pongs(t, strings.Count(strings.Join(h.anyCableSeen(t).Commands, " ")+" ", "pong ")+10)
	h.do(t, map[string]any{"do": "interrupt", "topic": "a", "messages": []any{map[string]any{"n": 2}, map[string]any{"n": 3}}}, nil)
	events.event(t, "", `{"n":2}`)
	events.event(t, "", `{"n":3}`)
	h.chats(t, 1, "a", map[string]any{"n": 4})
	events.event(t, "", `{"n":4}`)
	seen := h.anyCableSeen(t)
	if last := seen.Dials[len(seen.Dials)-1]; !strings.Contains(last, "?sid=") {
		t.Errorf("dialled %s", last)
	}
	if !strings.Contains(strings.Join(seen.Commands, " "), "history") {
		t.Errorf("commands %q", seen.Commands)
	}
	if text := events.got.String(); strings.Contains(text, "stream.gap") || strings.Count(text, `{"n":2}`) != 1 {
		t.Errorf("a gap, or twice: %q", text)
	}

	h.do(t, map[string]any{"do": "overtake", "topic": "a", "messages": []any{map[string]any{"n": 5}, map[string]any{"n": 6}}}, nil)
	events.event(t, "", `{"n":6}`)
	h.do(t, map[string]any{"do": "interrupt", "topic": "a", "messages": []any{map[string]any{"n": 7}}}, nil)
	events.event(t, "", `{"n":5}`)
	events.event(t, "", `{"n":7}`)
	if text := events.got.String(); strings.Contains(text, "stream.gap") || strings.Count(text, `{"n":6}`) != 1 {
		t.Errorf("a gap, or twice: %q", text)
	}

	events.got.Reset()
	h.kill()
	h.start(t) // with another epoch, which shows only then
	events.event(t, "stream.gap", gapEvent)
	h.chats(t, 1, "a", map[string]any{"n": 8})
	events.event(t, "", `{"n":8}`)
}

// An AnyCable that prefers Rails' protocol is found out by the next connection.
func TestDialectAnyCableOld(t *testing.T) {
	t.Parallel()
	h := startHub(t, "anycable", `{"ping":200,"old":true}`)
	s := startSidecar(t, hubRoute("actioncable", "ws://"+h.addr+"/cable", `SUBSCRIBE={"channel":"ChatChannel","room":"a"}`)...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	h.chats(t, 1, "a", 1)
	events.event(t, "", "1")
	h.do(t, map[string]any{"do": "interrupt", "topic": "a", "messages": []any{2}}, nil)
	events.event(t, "stream.gap", gapEvent)
	h.chats(t, 1, "a", 3)
	events.event(t, "", "3")
	if got := h.anyCableSeen(t).Protocols; len(got) != 2 || got[0] != "actioncable-v1-json" || got[1] != "actioncable-v1-ext-json" {
		t.Errorf("chose %q", got)
	}
}
