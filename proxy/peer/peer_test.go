package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sidestream/e2e/pipes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "0123456789abcdef"
	self   = "aaaaaaaaaa" // asks
	owner  = "bbbbbbbbbb" // is asked
)

// fixed is a directory that has one other replica.
type fixed struct {
	self, url string
	err       error
	asked     *int
}

func (f fixed) Replica() string { return f.self }

func (f fixed) Address(context.Context, string) (string, error) { *f.asked++; return f.url, f.err }

// world is two replicas on a network in memory.
type world struct {
	asks, answers *Peers
	listener      *pipes.Listener
	mu            sync.Mutex
	served        []string
	answer        http.HandlerFunc // nil: 200 and "ok"
	log           bytes.Buffer
}

// inWorld runs f in a bubble.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{listener: pipes.Listen()}
		logger := slog.New(slog.NewTextHandler(&w.log, nil))
		terms := Terms{MaxHead: 8 << 10, MaxBody: 64 << 10, Log: logger, Dial: w.listener.Dial}
		w.asks = New(Settings{Secrets: []string{secret}}, terms, fixed{self: self, url: "http://owner", asked: new(int)})
		w.answers = New(Settings{Secrets: []string{secret}}, terms, fixed{self: owner, asked: new(int)})
		server := w.answers.Server(w.answers.Handler(w.serve), log.New(io.Discard, "", 0))
		done := make(chan struct{})
		go func() { defer close(done); server.Serve(w.listener) }()
		defer func() {
			w.asks.Close()
			server.Close()
			<-done
			time.Sleep(time.Second) // net/http waits half of it for a client whose body was not read
		}()
		f(t, w)
	})
}

// serve notes everything about a request.
func (w *world) serve(rw http.ResponseWriter, r *http.Request, kind Kind) {
	body, err := io.ReadAll(r.Body)
	w.mu.Lock()
	w.served = append(w.served, fmt.Sprint(Kinds[kind], " ", r.Method, " ", r.RequestURI, " ", r.Host, " ", r.RemoteAddr, " ", r.TLS != nil, " ", r.Header, " ", string(body), " ", err))
	w.mu.Unlock()
	if w.answer != nil {
		w.answer(rw, r)
		return
	}
	io.WriteString(rw, "ok")
}

// count is how many requests were served.
func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.served)
}

// question is a client's request.
func question() Question {
	r := httptest.NewRequest("POST", "/a%2Fb|c?x=\"1\"", strings.NewReader("not this"))
	r.Host, r.RemoteAddr, r.TLS = "app.example:8443", "[2001:db8::1]:50100", &tls.ConnectionState{}
	r.Header = http.Header{"Cookie": {"a=1", "b=caf\xe9"}, "Origin": {"https://app.example"}, "X-Empty": {""}, "Content-Type": {"text/plain"}, "Content-Length": {"8"}, "Expect": {"100-continue"}}
	return Question{Kind: Send, Request: r, Body: []byte("a\r\nbody\x00!"), Within: 5 * time.Second}
}

func (w *world) ask(t *testing.T) (string, error) {
	t.Helper()
	resp, err := w.asks.Ask(t.Context(), owner, question())
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(text)), err
}

func TestAsk(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("X-Own", "1")
			rw.WriteHeader(http.StatusTeapot)
		}
		resp, err := w.asks.Ask(t.Context(), owner, question())
		if err != nil || resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-Own") != "1" || resp.Header.Get(mark) != "" {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
		want := "send POST /a%2Fb|c?x=\"1\" app.example:8443 [2001:db8::1]:50100 true map[Content-Length:[9] Content-Type:[text/plain] Cookie:[a=1 b=caf\xe9] Expect:[100-continue] " +
			"Origin:[https://app.example] X-Empty:[]] a\r\nbody\x00! <nil>"
		if w.count() != 1 || w.served[0] != want {
			t.Errorf("it was asked\n%q\nwant\n%q", w.served, want)
		}
		if n := w.asks.Stats.Forwarded[Send].Load(); n != 1 || w.answers.Stats.Served[Send].Load() != 1 {
			t.Errorf("%d forwarded", n)
		}
		if w.log.Len() > 0 {
			t.Errorf("logged %s", w.log.String())
		}
	})
}

