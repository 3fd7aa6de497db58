package proxy

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/history"
)

// app is an application that knows sessions: cookie to user; it answers /auth.
type app struct {
	*httptest.Server
	asked atomic.Int64

	mu    sync.Mutex
	users map[string]string
	fault int // status of every answer, 0 none
}

func newApp(t *testing.T, users map[string]string) *app {
	a := &app{users: users}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked.Add(1)
		a.mu.Lock()
		defer a.mu.Unlock()
		user := a.users[r.Header.Get("Cookie")]
		w.Header().Set("X-User", user)
		switch {
		case a.fault != 0:
			w.WriteHeader(a.fault)
		case user == "":
			http.Redirect(w, r, "/login", http.StatusFound)
		case user == "banned":
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *app) set(cookie, user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.users[cookie] = user
}

func (a *app) fail(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = status
}

// guarded is a route /a of f behind a, whose upstream sees who the user is.
func guarded(f *feed, a *app, more ...string) []string {
	return append([]string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=" + f.ws() + "/ws?u={auth.X-User}", "SSE_ROUTE_A_AUTH=forward", "SSE_ROUTE_A_AUTH_URL=" + a.URL + "/auth",
		"SSE_ROUTE_A_AUTH_CLAIMS=X-User"}, more...)
}

func TestForwardAuth(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe", "s=2": "ann", "s=3": "joe", "s=4": "banned"})
	s := serve(t, guarded(f, a)...)
	joe, ann := s.get(t, "/a", "Cookie: s=1"), s.get(t, "/a", "Cookie: s=2")
	twin := s.get(t, "/a", "Cookie: s=3", "X-User: ann") // the same user with another session; what it says of itself is nothing
	f.publish(t, "u=joe", "for joe")
	f.publish(t, "u=ann", "for ann")
	joe.wantData(t, "for joe")
	twin.wantData(t, "for joe")
	ann.wantData(t, "for ann")
	if f.dials.Load() != 2 {
		t.Errorf("%d upstream connections", f.dials.Load())
	}
	for cookie, want := range map[string]int{"s=5": 401, "": 401, "s=4": 403, "s=1; x": 401} {
		r := s.get(t, "/a", "Cookie: "+cookie)
		body, _ := r.rest()
		if r.StatusCode != want || strings.Contains(body, "s=") || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%q: %d %q", cookie, r.StatusCode, body)
		}
	}
	if n := s.Rejected[Unauthorized].Load(); n != 4 || f.dials.Load() != 2 {
		t.Errorf("%d were turned away", n)
	}
	if n := a.asked.Load(); n != 7 {
		t.Errorf("%d questions for 7 clients", n)
	}
}

// A service that says nothing of use keeps nobody out for good, and costs nobody its place.
func TestAuthServiceIsDown(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe"})
	s := serve(t, guarded(f, a, "SSE_ROUTE_A_SEND=true")...)
	joe := s.get(t, "/a", "Cookie: s=1")
	a.fail(500)
	late := s.get(t, "/a", "Cookie: s=1", "Last-Event-ID: 12-3")
	body, err := late.rest()
	if late.StatusCode != 200 || !strings.Contains(body, "event: stream.busy\ndata: {}\nid: 12-3\n") || errors.Is(err, io.EOF) {
		t.Errorf("%d %q %v", late.StatusCode, body, err)
	}
	var ms int
	if fmt.Sscanf(body, "retry: %d\n", &ms); ms < 10_000 || ms >= 20_000 {
		t.Errorf("told to come back in %d ms", ms)
	}
	post := s.ask(t, "POST /a HTTP/1.1", "Cookie: s=1", "Content-Length: 1", "Content-Type: text/plain", "", "x")
	if post.StatusCode != 503 || post.Header.Get("Retry-After") == "" {
		t.Error(post.StatusCode)
	}
	f.publish(t, "u=joe", "still")
	joe.wantData(t, "still")
	if n := s.Rejected[Unsure].Load(); n != 2 {
		t.Errorf("%d counted", n)
	}
	a.fail(0)
	again := s.get(t, "/a", "Cookie: s=1")
	f.publish(t, "u=joe", "again")
	again.wantData(t, "again")
}

