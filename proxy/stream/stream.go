package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/history"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// Full jitter (the delay is anything up to the bound) keeps a thousand sidecars from knocking at once when a legacy
// service comes back.
const (
	backoffFirst = 500 * time.Millisecond // bound of the first delay; doubled with each failure
	backoffMost  = 30 * time.Second       // bound of any delay
	healthyAfter = 30 * time.Second       // a connection that held so long starts the bounds over, as one that brought something does
	dialPace     = time.Second            // from dial to dial at least, where connections bring something and do not hold
)

// Stream is one upstream request, its source and its ring.
type Stream struct {
	Ring *Ring

	req     upstream.Request
	streams *Streams
	source  upstream.Source
	log     *slog.Logger
	opened  time.Time

	alive    *living       // while the stream is wanted, and this process runs its source or waits to
	lists    bool          // the source's first messages are history
	led      bool          // this process has run the source for a term
	loaded   gate          // lifted when what is known of the stream is in the ring
	decided  gate          // lifted when the first attempt to connect has an outcome, or another replica makes it; not before loaded
	told     bool          // it is
	was      bool          // connected, once
	heard    bool          // the last connection brought something
	refusing time.Time     // since when a refusal that may pass is retried; zero: none is
	owed     bool          // a gap, unless the next connection says that nothing was lost
	resumes  bool          // which it can: it is not the first, or knows where the one in the process before stopped
	done     gate          // lifted when the goroutine is through
	retiring chan struct{} // closed when the stream has reached its age, or its route is replaced
	release  Release       // how its clients leave then; set before
	refused  atomic.Pointer[translate.Refused]
	uplink   uplink
	session  *session // the stream's goroutine's; nil: it is not connected
	wake     func()   // begins that goroutine again, once it has returned asleep

	ends sync.Mutex // guards what follows, and writing alive
	gone bool       // the stream is not wanted any more

	// Where a history is kept; set before loaded is closed.
	kept     history.Log   // nil: none is
	restored atomic.Uint64 // the number of the newest event that was there before, or tells of it
	outbox   *outbox

	// Guarded by Streams.mu.
	clients  int
	finished bool      // complete, and remembered for a while
	up       bool      // the upstream is connected
	through  bool      // its goroutine is
	given    bool      // its place under the limits is given back
	aging    bool      // it was once, so age runs
	failure  string    // why the upstream was not connected last; "" it never failed
	failed   time.Time // when that was
	keys     *keys     // shared with streams before and after it: see memory.go; nil: nothing was sent
	linger   alarm     // until it is removed
	age      alarm     // until it is replaced, then until it is removed
}

func newStream(s *Streams, req upstream.Request, known *keys) *Stream {
	now := time.Now()
	epoch := NewEpoch(now)
	st := &Stream{opened: now, req: req, streams: s, keys: known, log: slog.New(&aboutStream{s.Log.Handler(), epoch, req.String()}),
		retiring: make(chan struct{}), alive: new(living)}
	st.source = s.source(&st.req, st.log)
	st.lists = st.source.History()
	st.Ring = NewRing(epoch, s.Bounds, s.Stats, st.lists)
	if s.History != nil {
		st.outbox = new(outbox)
		st.outbox.changed.L = &st.outbox.mu
	}
	return st
}

// Request is the one that opened the stream. Those of its other clients are identical.
func (st *Stream) Request() upstream.Request { return st.req }

// Source is what brings the stream's messages, where no history is kept; it is of the stream's goroutine, but for what its type says of others.
func (st *Stream) Source() upstream.Source { return st.source }

// Retiring is closed when the stream takes no new clients any more and those it has shall come back: see Leaving.
func (st *Stream) Retiring() <-chan struct{} { return st.retiring }

// Release is how the clients of a stream are sent away that takes no new ones.
type Release struct {
	Window   time.Duration // over which they are
	Replaced bool          // its route is another one from now on, or there is none any more; else the stream has reached its age
}

// Leaving is how its clients are sent away, once Retiring is closed.
func (st *Stream) Leaving() *Release { return &st.release }