// signed is a request as it leaves, with the parts that an attacker may change.
type signed struct {
	method, path string
	mark         []string
	body         []byte
}

// sign makes one with secret at a time from now.
func sign(secret, to string, from time.Duration) signed {
	q := question()
	body, _ := encode(q.Kind, q.Request, q.Body)
	k := ticket{to: to, at: time.Now().Add(from).UnixMilli(), nonce: newNonce(), body: digest(body)}
	k.mac = k.sign(secret, "POST", path)
	return signed{"POST", path, []string{k.String()}, body}
}

func (w *world) send(t *testing.T, s signed) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), s.method, "http://owner"+s.path, bytes.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header[mark] = s.mark
	resp, err := w.asks.transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// Whoever has no secret, or somebody else's request, is told nothing and causes nothing.
func TestAttacks(t *testing.T) {
	replace := func(s *signed, old, new string) {
		if !strings.Contains(s.mark[0], old) && !bytes.Contains(s.body, []byte(old)) {
			panic(old + " is not there")
		}
		s.mark[0] = strings.Replace(s.mark[0], old, new, 1)
		s.body = bytes.Replace(s.body, []byte(old), []byte(new), 1)
	}
	rehash := func(s *signed) { // what a forger without the secret can do
		i := strings.Index(s.mark[0], "body=") + len("body=")
		s.mark[0] = s.mark[0][:i] + digest(s.body) + s.mark[0][i+64:]
	}
	for _, c := range []struct {
		name   string
		status int
		why    Refusal
		forge  func(w *world, s *signed)
	}{
		{"no mark", 403, NoSecret, func(_ *world, s *signed) { s.mark = nil }},
		{"two marks", 403, NoSecret, func(_ *world, s *signed) { s.mark = append(s.mark, s.mark[0]) }},
		{"an empty mark", 403, NoSecret, func(_ *world, s *signed) { s.mark = []string{""} }},
		{"no MAC", 403, NoSecret, func(_ *world, s *signed) { s.mark[0], _, _ = strings.Cut(s.mark[0], ", mac=") }},
		{"half a MAC", 403, NoSecret, func(_ *world, s *signed) { s.mark[0] = s.mark[0][:len(s.mark[0])-32] }},
		{"a MAC in capitals", 403, NoSecret, func(_ *world, s *signed) {
			at := strings.Index(s.mark[0], "mac=") + 4
			s.mark[0] = s.mark[0][:at] + strings.ToUpper(s.mark[0][at:])
		}},
		{"another secret", 403, NoSecret, func(_ *world, s *signed) { *s = sign("fedcba9876543210", owner, 0) }},
		{"no secret", 403, NoSecret, func(_ *world, s *signed) { *s = sign("", owner, 0) }},
		{"another path", 404, none, func(_ *world, s *signed) { s.path = "/_sidestream/peer/2" }},
		{"a query", 404, none, func(_ *world, s *signed) { s.path += "?x" }},
		{"a path that is cleaned", 404, none, func(_ *world, s *signed) { s.path = "/x/.." + path }},
		{"another method", 404, none, func(_ *world, s *signed) { s.method = "PUT" }},
		{"another replica", 403, NoSecret, func(_ *world, s *signed) { replace(s, "to="+owner, "to="+self) }},
		{"another time", 403, NoSecret, func(_ *world, s *signed) { replace(s, "time=", "time=1") }},
		{"another time in the same words", 403, NoSecret, func(_ *world, s *signed) { replace(s, "time=", "time=+") }},
		{"another nonce", 403, NoSecret, func(_ *world, s *signed) {
			at := strings.Index(s.mark[0], "nonce=") + 6
			s.mark[0] = s.mark[0][:at] + newNonce() + s.mark[0][at+32:]
		}},
		{"another body", 403, Forged, func(_ *world, s *signed) { replace(s, "body\x00", "BODY\x00") }},
		{"another body, hashed", 403, NoSecret, func(_ *world, s *signed) { replace(s, "body\x00", "BODY\x00"); rehash(s) }},
		{"more body", 403, Forged, func(_ *world, s *signed) { s.body = append(s.body, 'x') }},
		{"less body", 403, Forged, func(_ *world, s *signed) { s.body = s.body[:len(s.body)-1] }},
		{"no body", 403, Forged, func(_ *world, s *signed) { s.body = nil }},
		{"a body without end", 403, Forged, func(_ *world, s *signed) { s.body = append(s.body, make([]byte, 1<<20)...) }},
		{"the client's method", 403, Forged, func(_ *world, s *signed) { replace(s, "POST /a", "PUT /a") }},
		{"the client's target", 403, Forged, func(_ *world, s *signed) { replace(s, "/a%2Fb", "/b%2Fb") }},
		{"the client's query", 403, Forged, func(_ *world, s *signed) { replace(s, "x=", "y=") }},
		{"Host", 403, Forged, func(_ *world, s *signed) { replace(s, "Host: app", "Host: api") }},
		{"the client's cookie", 403, Forged, func(_ *world, s *signed) { replace(s, "a=1", "a=2") }},
		{"one more header", 403, Forged, func(_ *world, s *signed) { replace(s, "Cookie: ", "Authorization: x\r\nCookie: ") }},
		{"one header less", 403, Forged, func(_ *world, s *signed) { replace(s, "Origin: https://app.example\r\n", "") }},
		{"the client's address", 403, Forged, func(_ *world, s *signed) { replace(s, "[2001:db8::1]", "[2001:db8::2]") }},
		{"the scheme", 403, Forged, func(_ *world, s *signed) { replace(s, `"tls":true`, `"tls":false`) }},
		{"the kind", 403, Forged, func(_ *world, s *signed) { replace(s, `"send"`, `"tunnel"`) }},
		{"too old", 403, OffTime, func(_ *world, s *signed) { *s = sign(secret, owner, -skew-time.Second) }},
		{"too new", 403, OffTime, func(_ *world, s *signed) { *s = sign(secret, owner, skew+time.Second) }},
		{"for another replica", 421, ForOther, func(_ *world, s *signed) { *s = sign(secret, self, 0) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				s := sign(secret, owner, 0)
				c.forge(w, &s)
				resp := w.send(t, s)
				if resp.StatusCode != c.status || w.count() > 0 {
					t.Errorf("status %d, served %q", resp.StatusCode, w.served)
				}
				for i := range refusals {
					if got := w.answers.Stats.Refused[i].Load(); (got == 1) != (Refusal(i) == c.why) {
						t.Errorf("refused for %s: %d", Refusals[i], got)
					}
				}
				if c.why == NoSecret || c.why == Forged {
					if got := resp.Header.Get(mark); got != "" {
						t.Errorf("it is told %q", got)
					}
				}
				if got := w.send(t, sign(secret, owner, 0)).StatusCode; got != 200 {
					t.Errorf("afterwards: %d", got)
				}
			})
		})
	}
}

