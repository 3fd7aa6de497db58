//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hub is one of our own small servers, servers/NAME.mjs.
type hub struct {
	*process
	name, addr, options string
	env                 []string // of puma's
}

// startHub starts servers/name.mjs on an address of its own.
func startHub(t *testing.T, name, options string) *hub {
	t.Helper()
	h := &hub{name: name, addr: freeAddr(t), options: options}
	h.start(t)
	return h
}

// start begins, also anew after a kill.
func (h *hub) start(t *testing.T) {
	t.Helper()
	h.process = launch(t, nil, "node", "servers/"+h.name+".mjs", h.addr, h.options)
	p := h.process
	eventually(t, h.name+" to listen", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("%s ended: %s", h.name, &p.stderr)
		default:
		}
		return strings.Contains(p.stdout.String(), "listening")
	})
}

// kill ends the server without a word.
func (h *hub) kill() {
	h.Process.Kill()
	<-h.ended
}

// controls waits for a server that has not run for a while, as everything may on a machine with much to do.
var controls = &http.Client{Transport: plain.Transport, Timeout: 2 * patience}

// do gives a command and decodes what became of it into result, if that is not nil.
func (h *hub) do(t *testing.T, command map[string]any, result any) {
	t.Helper()
	text, err := json.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := controls.Post("http://"+h.addr+"/control", "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v: %d %v", command, resp.StatusCode, err)
	}
	if result != nil {
		if err := json.Unmarshal(answer, result); err != nil {
			t.Fatalf("%v: %v in %s", command, err, answer)
		}
	}
}

// reached repeats a command until it has reached n clients at once.
func (h *hub) reached(t *testing.T, n int, command map[string]any) {
	t.Helper()
	eventually(t, "subscribers", func() bool {
		count := map[string]any{"do": "count"}
		for _, key := range []string{"group", "topic"} {
			if value, ok := command[key]; ok {
				count[key] = value
			}
		}
		var have int
		h.do(t, count, &have)
		return have >= n
	})
	h.do(t, command, nil)
}

// official starts the official client, which prints what it sees.
func official(t *testing.T, kind, url, options string) *process {
	t.Helper()
	return launch(t, nil, "node", "servers/official.mjs", kind, url, options)
}

// shows waits until the process has printed text.
func (p *process) shows(t *testing.T, text string) {
	t.Helper()
	eventually(t, "the official client to say "+text, func() bool { return strings.Contains(p.stdout.String(), text) })
}

// hubRoute is the environment of one route named HUB at /events, with more settings, each NAME=value.
func hubRoute(protocol, from string, settings ...string) []string {
	env := []string{"SSE_ROUTE_HUB_PATH=/events", "SSE_ROUTE_HUB_PROTOCOL=" + protocol, "SSE_ROUTE_HUB_FROM=" + from}
	for _, s := range settings {
		env = append(env, "SSE_ROUTE_HUB_"+s)
	}
	return env
}

// firstStatus is what the first client is answered with.
func (s *sidecar) firstStatus(t *testing.T) int {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+s.addr+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// explains waits until the log has text.
func (s *sidecar) explains(t *testing.T, text string) {
	t.Helper()
	eventually(t, "the log to say "+text, func() bool { return strings.Contains(s.stderr.String(), text) })
}

// apiStatus fetches /api/status.
func (s *sidecar) apiStatus(t *testing.T) string {
	t.Helper()
	resp, err := plain.Get("http://" + s.admin + "/api/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// event reads until the event has come; name "" means none.
func (s *stream) event(t *testing.T, name, data string) {
	t.Helper()
	line := ""
	if name != "" {
		line = "event: " + name + "\n"
	}
	pattern := regexp.MustCompile(`(?m)(^|\n)` + regexp.QuoteMeta(line) + `data: ` + regexp.QuoteMeta(data) + `\n(id: \S+\n)?\n`)
	buf := make([]byte, 4096)
	for !pattern.Match(s.got.Bytes()) {
		n, err := s.conn.Read(buf)
		s.got.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v before %q with data %q; got %q", err, name, data, s.got.String())
		}
	}
}

const gapEvent = `{"reason":"upstream","missed":null}`

// comesBack kills the server, sees the gap said, and starts the server anew.
func (h *hub) comesBack(t *testing.T, events *stream) {
	t.Helper()
	events.got.Reset()
	h.kill()
	events.event(t, "stream.gap", gapEvent)
	h.start(t)
}

// idles leaves a session alone for so long, which is many of its server's intervals and several IDLEs, and sees it live: no
// gap, no other connection, and what say says arrives. Then the server stands still, and the session is given up.
func (h *hub) idles(t *testing.T, s *sidecar, events *stream, long time.Duration, say func(), said string) {
	t.Helper()
	events.got.Reset()
	time.Sleep(long)
	say()
	events.event(t, "", said)
	if text := events.got.String(); strings.Contains(text, "stream.gap") || s.connects() != 1 {
		t.Errorf("%d connections; %q", s.connects(), text)
	}
	if err := syscall.Kill(-h.process.Process.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	events.event(t, "stream.gap", gapEvent)
	syscall.Kill(-h.process.Process.Pid, syscall.SIGCONT)
	eventually(t, "the next connection", func() bool { return s.connects() > 1 }) // the server may still know of the first
	events.got.Reset()
	say()
	events.event(t, "", said)
}

// atLimit has the messages sent that small and large make of a filling, of which the second is over MAX_MESSAGE by one
// byte, and sees the first arrive, a gap for the second, and after.
func atLimit(t *testing.T, events *stream, send func(filling string), frame func(filling string) int, limit int, shown func(filling string) string) {
	t.Helper()
	filling := strings.Repeat("x", limit-frame(""))
	events.got.Reset()
	send(filling)
	events.until(t, shown(filling))
	if strings.Contains(events.got.String(), "stream.gap") {
		t.Error("a message at the limit left a gap")
	}
	send(filling + "y")
	events.event(t, "stream.gap", gapEvent)
	send("after")
	events.until(t, shown("after"))
	if strings.Contains(events.got.String(), "xy") {
		t.Error("a message over the limit arrived")
	}
}
