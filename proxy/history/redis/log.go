package redis

import (
	"context"
	"crypto/sha256"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/history"
)

const (
	leaseTime = 10 * time.Second // for which a holder is one without renewing that
	renewTime = 2 * time.Second  // how often it does
	leastTTL  = time.Minute      // of a stream that is open
)

// role is what a replica does for a stream.
type role int

const (
	following role = iota
	leading
	alone // it runs the source, and the store has never been there to ask
	closed
)

// log is one stream, while it is open here.
type log struct {
	store  *Store
	name   name
	bucket *bucket
	number uint64 // among the logs of this process
	next   *log   // another one of the stream; guarded by the store's mu

	// Held while the store is asked something that the answer of which changes what follows. Append, which one goroutine calls at a time,
	// holds it.
	work  sync.Mutex
	trims []trimming // guarded by work

	mu       sync.Mutex       // guards what follows; it is written under work too, unless it says otherwise
	role     role             // written under mu alone by step
	follower history.Follower // nil until Lead is called
	last     history.Position // the newest entry of the store's that is known
	seen     uint64           // the highest epoch that is
	epoch    uint64           // of the term
	ahead    bool             // clients were given events that the store does not have
	fresh    bool             // nothing of the store's was taken in yet
	beside   bool             // another replica ran the source when it was loaded; not guarded, Lead comes after
	pasts    bool             // meta has a past
	lost     bool             // the store has lost what clients may have been given
	ended    bool
	state    []byte        // of the last append
	wake     chan struct{} // while Lead waits: has one element when the lease may be free, or the stream has ended; under mu alone
	renewed  time.Duration // when the lease was, since the store began; under mu alone
	compared time.Duration // when the store was asked last whether it has what it should, likewise
	missing  int           // how often the lease was found to be, one after the other; belongs to beat
	wants    atomic.Bool
	unheard  atomic.Bool // the stream does not know the term's epoch
	owes     atomic.Bool // a batch could not be kept; the stream is asked for it again, also where the store was not away
}

// Open is [history.Store]'s. Where the store is away, the stream begins alone.
func (s *Store) Open(ctx context.Context, route string, identity [sha256.Size]byte, _ uint64) (history.Log, history.Loaded, error) {
	wait, cancel := context.WithTimeout(ctx, commandTime) // the process may just have begun
	defer cancel()
	there := s.wait(wait) != nil
	l := &log{store: s, fresh: true, number: s.made.Add(1)}
	l.name, l.bucket = s.nameOf(route, identity)
	var loaded history.Loaded
	err := history.ErrAway
	if there {
		loaded, err = l.load(ctx)
	}
	if err != nil {
		l.role = alone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.next, s.logs[l.name] = s.logs[l.name], l
	return l, loaded, nil
}

// forget has the store know l no more. It returns the other logs of the stream.
func (s *Store) forget(l *log) (rest []*log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := s.logs[l.name]; other != nil; other = other.next {
		if other != l {
			rest = append(rest, other)
		}
	}
	l.next = nil
	if len(rest) == 0 {
		delete(s.logs, l.name)
		return nil
	}
	for i, other := range rest[1:] {
		rest[i].next = other
	}
	s.logs[l.name], rest[len(rest)-1].next = rest[0], nil
	return rest
}

// load reads the whole stream. A store that takes no writes may be read all the same.
func (l *log) load(ctx context.Context) (history.Loaded, error) {
	l.work.Lock()
	defer l.work.Unlock()
	if l.bucket.away.Load() {
		short, cancel := context.WithTimeout(ctx, commandTime)
		defer cancel()
		ctx = short
	}
	return l.read(ctx)
}

// read is load. work is held.
func (l *log) read(ctx context.Context) (loaded history.Loaded, err error) {
	m, err := l.store.exec(ctx, l.bucket, loadTime, loading, []string{l.key("s"), l.key("m"), l.key("k"), l.key("l")}, []string{"-"})
	if err != nil {
		return loaded, err
	}
	entries, meta, keyed, holder, err := parseLoaded(m)
	if err != nil {
		return loaded, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beside = holder != "" && !l.isToken(holder)
	for i := range entries {
		e := &entries[i]
		if i > 0 && !e.after(l.last) { // what is before leads nowhere
			loaded.Events = nil
		}
		l.last, l.seen = e.Position, max(l.seen, e.Epoch)
		if l.fresh = false; !e.marker() && e.End == 0 {
			loaded.Events = append(loaded.Events, e.Event)
		}
	}
	loaded.Epoch = l.last.Epoch
	if meta.past != nil {
		l.pasts, loaded.Past = true, meta.past
	}
	loaded.State = meta.state
	var older []history.Event
	for _, e := range keyed {
		if len(loaded.Events) == 0 || e.Before(loaded.Events[0].Position) {
			older = append(older, e)
		}
	}
	loaded.Events, loaded.Older = append(older, loaded.Events...), len(older)
	return loaded, nil
}

// Lead is [history.Log]'s.
func (l *log) Lead(ctx context.Context, f history.Follower) (history.Term, error) {
	l.mu.Lock()
	first := l.follower == nil
	wake := make(chan struct{}, 1)
	l.follower, l.wake = f, wake
	if l.role == leading {
		l.role = following
	}
	stands := l.role == alone && first
	l.mu.Unlock()
	defer l.asleep()
	if stands {
		return l.begin(history.Term{}), nil
	}
	l.overtake(ctx) // what came since it was loaded
	l.wants.Store(true)
	defer l.wants.Store(false)
	for fresh := first; ; fresh = false {
		t, err := l.acquire(ctx)
		switch {
		case ctx.Err() != nil:
			return t, ctx.Err()
		case err != nil && fresh && !l.isHeld(ctx): // the store does not take writes, and nobody is known to run the source
			l.mu.Lock()
			l.role = alone
			l.mu.Unlock()
			return l.begin(history.Term{}), nil
		case l.isEnded():
			return t, history.ErrEnded
		case err == nil && t.Epoch != 0:
			return l.begin(t), nil
		}
		f.Follows()
		select {
		case <-wake:
		case <-ctx.Done():
			return history.Term{}, ctx.Err()
		}
	}
}

// asleep ends that Lead may be woken: it begins by asking for the lease.
func (l *log) asleep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake = nil
}

// isHeld reports whether the store knows of somebody who runs the source, or knew when the stream was loaded. A holder keeps its lease also
// where nothing else can be written.
func (l *log) isHeld(ctx context.Context) bool {
	if l.beside {
		return true
	}
	held, err := l.store.get(ctx, l.bucket, l.key("l"))
	return err == nil && held != "" && !l.isToken(held)
}

func (l *log) isEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

func (l *log) isAlone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.role == alone
}

