package learn_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"sidestream/e2e/legacy"
	"sidestream/proxy"
	"sidestream/proxy/migrate/learn"
)

// discard is a log that nobody reads.
var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// watched is a service with a pass-through in front that a learner listens to.
func watched(t *testing.T, service http.Handler) (front string, l *learn.Learner) {
	t.Helper()
	behind := httptest.NewServer(service)
	t.Cleanup(behind.Close)
	u, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	l = learn.New(u, "")
	p := proxy.New(proxy.Settings{Upstream: u, Learner: l, MaxHeader: 64 << 10}, discard)
	server := httptest.NewServer(p)
	t.Cleanup(func() { p.Close(); server.CloseClientConnections(); server.Close() })
	return server.URL, l
}

// follow subscribes to the demo's prices, as its page does, until n of them have come.
func follow(t *testing.T, front string, header http.Header, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, front+"/ws", &websocket.DialOptions{HTTPHeader: header, CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if err := ws.Write(ctx, websocket.MessageText, []byte(`{"type":"subscribe","channel":"prices"}`)); err != nil {
		t.Fatal(err)
	}
	for n > 0 {
		var m struct {
			Type string
			ID   int
		}
		if err := wsjson.Read(ctx, ws, &m); err != nil {
			t.Fatal(err)
		}
		switch m.Type {
		case "ping":
			if err := ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"pong","id":%d}`, m.ID)); err != nil {
				t.Fatal(err)
			}
		case "price":
			n--
		}
	}
	_ = ws.Close(websocket.StatusNormalClosure, "")
}

// TestLive learns the demo's feed of what passes through, secrets aside.
func TestLive(t *testing.T) {
	s := legacy.New()
	s.Tick, s.PingEvery, s.PongWithin = 2*time.Millisecond, 20*time.Millisecond, 10*time.Second
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }() // ends with stop
	t.Cleanup(func() { stop(); <-done })
	front, l := watched(t, s.Handler())

	header := http.Header{"Cookie": {"_ga=GA1.2.333444555.666; sid=PLANTED-cookie-1; theme=dark"}}
	follow(t, front, header, 40)
	r := l.Report()
	load(t, r.Env)
	feed := one(t, r)
	has(t, feed, "HEADERS=Cookie: sid={cookie.sid}", "HELLO=> {\"type\":\"subscribe\",\"channel\":\"prices\"}\n< .type==\"subscribed\"",
		`REPLY=select(.type=="ping")|{"type":"pong","id":.id}`, `SELECT=select(.type=="ping"|not)`)
	all, err := json.Marshal(r)
	if err != nil || strings.Contains(string(all), "PLANTED") || strings.Contains(string(all), "333444555") {
		t.Errorf("a secret is in the report: %s, %v", all, err)
	}
	if r.Seen.Messages < 40 || feed.Messages < 40 {
		t.Errorf("%d messages were seen, %d of the feed", r.Seen.Messages, feed.Messages)
	}
}