// A request is served once, however long it is kept.
func TestReplay(t *testing.T) {
	for _, later := range []time.Duration{0, time.Second, skew - time.Second, skew, skew + time.Millisecond, window, 3 * window} {
		inWorld(t, func(t *testing.T, w *world) {
			s := sign(secret, owner, 0)
			early := sign(secret, owner, skew) // good for the longest time
			if w.send(t, s).StatusCode != 200 || w.send(t, early).StatusCode != 200 {
				t.Fatal("not served")
			}
			for range 3 { // others, meanwhile
				time.Sleep(later / 3)
				w.send(t, sign(secret, owner, 0))
			}
			before := w.count()
			if a, b := w.send(t, s).StatusCode, w.send(t, early).StatusCode; a != 403 || b != 403 || w.count() != before {
				t.Errorf("after %v: %d and %d, served %d", later, a, b, w.count()-before)
			}
		})
	}
}

// Of two that come at once, one is served.
func TestReplayAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := sign(secret, owner, 0)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { w.send(t, s) })
		}
		if all.Wait(); w.count() != 1 {
			t.Errorf("served %d times", w.count())
		}
	})
}

func TestNoncesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s seen
		for range 1000 {
			s.first(newNonce(), time.Now())
			time.Sleep(window / 100)
		}
		if n := len(s.newer) + len(s.older); n > 250 {
			t.Errorf("%d are remembered", n)
		}
		time.Sleep(10 * window)
		if s.first(newNonce(), time.Now()); len(s.newer)+len(s.older) != 1 {
			t.Errorf("%d are remembered after a pause", len(s.newer)+len(s.older))
		}
	})
}

