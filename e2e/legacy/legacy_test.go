package legacy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"go.uber.org/goleak"

	"sidestream/e2e/pipes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs s in the bubble of t until the test ends and returns a client for http://legacy.
func start(t *testing.T, s *Service) *http.Client {
	t.Helper()
	l := pipes.Listen()
	server := &http.Server{Handler: s.Handler()}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan struct{}, 2)
	go func() { server.Serve(l); ran <- struct{}{} }() // ends with server.Close
	go func() { s.Run(ctx); ran <- struct{}{} }()      // ends with stop
	transport := &http.Transport{DialContext: l.Dial}
	t.Cleanup(func() {
		stop()
		transport.CloseIdleConnections()
		server.Close()
		<-ran
		<-ran
	})
	return &http.Client{Transport: transport}
}

func dial(t *testing.T, c *http.Client, header http.Header) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://legacy/ws", &websocket.DialOptions{HTTPClient: c, HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

type frame struct {
	Type, Channel, Symbol, Message, Time string
	ID, Seq                              int
	Price                                float64
}

func say(t *testing.T, conn *websocket.Conn, v any) {
	t.Helper()
	if err := wsjson.Write(t.Context(), conn, v); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, conn *websocket.Conn) frame {
	t.Helper()
	var f frame
	if err := wsjson.Read(t.Context(), conn, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// ending reads until the connection ends and returns the frames on the way and the close.
func ending(t *testing.T, conn *websocket.Conn) ([]frame, error) {
	t.Helper()
	var all []frame
	for {
		var f frame
		if err := wsjson.Read(t.Context(), conn, &f); err != nil {
			return all, err
		}
		all = append(all, f)
	}
}

var subscribe = command{Type: "subscribe", Channel: "prices"}

func TestFeedAfterSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := dial(t, start(t, New()), nil)
		time.Sleep(time.Second) // quotes from before the subscription are not sent
		say(t, conn, subscribe)
		if f := hear(t, conn); f.Type != "subscribed" || f.Channel != "prices" {
			t.Fatalf("first frame %+v", f)
		}
		since, symbols := time.Now(), map[string]bool{}
		for i := range 12 {
			f := hear(t, conn)
			if f.Type != "price" || f.Price <= 0 || f.Seq != 7+i {
				t.Fatalf("quote %d: %+v", i, f)
			}
			symbols[f.Symbol] = true
		}
		if len(symbols) != 6 {
			t.Errorf("symbols %v, want six", symbols)
		}
		if took := time.Since(since); took < 11*defaultTick || took > 12*defaultTick {
			t.Errorf("12 quotes took %v", took)
		}
	})
}

func TestFeedRefuses(t *testing.T) {
	for _, c := range []struct {
		name, says, complains, reason string
		after                         time.Duration
	}{
		{"silence", "", "", "no subscription in time", 5 * time.Second},
		{"wrong channel", `{"type":"subscribe","channel":"gossip"}`, "no such channel", "no such channel", 0},
		{"no subscription first", `{"type":"pong","id":1}`, "subscribe first", "subscribe first", 0},
		{"no JSON", `hello`, "not understood: want a JSON object", "not understood: want a JSON object", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, since := dial(t, start(t, New()), nil), time.Now()
				if c.says != "" {
					if err := conn.Write(t.Context(), websocket.MessageText, []byte(c.says)); err != nil {
						t.Fatal(err)
					}
				}
				frames, err := ending(t, conn)
				var said string
				for _, f := range frames {
					said += f.Message
				}
				if said != c.complains {
					t.Errorf("said %q, want %q", said, c.complains)
				}
				var closed websocket.CloseError
				if !errors.As(err, &closed) || closed.Code != websocket.StatusPolicyViolation || closed.Reason != c.reason {
					t.Errorf("ended with %v, want 1008 %q", err, c.reason)
				}
				if took := time.Since(since); took != c.after {
					t.Errorf("ended after %v, want %v", took, c.after)
				}
			})
		})
	}
}

func TestFeedPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := dial(t, start(t, New()), nil)
		since := time.Now()
		say(t, conn, subscribe)
		answered := 0
		for {
			var f frame
			err := wsjson.Read(t.Context(), conn, &f)
			if err != nil {
				var closed websocket.CloseError
				if !errors.As(err, &closed) || closed.Code != websocket.StatusPolicyViolation || closed.Reason != "no pong in time" {
					t.Fatalf("ended with %v", err)
				}
				break
			}
			if f.Type != "ping" {
				continue
			}
			if want := time.Duration(f.ID) * 10 * time.Second; time.Since(since) != want {
				t.Errorf("ping %d after %v, want %v", f.ID, time.Since(since), want)
			}
			if f.ID <= 3 {
				say(t, conn, command{Type: "pong", ID: f.ID})
				answered++
			} else {
				say(t, conn, command{Type: "pong", ID: f.ID - 1}) // another ping's answer does not count
			}
		}
		if took := time.Since(since); answered != 3 || took != 45*time.Second {
			t.Errorf("%d answers, closed after %v; want 3 and 45s", answered, took)
		}
	})
}

func TestFeedOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := start(t, New())
		dial(t, client, http.Header{"Origin": {"http://legacy"}})
		_, resp, err := websocket.Dial(t.Context(), "ws://legacy/ws", &websocket.DialOptions{
			HTTPClient: client, HTTPHeader: http.Header{"Origin": {"http://elsewhere"}},
		})
		if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("foreign origin: %v, want 403", err)
		}
	})
}

func TestFeedEnds(t *testing.T) {
	t.Run("cut", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := New()
			conn := dial(t, start(t, s), nil)
			say(t, conn, subscribe)
			hear(t, conn)
			s.CutFeeds()
			if _, err := ending(t, conn); !errors.Is(err, io.EOF) || websocket.CloseStatus(err) != -1 {
				t.Errorf("ended with %v, want an end without close frame", err)
			}
		})
	})
	t.Run("stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := New()
			ctx, stop := context.WithCancel(t.Context())
			client := start(t, s)
			done := make(chan struct{})
			go func() { s.Run(ctx); close(done) }() // ends with stop; start's own Run goes on, as the open feeds must end with either
			conn := dial(t, client, nil)
			say(t, conn, subscribe)
			hear(t, conn)
			stop()
			if _, err := ending(t, conn); websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Errorf("ended with %v, want 1001", err)
			}
			<-done
			if _, err := ending(t, dial(t, client, nil)); websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Errorf("a stopped service took a feed: %v", err)
			}
		})
	})
}

func get(t *testing.T, c *http.Client, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), "GET", "http://legacy"+path, nil)
	req.RequestURI = ""
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestWeather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := start(t, New())
		resp, body := get(t, client, "/api/weather")
		var rep report
		if err := json.Unmarshal([]byte(body), &rep); err != nil || len(rep.Stations) != 3 {
			t.Fatalf("body %s: %v", body, err)
		}
		etag := resp.Header.Get("ETag")
		time.Sleep(4 * time.Second)
		if resp, body := get(t, client, "/api/weather", "If-None-Match", etag); resp.StatusCode != 304 || body != "" {
			t.Errorf("unchanged: %d %q, want 304 and nothing", resp.StatusCode, body)
		}
		time.Sleep(2 * time.Second)
		resp, changed := get(t, client, "/api/weather", "If-None-Match", etag)
		if resp.StatusCode != 200 || changed == body || resp.Header.Get("ETag") == etag {
			t.Errorf("after a change: %d %s", resp.StatusCode, changed)
		}
	})
}

