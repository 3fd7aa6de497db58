package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestGraphQLFace(t *testing.T) {
	service := newGraphQL(t)
	s := serve(t, faceEnv(service)...)
	one := s.operate(t, ticksBody, "Cookie: sid=a")
	if one.StatusCode != 200 || one.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", one.StatusCode, one.Header)
	}
	// The same operation, written in another way, and by GET: one subscription. Other credentials: another one.
	two := s.operate(t, `{ "variables": {"a": 2, "b": 1}, "query": "subscription T($r: Int) { tick(r: $r) { n } }" }`, "Cookie: sid=a")
	three := s.get(t, `/graphql?query=subscription+T(%24r:+Int)+%7B+tick(r:+%24r)+%7B+n+%7D+%7D&variables=%7B%22b%22:1,%22a%22:2%7D`, "Cookie: sid=a")
	other := s.operate(t, ticksBody, "Cookie: sid=b")
	different := s.operate(t, `{"query":"subscription T($r: Int) { tick(r: $r) { n } }","variables":{"b":1,"a":3}}`, "Cookie: sid=c")
	eventually(t, "three subscriptions", func() bool { open, _ := service.count(); return open == 3 })
	service.says(t, "sid=a", `{"type":"next","id":"1","payload":{"data": {"tick": {"n": 1}}}}`)
	service.says(t, "sid=b", "{\"type\":\"next\",\"id\":\"1\",\"payload\":{\n\"data\": \"b\"}}")
	for _, r := range []*response{one, two, three} {
		if e := r.wantNext(t, "next", `{"data": {"tick": {"n": 1}}}`); e.id == "" {
			t.Error("the event has no id")
		}
	}
	other.wantNext(t, "next", `{"data":"b"}`)
	service.says(t, "sid=a", `{"type":"complete","id":"1"}`)
	for _, r := range []*response{one, two, three} {
		last := r.wantNext(t, "complete", "")
		if rest, err := r.rest(); rest != "" || err != io.EOF {
			t.Errorf("after complete: %q %v", rest, err)
		}
		if again := s.get(t, "/graphql?query=subscription+T(%24r:+Int)+%7B+tick(r:+%24r)+%7B+n+%7D+%7D&variables=%7B%22b%22:1,%22a%22:2%7D", "Cookie: sid=a", "Last-Event-ID: "+last.id); again.StatusCode != 204 {
			t.Errorf("an EventSource that comes back after the end: %d", again.StatusCode)
		}
	}
	// Whoever asks again has it run again.
	again := s.operate(t, ticksBody, "Cookie: sid=a")
	service.says(t, "sid=a", `{"type":"next","id":"1","payload":{"data":2}}`)
	again.wantNext(t, "next", `{"data":2}`)
	service.mu.Lock()
	defer service.mu.Unlock()
	for _, one := range service.open {
		a := map[string]string{"sid=a": "2", "sid=b": "2", "sid=c": "3"}[one.cookie]
		if one.payload != `{"query":"subscription T($r: Int) { tick(r: $r) { n } }","variables":{"a":`+a+`,"b":1}}` {
			t.Errorf("%s has sent %s", one.cookie, one.payload)
		}
	}
	if service.total != 4 {
		t.Errorf("%d operations", service.total)
	}
	different.conn.Close()
}

