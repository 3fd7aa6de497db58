package access

import (
	"hash/maphash"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Standing is how it stands with a client that was admitted: Stays, ComeBack, or the status by which it is refused.
type Standing int32

const (
	Stays    Standing = 0
	ComeBack Standing = 1 // what it was admitted with is not what holds now: it is to ask again
)

// Watcher is told when a pass has ended.
type Watcher interface {
	// PassEnded does not block. It may be called by any goroutine, with none of this package's locks.
	PassEnded()
}

// Pass is what a client was admitted with. All clients with the same credentials share one. A nil Pass is that of a route without
// AUTH, and never ends. Safe for concurrent use.
type Pass struct {
	// What it was made of; it does not change.
	guard      *Guard // nil: none has made it
	key        key
	methods    []string // AUTH
	token      Claims
	forward    Claims
	marks      []uint64 // the headers and cookies that it came with
	proof      key      // of the token or ticket; zero: none
	until      time.Time
	begun      time.Time // when its credentials were issued, as far as that is known
	question   *question // what is asked again; nil: nothing is
	generation uint64    // of the keys by which its token was verified, or sealed
	order      uint64    // how many revocations there had been when it was asked about

	standing atomic.Int32

	mu       sync.Mutex // guards what follows
	clients  int
	watchers map[Watcher]int

	// Guarded by Guard.mu.
	asked time.Time // when the answer was asked for that it is admitted by
	idle  time.Time // since when it has no clients; zero: it has some
	due   time.Time // when it is asked for again
	place int       // among those that are due, counted from 1; 0: not there
}

// NewPass returns a pass that no guard has made: it lasts until then, the zero time for ever, or until it is ended.
func NewPass(until time.Time) *Pass { return &Pass{until: until} }

// Claim is what is known of the client by this name; "" nothing. Where several methods of AUTH know it, the first one's counts.
func (p *Pass) Claim(name string) string {
	if p == nil {
		return ""
	}
	for _, method := range p.methods {
		claims := p.token
		if method == Forward {
			claims = p.forward
		}
		if text := claims.text(name); text != "" {
			return text
		}
	}
	return ""
}

// Until is when clients with the pass are to come back; the zero time for never.
func (p *Pass) Until() time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.until
}

// Standing is how it stands with clients that have the pass.
func (p *Pass) Standing() Standing {
	if p == nil {
		return Stays
	}
	return Standing(p.standing.Load())
}

// Enter counts a client in that has the pass.
func (p *Pass) Enter() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.clients++
	p.mu.Unlock()
	if p.question != nil {
		p.guard.entered(p)
	}
}

// Leave counts one out.
func (p *Pass) Leave() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients--
}

func (p *Pass) present() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clients
}

// Watch has w told when the pass ends, as often as it has watched and not unwatched it at least once. A pass that has ended already
// is for the caller to see.
func (p *Pass) Watch(w Watcher) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watchers == nil {
		p.watchers = make(map[Watcher]int, 1)
	}
	p.watchers[w]++
}

// Unwatch takes one Watch back.
func (p *Pass) Unwatch(w Watcher) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watchers[w]--; p.watchers[w] <= 0 {
		delete(p.watchers, w)
	}
}

// End makes it stand like that with all that have the pass, of which it returns the number. What has ended stays as it is.
func (p *Pass) End(s Standing) (clients int) {
	p.mu.Lock()
	if !p.standing.CompareAndSwap(int32(Stays), int32(s)) {
		p.mu.Unlock()
		return 0
	}
	clients = p.clients
	watchers := make([]Watcher, 0, len(p.watchers))
	for w := range p.watchers {
		watchers = append(watchers, w)
	}
	p.mu.Unlock()
	for _, w := range watchers {
		w.PassEnded()
	}
	return clients
}

// seed is this process's: marks mean nothing anywhere else.
var seed = maphash.MakeSeed()

// mark stands for a header or cookie with its value, without being it.
func mark(kind, name, value string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, s := range []string{kind, name, value} {
		h.WriteString(s)
		h.WriteByte(0)
	}
	return h.Sum64()
}

// marksOf are those of all headers in h, and of the cookies in them.
func marksOf(h http.Header) (marks []uint64) {
	for name, values := range h {
		for _, value := range values {
			marks = append(marks, mark("header", name, value))
		}
	}
	for _, line := range h["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			marks = append(marks, mark("cookie", name, strings.Trim(value, `"`)))
			if decoded, err := url.PathUnescape(value); err == nil && decoded != value {
				marks = append(marks, mark("cookie", name, decoded)) // as the application knows it
			}
		}
	}
	return marks
}
