//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// rpcSeen is what servers/jsonrpc.mjs has seen of its clients.
type rpcSeen struct {
	Calls []struct {
		ID     any
		Method string
		Params any
	}
	Pings, Unsubscribed int
}

func (h *hub) rpcSeen(t *testing.T) (seen rpcSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

// notes has n subscribers of a topic notified.
func (h *hub) notes(t *testing.T, n int, topic string, batch bool, results ...any) {
	t.Helper()
	h.reached(t, n, map[string]any{"do": "say", "topic": topic, "batch": batch, "results": results})
}

func TestDialectJSONRPC(t *testing.T) {
	t.Parallel()
	h := startHub(t, "jsonrpc", "{}")
	s := startSidecar(t, hubRoute("jsonrpc", "ws://"+h.addr+"/keyed?key=good", "SUBSCRIBE=heads=eth_subscribe [\"newHeads\"]\nslotSubscribe\neth_subscribe [\"logs\",{\"address\":\"{query.address:0xab}\"}]",
		"EVENT=topic", "IDLE=4s", "SEND=true", `HELLO={"jsonrpc":"2.0","id":"v","method":"net_version"}`+"\n"+`< .id == "v" and .result == "1"`)...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	page := official(t, "jsonrpc", "ws://"+h.addr+"/", `{"on":["slotNotification","eth_subscription"],"call":[["slotSubscribe"],["eth_subscribe",["newHeads"]],["eth_subscribe",["nothing"]],["eth_nothing"]]}`)
	for _, want := range []string{`{"ready":true}`, `"code":-32602,"error":"no \"nothing\" subscription`, `"code":-32601,`} {
		page.shows(t, want)
	}
	h.notes(t, 2, "newHeads", false, map[string]any{"number": "0x1"})
	events.event(t, "heads", `{"number":"0x1"}`)
	page.shows(t, `{"number":"0x1"}`)
	h.notes(t, 2, "slot", true, 1, map[string]any{"slot": 2})
	events.event(t, "slotSubscribe", "1")
	events.event(t, "slotSubscribe", `{"slot":2}`)
	h.notes(t, 1, "logs", false, []any{"x"})
	events.event(t, `eth_subscribe ["logs",{"address":"0xab"}]`, `["x"]`)
	h.do(t, map[string]any{"do": "notify", "method": "aria2.onDownloadStart", "params": []any{1}}, nil)
	events.event(t, "", "[1]") // of no subscription

	if !s.posts("eth_nothing [1]") || !s.posts(`[{"jsonrpc":"2.0","method":"told","params":{}},{"jsonrpc":"2.0","id":"mine","method":"net_version"}]`) {
		t.Error("a message is refused")
	}
	s.explains(t, "eth_nothing: the method eth_nothing does not exist/is not available (-32601)")
	events.event(t, "", `{"jsonrpc":"2.0","id":"mine","result":"1"}`)
	if s.posts("[1]") {
		t.Error("what is no message is sent")
	}
	eventually(t, "pings", func() bool { return h.rpcSeen(t).Pings > 0 })
	if n := s.connects(); n != 1 {
		t.Errorf("%d connections", n)
	}

	// Other ids, the same names.
	events.got.Reset()
	h.do(t, map[string]any{"do": "cut"}, nil)
	events.event(t, "stream.gap", gapEvent)
	h.notes(t, 1, "newHeads", false, 7)
	events.event(t, "heads", "7")
}

func TestDialectJSONRPCRefusals(t *testing.T) {
	t.Parallel()
	h := startHub(t, "jsonrpc", "{}")
	for name, c := range map[string]struct {
		path, subscribe string
		status          int
		says            string
	}{
		"params":  {"/", `eth_subscribe ["nothing"]`, 400, "subscription in eth namespace (-32602)"},
		"method":  {"/", "other_subscribe", 404, "other_subscribe does not exist"},
		"secret":  {"/", `eth_subscribe ["secret"]`, 401, "Unauthorized (-32000)"},
		"upgrade": {"/keyed", `slotSubscribe`, 401, ""},
		"limited": {"/", `eth_subscribe ["limited"]`, 200, "limit exceeded (-32005)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute("jsonrpc", "ws://"+h.addr+c.path, "SUBSCRIBE="+c.subscribe)...)
			if got := s.firstStatus(t); got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			s.explains(t, c.says)
		})
	}
}

// TestDialectJSONRPCAria2 listens to aria2 itself, which answers pings with errors.
func TestDialectJSONRPCAria2(t *testing.T) {
	t.Parallel()
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "done") }))
	defer files.Close()
	addr := freeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	launch(t, nil, "aria2c", "--enable-rpc", "--rpc-listen-port="+port, "--dir="+t.TempDir(), "--no-conf", "--disable-ipv6")
	eventually(t, "aria2 to listen", func() bool {
		resp, err := http.Post("http://"+addr+"/jsonrpc", "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"aria2.getVersion"}`))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return true
	})
	s := startSidecar(t, hubRoute("jsonrpc", "ws://"+addr+"/jsonrpc", "IDLE=2s", "SEND=true")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "upstream connected")
	params, _ := json.Marshal([]any{[]string{files.URL + "/file"}})
	eventually(t, "the call to be taken", func() bool { return s.posts("aria2.addUri " + string(params)) })
	events.until(t, "event: aria2.onDownloadStart\ndata: [{\"gid\":")
	events.until(t, "event: aria2.onDownloadComplete\ndata: [{\"gid\":")
	if !s.posts("aria2.nothing") {
		t.Error("a call is refused")
	}
	s.explains(t, "No such method")
	time.Sleep(1200 * time.Millisecond) // so that a ping is answered
	if text := events.got.String(); strings.Contains(text, "error") || strings.Contains(text, "stream.gap") || strings.Count(text, "data: ") > 3 || strings.Contains(s.stderr.String(), "Invalid Request") {
		t.Errorf("%q %s", text, &s.stderr)
	}
}
