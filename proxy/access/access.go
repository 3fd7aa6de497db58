package access

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/outbound"
)

// The methods of AUTH.
const (
	Forward = "forward"
	JWT     = "jwt"
)

const (
	waitTime = 3 * time.Second  // how long a client waits for an answer, or for keys
	skew     = 30 * time.Second // how far the clocks of who issues tokens may be off
	idleTime = time.Minute      // how long what has no client is remembered at least: that one may be on its way
	idleMost = 4096             // of those whose answer still counts, or whose token was verified
)

// ErrUnavailable means that it cannot be known now whether a client may come in: the application does not answer, or the keys cannot be
// had.
var ErrUnavailable = errors.New("who this is cannot be found out now")

// Denied means that a client may not come in. Its reason is for logs, and quotes nothing.
type Denied struct {
	Status int // 401 or 403
	Reason string
}

func (e *Denied) Error() string { return fmt.Sprintf("not admitted (%d): %s", e.Status, e.Reason) }

// Settings are a route's.
type Settings struct {
	Methods    []string          // Forward, JWT or both, in the order in which they are asked; all have to admit
	URL        string            // that is asked (AUTH_URL)
	Headers    []string          // of the client, which go along, in canonical form; they are what tells clients apart
	Claims     []string          // what of the answer is known of a client
	Keys       KeySettings       // of tokens
	Issuer     string            // "" any
	Audience   []string          // one of which a token is for; none: any
	From       []Place           // where tokens are looked for, in this order
	Revalidate time.Duration     // how long an answer counts; 0: for the client alone that asks
	Kind       func(error) error // makes an error of net/http fit to be shown; nil: it is left out

	Network     outbound.Settings // how connections to URL are made
	KeysNetwork outbound.Settings // the same for the address of Keys

	// Transport is what questions and fetches go by; nil: those of the guard's own.
	Transport http.RoundTripper
}

// Becomes reports whether a guard of s comes to be one of next by looking at its files: they differ in keys alone that are reread.
func (s Settings) Becomes(next Settings) bool {
	return s.Keys.URL == next.Keys.URL && s.Network.Socket == next.Network.Socket && s.KeysNetwork.Socket == next.KeysNetwork.Socket && (s.Keys.Reread == nil) == (next.Keys.Reread == nil) && reflect.DeepEqual(s.fixed(), next.fixed())
}

// fixed is s without functions, keys that are reread, and the ways to servers.
func (s Settings) fixed() Settings {
	if s.Keys.Reread != nil {
		s.Keys = KeySettings{}
	}
	s.Kind, s.Transport = nil, nil
	s.Network, s.KeysNetwork = outbound.Settings{}, outbound.Settings{} // their files are followed too
	return s
}

// Place is where a token may be in a request.
type Place struct {
	Kind string // header (Authorization: Bearer), cookie or query
	Name string // of the cookie or the parameter
}

// Client is who wants to be admitted, and what for.
type Client struct {
	Method, URI, Host, Proto string
	Addresses                string // the client's, and of the proxies before the last: X-Forwarded-For
	Header                   http.Header
	Query                    func(name string) string // a parameter of the query
}

// key tells credentials apart.
type key = [sha256.Size]byte

// Guard admits the clients of one route. Safe for concurrent use.
type Guard struct {
	Settings
	Stats *Stats

	log     *slog.Logger
	forward *forward
	tokens  *tokens
	run     sync.WaitGroup // questions, and asking again
	alive   context.Context
	close   context.CancelFunc

	mu      sync.Mutex // guards what follows
	passes  map[*Pass]struct{}
	byKey   map[key]*Pass
	swept   time.Time
	due     passHeap
	again   bool          // the goroutine that asks again runs
	sooner  chan struct{} // has one element where it is to look at once
	revoked revocations

	orders atomic.Uint64 // revocations since the start
}

// New returns a guard; it starts nothing.
func New(s Settings, log *slog.Logger) *Guard {
	g := &Guard{Settings: s, Stats: new(Stats), log: log, passes: map[*Pass]struct{}{}, byKey: map[key]*Pass{}, sooner: make(chan struct{}, 1)}
	g.alive, g.close = context.WithCancel(context.Background())
	transport := func(network outbound.Settings) http.RoundTripper {
		if s.Transport != nil {
			return s.Transport
		}
		return newTransport(network)
	}
	if slices.Contains(s.Methods, Forward) {
		g.forward = &forward{guard: g, client: newClient(transport(s.Network)), flights: map[key]*flight{}}
	}
	if slices.Contains(s.Methods, JWT) {
		g.tokens = &tokens{guard: g, keys: newKeys(g, newClient(transport(s.KeysNetwork)))}
	}
	return g
}

// Close ends what g runs, and returns when that has ended. No one is admitted any more.
func (g *Guard) Close() {
	g.mu.Lock() // no question begins after this
	g.close()
	g.mu.Unlock()
	g.run.Wait()
}

// start runs f unless the guard is closed. Close waits for it.
func (g *Guard) start(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.alive.Err() != nil {
		return false
	}
	g.run.Go(f)
	return true
}

// application is what a client comes with.
type application struct {
	key      key
	token    string // "" none
	question *question
	header   http.Header // what of it tells clients apart
}

// apply takes what counts out of a client's request. Nothing of the request is kept alive by it.
func (g *Guard) apply(c *Client) *application {
	a := &application{header: http.Header{}}
	for _, name := range g.Headers {
		for _, value := range c.Header[name] {
			a.header[name] = append(a.header[name], strings.Clone(value))
		}
	}
	var parts []string
	if g.tokens != nil {
		a.token = g.tokens.find(c)
		parts = append(parts, "token", a.token)
	}
	if g.forward != nil {
		a.question = g.forward.question(c, a.header)
		parts = append(parts, string(a.question.key[:]))
	}
	for _, name := range g.Headers {
		parts = append(append(parts, name), a.header[name]...)
	}
	a.key = digest(parts...)
	return a
}

