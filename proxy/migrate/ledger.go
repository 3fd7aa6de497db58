// This file counts who is still there over what. The rules:
//
//   - A WebSocket, and one that a page has over a tunnel, is a client while it is open.
//   - A poll is a client from its first request where the path is one that a route replaces; elsewhere from its fourth, if these came at a
//     steady interval of at most five minutes. It is one until three intervals have passed without another, half a minute at least.
//   - A client of polls is known by its address, its User-Agent and its cookies; nothing of these is kept, only a hash with a key of this process's own.
//   - What a client was last seen with is kept by path, transport, page and browser. Paths and pages stand there with their ids
//     replaced by {id}, and without queries. All of it is bounded; beyond the bound the oldest path that nobody is on gives way to a new one,
//     and becomes part of "(other)"; where there is none, the new one does. Those that the configuration knows are never among them.
//   - More than twenty paths that differ in their last segment only are one, with {id} there: these are names, whatever they look like.

package migrate

import (
	"cmp"
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Transport is what a client comes over.
type Transport string

// The transports: the first two are old.
const (
	WebSocket Transport = "websocket"
	Poll      Transport = "poll"
	SSE       Transport = "sse"
	Tunnel    Transport = "tunnel"
)

// Old reports whether it is one that is to be replaced.
func (t Transport) Old() bool { return t == WebSocket || t == Poll }

const (
	maxPaths    = 200    // path and transport, of those that the configuration does not know
	maxSiblings = 20     // that differ in their last segment only; more are names of things, and {id}
	maxSeen     = 32     // pages and browsers of each
	maxAskers   = 20_000 // clients of polls
	firstPoll   = time.Minute
	leastPoll   = 30 * time.Second
	lookEvery   = time.Second
	mostEvery   = 5 * time.Minute
	burst       = 150 * time.Millisecond // what comes sooner belongs to the request before
	steadyFrom  = 3                      // intervals
)

// Other is the path of what is beyond the bound. When it was used last, any path may have been.
const Other = "(other)"

// Seen is when something was seen last.
type Seen struct {
	Path      string    `json:"path"`
	Transport Transport `json:"transport"`
	Page      string    `json:"page,omitempty"`    // path of the Referer, or the Origin; "" not told
	Browser   string    `json:"browser,omitempty"` // its family
	At        time.Time `json:"at"`
}

// Ledger knows which paths clients are on, over what, and when they were there last. Safe for concurrent use.
type Ledger struct {
	// Known returns what path is counted under, where that is known from the configuration: the old path that a route replaces, with its
	// placeholders, or the route's own. "": it is not. It may be called at any time. Nil: nothing is known. Set it before the first use.
	Known func(path string, over Transport) string

	seed maphash.Seed

	mu     sync.Mutex // guards what follows
	paths  map[pathKey]*account
	strays int             // of paths: those that count for maxPaths
	merged map[string]bool // by what is before the last segment: it is {id}
	askers map[uint64]*asker
	looked time.Time // for those that are no longer there
}

type pathKey struct {
	path      string
	transport Transport
}

// account is a path over one transport.
type account struct {
	key   pathKey
	into  *account  // what it has become part of; nil: nothing
	stray bool      // it counts for maxPaths
	open  int       // clients that are connected
	until time.Time // when the last of those that poll is no longer expected
	total int64     // that ever were
	seen  map[visitor]time.Time
	now   map[visitor]int // of those that are connected
}

// visitor is what is told of a client.
type visitor struct{ page, browser string }

// NewLedger returns a ledger that has seen nothing.
func NewLedger() *Ledger {
	return &Ledger{seed: maphash.MakeSeed(), paths: map[pathKey]*account{}, merged: map[string]bool{}, askers: map[uint64]*asker{}}
}

// Connected notes a client that has connected to path, and returns what notes that it has left, once.
func (l *Ledger) Connected(path string, over Transport, r *http.Request) (left func()) {
	by := visitor{pageOf(r), browserOf(r.UserAgent())}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(pathKey{path, over}, time.Now())
	a.open++
	a.total++
	by = a.see(by, time.Now())
	a.now[by]++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		a.whole().leave(by)
	})
}

// leave notes that a client has left.
func (a *account) leave(by visitor) {
	if a.now[by] == 0 {
		by = nobody // which it has become
	}
	a.open--
	if a.now[by]--; a.now[by] <= 0 {
		delete(a.now, by)
	}
	a.see(by, time.Now())
}

// whole is what a is part of now.
func (a *account) whole() *account {
	for a.into != nil {
		a = a.into
	}
	return a
}

// Present notes how many clients paths have over events, which are counted elsewhere. A path that is not among them has none.
func (l *Ledger) Present(clients map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, a := range l.paths {
		if _, there := clients[key.path]; key.transport == SSE && !there {
			a.open = 0
		}
	}
	now := time.Now()
	for path, n := range clients {
		key := pathKey{path, SSE}
		if n == 0 && l.paths[key] == nil {
			continue
		}
		a := l.account(key, now)
		if a.total += int64(max(n-a.open, 0)); n > 0 {
			a.see(visitor{}, now)
		}
		a.open = n
	}
}