// Secrets rotate: the first signs, all are good.
func TestRotation(t *testing.T) {
	const next = "another secret here"
	for _, c := range []struct {
		asks, answers []string
		ok            bool
	}{
		{[]string{secret}, []string{secret, next}, true},
		{[]string{secret}, []string{next, secret}, true},
		{[]string{next, secret}, []string{secret, next}, true},
		{[]string{next, secret}, []string{secret}, false},
		{[]string{secret, next}, []string{secret}, true},
	} {
		inWorld(t, func(t *testing.T, w *world) {
			w.asks.Secrets, w.answers.Secrets = c.asks, c.answers
			got, err := w.ask(t)
			if c.ok != (got == "200 ok") {
				t.Errorf("%v asks %v: %s, %v", c.asks, c.answers, got, err)
			}
			var failed *Error
			if !c.ok && (!errors.As(err, &failed) || failed.Reason != Denied || !failed.Gone() || failed.Sent() || w.count() > 0) {
				t.Errorf("%v", err)
			}
			if logged := strings.Count(w.log.String(), "SSE_PEER_SECRET"); !c.ok && logged != 1 || strings.Contains(w.log.String(), secret) || strings.Contains(w.log.String(), next) {
				t.Errorf("logged %s", w.log.String())
			}
			if !c.ok { // once
				w.ask(t)
				if strings.Count(w.log.String(), "SSE_PEER_SECRET") != 1 {
					t.Error("logged again")
				}
			}
		})
	}
}

// Clocks that differ by minutes do no harm: what is signed at another time is signed again, once.
func TestClocks(t *testing.T) {
	for _, ahead := range []time.Duration{-10 * time.Minute, -31 * time.Second, 31 * time.Second, 3 * time.Hour} {
		inWorld(t, func(t *testing.T, w *world) {
			w.asks.learn(owner, func(e *entry) { e.ahead = ahead }) // which is wrong
			if got, err := w.ask(t); got != "200 ok" {
				t.Errorf("%v: %s, %v", ahead, got, err)
			}
			if n := w.answers.Stats.Refused[OffTime].Load(); n != 1 || w.count() != 1 {
				t.Errorf("refused %d times, served %d", n, w.count())
			}
			if got, _ := w.ask(t); got != "200 ok" || w.answers.Stats.Refused[OffTime].Load() != 1 {
				t.Errorf("%v: it was not learned", ahead)
			}
		})
	}
}