// What the service refuses is a result with errors, for whoever asks: also for one who asks while the answer is on its way.
func TestGraphQLFaceRefusals(t *testing.T) {
	service := newGraphQL(t)
	service.deny = `{"type":"error","id":"1","payload":[{"message":"no such field","locations":[{"line":1,"column":2}]}]}`
	s := serve(t, faceEnv(service)...)
	for range 3 {
		r := s.operate(t, ticksBody)
		r.wantNext(t, "next", `{"errors":[{"message":"no such field","locations":[{"line":1,"column":2}]}]}`)
		r.wantNext(t, "complete", "")
		if _, err := r.rest(); err != io.EOF {
			t.Errorf("ended with %v", err)
		}
	}
	r := s.operate(t, ticksBody, "Cookie: sid=none")
	r.wantNext(t, "next", `{"errors":[{"message":"the request was refused (401)","extensions":{"code":"UNAUTHENTICATED"}}]}`)
	r.wantNext(t, "complete", "")

	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			req, _ := http.NewRequest("POST", "http://"+s.addr+"/graphql", strings.NewReader(ticksBody))
			req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"text/event-stream"}}
			req.Close = true
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), "no such field") || !strings.Contains(string(text), "event: complete") {
				t.Errorf("%q %v", text, err)
			}
		})
	}
	all.Wait()
}

// What a client may not have run reaches no service.
func TestGraphQLFaceHostile(t *testing.T) {
	service := newGraphQL(t)
	s := serve(t, faceEnv(service, "SSE_CORS_ORIGINS=https://app.example")...)
	const jsonType = "Content-Type: application/json"
	for _, c := range []struct {
		head   []string
		body   string
		status int
		says   string
	}{
		{[]string{jsonType}, `{"query":"query { a }"}`, 200, "OPERATION_NOT_ALLOWED"},
		{[]string{jsonType}, `{"query":"mutation { a }"}`, 200, "OPERATION_NOT_ALLOWED"},
		{[]string{jsonType}, `{"query":"subscription { a"}`, 200, "GRAPHQL_PARSE_FAILED"},
		{[]string{jsonType}, `{"query":"subscription ` + strings.Repeat("{a", 40) + strings.Repeat("}", 40) + `"}`, 200, "OPERATION_TOO_LARGE"},
		{[]string{jsonType}, `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}`, 200, "PersistedQueryNotFound"},
		{[]string{jsonType}, `{"query":1}`, 400, "BAD_REQUEST"},
		{[]string{jsonType}, `[]`, 400, "BAD_REQUEST"},
		{[]string{jsonType}, ``, 400, "BAD_REQUEST"},
		{[]string{jsonType}, `{"query":"` + strings.Repeat("a", 64<<10) + `"}`, 413, "64 KiB"},
		{[]string{"Content-Type: text/plain"}, ticksBody, 415, "application/json"},
		{[]string{"Content-Type: application/json; charset=latin1"}, ticksBody, 415, "UTF-8"},
		{[]string{jsonType, "Content-Encoding: gzip"}, ticksBody, 415, "not encoded"},
		{nil, ticksBody, 415, "application/json"},
		{[]string{jsonType, "Origin: https://evil.example"}, ticksBody, 403, "SSE_CORS_ORIGINS"},
		{[]string{jsonType, "Sec-Fetch-Site: cross-site"}, ticksBody, 403, "SSE_CORS_ORIGINS"},
	} {
		r := s.ask(t, "POST /graphql HTTP/1.1", append(append([]string{"Accept: text/event-stream"}, c.head...), fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(c.body), c.body))...)
		text, _ := io.ReadAll(io.LimitReader(r.in, 1<<20))
		r.conn.Close()
		if r.StatusCode != c.status || !strings.Contains(string(text), c.says) || strings.Contains(string(text), "subscription {") {
			t.Errorf("%.60s %v: %d %s", c.body, c.head, r.StatusCode, text)
		}
		if c.status == 200 && (!strings.HasPrefix(string(text), "event: next\ndata: {\"errors\":[{") || !strings.HasSuffix(string(text), "event: complete\ndata:\n\n")) {
			t.Errorf("%.60s: %q", c.body, text)
		}
	}
	if _, total := service.count(); total != 0 {
		t.Errorf("%d reached the service", total)
	}
	// Queries and mutations go by the service's own path; a page of an allowed origin may ask.
	if status, text := s.post(t, "/graphql", `{"query":"{a}"}`, jsonType, "Accept: application/json"); status != 200 || text != "the service itself" {
		t.Errorf("passed through: %d %q", status, text)
	}
	r := s.ask(t, "OPTIONS /graphql HTTP/1.1", "Origin: https://app.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
	if r.StatusCode != 204 || r.Header.Get("Access-Control-Allow-Methods") != "GET, POST, OPTIONS" || !strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "Content-Type") {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	if r := s.get(t, "/graphql"); r.StatusCode != 400 {
		t.Errorf("no operation: %d", r.StatusCode)
	}
	if set := s.get(t, "/_sidestream/events?from=%2Fgraphql"); !strings.Contains(func() string { text, _ := set.rest(); return text }(), `"status":400`) {
		t.Error("a set has no operation")
	}
}