// Refused notes an old client that was refused: its path is gone, or the service did not switch protocols.
func (l *Ledger) Refused(path string, r *http.Request) {
	over := Poll
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		over = WebSocket
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.account(pathKey{path, over}, now).see(visitor{pageOf(r), browserOf(r.UserAgent())}, now)
}

// place is what key is counted under now, and whether the configuration knows that: what was no route's old path when a client came may be
// one since.
func (l *Ledger) place(key pathKey) (now pathKey, known bool) {
	if l.Known != nil {
		if path := l.Known(key.path, key.transport); path != "" {
			return pathKey{path, key.transport}, true
		}
	}
	if parent := parentOf(key.path); l.merged[parent] {
		key.path = parent + "{id}"
	}
	return key, false
}

// account is that of key for what was there at a time, made if there is room. mu is held.
func (l *Ledger) account(key pathKey, at time.Time) *account {
	key, known := l.place(key)
	stray := !known && key.path != Other
	if a := l.paths[key]; a != nil {
		return a
	}
	if stray && l.strays >= maxPaths && !l.evict(at) {
		return l.account(pathKey{Other, key.transport}, at)
	}
	a := &account{key: key, stray: stray, seen: map[visitor]time.Time{}, now: map[visitor]int{}}
	l.paths[key] = a
	if stray {
		l.strays++
		l.siblings(parentOf(key.path))
	}
	return a.whole()
}

// nobody stands for visitors beyond the bound.
var nobody = visitor{browser: "other"}

// see notes when a visitor was there, and returns as what it is known: one beyond the bound takes the place of the one who was there before all
// others, and is nobody in particular where all are connected or were there later.
func (a *account) see(by visitor, at time.Time) visitor {
	if _, known := a.seen[by]; !known && len(a.seen) >= maxSeen {
		oldest, before := nobody, at
		for v, then := range a.seen {
			if v != nobody && a.now[v] == 0 && then.Before(before) {
				oldest, before = v, then
			}
		}
		if oldest == nobody {
			by = nobody
		} else {
			delete(a.seen, oldest)
		}
	}
	if at.After(a.seen[by]) {
		a.seen[by] = at
	}
	return by
}

// Restore adds what was seen before: what the configuration knows first, and the newest.
func (l *Ledger) Restore(all []Seen) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(x, y Seen) int { return y.At.Compare(x.At) })
	for _, known := range []bool{true, false} {
		for _, s := range all {
			l.restore(s, known)
		}
	}
}

// restore holds nobody up for longer than one takes.
func (l *Ledger) restore(s Seen, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := pathKey{s.Path, s.Transport}
	if _, is := l.place(key); is == known {
		l.account(key, s.At).see(visitor{s.Page, s.Browser}, s.At)
	}
}

// Seen is all that was seen, with those who are connected as of now: the newest first.
func (l *Ledger) Seen() (all []Seen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, last := time.Now(), map[Seen]time.Time{}
	for key, a := range l.paths {
		key, _ = l.place(key)
		for by, at := range a.seen {
			if a.now[by] > 0 {
				at = now
			}
			who := Seen{Path: key.path, Transport: key.transport, Page: by.page, Browser: by.browser}
			last[who] = later(last[who], at)
		}
	}
	for s, at := range last {
		s.At = at
		all = append(all, s)
	}
	slices.SortFunc(all, func(x, y Seen) int {
		return cmp.Or(y.At.Compare(x.At), cmp.Compare(x.Path, y.Path), cmp.Compare(x.Transport, y.Transport), cmp.Compare(x.Page, y.Page), cmp.Compare(x.Browser, y.Browser))
	})
	return all
}

// Count is how many clients a path has over one transport.
type Count struct {
	Path      string
	Transport Transport
	Clients   int   // now
	Total     int64 // since the start of the process
	Last      time.Time
}

// Counts are those of all paths, in their order.
func (l *Ledger) Counts() (all []Count) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, placed := time.Now(), map[pathKey]*Count{}
	l.strays = 0
	for key, a := range l.paths {
		key, known := l.place(key)
		if a.stray = !known && key.path != Other; a.stray { // which another configuration has changed
			l.strays++
		}
		c := placed[key]
		if c == nil {
			c = &Count{Path: key.path, Transport: key.transport}
			placed[key] = c
		}
		c.Clients += a.open
		c.Total += a.total
		c.Last = later(c.Last, a.last())
		if a.open > 0 {
			c.Last = now
		}
	}
	for _, q := range l.askers {
		if q.counted && q.there(now) {
			key, _ := l.place(q.key)
			if c := placed[key]; c != nil {
				c.Clients++
			}
		}
	}
	for _, c := range placed {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(x, y Count) int {
		return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.Transport, y.Transport))
	})
	return all
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