// An answer counts with its MAC only: whatever else is at the address is not the replica.
func TestForgedAnswers(t *testing.T) {
	for name, value := range map[string]func(nonce string) string{
		"none":           func(string) string { return "" },
		"no MAC":         func(string) string { return "served -" },
		"another nonce":  func(string) string { return "served - " + signAnswer(secret, newNonce(), "served", "-") },
		"another secret": func(n string) string { return "served - " + signAnswer("fedcba9876543210", n, "served", "-") },
		"another word":   func(n string) string { return "served - " + signAnswer(secret, n, "full", "-") },
		"a clock of its own": func(n string) string {
			return "clock 1 " + signAnswer(secret, n, "clock", "2")
		},
		"the request's MAC": func(n string) string { return "served - " + n },
		"always a clock":    func(n string) string { return "clock 1 " + signAnswer(secret, n, "clock", "1") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, asked := pipes.Listen(), 0
				server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asked++
					io.Copy(io.Discard, r.Body)
					k, err := parseTicket(r.Header.Get(mark))
					if err != nil {
						t.Error(err)
					}
					w.Header().Set(mark, value(k.nonce))
					w.Header().Set("Set-Cookie", "evil=1")
				})}
				go server.Serve(l)
				defer server.Close()
				p := New(Settings{Secrets: []string{secret}}, Terms{MaxHead: 8 << 10, Log: slog.New(slog.DiscardHandler), Dial: l.Dial}, fixed{self: self, url: "http://owner", asked: new(int)})
				defer p.Close()
				resp, err := p.Ask(t.Context(), owner, question())
				var failed *Error
				if resp != nil || !errors.As(err, &failed) || failed.Reason != Denied {
					t.Errorf("%v, %v", resp, err)
				}
				if most := map[bool]int{false: 1, true: 2}[name == "always a clock"]; asked != most {
					t.Errorf("asked %d times", asked)
				}
			})
		})
	}
}

// Why there is no answer decides what may be done next.
func TestNoAnswer(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for _, c := range []struct {
		name       string
		reason     Reason
		gone, sent bool
		after      time.Duration
		prepare    func(w *world)
	}{
		{"no address", Unknown, true, false, 0, func(w *world) { w.asks.Directory = fixed{asked: new(int)} }},
		{"no directory", Unreachable, false, false, 0, func(w *world) { w.asks.Directory = fixed{asked: new(int), err: errors.New("away")} }},
		{"refused", Refused, true, false, 0, func(w *world) {
			w.asks.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, refused }
		}},
		{"unreachable", Unreachable, false, false, 0, func(w *world) {
			w.asks.Dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}
			}
		}},
		{"no connection in time", Unreachable, false, false, dialTime, func(w *world) {
			w.asks.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		}},
		{"an address that is none", Denied, true, false, 0, func(w *world) { w.asks.Directory = fixed{asked: new(int), url: "http://%zz"} }},
		{"no room there", Full, false, false, 0, func(w *world) { w.answers.room.max.Store(10) }},
		{"no room here", Full, false, false, 0, func(w *world) { w.asks.asked.Store(maxAsked) }},
		{"late", Late, false, true, 5 * time.Second, func(w *world) {
			w.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		}},
		{"lost", Lost, false, true, 0, func(w *world) {
			w.answer = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c.prepare(w)
				began := time.Now()
				_, err := w.ask(t)
				var failed *Error
				if !errors.As(err, &failed) || failed.Reason != c.reason || failed.Gone() != c.gone || failed.Sent() != c.sent || time.Since(began) != c.after {
					t.Errorf("%v after %v", err, time.Since(began))
				}
				if w.count() > 1 {
					t.Errorf("served %d times", w.count())
				}
				if n := w.asks.Stats.Failed[c.reason].Load(); n != 1 {
					t.Errorf("counted %d", n)
				}
			})
		})
	}
}

// A client that leaves is no failure, and what it had asked ends.
func TestClientLeaves(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ended := make(chan struct{})
		w.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); close(ended) }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.asks.Ask(ctx, owner, question()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		<-ended
		for i := range w.asks.Stats.Failed {
			if w.asks.Stats.Failed[i].Load() > 0 {
				t.Errorf("counted as %s", Reasons[i])
			}
		}
	})
}

