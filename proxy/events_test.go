package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

func routeEnv(f *feed, more ...string) []string {
	return append([]string{"SSE_UPSTREAM=" + f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=" + f.ws() + "/ws"}, more...)
}

func jsonAnswer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

func TestHead(t *testing.T) {
	f := newFeed(t)
	r := serve(t, routeEnv(f)...).get(t, "/a")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-store, no-transform", "X-Accel-Buffering": "no", "Vary": "Accept",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if r.StatusCode != 200 || len(r.TransferEncoding) != 1 || r.TransferEncoding[0] != "chunked" {
		t.Errorf("got %d %v", r.StatusCode, r.TransferEncoding)
	}
	line, err := r.in.ReadString('\n')
	var ms int
	if _, scanErr := fmt.Sscanf(line, "retry: %d\n", &ms); err != nil || scanErr != nil || ms < 3000 || ms >= 6000 {
		t.Errorf("the first line is %q %v, want a retry of [3000, 6000)", line, err)
	}
	if r.wantOpen(t); r.in.Buffered() > 0 {
		t.Error("something follows the retry line and stream.open")
	}
}

func TestLiveEventsReachEveryClient(t *testing.T) {
	f := newFeed(t)
	s := serve(t, routeEnv(f)...)
	one, two := s.get(t, "/a"), s.get(t, "/a")
	f.publish(t, "", `{"n":1}`)
	f.publish(t, "", "two\r\nlines")
	for _, r := range []*response{one, two} {
		first := r.wantData(t, `{"n":1}`)
		second := r.wantData(t, "two\nlines")
		epoch, seq, _ := strings.Cut(first.id, "-")
		if seq != "1" || second.id != epoch+"-2" || first.name != "" {
			t.Errorf("got %+v then %+v", first, second)
		}
	}
	if f.dials.Load() != 1 {
		t.Errorf("%d upstream connections for equal requests, want 1", f.dials.Load())
	}
}

func TestResume(t *testing.T) {
	f := newFeed(t)
	s := serve(t, routeEnv(f)...)
	r := s.get(t, "/a")
	for i := 1; i <= 5; i++ {
		f.publish(t, "", fmt.Sprint(i))
	}
	var ids []string
	for i := 1; i <= 5; i++ {
		ids = append(ids, r.wantData(t, fmt.Sprint(i)).id)
	}
	r.conn.Close()
	for name, path := range map[string]string{"lastEventId": "/a?lastEventId=", "last_event_id": "/a?last_event_id="} {
		back := s.get(t, path+ids[2])
		back.wantData(t, "4")
		if e := back.wantData(t, "5"); e.id != ids[4] {
			t.Errorf("%s: the id has changed: %s, was %s", name, e.id, ids[4])
		}
	}
	back := s.get(t, "/a?lastEventId="+ids[0], "Last-Event-ID: "+ids[3])
	back.wantData(t, "5")
	eventually(t, "5 events count as replayed", func() bool { return s.Routes()[0].Clients.Replayed.Load() == 5 })
	if f.dials.Load() != 1 {
		t.Errorf("%d upstream connections, want 1", f.dials.Load())
	}
}

func TestUnknownIDsAreARestart(t *testing.T) {
	f := newFeed(t)
	s := serve(t, routeEnv(f, "SSE_START=latest")...)
	first := s.get(t, "/a")
	f.publish(t, "", "1")
	f.publish(t, "", "2")
	first.wantData(t, "1")
	known := first.wantData(t, "2").id
	epoch, _, _ := strings.Cut(known, "-")
	for _, id := range []string{"123-4", epoch + "-3", epoch + "-02", epoch + "-", epoch, "x", "%00", strings.Repeat("9", 3000)} {
		r := s.get(t, "/a?lastEventId="+id)
		gap := r.wantGap(t, "restart", "null")
		if e := r.wantData(t, "2"); gap.id != epoch+"-1" || e.id != known {
			t.Errorf("%.20q: the gap has id %s before %s", id, gap.id, e.id)
		}
	}
}

func TestEvicted(t *testing.T) {
	f := newFeed(t)
	s := serve(t, routeEnv(f, "SSE_REPLAY_EVENTS=2")...)
	r := s.get(t, "/a")
	f.publish(t, "", "1")
	id := r.wantData(t, "1").id
	for i := 2; i <= 6; i++ {
		f.publish(t, "", fmt.Sprint(i))
		r.wantData(t, fmt.Sprint(i))
	}
	back := s.get(t, "/a", "Last-Event-ID: "+id)
	gap := back.wantGap(t, "evicted", "3")
	if !strings.HasSuffix(gap.id, "-4") {
		t.Errorf("the gap has id %s, want the one before 5", gap.id)
	}
	back.wantData(t, "5")
	back.wantData(t, "6")
	// Who was cut right after the gap goes on from there.
	again := s.get(t, "/a", "Last-Event-ID: "+gap.id)
	again.wantData(t, "5")
}

func TestOwnIDs(t *testing.T) {
	f := newFeed(t)
	s := serve(t, routeEnv(f, "SSE_ROUTE_A_ID=.id", "SSE_REPLAY_EVENTS=3", "SSE_START=all")...)
	r := s.get(t, "/a")
	for i := 1; i <= 4; i++ {
		f.publish(t, "", fmt.Sprintf(`{"id":"v%d"}`, i))
		if e := r.next(t); e.id != fmt.Sprintf("v%d", i) {
			t.Fatalf("got %+v", e)
		}
	}
	f.publish(t, "", `{"id":"not valid"}`)
	if e := r.next(t); !strings.HasSuffix(e.id, "-5") {
		t.Errorf("an invalid id became %q, want the sidecar's", e.id)
	}
	back := s.get(t, "/a", "Last-Event-ID: v4")
	if e := back.next(t); e.data != `{"id":"not valid"}` {
		t.Errorf("got %+v", e)
	}
	gone := s.get(t, "/a", "Last-Event-ID: v1")
	gone.wantGap(t, "restart", "null")
	gone.wantData(t, `{"id":"v3"}`)
}

func TestUpstreamLossIsSaid(t *testing.T) {
	f := newFeed(t)
	s := serve(t, routeEnv(f)...)
	r := s.get(t, "/a")
	f.publish(t, "", "1")
	before := r.wantData(t, "1").id
	<-f.joined
	f.cut()
	gap := r.wantGap(t, "upstream", "null")
	if !strings.HasSuffix(gap.id, "-2") {
		t.Errorf("the gap has id %s, want one of the ring's own", gap.id)
	}
	<-f.joined
	f.publish(t, "", "2")
	r.wantData(t, "2")
	back := s.get(t, "/a", "Last-Event-ID: "+before)
	back.wantGap(t, "upstream", "null")
	back.wantData(t, "2")
}

func TestUsersAreApart(t *testing.T) {
	f := newFeed(t)
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws?user={query.user}")
	alice, bob := s.get(t, "/a?user=alice"), s.get(t, "/a?user=bob")
	f.publish(t, "user=alice", "for alice")
	f.publish(t, "user=bob", "for bob")
	id := alice.wantData(t, "for alice").id
	bob.wantData(t, "for bob")
	if f.dials.Load() != 2 {
		t.Errorf("%d upstream connections, want 2", f.dials.Load())
	}
	// An id of another user's stream is no way into it.
	thief := s.get(t, "/a?user=bob", "Last-Event-ID: "+id)
	thief.wantGap(t, "restart", "null")
	f.publish(t, "user=bob", "more for bob")
	thief.wantData(t, "more for bob")
}

func TestRefused(t *testing.T) {
	f := newFeed(t)
	status, asked := 403, 0
	f.verify = func(*http.Request) int { asked++; return status }
	s := serve(t, routeEnv(f)...)
	if r := s.get(t, "/a"); r.StatusCode != 403 {
		t.Errorf("got %d, want the upstream's 403", r.StatusCode)
	}
	status = 0
	if r := s.get(t, "/a"); r.StatusCode != 403 || asked != 1 {
		t.Errorf("got %d after %d dials, want the remembered 403 after 1", r.StatusCode, asked)
	}
}

func TestRefusedWhileRunning(t *testing.T) {
	f := newFeed(t)
	f.answer = jsonAnswer(`1`)
	s := serve(t, "SSE_ROUTE_P_PATH=/p", "SSE_ROUTE_P_FROM="+f.URL+"/json", "SSE_ROUTE_P_EVERY=20ms", "SSE_REFUSE_AFTER=0")
	r := s.get(t, "/p")
	id := r.wantData(t, "1").id
	f.mu.Lock()
	f.answer = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "session over", http.StatusUnauthorized) }
	f.mu.Unlock()
	if e := r.next(t); e.name != "stream.refused" || e.data != `{"status":401}` || e.id != id {
		t.Errorf("got %+v, want a refusal with id %s", e, id)
	}
	if _, err := r.rest(); err == io.EOF {
		t.Error("the end is clean, so fetch-based clients would take it for finished")
	}
}

