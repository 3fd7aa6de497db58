//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// startSessions starts the application with sessions.
func startSessions(t *testing.T) string {
	t.Helper()
	addr := freeAddr(t)
	p := launch(t, nil, "node", "servers/sessions.mjs", addr)
	eventually(t, "the application to listen", func() bool { return strings.Contains(p.stdout.String(), "listening") })
	return addr
}

// sessionEnv is a sidecar in front of it: what passes through, and /events of the user who is logged in.
func sessionEnv(app string, more ...string) []string {
	return append([]string{"SSE_UPSTREAM=http://" + app, "SSE_DRAIN=200ms", "SSE_RETRY=100ms", "SSE_ROUTE_EVENTS_PATH=/events", "SSE_ROUTE_EVENTS_FROM=ws://" + app + "/feed?user={auth.X-User-Id}",
		"SSE_ROUTE_EVENTS_AUTH=forward", "SSE_ROUTE_EVENTS_AUTH_URL=http://" + app + "/auth", "SSE_ROUTE_EVENTS_AUTH_CLAIMS=X-User-Id"}, more...)
}

// logIn returns the cookie of a new session.
func logIn(t *testing.T, s *sidecar, user string) string {
	t.Helper()
	resp, err := plain.Post("http://"+s.addr+"/login?user="+user, "", nil)
	if err != nil || resp.StatusCode != 204 || len(resp.Cookies()) != 1 {
		t.Fatal("login: ", resp, err)
	}
	resp.Body.Close()
	return "sid=" + resp.Cookies()[0].Value
}

func logOut(t *testing.T, s *sidecar, cookie string) {
	t.Helper()
	r, _ := http.NewRequest("POST", "http://"+s.addr+"/logout", nil)
	r.Header.Set("Cookie", cookie)
	resp, err := plain.Do(r)
	if err != nil || resp.StatusCode != 204 {
		t.Fatal("logout: ", err)
	}
	resp.Body.Close()
}

// account is a session of a user.
type account struct {
	user, cookie string
	ends         atomic.Bool  // it is being logged out, of which the sidecar may hear at any moment
	until        atomic.Int64 // ms since 1970 from which on nothing of it may arrive any more; 0: that is not known yet
}

// watcher is a client that reads what its account may, and comes back whenever it is cut.
type watcher struct {
	s       *sidecar
	account *account
	events  atomic.Int64
	cuts    atomic.Int64 // while its account was good
}

// watch reads until its account ends, or ctx does.
func (w *watcher) watch(ctx context.Context, t *testing.T) {
	id := ""
	for ctx.Err() == nil {
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+w.s.addr+"/events", nil)
		r.Header.Set("Accept", "text/event-stream")
		r.Header.Set("Cookie", w.account.cookie)
		if id != "" {
			r.Header.Set("Last-Event-ID", id)
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			continue
		}
		if resp.StatusCode == http.StatusUnauthorized {
			if resp.Body.Close(); !w.account.ends.Load() {
				t.Errorf("%s is refused though logged in", w.account.user)
			}
			return
		}
		id = w.read(resp, id, t)
		if resp.Body.Close(); ctx.Err() == nil && !w.account.ends.Load() {
			w.cuts.Add(1)
		}
	}
}

// read reads one answer and returns the last id.
func (w *watcher) read(resp *http.Response, id string, t *testing.T) string {
	in := bufio.NewReader(resp.Body)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return id
		}
		if rest, ok := strings.CutPrefix(line, "id: "); ok {
			id = strings.TrimSpace(rest)
		}
		data, ok := strings.CutPrefix(line, "data: {\"user\"")
		if !ok {
			continue
		}
		var e struct {
			User string
			At   int64
		}
		if err := json.Unmarshal([]byte("{\"user\""+data), &e); err != nil {
			t.Error(err)
		}
		w.events.Add(1)
		if e.User != w.account.user {
			t.Errorf("%s got what is %s's", w.account.user, e.User)
		}
		if until := w.account.until.Load(); until > 0 && e.At > until {
			t.Errorf("%s got an event %d ms too late", w.account.user, e.At-until)
		}
	}
}

