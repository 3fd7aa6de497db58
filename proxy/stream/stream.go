package stream

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// Full jitter (the delay is anything up to the bound) keeps a thousand sidecars from knocking at once when a legacy
// service comes back.
const (
	backoffFirst = 500 * time.Millisecond // bound of the first delay; doubled with each failure
	backoffMost  = 30 * time.Second       // bound of any delay
	healthyAfter = 30 * time.Second       // a connection that held so long starts the bounds over
)

// Stream is one upstream request, its source and its ring.
type Stream struct {
	Ring *Ring

	req     upstream.Request
	streams *Streams
	source  upstream.Source
	history bool // what the source emits first was there before
	log     *slog.Logger

	alive    context.Context
	cancel   context.CancelFunc
	verdict  chan struct{} // closed when the first attempt to connect has an outcome
	told     bool          // it is
	owed     bool          // a gap, unless the next connection says that nothing was lost
	done     chan struct{} // closed when the goroutine is through
	retiring chan struct{} // closed when the stream has reached its age
	refused  atomic.Pointer[translate.Refused]
	way      way
	keys     *keys // shared with the stream that it replaces

	// Guarded by Streams.mu.
	clients  int
	finished bool        // complete, and remembered for a while
	up       bool        // the upstream is connected
	given    bool        // its place under the limits is given back
	aging    bool        // it was once, so age runs
	linger   *time.Timer // until it is removed
	age      *time.Timer // until it is replaced, then until it is removed
}

func newStream(s *Streams, req upstream.Request, known *keys) *Stream {
	history := req.Route.History()
	st := &Stream{req: req, streams: s, keys: known, history: history, Ring: NewRing(s.Bounds, &s.Stats, history),
		verdict: make(chan struct{}), done: make(chan struct{}), retiring: make(chan struct{})}
	st.log = s.Log.With("stream", st.Ring.Birth(), "upstream", req.String())
	st.source = s.source(req, st.log)
	st.alive, st.cancel = context.WithCancel(s.alive)
	st.linger = stopped(func() { s.expire(st) })
	st.age = stopped(func() { s.retire(st) })
	return st
}

// stopped is a timer that calls f once it is set.
func stopped(f func()) *time.Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

// Retiring is closed when the stream takes no new clients any more and those it has shall come back within 10 s.
func (st *Stream) Retiring() <-chan struct{} { return st.retiring }

// run connects, again and again, until the stream is finished, refused or not wanted any more.
func (st *Stream) run() {
	defer close(st.done)
	for failures := 0; ; failures++ {
		held, err := st.session()
		if st.final(err) {
			return
		}
		if held >= healthyAfter {
			failures = 0
		}
		delay := st.delay(failures, err)
		level := slog.LevelDebug // a state that goes on is no news
		if failures == 0 || held >= 0 {
			level = slog.LevelWarn
		}
		st.log.Log(st.alive, level, "upstream lost", "err", err, "retry", delay.Round(time.Millisecond).String())
		pause(st.alive, delay)
		if st.alive.Err() != nil {
			st.log.Info("stream ended")
			return
		}
	}
}

// session is one connection from dialling to its end; held is for how long it was one, negative when it
// never was.
func (st *Stream) session() (held time.Duration, err error) {
	conn, err := st.source.Connect(st.alive)
	if err != nil {
		st.judge(err)
		return -1, err
	}
	since := time.Now()
	if st.owed && !conn.Resumed() {
		st.Ring.Append(translate.Message{Gap: translate.GapUpstream})
	}
	st.owed = false
	st.way.connect(conn)
	st.connected()
	err = conn.Run(st.alive, st.emit)
	st.way.connect(nil)
	if st.alive.Err() == nil && lost(err) {
		st.owed = resumes(err)
		if !st.owed {
			st.Ring.Append(translate.Message{Gap: translate.GapUpstream})
		}
	}
	st.judge(err)
	return time.Since(since), err
}

// lost says whether events may have been missed when a connection ended with err.
func lost(err error) bool {
	var retry *upstream.Retry
	var refused *translate.Refused
	switch {
	case errors.Is(err, translate.ErrFinished), errors.As(err, &refused):
		return false
	case errors.As(err, &retry):
		return !retry.Lossless
	}
	return true
}

// resumes says whether the next connection can tell if anything was lost.
func resumes(err error) bool {
	var retry *upstream.Retry
	return errors.As(err, &retry) && retry.Resumes
}

func (st *Stream) emit(ms []translate.Message) error {
	st.Ring.Append(ms...)
	return st.alive.Err()
}

// judge makes known what has become of a connection, first to those who wait for the verdict.
func (st *Stream) judge(err error) {
	var refused *translate.Refused
	if st.alive.Err() == nil {
		if errors.As(err, &refused) {
			st.refused.Store(refused)
		}
		st.streams.report(st, false, err)
	}
	st.tell()
}

func (st *Stream) tell() {
	if !st.told {
		st.told = true
		close(st.verdict)
	}
}

func (st *Stream) connected() {
	st.log.Info("upstream connected")
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
			st.Ring.Append(translate.Message{Gap: translate.GapUpstream})
		}
		st.Ring.Close(End{Kind: Finished})
	case errors.As(err, &refused):
		st.log.Warn("upstream refused", "err", err)
		st.streams.Stats.Refused.Add(1)
		st.Ring.Close(End{Kind: Refused, Status: refused.Status})
	case st.alive.Err() != nil:
		st.log.Info("stream ended")
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
	return delay
}