func TestFinished(t *testing.T) {
	f := newFeed(t)
	f.answer = jsonAnswer(`{"status":"complete"}`)
	s := serve(t, "SSE_ROUTE_P_PATH=/p", "SSE_ROUTE_P_FROM="+f.URL+"/json", `SSE_ROUTE_P_DONE=.status=="complete"`)
	r := s.get(t, "/p")
	id := r.wantData(t, `{"status":"complete"}`).id
	if rest, err := r.rest(); rest != "" || err != io.EOF {
		t.Errorf("got %q, %v, want a clean end", rest, err)
	}
	if back := s.get(t, "/p", "Last-Event-ID: "+id); back.StatusCode != 204 {
		t.Errorf("got %d, want 204", back.StatusCode)
	}
	back := s.get(t, "/p?lastEventId="+id)
	if body, _ := back.rest(); back.StatusCode != 410 || body == "" {
		t.Errorf("got %d %q, want 410 and some text", back.StatusCode, body)
	}
	fresh := s.get(t, "/p")
	fresh.wantData(t, `{"status":"complete"}`)
	if _, err := fresh.rest(); err != io.EOF {
		t.Errorf("got %v, want a clean end", err)
	}
	lost := s.get(t, "/p", "Last-Event-ID: 1-1")
	lost.wantGap(t, "restart", "null")
	lost.wantData(t, `{"status":"complete"}`)
	if f.polls.Load() != 1 {
		t.Errorf("%d polls, want 1", f.polls.Load())
	}
}