// begin begins a term.
func (l *log) begin(t history.Term) history.Term {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case t.Epoch == 0 && l.role == following, t.Epoch != 0 && l.role != leading: // it has joined the others meanwhile, or is replaced already
		l.follower.TermOver()
	}
	if t.Again {
		l.store.stats.takeovers.Add(1)
	}
	return t
}

// acquire becomes the holder if there is none; otherwise, or where the store is away, the term has no epoch.
func (l *log) acquire(ctx context.Context) (t history.Term, err error) {
	l.work.Lock()
	defer l.work.Unlock()
	s := l.store
	for range 8 {
		l.mu.Lock()
		last, seen := l.last, max(l.seen, l.last.Epoch)
		l.mu.Unlock()
		asked := s.since()
		m, err := s.exec(ctx, l.bucket, commandTime, acquire, []string{l.key("s"), l.key("m"), l.key("l"), l.bucket.hints},
			[]string{l.token(), ms(leaseTime), place(last), strconv.FormatUint(seen, 10), l.ttl(), l.name.String()})
		if err != nil {
			return t, err
		}
		words, err := m.ToArray()
		if err != nil || len(words) < 2 {
			return t, errForeign
		}
		verdict, _ := words[0].ToString()
		value, _ := words[1].ToString()
		switch verdict {
		case "OK":
			return l.acquired(asked, last, value, parseMeta(words[2:]))
		case "POS":
			at, err := parsePlace(value)
			if err != nil {
				return t, err
			}
			if err := l.meet(ctx, last, at); err != nil || l.isEnded() {
				return t, err
			}
		default: // held
			return t, nil
		}
	}
	return t, nil
}

// meet sees to it that the store and the stream have the same: what it has after last is taken in, what it has lost is given back.
func (l *log) meet(ctx context.Context, last, at history.Position) error {
	if last.Before(at) && !l.isAlone() {
		return l.catchUp(ctx)
	}
	l.mu.Lock()
	follower, role := l.follower, l.role
	l.lost = l.lost || role != alone
	l.mu.Unlock()
	if follower == nil || role == alone { // whose events are none that the store knows
		l.known(at)
		return nil
	}
	l.store.stats.damaged.Add(1)
	return l.reseed(ctx, at)
}

// known notes that at is the store's newest entry.
func (l *log) known(at history.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.seen = at, max(l.seen, at.Epoch, l.last.Epoch)
}

// acquired is acquire's outcome, where the store's entry before was last.
func (l *log) acquired(asked time.Duration, last history.Position, epoch string, was meta) (t history.Term, err error) {
	if t.Epoch, err = strconv.ParseUint(epoch, 10, 64); err != nil {
		return history.Term{}, errForeign
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Again = last != (history.Position{}) || l.seen != 0
	t.Damaged = l.lost || was.pos != "" && was.pos != place(last)
	if was.pos == place(last) {
		t.State, t.Past = was.state, was.past
	}
	l.last, l.seen, l.epoch = history.Position{Epoch: t.Epoch}, t.Epoch, t.Epoch
	l.role, l.renewed, l.lost, l.ahead, l.fresh, l.state = leading, asked, false, false, false, t.State
	return t, nil
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// ttl is that of a stream that is open.
func (l *log) ttl() string { return ms(max(l.store.TTL, leastTTL)) }

// Brief is false: an append goes over the network.
func (l *log) Brief() bool { return false }

// leads reports whether the source runs here, with a lease.
func (l *log) leads() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.role == leading
}

// Close gives the lease up, so that another replica that has clients of the stream goes on at once.
func (l *log) Close() {
	s := l.store
	l.work.Lock()
	defer l.work.Unlock()
	l.mu.Lock()
	was := l.role
	l.role = closed
	l.mu.Unlock()
	rest := s.forget(l)
	if was == leading {
		l.release()
	}
	for _, other := range rest {
		other.rouse()
	}
}

// release gives the lease up, if it is ours. Where that fails it ends by itself.
func (l *log) release() {
	if l.bucket.away.Load() {
		return
	}
	s := l.store
	s.exec(context.Background(), l.bucket, commandTime, releasing, []string{l.key("l"), l.bucket.hints, l.key("s"), l.key("m"), l.key("k")},
		[]string{l.token(), l.name.String(), ms(s.TTL)})
}

// rouse has Lead look again.
func (l *log) rouse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