// digest is the hash of texts, each with its length in front.
func digest(texts ...string) (sum key) {
	h := sha256.New()
	for _, s := range texts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(s)))
		h.Write(size[:])
		h.Write([]byte(s))
	}
	h.Sum(sum[:0])
	return sum
}

// Owner is who a client is that was admitted with p: the claims that are known of it (AUTH_CLAIMS) and the subject of its token, which outlive the
// token; where there is none, the credentials that it came with.
func (g *Guard) Owner(c *Client, p *Pass) [sha256.Size]byte {
	sub := p.token.text("sub")
	parts, known := []string{"claims", sub}, sub != ""
	for _, name := range g.Claims {
		text := p.Claim(name)
		parts, known = append(parts, name, text), known || text != ""
	}
	if known {
		return digest(parts...)
	}
	parts = []string{"credentials"}
	if g.tokens != nil {
		parts = append(parts, g.tokens.find(c))
	}
	if g.forward != nil {
		for _, name := range g.Headers {
			parts = append(append(parts, name), c.Header[name]...)
		}
	}
	return digest(parts...)
}

// Known admits a client as [Guard.Admit] does, if that can be done without waiting; nil: it cannot. It takes and counts nothing.
func (g *Guard) Known(c *Client) *Pass {
	a := g.apply(c)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.known(a.key)
}

// known is the pass of these credentials, if it counts still. mu is held.
func (g *Guard) known(k key) *Pass {
	p, now := g.byKey[k], time.Now()
	if p == nil || !g.fresh(p, now) {
		return nil
	}
	p.idle = now // it is kept until the client is in
	return p
}

// fresh reports whether another client may be admitted with p. mu is held.
func (g *Guard) fresh(p *Pass, now time.Time) bool {
	switch {
	case p.Standing() != Stays:
		return false
	case g.forward != nil && (g.Revalidate == 0 || !now.Before(p.asked.Add(g.Revalidate))):
		return false
	case p.until.IsZero(): // no token
		return true
	case p.generation == sealed: // a ticket's, which has no grace
		return now.Before(p.until)
	}
	return p.generation == g.tokens.keys.generation() && now.Before(p.until.Add(skew))
}

// Admit admits a client, within 3 s. It fails with a *[Denied], [ErrUnavailable], or ctx's error.
func (g *Guard) Admit(ctx context.Context, c *Client) (*Pass, error) {
	a := g.apply(c)
	g.mu.Lock()
	g.sweep(time.Now())
	p := g.known(a.key)
	g.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := g.ask(ctx, a)
	g.Stats.count(err)
	return p, err
}

// ask finds out about a client of which nothing is known.
func (g *Guard) ask(ctx context.Context, a *application) (*Pass, error) {
	waiting, cancel := context.WithTimeout(ctx, waitTime)
	defer cancel()
	p := &Pass{guard: g, key: a.key, methods: g.Methods, asked: time.Now(), order: g.orders.Load()}
	for _, method := range g.Methods {
		err := g.askOne(waiting, method, a, p)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case waiting.Err() != nil:
			return nil, ErrUnavailable
		default:
			return nil, err
		}
	}
	return g.admitted(p, a)
}

// askOne asks one method, whose answer goes into p.
func (g *Guard) askOne(ctx context.Context, method string, a *application, p *Pass) error {
	if method == JWT {
		return g.tokens.verify(ctx, a.token, p)
	}
	answer, err := g.forward.ask(ctx, a.question)
	if err != nil {
		return err
	}
	p.forward, p.asked, p.order = answer.claims, answer.asked, min(p.order, answer.order)
	if g.Revalidate > 0 {
		p.question = a.question
	}
	return nil
}

// admitted returns p, or the one that is there for the same credentials if it says the same.
func (g *Guard) admitted(p *Pass, a *application) (*Pass, error) {
	p.marks = marksOf(a.header)
	if a.token != "" {
		p.proof = digest(a.token)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.revoked.covers(p) {
		return nil, &Denied{http.StatusUnauthorized, "it was revoked"}
	}
	now := time.Now()
	if old := g.byKey[p.key]; old != nil && old.Standing() == Stays && old.says(p) {
		old.asked, old.generation, old.idle = later(old.asked, p.asked), p.generation, now
		return old, nil
	}
	p.idle = now
	g.byKey[p.key] = p
	g.passes[p] = struct{}{}
	return p, nil
}

// says reports whether p and q know the same of a client, for as long.
func (p *Pass) says(q *Pass) bool {
	return slices.Equal(p.token, q.token) && slices.Equal(p.forward, q.forward) && p.until.Equal(q.until)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sweep forgets passes without clients that do not count any more, now and then, and those that are too many. mu is held.
func (g *Guard) sweep(now time.Time) {
	if now.Sub(g.swept) < idleTime/2 {
		return
	}
	g.swept = now
	left := idleMost
	for p := range g.passes {
		if p.present() > 0 {
			p.idle = now
			continue
		}
		switch counts := g.fresh(p, now); {
		case now.Sub(p.idle) < idleTime:
		case counts && left > 0:
			left--
		default:
			g.forget(p)
		}
	}
}

// forget forgets a pass. mu is held.
func (g *Guard) forget(p *Pass) {
	delete(g.passes, p)
	if g.byKey[p.key] == p {
		delete(g.byKey, p.key)
	}
	g.due.remove(p)
}