func TestHTTP10(t *testing.T) {
	f := newFeed(t)
	s := serve(t, routeEnv(f)...)
	r := s.ask(t, "GET /a HTTP/1.0", "Accept: text/event-stream")
	if len(r.TransferEncoding) > 0 || r.ContentLength != -1 {
		t.Errorf("got %v, %d, want a body until close", r.TransferEncoding, r.ContentLength)
	}
	f.publish(t, "", "1")
	r.wantData(t, "1")
	drained := make(chan struct{})
	go func() { defer close(drained); s.Drain(0) }()
	if _, err := r.rest(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the cut is %v, want a reset: anything else is a clean end to nginx", err)
	}
	<-drained
}

func TestHTTP11CutHasNoFinalChunk(t *testing.T) {
	f := newFeed(t)
	s := serve(t, routeEnv(f)...)
	r := s.get(t, "/a")
	f.publish(t, "", "1")
	r.wantData(t, "1")
	drained := make(chan struct{})
	go func() { defer close(drained); s.Drain(0) }()
	rest, err := r.rest()
	if !errors.Is(err, io.ErrUnexpectedEOF) || !retryLine.MatchString(strings.TrimSpace(rest)) {
		t.Errorf("got %q and %v, want a retry hint and no final chunk", rest, err)
	}
	<-drained
	late := s.get(t, "/a", "Last-Event-ID: x-1")
	if e := late.next(t); late.StatusCode != 200 || e.name != "stream.busy" || e.id != "x-1" {
		t.Errorf("while draining: %d %+v, want stream.busy with the client's own id", late.StatusCode, e)
	}
}

