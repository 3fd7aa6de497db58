package proxy

import (
	"bufio"
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// mergedEnv is a sidecar with three parts of one feed: two WebSockets and a poll, merged at /all.
func mergedEnv(f *feed, more ...string) []string {
	return append([]string{
		"SSE_ROUTE_PRICES_PATH=/prices", "SSE_ROUTE_PRICES_FROM=" + f.ws() + "/ws?prices", "SSE_ROUTE_PRICES_EVENT=.kind",
		"SSE_ROUTE_ORDERS_PATH=/orders/{id}", "SSE_ROUTE_ORDERS_FROM=" + f.ws() + "/ws?orders={path.id}",
		"SSE_ROUTE_STATUS_PATH=/status", "SSE_ROUTE_STATUS_FROM=" + f.URL + "/status", "SSE_ROUTE_STATUS_EVERY=10ms",
		"SSE_ROUTE_ALL_PATH=/all/{id}", "SSE_ROUTE_ALL_FROM=routes:prices,orders,status",
	}, more...)
}

func setOf(paths ...string) string {
	q := url.Values{"from": paths}
	return setPath + "?" + q.Encode()
}

func answers(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(text)) }
}

func (r *response) wantNamed(t *testing.T, name, data string) event {
	t.Helper()
	e := r.next(t)
	if e.name != name || e.data != data {
		t.Fatalf("got %+v, want %s with %s", e, name, data)
	}
	return e
}

func TestMergedRoute(t *testing.T) {
	f := newFeed(t)
	f.answer = answers(`{"up":true}`)
	s := serve(t, mergedEnv(f)...)
	c := s.get(t, "/all/7")
	c.wantOpen(t)
	c.wantNamed(t, "status", `{"up":true}`)
	f.publish(t, "prices", `{"kind":"bid","v":1}`)
	c.wantNamed(t, "bid", `{"kind":"bid","v":1}`)
	f.publish(t, "orders=7", `{"n":1}`)
	id := c.wantNamed(t, "orders", `{"n":1}`).id
	f.publish(t, "prices", `{"v":2}`)
	c.wantNamed(t, "prices", `{"v":2}`)

	late := s.get(t, "/all/7") // begins with the newest of what is polled, as if it had asked for that alone
	late.wantOpen(t)
	late.wantNamed(t, "status", `{"up":true}`)
	back := s.get(t, "/all/7", "Last-Event-ID: "+id)
	back.wantNamed(t, "prices", `{"v":2}`)
	f.publish(t, "orders=7", `{"n":2}`)
	for _, one := range []*response{c, late, back} {
		one.wantNamed(t, "orders", `{"n":2}`)
	}
	if n := f.dials.Load(); n != 2 {
		t.Errorf("%d dials, want 2", n)
	}
	f.cut()
	gaps := map[string]bool{}
	for range 2 {
		gaps[c.next(t).data] = true
	}
	for _, route := range []string{"prices", "orders"} {
		if !gaps[`{"reason":"upstream","missed":null,"route":"`+route+`"}`] {
			t.Errorf("no gap of %s: %v", route, gaps)
		}
	}
}

func TestSet(t *testing.T) {
	f := newFeed(t)
	f.answer = answers(`{"up":true}`)
	s := serve(t, mergedEnv(f)...)
	c := s.get(t, setOf("/prices", "/nowhere", "/orders/7", "/status"))
	e, err := c.tryNext(t)
	if err != nil || e.name != "stream.refused" || e.data != `{"status":404,"from":"/nowhere"}` || e.id != "" {
		t.Fatalf("got %+v, %v", e, err)
	}
	c.wantOpen(t)
	c.wantNamed(t, "3", `{"up":true}`)
	f.publish(t, "prices", `{"kind":"bid","v":1}`)
	id := c.wantNamed(t, "0:bid", `{"kind":"bid","v":1}`).id
	f.publish(t, "orders=7", `{"n":1}`)
	c.wantNamed(t, "2", `{"n":1}`)
	c.conn.Close()
	f.publish(t, "orders=7", `{"n":2}`)
	c = s.get(t, setOf("/prices", "/nowhere", "/orders/7", "/status"), "Last-Event-ID: "+id)
	c.wantNamed(t, "2", `{"n":1}`)
	c.wantNamed(t, "2", `{"n":2}`)
	f.cut()
	gaps := map[string]bool{}
	for range 2 {
		gaps[c.next(t).data] = true
	}
	for _, from := range []string{"/prices", "/orders/7"} {
		if !gaps[`{"reason":"upstream","missed":null,"from":"`+from+`"}`] {
			t.Errorf("no gap of %s: %v", from, gaps)
		}
	}
	for path, status := range map[string]int{setPath: 400, setOf(strings.Split(strings.Repeat("/prices ", 33), " ")[:33]...): 400, setOf("/nowhere"): 200} {
		if got := s.get(t, path); got.StatusCode != status {
			t.Errorf("%.40s: status %d, want %d", path, got.StatusCode, status)
		}
	}
}

// Over HTTP/2 too, where a part and the whole are streams of one connection.
func TestSetOverHTTP2(t *testing.T) {
	f := newFeed(t)
	s := serve(t, mergedEnv(f)...)
	f.answer = answers(`{"up":true}`)
	transport := h2cTransport()
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+setOf("/status", "/nowhere"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, in := "", bufio.NewReader(resp.Body)
	for !strings.Contains(got, "data: {\"up\":true}\n") {
		line, err := in.ReadString('\n')
		if got += line; err != nil {
			t.Fatalf("%q: %v", got, err)
		}
	}
	if refused, opened := strings.Index(got, "stream.refused"), strings.Index(got, "stream.open"); resp.ProtoMajor != 2 || refused < 0 || opened < refused {
		t.Errorf("%s: %q", resp.Proto, got)
	}
}
