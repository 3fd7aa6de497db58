package tunnel

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
	"sidestream/translate"
)

const (
	idleLinger = 5 * time.Second // how long a page without tunnels outlives its last client, at most
	maxPosts   = 4               // of one tunnel under way at once
	maxLive    = 256             // tunnels of a page at once; browsers allow no more WebSockets
	memory     = 1024            // tunnels of a page that have ended are remembered, by their numbers
)

// Settings are what all pages have in common.
type Settings struct {
	Clients    deliver.Pacing // of the pages' streams
	Linger     time.Duration  // how long a page outlives its last client
	Window     int            // bytes of events that wait for their acknowledgement
	MaxMessage int            // bytes of one message, either way
	Pages      *stream.Limit  // at once
	Tunnels    *stream.Limit  // upstream connections of all kinds at once
	Log        *slog.Logger

	// Replica is this one's id, where several share the work: then pages are handed out ids that tell it. "" where there is one.
	Replica string

	// Forward has replica answer a POST with this body, since the page is there. It returns false, and has done nothing, when it is not
	// there either. It is needed with Replica.
	Forward func(w http.ResponseWriter, r *http.Request, replica string, body io.Reader) bool

	// Opened is called when the upstream has agreed to the WebSocket of in, whose path and query is target; it returns what to call when that
	// has ended. Nil: nothing is called.
	Opened func(in *http.Request, target string) (closed func())

	// Dial connects to the upstream with the request of a WebSocket, offering protocols. wire is what ws runs on, see
	// [Upgrade]. pong is its OnPingReceived. The answer is what the upstream said to the upgrade, whether or not there is an error.
	Dial func(ctx context.Context, in *http.Request, protocols []string, pong func(context.Context, []byte) bool) (ws *websocket.Conn, wire *Wire, answer Answer, err error)
}

// Answer is what the upstream said to an upgrade. The zero value is no answer.
type Answer struct {
	Status  int      // when it refused
	Cookies []string // its Set-Cookie lines
}

// Stats counts what goes through tunnels. Each is a total since the start.
type Stats struct {
	Opened    atomic.Int64 // tunnels
	Failed    atomic.Int64 // upgrades that the upstream refused, or did not answer
	Expired   atomic.Int64 // pages that did not come back
	Up, Down  atomic.Int64 // messages
	UpBytes   atomic.Int64 // of them
	DownBytes atomic.Int64
	Streams   atomic.Int64 // POSTs whose body goes on
	Rings     stream.Stats
}

// Pages are the pages that have tunnels. Safe for concurrent use.
type Pages struct {
	Settings
	Stats Stats

	running sync.WaitGroup // tunnels
	mu      sync.Mutex     // guards what follows, and the fields of page and tunnel that say so
	closed  bool
	byKey   map[pageKey]*page
	pages   int  // byKey has each of them once or more often
	tunnels int  // that have not ended
	calm    bool // no POST is taken whose body goes on
}

// New returns the pages of a sidecar; there are none yet.
func New(s Settings) *Pages { return &Pages{Settings: s, byKey: map[pageKey]*page{}} }

// Count returns how many pages there are, and how many tunnels that have not ended.
func (ps *Pages) Count() (pages, tunnels int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.pages, ps.tunnels
}

// Close ends all pages and returns when their upstream connections are closed. No page is made any more.
func (ps *Pages) Close() {
	ps.mu.Lock()
	ps.closed = true
	for _, p := range ps.byKey {
		p.remove()
	}
	ps.mu.Unlock()
	ps.running.Wait()
}

// Why there is no page, or no tunnel.
var (
	errNoPage   = errors.New("no such page for these credentials")
	errNoTunnel = errors.New("no such tunnel")
	errNoRoom   = errors.New("no room for another tunnel")
	errPosts    = errors.New("too many requests for this tunnel at once")
)

// page is one page, its ring and its tunnels.
type page struct {
	pages *Pages
	ring  *stream.Ring

	dialling chan struct{} // full while a tunnel is dialled: one at a time (RFC 6455, section 4.1)
	turn     chan struct{} // full while a tunnel emits
	room     chan struct{} // has one element when something was acknowledged

	// Guarded by Pages.mu.
	keys    []known // that it is found by: the cookies that it came with, and those that its upstreams have made of them
	given   []given // cookies, for tunnels that are not dialled yet
	cookies int     // that were ever given
	origin  string  // of the first request that had one
	clients int
	live    int // tunnels that have not ended
	streams int // of them, those with a POST whose body goes on
	tunnels map[int]*tunnel
	highest int
	linger  *time.Timer
	gone    bool
}

// enter counts a client into the page of r, which it makes if there is none. The error is errNoRoom or errNoPage.
func (ps *Pages) enter(id string, r *http.Request) (*page, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	pairs := cookiesOf(r)
	key := identity(id, pairs, r)
	p := ps.byKey[key]
	switch {
	case p == nil && (ps.closed || !ps.Settings.Pages.Take()):
		return nil, errNoRoom
	case p == nil:
		p = newPage(ps, known{key, pairs})
		ps.byKey[key] = p
		ps.pages++
	}
	if !p.belongsTo(r) {
		return nil, errNoPage
	}
	p.clients++
	p.linger.Stop()
	return p, nil
}