// A POST is under the same AUTH, and reaches the stream of the same user.
func TestSendIsGuarded(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe", "s=2": "ann"})
	s := serve(t, guarded(f, a, "SSE_ROUTE_A_SEND=true", "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_REVALIDATE=1m")...)
	s.get(t, "/a", "Cookie: s=1")
	for cookie, want := range map[string]int{"s=1": 202, "s=2": 404, "s=3": 401} {
		if r := s.ask(t, "POST /a HTTP/1.1", "Cookie: "+cookie, "Content-Length: 2", "Content-Type: text/plain", "", "hi"); r.StatusCode != want {
			t.Errorf("%s: %d, want %d", cookie, r.StatusCode, want)
		}
	}
}

// Logged out is told so and cut, and does not come in again; others stay.
func TestLogout(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe", "s=2": "joe"})
	s := serve(t, guarded(f, a, "SSE_ROUTE_A_REVALIDATE=300ms")...)
	joe, twin := s.get(t, "/a", "Cookie: s=1"), s.get(t, "/a", "Cookie: s=2")
	f.publish(t, "u=joe", "1")
	joe.wantData(t, "1")
	id := twin.wantData(t, "1").id
	a.set("s=1", "")
	if e := joe.next(t); e.name != "stream.refused" || e.data != `{"status":401}` || e.id != id {
		t.Errorf("%+v", e)
	}
	if _, err := joe.rest(); errors.Is(err, io.EOF) {
		t.Error("a clean end: it would not come back, nor be told why")
	}
	if r := s.get(t, "/a", "Cookie: s=1", "Last-Event-ID: "+id); r.StatusCode != 401 {
		t.Error(r.StatusCode)
	}
	f.publish(t, "u=joe", "2")
	twin.wantData(t, "2")
}

func TestRevoke(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe", "s=2": "ann"})
	s := serve(t, append(guarded(f, a), "SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM="+f.ws()+"/ws")...)
	joe, ann, free := s.get(t, "/a", "Cookie: s=1"), s.get(t, "/a", "Cookie: s=2"), s.get(t, "/b", "Cookie: s=1")
	joe.wantOpen(t)
	for _, r := range []access.Revocation{{}, {Route: "a"}, {Route: "c", Cookie: map[string]string{"s": "1"}}, {Route: "b", Cookie: map[string]string{"s": "1"}},
		{Route: "a", Auth: map[string]string{"sub": "joe"}}, {Route: "a", Header: map[string]string{"X-User": "joe"}}} {
		if _, err := s.Revoke(r); !errors.Is(err, ErrRevocation) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if cut, err := s.Revoke(access.Revocation{Route: "A", Auth: map[string]string{"X-User": "joe"}}); cut != 1 || err != nil {
		t.Error(cut, err)
	}
	if e := joe.next(t); e.name != "stream.refused" || e.data != `{"status":401}` {
		t.Errorf("%+v", e)
	}
	if cut, err := s.Revoke(access.Revocation{Cookie: map[string]string{"s": "1"}}); cut != 0 || err != nil {
		t.Error(cut, err)
	}
	f.publish(t, "u=ann", "stays")
	ann.wantData(t, "stays")
	f.publish(t, "", "stays")
	free.wantData(t, "stays")
}

// gossip is a history by which replicas tell each other things.
type gossip struct {
	history.Running
	tell func([]byte) error
}

func (g gossip) Tell(_ context.Context, words []byte) error { return g.tell(words) }

func (gossip) Hear(func([]byte)) {}

func (gossip) Stop() {}

// What is revoked at one replica is revoked at all, and where the others cannot be told, that is said.
func TestRevokeEverywhere(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe", "s=2": "ann"})
	one, other := serve(t, guarded(f, a)...), serve(t, guarded(f, a)...)
	away := false
	one.Proxy.History = gossip{tell: func(words []byte) error {
		if away {
			return history.ErrAway
		}
		other.heard([]byte("{}")) // of a later version
		other.heard([]byte("x"))
		other.heard(words)
		return nil
	}}
	here, there, ann := one.get(t, "/a", "Cookie: s=1"), other.get(t, "/a", "Cookie: s=1"), other.get(t, "/a", "Cookie: s=2")
	here.wantOpen(t)
	there.wantOpen(t)
	ann.wantOpen(t)
	joe := access.Revocation{Cookie: map[string]string{"s": "1"}}
	if cut, err := one.RevokeEverywhere(t.Context(), joe); cut != 1 || err != nil {
		t.Error(cut, err)
	}
	for _, r := range []*response{here, there} {
		if e := r.next(t); e.name != "stream.refused" || e.data != `{"status":401}` {
			t.Errorf("%+v", e)
		}
	}
	f.publish(t, "u=ann", "stays")
	ann.wantData(t, "stays")
	away = true
	if _, err := one.RevokeEverywhere(t.Context(), joe); !errors.Is(err, ErrReplicas) {
		t.Error(err)
	}
}

// hs256 is a token by a secret.
func hs256(secret string, claims map[string]any) string {
	head, _ := json.Marshal(map[string]string{"alg": "HS256"})
	body, _ := json.Marshal(claims)
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64(head) + "." + b64(body)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + b64(mac.Sum(nil))
}

// jwtEnv is a route /a whose upstream sees sub.
func jwtEnv(f *feed, more ...string) []string {
	return append([]string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=" + f.ws() + "/ws?u={auth.sub}", "SSE_ROUTE_A_AUTH=jwt", "SSE_ROUTE_A_JWT_KEYS=secret:s3cret",
		"SSE_ROUTE_A_AUTH_CLAIMS=sub", "SSE_ROUTE_A_JWT_FROM=header,query:token"}, more...)
}

