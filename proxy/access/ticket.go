// This file is tickets: credentials that stand in a URL, since an EventSource can send no header. The rules:
//
//   - A ticket is sealed, not signed: nobody can read it but the sidecar, and whatever is changed in it makes it nothing at all. What is
//     in it is what its client came with when it asked for it, and what was found out about that.
//   - It is good for the paths and the origin that it was asked for, and no others.
//   - It holds for a moment for whoever has it, so that one in an access log is worth nothing soon; and for hours for whoever comes back
//     with an id, since an EventSource that reconnects has no other URL.
//   - Nothing is kept of it: any replica with the key opens it. Its nonce is random, which XChaCha20-Poly1305 has room for.

package access

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// TicketSettings are the sidecar's.
type TicketSettings struct {
	Keys  []TicketKey   // the first seals; any opens
	TTL   time.Duration // how long a ticket is good for whoever has it
	Reuse time.Duration // how long for whoever brings an id

	// Reread returns the keys when the file that they stand in has changed since it was called last, else nil. It is not called by two at
	// once. Nil: they do not change.
	Reread func() ([]TicketKey, error)
}

// TicketKey is one key.
type TicketKey [chacha20poly1305.KeySize]byte

// ParseTicketKey reads 64 hex digits. Its error shows nothing of them.
func ParseTicketKey(text string) (k TicketKey, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(k) {
		return k, errors.New("is not 64 hex digits; make one with `openssl rand -hex 32`")
	}
	copy(k[:], raw)
	return k, nil
}

const (
	ticketMost = 8000                  // characters of a ticket: what servers take in a line is 8 KiB
	ticketName = "sidestream ticket 1" // what is sealed is this, and nothing else that the same key may seal
)

// sealed is the generation of what was admitted with a ticket: no keys' own.
const sealed = ^uint64(0)

// Ticket is what is sealed.
type Ticket struct {
	Issued time.Time
	Origin string // of the page, "" for the sidecar's own
	Paths  map[string]Sealed
	Header http.Header // the credentials

	proof key
	until time.Time
}

// Sealed is what was found out about a client, for one path.
type Sealed struct {
	Token   Claims    `json:"t,omitempty"`
	Forward Claims    `json:"f,omitempty"`
	Asked   time.Time `json:"a,omitzero"`
}

// Seal is what p says, for a ticket.
func (p *Pass) Seal(g *Guard) Sealed {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Sealed{p.token, p.forward, p.asked}
}

// wire is a ticket as it is sealed.
type wire struct {
	Issued int64             `json:"i"` // ms since 1970
	Origin string            `json:"o,omitempty"`
	Paths  map[string]Sealed `json:"p"`
	Header http.Header       `json:"h,omitempty"`
}

// Tickets seal and open. Safe for concurrent use.
type Tickets struct {
	TicketSettings
	Stats TicketStats

	log     *slog.Logger
	ciphers atomic.Pointer[[]cipher.AEAD]

	mu     sync.Mutex // guards what follows
	looked time.Time
	said   string // the last problem, so that it is said once
}

// TicketStats count, since the start.
type TicketStats struct {
	Sealed atomic.Int64
}

// NewTickets returns tickets by s, which has at least one key.
func NewTickets(s TicketSettings, log *slog.Logger) *Tickets {
	ts := &Tickets{TicketSettings: s, log: log, looked: time.Now()}
	ts.use(s.Keys)
	return ts
}

func (ts *Tickets) use(keys []TicketKey) {
	var all []cipher.AEAD
	for _, k := range keys {
		aead, err := chacha20poly1305.NewX(k[:])
		if err != nil {
			panic(err) // a key has the size that it has
		}
		all = append(all, aead)
	}
	ts.ciphers.Store(&all)
}

// current are the ciphers as of now.
func (ts *Tickets) current() []cipher.AEAD {
	if ts.Reread != nil {
		ts.look()
	}
	return *ts.ciphers.Load()
}

// look looks whether the file has changed, at most once a second.
func (ts *Tickets) look() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if time.Since(ts.looked) < lookAgain {
		return
	}
	ts.looked = time.Now()
	keys, err := ts.Reread()
	switch {
	case err != nil && err.Error() != ts.said:
		ts.said = err.Error()
		ts.log.Warn("SSE_TICKET_KEY cannot be reread; the previous keys stay in use", "err", err)
	case err == nil && keys != nil:
		ts.said = ""
		ts.use(keys)
		ts.log.Info("the file of SSE_TICKET_KEY has changed; the new keys are in use")
	}
}

// ErrLarge means that credentials are too large for a ticket.
var ErrLarge = errors.New("the credentials are too large for a URL: leave headers that are not needed out of AUTH_HEADERS")

