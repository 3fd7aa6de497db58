package stream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"
	"time"

	"sidestream/proxy/history"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

const (
	decisionTime = 3 * time.Second // how long a client waits for the upstream before it is answered all the same
	refusalTime  = 5 * time.Second // how long a refusal is remembered at most, without dialling
	maxRefusals  = 1 << 14         // remembered at once
)

// RetireTime is over which the clients of a stream that has reached its age are released.
const RetireTime = 10 * time.Second

// ErrBusy means that no more streams are allowed now.
var ErrBusy = errors.New("too many streams")

// ErrUnread means that what is known of the stream from before is not read yet, without which nobody can tell what a client's last id means.
var ErrUnread = errors.New("the history of the stream is not read yet")

// Policy is what the streams of one route have in common.
type Policy struct {
	Bounds Bounds
	Linger time.Duration // how long a stream outlives its last client; 0 not at all
	MaxAge time.Duration // so long after its upstream connected a stream is replaced; 0 never
	Retry  time.Duration // clients come back after this to twice this
	Log    *slog.Logger
	// Awake has a goroutine of each stream wait for what its upstream sends, also where none is needed.
	Awake bool
	// RefuseAfter is for how long a stream that was connected before retries what is refused by a status that may pass; 0 not at all.
	RefuseAfter time.Duration

	// Ended is how long a stream that has ended, whatever way, is kept for clients that come back for what they lack of it; it takes no place of its
	// own then. 0: one that is complete is remembered for Linger, and others are not.
	Ended time.Duration

	// History keeps the events of streams, over restarts or for several replicas; nil: the ring is all there is.
	History history.Store
	Route   string // that the history knows the streams by

	All *Limit // streams of all routes
	Own *Limit // streams of this one
}

// Streams are the streams of one route, by their upstream requests. Safe for concurrent use.
type Streams struct {
	Policy
	Stats *Stats

	sent   *memory
	source func(*upstream.Request, *slog.Logger) upstream.Source
	alive  context.Context // until Close
	end    context.CancelFunc
	run    sync.WaitGroup // the streams, and their goroutines
	drivers
	mu     sync.Mutex // guards what follows, and the fields of Stream that say so
	closed bool
	byKey  map[[sha256.Size]byte]*Stream
	old    map[*Stream]struct{} // replaced, and releasing their clients
	over   bool                 // all of them are, see Replace
	before *Streams             // that these replace; see prior
	refuse map[[sha256.Size]byte]refusal
	ups    int // streams whose upstream is connected, or complete
	health health
}

type refusal struct {
	err   *translate.Refused
	until time.Time
}

// NewStreams returns the streams of a route; there are none yet.
func NewStreams(s Policy) *Streams {
	alive, end := context.WithCancel(context.Background())
	return &Streams{Policy: s, Stats: new(Stats), sent: new(memory), source: (*upstream.Request).SourceOf, alive: alive, end: end, byKey: map[[sha256.Size]byte]*Stream{}, old: map[*Stream]struct{}{},
		refuse: map[[sha256.Size]byte]refusal{}, drivers: drivers{ready: make(chan *Stream)}, health: health{State: Idle, Since: time.Now()}}
}

// Ring returns the ring of the stream with this key; nil: there is none now.
func (s *Streams) Ring(key [sha256.Size]byte) *Ring {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.byKey[key]; st != nil {
		return st.Ring
	}
	return nil
}

// Connected reports whether the upstream of the stream with this key is.
func (s *Streams) Connected(key [sha256.Size]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.byKey[key]
	return st != nil && st.up
}

// Leave gives one seat up, whichever: for callers that keep no seats but count them.
func (st *Stream) Leave() { st.streams.leave(st) }

// Join returns a seat in the stream of req, opening it if there is none. It returns once the upstream has connected,
// failed or refused, and after 3 s in any case; until then and afterwards the stream keeps trying. The error is
// [ErrBusy], [ErrUnread], [ErrReplaced], *[translate.Refused], or ctx's.
func (s *Streams) Join(ctx context.Context, req upstream.Request) (*Seat, error) {
	seat, err := s.sit(req)
	if err != nil {
		return nil, err
	}
	wait := time.NewTimer(decisionTime)
	defer wait.Stop()
	select {
	case <-seat.decided.passed():
		seat.Decided = true
	case <-wait.C:
		select {
		case <-seat.loaded.passed():
		default:
			seat.Leave()
			return nil, ErrUnread
		}
	case <-ctx.Done():
		seat.Leave()
		return nil, ctx.Err()
	}
	if refused := seat.refused.Load(); refused != nil {
		seat.Leave()
		return nil, refused
	}
	return seat, nil
}

// Sit is Join without the wait. The error is [ErrBusy], [ErrReplaced] or a *[translate.Refused] that is remembered.
func (s *Streams) Sit(req upstream.Request) (*Seat, error) { return s.sit(req) }

func (s *Streams) sit(req upstream.Request) (*Seat, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil, ErrReplaced
	}
	if r, ok := s.refuse[req.Key]; ok && time.Now().Before(r.until) {
		return nil, r.err
	}
	st := s.byKey[req.Key]
	opened := st == nil
	if opened {
		if st = s.open(req); st == nil {
			return nil, ErrBusy
		}
	}
	st.clients++
	if !st.finished {
		st.linger.stop()
	}
	return &Seat{Stream: st, Opened: opened}, nil
}