func TestJWT(t *testing.T) {
	f := newFeed(t)
	s := serve(t, jwtEnv(f)...)
	later := time.Now().Add(time.Hour).Unix()
	joe := hs256("s3cret", map[string]any{"sub": "joe", "exp": later})
	for _, r := range []*response{s.get(t, "/a", "Authorization: Bearer "+joe), s.get(t, "/a?token="+joe), s.get(t, "/a", "Authorization: Bearer "+joe)} {
		f.publish(t, "u=joe", "1")
		r.wantData(t, "1")
	}
	for want, tokens := range map[int][]string{401: {"", "x", hs256("other", map[string]any{"sub": "joe", "exp": later}), hs256("s3cret", map[string]any{"sub": "joe"})},
		403: {hs256("s3cret", map[string]any{"exp": later}), hs256("s3cret", map[string]any{"sub": "", "exp": later})}} {
		for _, token := range tokens {
			r := s.get(t, "/a", "Authorization: Bearer "+token)
			if body, _ := r.rest(); r.StatusCode != want || want == 403 && !strings.Contains(body, "{auth.sub}") || want == 401 && r.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%d %q, want %d", r.StatusCode, body, want)
			}
		}
	}
}

// At exp a client is told to come back, not refused, and nothing is lost across the renewal.
func TestExpiry(t *testing.T) {
	f := newFeed(t)
	s := serve(t, jwtEnv(f)...)
	token := func(left time.Duration) string {
		return hs256("s3cret", map[string]any{"sub": "joe", "exp": time.Now().Add(left).Unix()})
	}
	old := s.get(t, "/a", "Authorization: Bearer "+token(-20*time.Second)) // which counts still, for clocks that are behind
	text, err := old.rest()
	if old.StatusCode != 200 || errors.Is(err, io.EOF) || strings.Count(text, "retry: ") != 2 || strings.Contains(text, "stream.refused") {
		t.Errorf("%d %q %v", old.StatusCode, text, err)
	}
	_, text, _ = strings.Cut(text, "id: ")
	id, _, _ := strings.Cut(text, "\n")
	f.publish(t, "u=joe", "meanwhile")
	fresh := s.get(t, "/a", "Authorization: Bearer "+token(time.Hour), "Last-Event-ID: "+id)
	fresh.wantData(t, "meanwhile")
	if r := s.get(t, "/a", "Authorization: Bearer "+token(-31*time.Second), "Last-Event-ID: "+id); r.StatusCode != 401 {
		t.Error(r.StatusCode)
	}
}