// run is the stream's life: terms in which it runs the source, and follows others in between. It returns asleep where nothing comes on a connection that
// tells when something does: st.wake is called then, and run is to be called again.
func (st *Stream) run() (asleep bool) {
	if st.session == nil {
		st.load()
	}
	for st.session != nil || !st.over() && st.follow() {
		ended, asleep := st.lead()
		if asleep {
			return true
		}
		if ended {
			break
		}
	}
	if st.kept != nil {
		st.outbox.close()
		st.kept.Close()
	}
	st.done.lift()
	return false
}

// session is a connection that is run.
type session struct {
	conn           upstream.Conn
	dialled, since time.Time
	failures       int // in a row, before it
}

// lead connects, again and again, until the stream is finished, refused or not wanted any more, which is true, or the term is over. Where a session is
// asleep it goes on with that when it is called again.
func (st *Stream) lead() (ended, asleep bool) {
	for failures := 0; ; failures++ {
		dialled, held, err := time.Now(), time.Duration(-1), error(nil)
		if st.session == nil {
			err = st.connect(dialled, failures)
		}
		if s := st.session; s != nil {
			if held, asleep, err = st.turn(); asleep {
				return false, true
			}
			st.session, dialled, failures = nil, s.dialled, s.failures
		}
		if st.final(err) {
			return true, false
		}
		good := held >= healthyAfter || held >= 0 && st.heard
		if good {
			failures = 0
		}
		delay := st.delay(failures, err)
		if good && !st.polls() {
			delay = max(delay, time.Until(dialled.Add(dialPace)))
		}
		level := slog.LevelDebug // a state that goes on is no news
		if failures == 0 || held >= 0 {
			level = slog.LevelWarn
		}
		if st.alive.Err() == nil {
			st.log.Log(st.alive, level, "upstream lost", "err", err, "retry", delay.Round(time.Millisecond).String())
			pause(st.alive, delay)
		}
		switch {
		case st.alive.Err() == nil:
		case st.isGone():
			st.log.Info("stream ended")
			return true, false
		default:
			st.log.Info("another replica runs the stream")
			st.outbox.close()
			return false, false
		}
	}
}

// connect makes a connection, which session is then.
func (st *Stream) connect(dialled time.Time, failures int) error {
	conn, err := st.source.Connect(st.alive)
	if err != nil {
		err = st.patient(st.req.Shown(err))
		st.judge(err)
		return err
	}
	since := time.Now()
	if !st.polls() {
		st.req.Route.Stats.Took(since.Sub(dialled))
	}
	st.was, st.refusing, st.heard = true, time.Time{}, st.polls() // whose good answer it was
	if st.owed && (!st.resumes || !conn.Resumed()) {
		st.missed()
	}
	st.owed, st.resumes = false, true
	st.uplink.connect(conn)
	st.log.Info("upstream connected")
	st.connected()
	st.session = &session{conn, dialled, since, failures}
	return nil
}

// turn runs the connection until it ends, or is asleep; held is for how long it was one.
func (st *Stream) turn() (held time.Duration, asleep bool, err error) {
	if conn, ok := st.session.conn.(upstream.Dozer); ok && !st.streams.Awake {
		if asleep, err = conn.Turn(st.alive, st.emit, st.wake, st.kept == nil); asleep {
			return 0, true, nil // and maybe awake already: nothing of the stream is this goroutine's any more
		}
	} else {
		err = st.session.conn.Run(st.alive, st.emit)
	}
	err = st.patient(st.req.Shown(err))
	st.uplink.connect(nil)
	if st.alive.Err() == nil && lost(err) {
		st.owed = resumes(err)
		if !st.owed {
			st.append(translate.Message{Gap: translate.GapUpstream})
		}
	}
	if st.kept != nil && st.alive.Err() == nil { // what an end means may be that there is nothing to go on with
		st.append()
		st.settle(false)
	}
	st.judge(err)
	return time.Since(st.session.since), false, err
}

// lost reports whether events may have been missed when a connection ended with err.
func lost(err error) bool {
	var retry *upstream.Retry
	var refused *translate.Refused
	switch {
	case errors.Is(err, translate.ErrFinished), errors.Is(err, upstream.ErrRetired), errors.As(err, &refused):
		return false
	case errors.As(err, &retry):
		return !retry.Lossless
	}
	return true
}