func TestGraphQLFaceDocuments(t *testing.T) {
	service := newGraphQL(t)
	const text = "subscription T { tick { n } }"
	sum := sha256.Sum256([]byte(text))
	hash := hex.EncodeToString(sum[:])
	file := filepath.Join(t.TempDir(), "documents.json")
	if err := os.WriteFile(file, []byte(`{"`+hash+`":"`+text+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, faceEnv(service, "SSE_ROUTE_A_DOCUMENTS="+file)...)
	r := s.operate(t, `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"`+hash+`"}},"variables":{"x":1}}`)
	service.says(t, "", `{"type":"next","id":"1","payload":{"data":1}}`)
	r.wantNext(t, "next", `{"data":1}`)
	if got := service.open[0].payload; got != `{"query":"`+text+`","variables":{"x":1}}` {
		t.Errorf("sent %s", got)
	}
	refused := s.operate(t, ticksBody)
	if e := refused.nextAny(t); !strings.Contains(e.data, "PERSISTED_QUERY_NOT_IN_LIST") {
		t.Errorf("%+v", e)
	}
}

// A gap is told by a cut, whatever it comes from; a client with an id is told by an event.
func TestGraphQLFaceGap(t *testing.T) {
	service := newGraphQL(t)
	s := serve(t, faceEnv(service, "SSE_ROUTE_A_MAX_MESSAGE=2KiB")...)
	const get = "/graphql?query=subscription+%7Ba%7D"
	for name, lose := range map[string]func(){
		"lost": service.cut,
		"too large": func() {
			service.says(t, "", `{"type":"next","id":"1","payload":{"data":"`+strings.Repeat("x", 3000)+`"}}`)
		},
	} {
		terse, source := s.operate(t, `{"query":"subscription {a}"}`), s.get(t, get)
		service.says(t, "", `{"type":"next","id":"1","payload":{"data":1}}`)
		last := terse.wantNext(t, "next", `{"data":1}`)
		source.wantNext(t, "next", `{"data":1}`)
		lose()
		for _, r := range []*response{terse, source} {
			if text, err := r.rest(); err == io.EOF || strings.Contains(text, "event:") || !strings.Contains(text, "retry: ") {
				t.Errorf("%s: %q, ended with %v", name, text, err)
			}
		}
		back := s.get(t, get, "Last-Event-ID: "+last.id)
		back.wantGap(t, "restart", "null")
		anew := s.operate(t, `{"query":"subscription {a}"}`)
		service.says(t, "", `{"type":"next","id":"1","payload":{"data":2}}`)
		back.wantNext(t, "next", `{"data":2}`)
		anew.wantNext(t, "next", `{"data":2}`)
		back.conn.Close()
		anew.conn.Close()
		eventually(t, "the clients have gone", func() bool { return s.Clients() == 0 })
		service.cut()
		eventually(t, "the subscription has ended", func() bool { open, _ := service.count(); return open == 0 })
	}
}

// Whoever has sent a POST is told nothing but next and complete, and of a gap by a cut, whatever else the address asks for.
func TestGraphQLFaceIsTerse(t *testing.T) {
	service := newGraphQL(t)
	s := serve(t, faceEnv(service, "SSE_HEARTBEAT=100ms")...)
	for _, query := range []string{"poll=1", "poll=held", "heartbeat=event"} {
		const body = `{"query":"subscription {a}"}`
		r := s.ask(t, "POST /graphql?"+query+" HTTP/1.1", "Accept: text/event-stream", "Content-Type: application/json", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))
		for _, data := range []string{"1", "2"} {
			service.says(t, "", `{"type":"next","id":"1","payload":{"data":`+data+`}}`)
			r.wantNext(t, "next", `{"data":`+data+`}`)
		}
		for line := ""; line != ":\n"; { // a heartbeat
			var err error
			if line, err = r.in.ReadString('\n'); err != nil || strings.HasPrefix(line, "event:") {
				t.Fatalf("%s: %q %v", query, line, err)
			}
		}
		service.cut()
		if text, err := r.rest(); err == io.EOF || strings.Contains(text, "event:") {
			t.Errorf("%s: a gap is told by %q and %v", query, text, err)
		}
		r.conn.Close()
	}
}