// The log and what is said to clients hold nothing of what they came with.
func TestCredentialsAreNotLogged(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"sid=verysecretcookie": "joesecret"})
	log := &logged{}
	c := configure(t, guarded(f, a, "SSE_TICKET_KEY="+strings.Repeat("ab", 32))...)
	s := serveWith(t, c, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	said := ""
	for _, r := range []*response{s.get(t, "/a", "Cookie: sid=verysecretcookie1"), s.get(t, "/a?ticket=verysecretticket"), s.get(t, "/a", "Authorization: Bearer verysecrettoken")} {
		body, _ := r.rest()
		said += fmt.Sprint(r.Response.Header, body)
	}
	a.fail(500)
	s.get(t, "/a", "Cookie: sid=verysecretcookie").rest()
	a.fail(0)
	joe := s.get(t, "/a", "Cookie: sid=verysecretcookie")
	s.Revoke(access.Revocation{Cookie: map[string]string{"sid": "verysecretcookie"}})
	text, _ := joe.rest()
	if all := said + text + log.String(); strings.Contains(all, "verysecret") || strings.Contains(all, "joesecret") || !strings.Contains(all, "not admitted") {
		t.Error(all)
	}
}

// logged is a log that is looked at.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// unread is a store that does not tell of streams until it is read.
type unread struct {
	history.Running
	read chan struct{}
}

func (u unread) Open(ctx context.Context, route string, identity [sha256.Size]byte, epoch uint64) (history.Log, history.Loaded, error) {
	select {
	case <-u.read:
	case <-ctx.Done():
	}
	return u.Running.Open(ctx, route, identity, epoch)
}

// TestUnreadHistory: whoever cannot be told what its last id means keeps it, and comes back as soon as any client does, rather than once others may have left.
func TestUnreadHistory(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	store, err := history.Settings{Dir: t.TempDir(), TTL: time.Hour}.Start(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	slow := unread{store, make(chan struct{})}
	c := configure(t, "SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM="+f.ws()+"/ws?b", "SSE_ROUTE_ALL_PATH=/all", "SSE_ROUTE_ALL_FROM=routes:b", "SSE_RETRY=4s")
	c.History = slow
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serveOn(t, l, c, slog.New(slog.DiscardHandler))
	var all sync.WaitGroup
	for _, path := range []string{"/b", "/all", setOf("/b")} {
		all.Go(func() {
			text, err := s.get(t, path, "Last-Event-ID: 12-3").rest()
			var ms int
			if _, retry, ok := strings.Cut(text, "retry: "); ok {
				fmt.Sscan(retry, &ms)
			}
			busy := strings.Contains(text, "event: stream.busy\ndata: {}\nid: 12-3\n") && errors.Is(err, io.ErrUnexpectedEOF)
			if path == setOf("/b") {
				busy = strings.Contains(text, "event: stream.refused\ndata: {\"status\":503,\"from\":\"/b\"}\n")
			}
			if ms < 4000 || ms > 8000 || !busy {
				t.Errorf("%s: %q, %v", path, text, err)
			}
		})
	}
	all.Wait()
	if n, m := s.Rejected[Unread].Load(), s.Rejected[FullStreams].Load(); n == 0 || m != 0 {
		t.Errorf("%d are counted, and %d as too many", n, m)
	}
	close(slow.read)
	b := s.get(t, "/b", "Last-Event-ID: 12-3")
	b.wantGap(t, "restart", "null")
	f.publish(t, "b", "1")
	b.wantData(t, "1")
}