func TestCapacity(t *testing.T) {
	f := newFeed(t)
	s := serve(t, routeEnv(f, "SSE_MAX_CLIENTS=1")...)
	first := s.get(t, "/a")
	first.in.ReadString('\n')
	second := s.get(t, "/a", "Last-Event-ID: my-id:1")
	line, _ := second.in.ReadString('\n')
	var ms int
	if _, err := fmt.Sscanf(line, "retry: %d\n", &ms); second.StatusCode != 200 || err != nil || ms < 30000 || ms >= 60000 {
		t.Errorf("got %d %q, want 200 and a retry of 30 to 60 s", second.StatusCode, line)
	}
	if e := second.next(t); e != (event{"my-id:1", "stream.busy", "{}"}) {
		t.Errorf("got %+v", e)
	}
	if _, err := second.rest(); err == io.EOF {
		t.Error("the end is clean")
	}
	first.conn.Close()
	eventually(t, "the place is free again", func() bool { return s.Routes()[0].Clients.Clients.Load() == 0 })
	eventually(t, "another client gets it", func() bool {
		r := s.get(t, "/a")
		defer r.conn.Close()
		line, _ := r.in.ReadString('\n')
		fmt.Sscanf(line, "retry: %d\n", &ms)
		return ms < 30000
	})
}

func TestStreamCapacity(t *testing.T) {
	f := newFeed(t)
	s := serve(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws?u={query.u}", "SSE_ROUTE_A_MAX_STREAMS=1")
	s.get(t, "/a?u=1")
	s.get(t, "/a?u=1").in.ReadString('\n')
	if e := s.get(t, "/a?u=2").next(t); e.name != "stream.busy" || e.id != "" {
		t.Errorf("got %+v", e)
	}
}

func TestMissingPlaceholder(t *testing.T) {
	f := newFeed(t)
	s := serve(t, "SSE_ROUTE_A_PATH=/a/{id}", "SSE_ROUTE_A_FROM="+f.ws()+"/ws/{path.id}?u={query.u}&token={cookie.token}")
	r := s.get(t, "/a/7?u=1")
	if body, _ := r.rest(); r.StatusCode != 400 || !strings.Contains(body, "{cookie.token}") {
		t.Errorf("got %d %q", r.StatusCode, body)
	}
	if r := s.get(t, "/a/..%2F?u=1", "Cookie: token=x"); r.StatusCode == 200 {
		t.Error("a path value climbed out of its segment")
	}
}

// Access tokens have up to 9 KiB, in whatever part of the request.
func TestLargeTokens(t *testing.T) {
	f := newFeed(t)
	token := strings.Repeat("x", 9<<10)
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, len(r.Header.Get("Authorization"))+len(r.URL.Query().Get("q"))+len(r.Header.Get("X-Token")))
	}
	s := serve(t, "SSE_ROUTE_P_PATH=/p", "SSE_ROUTE_P_FROM="+f.URL+"/json?q={query.q:}",
		"SSE_ROUTE_P_HEADERS=Authorization: Bearer {cookie.t:}\nX-Token: {header.X-Token:}")
	s.get(t, "/p?q="+token).wantData(t, fmt.Sprint(9<<10+len("Bearer")))
	s.get(t, "/p", "Cookie: t="+token).wantData(t, fmt.Sprint(9<<10+len("Bearer ")))
	s.get(t, "/p", "X-Token: "+token).wantData(t, fmt.Sprint(9<<10+len("Bearer")))
	small := serve(t, "SSE_MAX_VALUE=1KiB", "SSE_ROUTE_P_PATH=/p", "SSE_ROUTE_P_FROM="+f.URL+"/json?q={query.q}")
	if r := small.get(t, "/p?q="+token); r.StatusCode != 400 {
		t.Errorf("got %d with SSE_MAX_VALUE=1KiB, want 400", r.StatusCode)
	}
}