// An EventSource that was cut goes on where it was, and hears nothing twice.
func TestGraphQLFaceResumes(t *testing.T) {
	service := newGraphQL(t)
	s := serve(t, faceEnv(service)...)
	const get = "/graphql?query=subscription+%7Ba%7D"
	r := s.get(t, get)
	service.says(t, "", `{"type":"next","id":"1","payload":{"data":1}}`)
	last := r.wantNext(t, "next", `{"data":1}`)
	r.conn.Close()
	service.says(t, "", `{"type":"next","id":"1","payload":{"data":2}}`)
	service.says(t, "", `{"type":"next","id":"1","payload":{"data":3}}`)
	back := s.get(t, get, "Last-Event-ID: "+last.id)
	back.wantNext(t, "next", `{"data":2}`)
	back.wantNext(t, "next", `{"data":3}`)
	if _, total := service.count(); total != 1 {
		t.Errorf("%d operations", total)
	}
}

func TestGraphQLFaceAuth(t *testing.T) {
	service := newGraphQL(t)
	var mu sync.Mutex
	status := 200
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("Cookie") == "" {
			w.WriteHeader(401)
			return
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(auth.Close)
	s := serve(t, faceEnv(service, "SSE_ROUTE_A_AUTH=forward", "SSE_ROUTE_A_AUTH_URL="+auth.URL, "SSE_ROUTE_A_REVALIDATE=50ms")...)
	if r := s.operate(t, ticksBody); r.StatusCode != 401 {
		t.Errorf("without credentials: %d", r.StatusCode)
	}
	if _, total := service.count(); total != 0 {
		t.Error("something was dialled")
	}
	r := s.operate(t, ticksBody, "Cookie: sid=a")
	service.says(t, "sid=a", `{"type":"next","id":"1","payload":{"data":1}}`)
	r.wantNext(t, "next", `{"data":1}`)
	mu.Lock()
	status = 403
	mu.Unlock()
	r.wantNext(t, "next", `{"errors":[{"message":"the request was refused (403)","extensions":{"code":"FORBIDDEN"}}]}`)
	r.wantNext(t, "complete", "")
}

// A client for which there is no room is told by a status, since it knows no event for it.
func TestGraphQLFaceFull(t *testing.T) {
	service := newGraphQL(t)
	s := serve(t, faceEnv(service, "SSE_ROUTE_A_MAX_CLIENTS=1")...)
	first := s.operate(t, ticksBody)
	service.says(t, "", `{"type":"next","id":"1","payload":{"data":1}}`)
	first.wantNext(t, "next", `{"data":1}`)
	if r := s.operate(t, ticksBody); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	first.conn.Close()
	eventually(t, "room", func() bool {
		r := s.operate(t, ticksBody)
		defer r.conn.Close()
		return r.StatusCode == 200
	})
}