// resumes reports whether the next connection can tell if anything was lost.
func resumes(err error) bool {
	var retry *upstream.Retry
	return errors.As(err, &retry) && retry.Resumes
}

// polls reports whether each message takes a request of its own.
func (st *Stream) polls() bool { return st.req.Route.Polls() && !st.req.Route.Follows() }

// patient makes an interruption of a refusal that may pass, as long as REFUSE_AFTER says, where the stream was connected before.
func (st *Stream) patient(err error) error {
	var passing upstream.Passing
	if !errors.As(err, &passing) {
		st.refusing = time.Time{}
		return err
	}
	if !st.was || st.streams.RefuseAfter == 0 {
		return err
	}
	if st.refusing.IsZero() {
		st.refusing = time.Now()
	}
	if st.patience() <= 0 {
		return err
	}
	var known *upstream.Retry
	retry := &upstream.Retry{Err: fmt.Errorf("%v; retried for REFUSE_AFTER (%v), since that may pass", err, st.streams.RefuseAfter)}
	if errors.As(err, &known) {
		retry.After, retry.Lossless, retry.Resumes = known.After, known.Lossless, known.Resumes
	}
	return retry
}

// patience is how long a refusal may go on.
func (st *Stream) patience() time.Duration {
	return time.Until(st.refusing.Add(st.streams.RefuseAfter))
}

// emit is what sources call. What a poll has emitted is kept when it returns, since the next request may acknowledge it.
func (st *Stream) emit(ms []translate.Message) error {
	if len(ms) > 0 { // those without come from beside the source's goroutine too
		st.heard = true
	}
	st.append(ms...)
	if polls := st.polls(); ms == nil || polls {
		st.settle(ms == nil && !polls)
	}
	return st.stopped()
}

// comes is what comes after what the source emits.
func (st *Stream) comes() upstream.Coming {
	if st.session != nil {
		if conn, ok := st.session.conn.(upstream.Foreseer); ok {
			return conn.Comes()
		}
	}
	return upstream.ComesLater
}

// judge makes known what has become of a connection, first to the clients that wait for it to be decided.
func (st *Stream) judge(err error) {
	var refused *translate.Refused
	if st.alive.Err() == nil {
		if errors.As(err, &refused) {
			st.refused.Store(&translate.Refused{Status: refused.Status, Reason: st.req.Shown(errors.New(refused.Reason)).Error()})
		}
		st.streams.report(st, false, err)
	}
	st.tell()
}

func (st *Stream) tell() {
	if !st.told {
		st.told = true
		st.decided.lift()
	}
}

func (st *Stream) connected() {
	st.streams.report(st, true, nil)
	st.tell()
}

// final closes the ring when err is the end of the stream.
func (st *Stream) final(err error) bool {
	var refused *translate.Refused
	switch {
	case errors.Is(err, translate.ErrFinished):
		st.log.Info("stream finished")
		if st.owed { // the connection that would have told ended before it did
			st.append(translate.Message{Gap: translate.GapUpstream})
		}
		st.writeEnd(history.EndFinished, []byte(finishedState))
		st.Ring.Close(End{Kind: Finished})
	case errors.As(err, &refused):
		st.log.Warn("upstream refused", "err", strings.TrimPrefix(err.Error(), "upstream "))
		st.streams.Stats.Refused.Add(1)
		st.writeEnd(refused.Status, nil)
		st.Ring.Close(End{Kind: Refused, Status: refused.Status})
	case errors.Is(err, upstream.ErrRetired):
		st.log.Info("stream ended, its clients come back", "err", err)
		st.Ring.Close(End{Kind: Retired})
	default:
		return false
	}
	return true
}

// delay is how long to wait after so many failures in a row.
func (st *Stream) delay(failures int, err error) time.Duration {
	bound := backoffMost
	if failures < 6 { // 0.5 s << 6 is over the most
		bound = min(bound, backoffFirst<<failures)
	}
	delay := rand.N(bound)
	var retry *upstream.Retry
	if errors.As(err, &retry) {
		delay = max(delay, retry.After)
	}
	if !st.refusing.IsZero() { // so that the last word is heard in time
		delay = min(delay, st.patience())
	}
	return delay
}