// TestSessionsComeAndGo: users log in and out at random in a real application. Nobody gets another user's data, nobody who has logged out
// gets anything later than promised, and nobody who is logged in is cut. SSE_E2E_SESSIONS sets how long it runs, such as 10m.
func TestSessionsComeAndGo(t *testing.T) {
	t.Parallel()
	const every = 2 * time.Second // REVALIDATE
	length, clients := 12*time.Second, 20
	if text := os.Getenv("SSE_E2E_SESSIONS"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		clients = 50
	}
	s := startSidecar(t, sessionEnv(startSessions(t), fmt.Sprint("SSE_REVALIDATE=", every))...)
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var all sync.WaitGroup
	var total, logouts, revoked atomic.Int64
	for _, user := range []string{"joe", "ann"} {
		all.Go(func() {
			for ctx.Err() == nil {
				a := &account{user: user, cookie: logIn(t, s, user)}
				var watchers []*watcher
				var here sync.WaitGroup
				for range clients {
					w := &watcher{s: s, account: a}
					watchers = append(watchers, w)
					here.Go(func() { w.watch(ctx, t) })
				}
				select {
				case <-time.After(time.Second + rand.N(3*time.Second)):
				case <-ctx.Done():
				}
				a.ends.Store(true)
				logOut(t, s, a.cookie)
				logouts.Add(1)
				if rand.N(2) == 0 {
					a.until.Store(time.Now().Add(every).UnixMilli())
				} else {
					revoke(t, s, a.cookie)
					revoked.Add(1)
					a.until.Store(time.Now().UnixMilli())
				}
				here.Wait()
				for _, w := range watchers {
					total.Add(w.events.Load())
					if w.cuts.Load() > 0 {
						t.Errorf("%s was cut though logged in", user)
					}
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d events, %d logouts, %d of them revoked", total.Load(), logouts.Load(), revoked.Load())
	if total.Load() < 1000 || logouts.Load() < 4 {
		t.Error("not much has happened")
	}
	s.drain(t)
	if strings.Contains(s.stderr.String(), "sid=") || strings.Contains(s.stderr.String(), "s%3A") {
		t.Error("the log has a cookie")
	}
}

func revoke(t *testing.T, s *sidecar, cookie string) {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"route": "events", "cookie": map[string]string{"sid": strings.TrimPrefix(cookie, "sid=")}})
	resp, err := plain.Post("http://"+s.admin+"/api/revoke", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 {
		t.Errorf("revoke: %d %s", resp.StatusCode, text)
	}
}

// signed is a JWT by a secret.
func signed(secret string, claims map[string]any) string {
	body, _ := json.Marshal(claims)
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString(body)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// TestTicketsInAPage: an EventSource goes on for hours with one ticket, and the script gets its own, for cookies and for a token.
func TestTicketsInAPage(t *testing.T) {
	t.Parallel()
	app := startSessions(t)
	s := startSidecar(t, sessionEnv(app, "SSE_TICKET_KEY="+strings.Repeat("5a", 32), "SSE_TICKET_TTL=2s", "SSE_REVALIDATE=2s",
		"SSE_ROUTE_TOKEN_PATH=/token/{id}", "SSE_ROUTE_TOKEN_FROM=ws://"+app+"/feed?user={auth.sub}", "SSE_ROUTE_TOKEN_AUTH=jwt", "SSE_ROUTE_TOKEN_JWT_KEYS=secret:e2e", "SSE_ROUTE_TOKEN_AUTH_CLAIMS=sub")...)
	inBrowsers(t, func(t *testing.T, b browser) {
		r := startRecorder(t, s.addr)
		b.open(t, "http://"+r.addr()+"/page.html")
		b.eval(t, `(globalThis.ready = 0, fetch("/login?user=joe", { method: "POST" }).then(() => ready = 1), "")`)
		eventually(t, "the login", func() bool { return b.eval(t, "String(ready)") == "1" })
		seen := func() string { return b.eval(t, "String(saw.length)") }
		grows := func(what string) {
			t.Helper()
			before := seen()
			eventually(t, what, func() bool { return seen() != before })
		}
		// gapless reports whether all that was seen is one user's, and nothing is missing.
		gapless := func(user string) {
			t.Helper()
			if bad := b.eval(t, `JSON.stringify(saw.filter((e, i) => e.gap || e.user !== "`+user+`" || i && e.n !== saw[i - 1].n + 1))`); bad != "[]" {
				t.Errorf("what was not to come, or was missed: %s", bad)
			}
			b.eval(t, `(saw.length = errors.length = 0, "")`)
		}

		// The browser's own EventSource, with the ticket that the page got once.
		b.eval(t, `(fetch("/_sidestream/ticket", { method: "POST", body: JSON.stringify({ paths: ["/events"] }) }).then(r => r.json())
			.then(({ ticket }) => globalThis.source = listen(new EventSource("/events?ticket=" + ticket))), "")`)
		grows("events by ticket")
		<-time.After(3 * time.Second) // its minute is over
		for range 3 {
			r.cut()
			grows("events after a cut")
		}
		b.eval(t, `(source.close(), "")`)
		gapless("joe")

		// The script's, which gets its tickets itself.
		b.eval(t, `(globalThis.source = listen(new SidestreamEventSource("/events", { auth: "ticket" })), "")`)
		grows("events by the script")
		r.cut()
		<-time.After(3 * time.Second)
		grows("events after a cut")
		gapless("joe")
		b.eval(t, `(fetch("/logout", { method: "POST" }), "")`)
		eventually(t, "the end", func() bool { return b.eval(t, "String(source.readyState)") == "2" })
		b.eval(t, `(saw.length = 0, "")`)

		// For a token that the page has in memory.
		token := signed("e2e", map[string]any{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix()})
		b.eval(t, `(globalThis.source = listen(new SidestreamEventSource("/token/7?x=1", { auth: "ticket", authorization: async () => "Bearer `+token+`" })), "")`)
		grows("events by a token's ticket")
		r.cut()
		grows("events after a cut")
		gapless("ann")
		b.eval(t, `(source.close(), "")`)
		for _, request := range r.to("/token/7") {
			if strings.Contains(request.URL.String(), token) {
				t.Error("the token stood in a URL")
			}
		}
		b.eval(t, `(globalThis.source = listen(new SidestreamEventSource("/token/7", { auth: "ticket", authorization: "Bearer x" })), "")`)
		eventually(t, "the refusal", func() bool { return b.eval(t, "String(source.readyState)") == "2" })
	})
}
