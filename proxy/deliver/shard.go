//go:build linux && !portable

// This file serves clients without a goroutine each. A shard is one goroutine and one epoll instance; it owns its slots,
// and others reach it only through its inbox, but for who makes a ring grow that few clients have: see near. The rules:
//
//   - A ring that grows wakes each shard once, which walks the ring's clients: one non-blocking write each, of bytes that
//     all share. Nothing is parsed, encoded, formatted or allocated for one client.
//   - A socket that is full leaves the walk until the poller says that it takes more (edge-triggered, so coming back
//     costs no call). Then it catches up from the ring as in a replay.
//   - The poller reports disconnected clients (EPOLLRDHUP), the kernel peers that take nothing (TCP_USER_TIMEOUT).
//   - Heartbeats and releases are found by looking over the slots now and then; no client has a timer of its own.
//   - A walk begins with another client each time, so that none is always last.

package deliver

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sidestream/proxy/deflate"
	"sidestream/proxy/stream"
)

// slot is one client. There are many: no pointers, for the collector to skip them.
type slot struct {
	cursor
	fd    int32  // 0: the slot is free
	gen   uint32 // of this use of the slot: late news of an earlier one is ignored
	group uint32
	pos   uint32 // in its group's members
	since uint32 // when it came, in seconds of the shard's clock
}

// audience is what the clients of one ring have in common.
type audience struct {
	ring     *stream.Ring
	route    *Pacing
	retiring <-chan struct{}
	leaving  *stream.Release
	retired  bool
	leave    func()
	stop     func() // ends the watch
}

func audienceOf(c Client) audience {
	return audience{ring: c.Ring, route: c.Route, retiring: c.Retiring, leaving: c.Leaving, leave: c.Leave}
}

// group is the clients of one ring in one shard.
type group struct {
	audience
	members []uint32
	first   int           // where the next walk begins
	walked  time.Duration // when it was walked last, since the shard's start
	dirty   atomic.Bool   // in the shard's list of those to walk
}

type shard struct {
	clients *Clients
	poller  *poller
	clock   clock
	ticking tick // when the slots are looked over next

	mu      sync.Mutex // guards what follows: the inbox
	joins   []joining
	dirty   []*group
	closing bool
	drained bool
	window  time.Duration
	ended   bool // a pass has

	questions []question

	own sync.Mutex // guards what follows; the shard's goroutine has it but while it waits, and nobody else waits for it

	slots     []slot
	free      []uint32
	groups    []*group
	spare     []uint32
	byRing    map[*stream.Ring]uint32
	rests     map[uint32][]byte     // of those whose sockets are full
	holds     map[uint32]hold       // of those that have one
	addresses map[uint32]netip.Addr // of those for which a trusted proxy has given one
	locals    map[uint32]queued     // of those on Unix sockets
	away      []parting
	waits     waitingHeap // those that wait for their turn, and some that are not there any more
	dead      []uint32    // found during a walk
	now       tick        // as of a moment ago: reading the clock for each write would cost as much as finding the client
	events    int64       // written since the last tally, as are their bytes
	bytes     int64
	later     []*group // grown, but their clients were written to a moment ago
	batches   [forms]vectored
	sums      []deflate.Sum // by slot: of those that take gzip
	seals     []*sealed     // by slot: of those over TLS
}

// parting is a client whose last bytes have been written.
type parting struct {
	index, gen uint32
	at         tick // when it is cut
	most       tick // with HTTP/1.0: when it is cut whatever the kernel still holds
}

func newShard(c *Clients) (*shard, error) {
	poller, err := newPoller(512)
	if err != nil {
		return nil, err
	}
	return &shard{clients: c, poller: poller, clock: clock{time.Now()}, byRing: map[*stream.Ring]uint32{}, rests: map[uint32][]byte{},
		slots: make([]slot, 1)}, nil // slot 0 is nobody's
}

// kick wakes the shard. It does not block.
func (s *shard) kick() { s.poller.wake() }

// join leaves a client in the inbox. tell wakes the shard for it; else that is up to the engine's kick.
func (s *shard) join(j joining, tell bool) {
	s.mu.Lock()
	closing := s.closing
	if !closing {
		s.joins = append(s.joins, j)
	}
	s.mu.Unlock()
	switch {
	case closing:
		if j.slot.flags&isUnchunked != 0 {
			reset(j.slot.fd)
		}
		unix.Close(int(j.slot.fd))
		s.clients.disconnected(ByShard, j.Route, j.hold(), j.Leave, Left, "")
	case tell:
		s.kick()
	}
}

