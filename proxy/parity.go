// This file compares, in a sidecar that runs, what old clients of a route receive through the pass-through with what its streams emit
// (PARITY). The rules:
//
//   - A few old clients of a route are looked at at once, each for ten minutes at most, and each against the stream that the client would share
//     if it came over events. Where that stream is not there yet, it is waited for.
//   - What an old client is sent is copied to a goroutine of its own, which translates it; where that cannot keep up, what it leaves out is not
//     compared. The client waits for nothing.
//   - Messages are kept as hashes, until both sides have them or ten seconds have passed.

package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/migrate"
	"sidestream/proxy/upstream"
)

const (
	parityClients = 4                // of a route at once
	parityTime    = 10 * time.Minute // for one of them
	parityQueue   = 1024             // messages of it, and events of the stream, that wait to be compared
	parityBytes   = 4 << 20          // of each of both
	parityLook    = time.Second
	pollGone      = time.Minute // after which an old client that polls has left
)

// Parity counts what the old clients and the streams of a route had in common.
type Parity struct {
	counts  map[string]*atomic.Int64 // by migrate.Results; not written to
	clients atomic.Int64             // that are looked at
	noisy   upstream.Quiet
}

func newParity() *Parity {
	p := &Parity{counts: map[string]*atomic.Int64{}}
	for _, result := range migrate.Results {
		p.counts[result] = new(atomic.Int64)
	}
	return p
}

// Counts are the totals by result.
func (p *Parity) Counts() map[string]int64 {
	all := map[string]int64{}
	for result, n := range p.counts {
		all[result] = n.Load()
	}
	return all
}

// Clients is how many old clients are being looked at.
func (p *Parity) Clients() int64 { return p.clients.Load() }

// parities listens to old clients of all routes. It is a migrate.Listener.
type parities struct {
	*Proxy
	wait time.Duration // for which a message may be ahead of its equal

	starts  sync.Mutex // guards closed, and running.Add against running.Wait
	closed  bool
	running sync.WaitGroup

	mu      sync.Mutex // guards polling
	polling map[pollKey]*oldClient
}

// pollKey is an old client that polls, for one route.
type pollKey struct {
	route  *Route
	who    uint64
	stream [sha256.Size]byte // that it would share: one client may ask for several things
}

// oldClient is one that is looked at.
type oldClient struct {
	route *Route
	req   upstream.Request
	over  *upstream.Overheard
	mute  bool // what the client sends does not matter
	heard chan heardOf
	held  atomic.Int64 // bytes of what waits
	lost  atomic.Bool  // something was left out
	ended chan struct{}
	once  sync.Once
	last  atomic.Int64 // when something was heard, Unix seconds
}

// heardOf is a copy of what an old client was sent, or has sent.
type heardOf struct {
	at     time.Time
	data   []byte
	binary bool
	asked  bool // the client has sent it
	status int  // of an answer; 0: a frame
	head   http.Header
}

// Upgraded looks at a WebSocket, if its route wants that.
func (p *parities) Upgraded(r *http.Request, answer http.Header) migrate.Hearer {
	t := p.table()
	if !t.compared {
		return nil
	}
	for _, rt := range t.replacing(r.URL.Path, nil) {
		if !rt.Parity || rt.Upstream.Polls() {
			continue
		}
		q, ok := rt.Upstream.Instead(r, p.passthrough.upstream.EscapedPath())
		if !ok {
			continue
		}
		if c := p.begin(rt, q, r, answer.Get("Sec-Websocket-Protocol")); c != nil {
			return c
		}
	}
	return nil
}

// begin begins to look at the old client that has sent r, and would share the stream of q; nil: there is no room.
func (p *parities) begin(rt *Route, q upstream.Request, r *http.Request, subprotocol string) *oldClient {
	if rt.Compared.clients.Add(1) > parityClients {
		rt.Compared.clients.Add(-1)
		return nil
	}
	over := q.Overhear(r, subprotocol)
	c := &oldClient{route: rt, req: q, over: over, mute: !over.Hears(), heard: make(chan heardOf, parityQueue), ended: make(chan struct{})}
	c.last.Store(time.Now().Unix())
	began := p.run(func() { // ends with the client, after parityTime, or with close
		defer rt.Compared.clients.Add(-1)
		ctx, cancel := context.WithTimeout(p.reload.closing, parityTime)
		defer cancel()
		p.compare(ctx, c)
	})
	if !began {
		rt.Compared.clients.Add(-1)
		return nil
	}
	return c
}

// run runs f in a goroutine, which close waits for; false: there is none any more.
func (p *parities) run(f func()) bool {
	p.starts.Lock()
	defer p.starts.Unlock()
	if !p.closed {
		p.running.Go(f) // ends when f does
	}
	return !p.closed
}

// close waits for all that runs, once reload.closing is done.
func (p *parities) close() {
	p.starts.Lock()
	p.closed = true
	p.starts.Unlock()
	p.running.Wait()
}

// Hear takes a message of the WebSocket.
func (c *oldClient) Hear(m migrate.Message) {
	switch {
	case m.FromClient && c.mute:
		return
	case m.Lost && !m.FromClient: // nothing more of it can be read
		c.Closed(0)
		return
	case m.Skipped:
		c.lost.Store(true)
		return
	}
	c.take(heardOf{at: m.At, data: bytes.Clone(m.Data), binary: m.Binary, asked: m.FromClient})
}

// Closed ends it.
func (c *oldClient) Closed(int) { c.once.Do(func() { close(c.ended) }) }

// Enough is migrate.Sated's: nobody looks at it any more, or at what the client sends.
func (c *oldClient) Enough(fromClient bool) bool {
	if fromClient && c.mute {
		return true
	}
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

func (c *oldClient) take(h heardOf) {
	c.last.Store(h.at.Unix())
	size := int64(len(h.data))
	if c.Enough(false) || c.held.Load()+size > parityBytes {
		c.lost.Store(true)
		return
	}
	select {
	case c.heard <- h:
		c.held.Add(size)
	default:
		c.lost.Store(true)
	}
}

// Answered looks at an answer to a poll, if its route wants that.
func (p *parities) Answered(r *http.Request, status int, answer http.Header) func(migrate.Body) {
	t := p.table()
	if !t.compared || status != http.StatusOK {
		return nil
	}
	for _, rt := range t.replacing(r.URL.Path, nil) {
		if !rt.Parity || !rt.Upstream.Polls() {
			continue
		}
		if c := p.poller(rt, r); c != nil {
			head := answer.Clone()
			return func(b migrate.Body) {
				if b.Data == nil {
					c.lost.Store(true)
					return
				}
				c.take(heardOf{at: time.Now(), data: b.Data, status: status, head: head})
			}
		}
	}
	return nil
}

// poller is the old client that has sent r, which is looked at from now on if it is new.
func (p *parities) poller(rt *Route, r *http.Request) *oldClient {
	q, ok := rt.Upstream.Instead(r, p.passthrough.upstream.EscapedPath())
	if !ok {
		return nil
	}
	key := pollKey{rt, p.migration.Ledger.Who(rt.Name, p.table().addresses.of(r).String(), r), q.Key}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.polling[key]; c != nil {
		return c
	}
	c := p.begin(rt, q, r, "")
	if c == nil {
		return nil
	}
	if p.polling == nil {
		p.polling = map[pollKey]*oldClient{}
	}
	p.polling[key] = c
	p.run(func() { // ends with c
		select {
		case <-c.ended:
		case <-p.reload.closing.Done():
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.polling, key)
	})
	return c
}