// The directory is not asked for each request, nor for what is no id, and what clients make up does not fill the memory.
func TestAddresses(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		asked := w.asks.Directory.(fixed).asked
		for range 10 {
			w.ask(t)
		}
		if *asked != 1 {
			t.Errorf("asked %d times", *asked)
		}
		time.Sleep(addressTime)
		if w.ask(t); *asked != 2 {
			t.Errorf("asked %d times after a while", *asked)
		}
		for _, id := range []string{"", "../../secrets", "AAAAAAAAAA", "aaaaaaaaa1", "aaaaaaaaaaa"} {
			if e, err := w.asks.look(t.Context(), id); e.url != "" || err != nil || *asked != 2 {
				t.Errorf("%q is looked for", id)
			}
		}
		w.asks.Directory = fixed{self: self, asked: asked}
		for range 10 * maxKnown {
			w.asks.look(t.Context(), NewID())
			time.Sleep(2 * nobodyTime)
		}
		if e, err := w.asks.look(t.Context(), owner); e.url != "http://owner" || !e.gone || err != nil {
			t.Errorf("the one that is there: %+v, %v", e, err)
		}
		for range 10 * maxKnown {
			w.asks.look(t.Context(), NewID())
		}
		if n := len(w.asks.known); n > maxKnown {
			t.Errorf("%d are known", n)
		}
	})
}

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID()
		if seen[id] || !ValidID(id) {
			t.Fatalf("%q", id)
		}
		seen[id] = true
	}
}

// What net/http would not have accepted is not sent on, as it could be another request there.
func TestEncodeRefuses(t *testing.T) {
	for name, change := range map[string]func(r *http.Request){
		"value":  func(r *http.Request) { r.Header.Set("X", "a\r\nCookie: b") },
		"name":   func(r *http.Request) { r.Header["X: a\r\nY"] = []string{"b"} },
		"target": func(r *http.Request) { r.RequestURI = "/ HTTP/1.1\r\nCookie: b" },
		"host":   func(r *http.Request) { r.Host = "a\r\nCookie: b" },
		"method": func(r *http.Request) { r.Method = "GET /x" },
	} {
		q := question()
		change(q.Request)
		if _, err := encode(q.Kind, q.Request, q.Body); err == nil {
			t.Errorf("%s is written", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	q := question()
	good, _ := encode(q.Kind, q.Request, q.Body)
	f.Add(good)
	f.Add([]byte("{}\nGET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, r, err := decode(data)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		again, err := encode(kind, r, body)
		if err != nil {
			return // signed by whoever has the secret
		}
		_, same, err := decode(again)
		if err != nil {
			t.Fatalf("%q cannot be read: %v", again, err)
		}
		delete(r.Header, "Content-Length")
		delete(same.Header, "Content-Length")
		for name, values := range r.Header {
			if framing[name] {
				delete(r.Header, name)
			}
			for i, value := range values { // blanks around a value are no part of it, and HTTP/2 alone can say them
				values[i] = strings.Trim(value, " \t")
			}
		}
		if same.RequestURI != r.RequestURI || same.Host != r.Host || same.Method != r.Method || !reflect.DeepEqual(same.Header, r.Header) {
			t.Errorf("%+v and %+v", r, same)
		}
	})
}

func FuzzTicket(f *testing.F) {
	f.Add(sign(secret, owner, 0).mark[0])
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := parseTicket(text); err == nil && k.String() != text {
			t.Errorf("%q is read as %q", text, k)
		}
	})
}

// What is held is bounded, and given back.
func TestHold(t *testing.T) {
	p := New(Settings{}, Terms{MaxBody: 1 << 20}, fixed{})
	p.room.max.Store(1 << 20)
	one, cut, give, err := p.Hold(strings.NewReader(strings.Repeat("x", 600<<10)), 700<<10)
	if err != nil || cut || len(one) != 600<<10 {
		t.Fatal(len(one), cut, err)
	}
	if _, _, _, err := p.Hold(strings.NewReader(strings.Repeat("x", 600<<10)), 700<<10); !errors.Is(err, ErrFull) {
		t.Errorf("no room: %v", err)
	}
	give()
	two, cut, give, err := p.Hold(strings.NewReader(strings.Repeat("x", 600<<10)), 500<<10)
	if err != nil || !cut || len(two) != 500<<10 {
		t.Error(len(two), cut, err)
	}
	give()
	if _, _, _, err := p.Hold(io.MultiReader(strings.NewReader("x"), failing{}), 10); err == nil {
		t.Error("a body that breaks off")
	}
	if n := p.room.used.Load(); n != 0 {
		t.Errorf("%d bytes are taken", n)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