// Seal makes a ticket of t, issued now, and returns when it expires for those who bring no id. It fails with [ErrLarge].
func (ts *Tickets) Seal(t Ticket) (text string, expires time.Time, err error) {
	now := time.Now()
	plain, err := json.Marshal(wire{now.UnixMilli(), t.Origin, t.Paths, t.Header})
	if err != nil {
		return "", expires, err
	}
	aead := ts.current()[0]
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	rand.Read(nonce)
	text = base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, plain, []byte(ticketName)))
	if len(text) > ticketMost {
		return "", expires, ErrLarge
	}
	ts.Stats.Sealed.Add(1)
	return text, now.Add(ts.TTL), nil
}

// Open opens a ticket for a client of path and origin; resumes: it brings an id. It fails with a *[Denied].
func (ts *Tickets) Open(text, path, origin string, resumes bool) (*Ticket, error) {
	t, reason := ts.open(text)
	if reason == "" {
		reason = t.unfit(path, origin)
	}
	if reason == "" {
		now := time.Now()
		t.until = t.Issued.Add(ts.Reuse)
		switch {
		case now.Before(t.Issued.Add(-skew)): // of a replica whose clock is ahead of ours
			reason = "it is of the future"
		case !now.Before(t.until), !resumes && !now.Before(t.Issued.Add(ts.TTL)):
			reason = "it is too old"
		}
	}
	if reason != "" {
		return nil, &Denied{http.StatusUnauthorized, "the ticket does not hold: " + reason}
	}
	return t, nil
}

// open opens a ticket, or says why it cannot.
func (ts *Tickets) open(text string) (*Ticket, string) {
	if len(text) > ticketMost {
		return nil, "it is too long"
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, "it is none"
	}
	for _, aead := range ts.current() {
		if len(raw) < aead.NonceSize() {
			break
		}
		plain, err := aead.Open(nil, raw[:aead.NonceSize()], raw[aead.NonceSize():], []byte(ticketName))
		if err != nil {
			continue
		}
		var w wire
		if json.Unmarshal(plain, &w) != nil {
			return nil, "it is of another version"
		}
		return &Ticket{Issued: time.UnixMilli(w.Issued), Origin: w.Origin, Paths: w.Paths, Header: w.Header, proof: digest(text)}, ""
	}
	return nil, "it is none, or its key has been taken out"
}

// unfit says why a ticket is not for path and origin; "" it is.
func (t *Ticket) unfit(path, origin string) string {
	if _, ok := t.Paths[path]; !ok {
		return "it is for other paths"
	}
	if t.Origin != origin {
		return "it is for another origin"
	}
	return ""
}

// AdmitTicket is [Guard.Admit] of a client that has a ticket for path, by which its header has been replaced: what was found out when
// the ticket was sealed counts, as long as REVALIDATE lets it.
func (g *Guard) AdmitTicket(ctx context.Context, c *Client, t *Ticket, path string) (*Pass, error) {
	a := g.applyTicket(c, t)
	if p, err := g.knownTicket(a, t, path); p != nil || err != nil {
		return p, err
	}
	waiting, cancel := context.WithTimeout(ctx, waitTime)
	defer cancel()
	answer, err := g.forward.ask(waiting, a.question)
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		err = ErrUnavailable
	}
	g.Stats.count(err)
	if err != nil {
		return nil, err
	}
	p := g.ticketPass(a, t, path)
	p.forward, p.asked, p.order = answer.claims, answer.asked, answer.order
	return g.admitted(p, a)
}

// KnownTicket is [Guard.Known] of a client that has a ticket.
func (g *Guard) KnownTicket(c *Client, t *Ticket, path string) *Pass {
	p, err := g.knownTicket(g.applyTicket(c, t), t, path)
	if err != nil {
		return nil
	}
	return p
}

// applyTicket is apply with a ticket: each has a pass of its own.
func (g *Guard) applyTicket(c *Client, t *Ticket) *application {
	a := g.apply(c)
	a.token = ""
	a.key = digest("ticket", string(a.key[:]), string(t.proof[:]))
	return a
}

// knownTicket admits a client with a ticket if that can be done without asking; nil without an error: it cannot.
func (g *Guard) knownTicket(a *application, t *Ticket, path string) (*Pass, error) {
	g.mu.Lock()
	p := g.known(a.key)
	g.mu.Unlock()
	if p != nil {
		return p, nil
	}
	asked := t.Paths[path].Asked
	if g.forward != nil && g.Revalidate > 0 && !time.Now().Before(asked.Add(g.Revalidate)) {
		return nil, nil
	}
	p, err := g.admitted(g.ticketPass(a, t, path), a)
	g.Stats.count(err)
	return p, err
}

// ticketPass is the pass of a client with a ticket, as of when that was sealed.
func (g *Guard) ticketPass(a *application, t *Ticket, path string) *Pass {
	s := t.Paths[path]
	p := &Pass{guard: g, key: a.key, methods: g.Methods, token: s.Token, forward: s.Forward, asked: s.Asked, until: t.until, begun: t.Issued,
		proof: t.proof, generation: sealed, order: g.orders.Load()}
	if g.forward != nil && g.Revalidate > 0 {
		p.question = a.question
	}
	return p
}