// expects reports whether a client is in the inbox.
func (s *shard) expects() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.joins) > 0
}

func (s *shard) drain(window time.Duration) {
	s.mu.Lock()
	s.drained, s.window = true, window
	s.mu.Unlock()
	s.kick()
}

func (s *shard) close() {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.kick()
}

// touch is called by who has made a ring grow or end; see [stream.Ring.Carry].
func (s *shard) touch(g *group, near bool) {
	if near && s.near(g) {
		return
	}
	if g.dirty.CompareAndSwap(false, true) {
		s.mu.Lock()
		s.dirty = append(s.dirty, g)
		s.mu.Unlock()
		s.kick()
	}
}

// mostNear bounds the clients of a group that are written to by who makes its ring grow.
const mostNear = 4

// near walks g on the goroutine of who has made its ring grow, if that is little work and the shard is at nothing else. For an event that one client gets,
// waking the shard costs more than the write. What else comes of it is the shard's.
func (s *shard) near(g *group) (done bool) {
	if !s.own.TryLock() {
		return false
	}
	defer s.own.Unlock()
	if len(g.members) > mostNear || g.route.Coalesce > 0 || len(s.waits) > 0 { // whose turn it is gets much
		return false
	}
	s.now = s.clock.now()
	away := len(s.away)
	s.walk(g)
	if len(s.dead) > 0 || len(s.away) > away || len(s.waits) > 0 {
		s.kick()
	}
	return true
}

// run serves until close.
func (s *shard) run() {
	defer s.poller.close()
	s.own.Lock()
	defer s.own.Unlock()
	for {
		timeout := s.timeout()
		s.own.Unlock()
		events := s.poller.wait(timeout)
		s.own.Lock()
		s.now = s.clock.now()
		for _, e := range events {
			s.ready(uint32(e.Fd), uint32(e.Pad), e.Events)
		}
		if s.inbox() {
			s.leaveAll()
			return
		}
		s.now = s.clock.now()
		s.part()
		s.turns()
		if reached(s.now, s.ticking) {
			s.ticking = s.now + s.look()
		}
		s.bury()
	}
}

// timeout is how long there is nothing to do but wait, less than 0 for ever.
func (s *shard) timeout() time.Duration {
	if len(s.slots) == len(s.free)+1 && len(s.away) == 0 {
		return -1
	}
	wait := int32(s.ticking - s.clock.now())
	if len(s.away) > 0 {
		wait = min(wait, 5)
	}
	if len(s.waits) > 0 {
		wait = min(wait, int32(s.waits[0].at-s.clock.now()))
	}
	for _, g := range s.later {
		rest := g.again() - time.Since(s.clock.start) + time.Millisecond - 1 // rounded up
		wait = min(wait, int32(rest.Milliseconds()))
	}
	return time.Duration(max(wait, 0)) * time.Millisecond
}

// inbox takes what others have left. It returns whether the shard is to end.
func (s *shard) inbox() (closing bool) {
	s.mu.Lock()
	joins, dirty, questions := s.joins, s.dirty, s.questions
	s.joins, s.dirty, s.questions = nil, nil, nil
	closing = s.closing
	ended := s.ended
	s.ended = false
	s.mu.Unlock()
	for i := range joins {
		s.enter(&joins[i])
	}
	if ended {
		s.dismiss()
	}
	for _, q := range questions {
		q.answer()
	}
	s.grown(dirty)
	return closing
}

// grown walks the groups whose rings have grown, but for those that COALESCE holds back.
func (s *shard) grown(dirty []*group) {
	dirty = append(s.later, dirty...)
	s.later = nil
	now := time.Since(s.clock.start)
	for _, g := range dirty {
		if now < g.again() {
			s.later = append(s.later, g)
			continue
		}
		g.dirty.Store(false) // before the ring is read: what comes later wakes again
		g.walked = now
		s.walk(g)
		s.now = s.clock.now() // a walk may take a while
		s.bury()
	}
}

// again is when g may be walked.
func (g *group) again() time.Duration { return g.walked + g.route.Coalesce }