func newPage(ps *Pages, k known) *page {
	p := &page{pages: ps, keys: []known{k}, ring: stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{Start: stream.StartAll}, &ps.Stats.Rings, false),
		dialling: make(chan struct{}, 1), turn: make(chan struct{}, 1), room: make(chan struct{}, 1), tunnels: map[int]*tunnel{}}
	p.linger = time.AfterFunc(time.Hour, p.expire)
	p.linger.Stop()
	p.say(appendPage(nil, max(ps.Window/8, 1), ps.Linger, ps.suffix()))
	return p
}

// belongsTo reports whether r comes from the page's origin, as far as it tells. Pages.mu is held.
func (p *page) belongsTo(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if p.origin == "" {
		p.origin = origin
	}
	return origin == "" || origin == p.origin
}

// leave counts a client out.
func (p *page) leave() {
	p.pages.mu.Lock()
	defer p.pages.mu.Unlock()
	p.clients--
	p.await()
}

// await starts the time after which a page without clients ends. Pages.mu is held.
func (p *page) await() {
	if p.clients > 0 || p.gone {
		return
	}
	linger := p.pages.Linger
	if p.live == 0 {
		linger = min(linger, idleLinger)
	}
	p.linger.Reset(linger)
}

// expire is the end of a linger time.
func (p *page) expire() {
	p.pages.mu.Lock()
	defer p.pages.mu.Unlock()
	if p.clients == 0 && !p.gone {
		p.pages.Stats.Expired.Add(1)
		p.remove()
	}
}

// remove ends the page and its tunnels. Pages.mu is held.
func (p *page) remove() {
	p.gone = true
	p.linger.Stop()
	for _, k := range p.keys {
		delete(p.pages.byKey, k.key)
	}
	p.pages.pages--
	p.pages.Settings.Pages.Give()
	p.ring.Close(stream.End{Kind: stream.Retired})
	for _, t := range p.tunnels {
		t.leave(websocket.StatusGoingAway, "", shortBye)
	}
}

// find returns the page of a POST, and takes in what it acknowledges.
func (ps *Pages) find(h header, r *http.Request) (*page, error) {
	ps.mu.Lock()
	p := ps.byKey[identity(h.Page, cookiesOf(r), r)]
	known := p != nil && p.belongsTo(r)
	ps.mu.Unlock()
	if !known {
		return nil, errNoPage
	}
	if cursor, ok := p.ring.Find(h.Ack); ok && h.Ack != "" {
		p.acknowledge(cursor)
	}
	return p, nil
}

// open begins tunnel n, unless it was begun before. in is the request of the WebSocket that it stands for. The error is
// errEnded, errNoTunnel (it was begun for another target), errNoPage or errNoRoom.
func (p *page) open(n int, target string, in *http.Request, protocols []string) (*tunnel, error) {
	ps := p.pages
	ps.mu.Lock()
	defer ps.mu.Unlock()
	t := p.tunnels[n]
	switch {
	case t != nil && t.target != short(target):
		return nil, errNoTunnel
	case n+memory <= p.highest && (t == nil || t.isEnded()):
		return nil, errEnded
	case t != nil: // if it has ended too: the cookies are still to be told
		return t, nil
	case p.gone:
		return nil, errNoPage
	case p.live >= maxLive, p.ring.Held() > ps.Window: // a page that reads nothing must not cause more to be read
		return nil, errNoRoom
	case !ps.Tunnels.Take():
		return nil, errNoRoom
	}
	t = newTunnel(p, n, target)
	t.cookiesSeen = p.cookies
	p.tunnels[n] = t
	p.highest = max(p.highest, n)
	p.forget()
	p.live++
	ps.tunnels++
	p.await()
	ps.running.Go(func() { // ends with the connection, which remove closes
		t.run(in, protocols)
		ps.mu.Lock()
		defer ps.mu.Unlock()
		t.stream.cut(errEnded)
		p.live--
		ps.tunnels--
		ps.Tunnels.Give()
	})
	return t, nil
}

// forget lets go of tunnels that ended long ago. Pages.mu is held.
func (p *page) forget() {
	if len(p.tunnels) <= 2*memory {
		return
	}
	for n, t := range p.tunnels {
		if n+memory <= p.highest && t.isEnded() {
			delete(p.tunnels, n)
		}
	}
}

// tunnel returns tunnel n for a POST, which ends with done. The error is errNoTunnel, errEnded or errPosts.
func (p *page) tunnel(n int, target string) (t *tunnel, done func(), err error) {
	ps := p.pages
	ps.mu.Lock()
	defer ps.mu.Unlock()
	t = p.tunnels[n]
	switch {
	case t == nil || t.target != short(target):
		return nil, nil, errNoTunnel
	case t.posts >= maxPosts:
		return nil, nil, errPosts
	}
	t.posts++
	return t, func() {
		ps.mu.Lock()
		defer ps.mu.Unlock()
		t.posts--
	}, nil
}

// say appends an event whether or not there is room: those that are few and small.
func (p *page) say(data []byte) { p.ring.Append(translate.Message{Data: data}) }

// emit appends an event once half of the window is free, so that a message of any size goes through, and encodes it only
// then. It drops it when unwanted is closed before.
func (p *page) emit(unwanted <-chan struct{}, encode func() []byte) {
	select {
	case p.turn <- struct{}{}:
	case <-unwanted:
		return
	}
	defer func() { <-p.turn }()
	for p.ring.Held() > p.pages.Window/2 {
		select {
		case <-p.room:
		case <-unwanted:
			return
		}
	}
	p.say(encode())
}

// acknowledge lets go of the events up to cursor.
func (p *page) acknowledge(cursor uint64) {
	p.ring.Acknowledge(cursor)
	select {
	case p.room <- struct{}{}:
	default:
	}
}