func TestExport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := start(t, New())
		resp, err := client.Post("http://legacy/export", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		var made struct{ ID string }
		if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || resp.StatusCode != 202 || made.ID == "" {
			t.Fatalf("started: %d %+v %v", resp.StatusCode, made, err)
		}
		resp.Body.Close()
		for _, c := range []struct {
			wait time.Duration
			want job
		}{
			{0, job{made.ID, "running", 0, 0}},
			{2500 * time.Millisecond, job{made.ID, "running", 25, 12_050}},
			{7500 * time.Millisecond, job{made.ID, "complete", 100, 48_200}},
			{time.Hour, job{made.ID, "complete", 100, 48_200}},
		} {
			time.Sleep(c.wait)
			_, body := get(t, client, "/export/"+made.ID)
			var got job
			if err := json.Unmarshal([]byte(body), &got); err != nil || got != c.want {
				t.Errorf("after %v more: %+v (%v), want %+v", c.wait, got, err, c.want)
			}
		}
		if resp, _ := get(t, client, "/export/nope"); resp.StatusCode != 404 {
			t.Errorf("unknown id: %d, want 404", resp.StatusCode)
		}
	})
}

func TestExportsAreBounded(t *testing.T) {
	var e exports
	for i := range maxExports + 3 {
		e.add(string(rune('a'+i)), time.Time{})
	}
	if len(e.started) != maxExports || len(e.order) != maxExports {
		t.Errorf("%d jobs, %d in order; want %d", len(e.started), len(e.order), maxExports)
	}
	if _, ok := e.started["c"]; ok {
		t.Error("the third oldest is still there")
	}
}

func TestPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := start(t, New())
		resp, body := get(t, client, "/")
		if ct := resp.Header.Get("Content-Type"); ct != "text/html; charset=utf-8" || !strings.Contains(body, "<title>") {
			t.Errorf("page: %s", ct)
		}
		for _, bad := range []string{"innerHTML", "https://", "insertAdjacentHTML", "document.write"} {
			if strings.Contains(body, bad) {
				t.Errorf("the page holds %q", bad)
			}
		}
		if resp, _ := get(t, client, "/nothing"); resp.StatusCode != 404 {
			t.Errorf("unknown path: %d, want 404", resp.StatusCode)
		}
		_, env := get(t, client, "/demo.env") // names the address that the request came to, here "pipe"
		if !strings.HasPrefix(env, "SSE_UPSTREAM=http://pipe\n\nSSE_TUNNEL=/ws\n\nSSE_ROUTE_PRICES_PATH=/prices\n") {
			t.Errorf("environment file: %s", env)
		}
	})
}

func TestEnvFile(t *testing.T) {
	got := envFile([]string{"SSE_A=1", "SSE_ROUTE_X_PATH=/x", "SSE_ROUTE_X_HELLO=> a\n< b", "SSE_ROUTE_Y_PATH=/y"})
	want := "SSE_A=1\n\nSSE_ROUTE_X_PATH=/x\nSSE_ROUTE_X_HELLO='> a\n< b'\n\nSSE_ROUTE_Y_PATH=/y\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEnvNamesEachVariableOnce(t *testing.T) {
	names := map[string]int{}
	for _, kv := range Env("legacy:80") {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || value == "" {
			t.Errorf("%q is no assignment", kv)
		}
		names[name]++
	}
	for name, n := range names {
		if n != 1 {
			t.Errorf("%s stands there %d times", name, n)
		}
	}
	if len(names) == 0 {
		t.Error("no variables")
	}
}

func TestDemoArgs(t *testing.T) {
	for text, want := range map[string]int{"": 1, "-replicas 3": 3, "-replicas=2": 2, "-replicas 1": 1} {
		if n, err := demoArgs(strings.Fields(text)); n != want || err != nil {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
	for text, want := range map[string]string{"-replicas 0": "write 1 to 9", "-replicas 10": "write 1 to 9", "-replicas x": "invalid value", "more": `got "more"`, "-x": "not defined"} {
		if _, err := demoArgs(strings.Fields(text)); !errors.Is(err, ErrWords) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