// open is called with mu held. It returns nil when there is no room.
func (s *Streams) open(req upstream.Request) *Stream {
	if s.closed || !s.All.Take() {
		return nil
	}
	if !s.Own.Take() {
		s.All.Give()
		return nil
	}
	if s.History != nil {
		s.stopBefore(req.Key)
	}
	st := newStream(s, req, s.sent.find(req.Key))
	s.byKey[req.Key] = st
	s.tell()
	s.run.Add(1) // until it is through
	st.wake = func() { s.drive(st) }
	s.drive(st)
	return st
}

// leave starts the linger time of a stream without clients.
func (s *Streams) leave(st *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.clients--
	switch _, replaced := s.old[st]; {
	case st.clients > 0 || st.finished:
	case replaced:
		s.remove(st)
	case s.byKey[st.req.Key] == st:
		st.linger.set(s.Linger, func() { s.expire(st) })
	}
}

// expire is the end of a linger time.
func (s *Streams) expire(st *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.finished || st.clients == 0 {
		s.remove(st)
	}
}

// remove forgets st, whose goroutine ends then. mu is held.
func (s *Streams) remove(st *Stream) {
	st.stop()
	st.linger.stop()
	st.age.stop()
	if s.byKey[st.req.Key] == st {
		delete(s.byKey, st.req.Key)
	} else if _, replaced := s.old[st]; !replaced {
		return
	}
	delete(s.old, st)
	if st.keys != nil {
		s.sent.give(st.req.Key, st.keys)
	}
	s.mark(st, false)
	if st.through { // else ended does, so that what it still does, a program or a farewell, has its place
		s.give(st)
	}
	s.tell()
}

// give gives the place of st back, once. mu is held.
func (s *Streams) give(st *Stream) {
	if !st.given {
		st.given = true
		s.All.Give()
		s.Own.Give()
	}
}

// ended is called when the goroutine of st is through. mu is held.
func (s *Streams) ended(st *Stream) {
	_, replaced := s.old[st]
	switch {
	case !replaced && s.byKey[st.req.Key] != st:
		s.give(st) // removed meanwhile
		return
	case replaced && s.History != nil: // its clients are being released
		return
	}
	_, end := st.Ring.Last()
	switch {
	case s.closed:
	case end.Kind == Finished || end.Kind == Refused && s.Ended > 0: // remembered, for clients that come back for the end
		st.finished = true
		st.age.stop()
		st.linger.set(cmp.Or(s.Ended, s.Linger), func() { s.expire(st) })
		s.mark(st, true)
		if s.Ended > 0 {
			s.give(st)
		}
		return
	case end.Kind == Refused:
		if refused := st.refused.Load(); refused != nil {
			s.remember(st.req.Key, refused)
		}
	}
	s.remove(st)
}

// remember bounds what it keeps: those over the bound are asked of the upstream again.
func (s *Streams) remember(key [sha256.Size]byte, err *translate.Refused) {
	now := time.Now()
	if len(s.refuse) >= maxRefusals {
		for k, r := range s.refuse {
			if now.After(r.until) {
				delete(s.refuse, k)
			}
		}
	}
	if len(s.refuse) < maxRefusals {
		s.refuse[key] = refusal{err, now.Add(s.remembered())}
	}
}

// remembered is for how long a refusal is: a client that is told to come back finds it forgotten.
func (s *Streams) remembered() time.Duration {
	if s.Retry > 0 {
		return min(refusalTime, s.Retry/2)
	}
	return refusalTime
}

// retire takes a stream that has reached its age out of service: a client that comes now gets a new one, those it has are told to
// come back, and after that it ends.
func (s *Streams) retire(st *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || st.finished:
	case st.clients == 0: // no client has to be released
		s.remove(st)
	case s.byKey[st.req.Key] == st:
		if s.History != nil { // from here on events are the new one's, which goes on where this one stops
			st.stop()
		}
		s.release(st, Release{Window: RetireTime}, RetireTime)
	default:
		st.Ring.Close(End{Kind: Retired})
		s.remove(st)
	}
}

// release takes st out of service and has its clients leave. It ends after within. mu is held.
func (s *Streams) release(st *Stream, how Release, within time.Duration) {
	delete(s.byKey, st.req.Key)
	s.old[st] = struct{}{}
	st.linger.stop()
	s.give(st) // to the one that replaces it: else its clients would come back to a full house
	st.release, st.aging = how, true
	close(st.retiring)
	st.Ring.Wake()
	st.age.set(within, func() { s.retire(st) })
}

// Keep holds the stream of req open until ctx is done, whether or not a client reads it: EAGER. tried is called once it has connected or
// failed for the first time.
func (s *Streams) Keep(ctx context.Context, req upstream.Request, tried func()) {
	for first := true; ctx.Err() == nil; first = false {
		wait := refusalTime
		if seat, err := s.sit(req); err == nil {
			select {
			case <-seat.decided.passed():
			case <-ctx.Done():
			}
			if first {
				tried()
			}
			if seat.hold(ctx) {
				wait = 0
			}
			seat.Leave()
		} else if first {
			tried()
		}
		pause(ctx, wait)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Close ends all streams and returns when their upstream connections are closed. Nothing can be joined any more.
func (s *Streams) Close() {
	s.mu.Lock()
	s.closed = true
	s.end()
	for _, st := range s.byKey {
		st.Ring.Close(End{Kind: Retired})
		s.remove(st)
	}
	for st := range s.old {
		st.Ring.Close(End{Kind: Retired})
		s.remove(st)
	}
	s.mu.Unlock()
	s.run.Wait()
}
