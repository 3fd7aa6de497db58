package upstream

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

// Source connects to what one upstream request names, as often as needed. It keeps what outlives a connection and is
// used by one goroutine at a time.
type Source interface {
	// Connect returns once the legacy service has agreed: the dialect and HELLO are through, or the first poll is
	// answered. A *[translate.Refused] means that retrying is pointless; a *[Retry] may say how long to wait and that
	// nothing was lost.
	Connect(ctx context.Context) (Conn, error)
	// History reports whether the messages of the first emit were there before the source was asked: a list that is polled. Any
	// goroutine may ask, at any time.
	History() bool
	// Save returns what another source of the same request needs to go on after the messages that are being emitted; nil: as before, or
	// nothing. It is called within emit.
	Save() []byte
	// Restore is called before the first Connect with what such a source has saved last, and what its messages come to, [translate.Message].State,
	// if they said. The first Conn's Resumed then reports whether nothing was lost since. After an error the source is as if there were none.
	Restore(saved, past []byte) error
}

// Conn is one connection of a source.
type Conn interface {
	// Resumed reports whether nothing was lost since the last connection.
	Resumed() bool
	// Run emits messages until the connection ends or ctx is done, and releases everything. What was emitted is on its way into the
	// history. emit(nil), before an acknowledgement, returns once it is there, whatever time that takes. The error is never nil: [translate.ErrFinished] and *[translate.Refused] end the
	// stream, any other asks for a new connection.
	Run(ctx context.Context, emit func([]translate.Message) error) error
	// Send puts m in the upstream's terms and returns when it is written. It may be called from Connect's return until
	// Run's, by several at once: they go one after the other, in the order of their calls. ctx is for the wait only;
	// what was begun is finished. A *[BadMessage] means that m cannot be sent at all, [ErrNoUplink] that nothing can.
	Send(ctx context.Context, m translate.Message) error
}

// Dozer is a Conn that needs no goroutine while nothing comes.
type Dozer interface {
	Conn
	// Turn is Run, but it may return with asleep true, once nothing is there to be read. wake is called then, once, when there is, or the connection or ctx has
	// ended, and Turn is to be called again with the same arguments; wake must not block, and may be called before Turn has returned. brief: emit waits for
	// nothing, so that it may be called in wake's place.
	Turn(ctx context.Context, emit func([]translate.Message) error, wake func(), brief bool) (asleep bool, err error)
}

// Foreseer is a Conn that knows what has arrived.
type Foreseer interface {
	// Comes returns what comes after the messages that are being emitted. Only emit calls it, while it is given some.
	Comes() Coming
}

// Coming is what comes after an emit.
type Coming int

// What comes.
const (
	ComesLater   Coming = iota // nobody knows when
	ComesNothing               // all that has arrived is read: whoever emits is about to wait
	ComesMore                  // another message has arrived whole: once that is seen to, which takes no time, emit is called again, or with no messages, which are not nil
)

// ErrRetired, or an error that wraps it, ends a stream from which its clients are to come back: what they find then is another one.
var ErrRetired = errors.New("what the stream is made of is not what it was")

// Retry is an interruption of which more is known than that it happened.
type Retry struct {
	After    time.Duration // not to be retried sooner
	Lossless bool          // nothing can have been lost: a poll goes on where it was
	Resumes  bool          // whether anything was lost, the next connection's Resumed says
	Err      error
}

func (e *Retry) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *Retry) Unwrap() error { return e.Err }

// History is false: a subscription, and an answer that never ends, tell what happens from now on.
func (s *subscription) History() bool { return false }

// History is false, as a subscription's is.
func (f *follow) History() bool { return false }

// History is true of a list (MODE=items).
func (p *poll) History() bool { return p.q.Route.settings.Mode == ModeItems }

// Source returns the source of q. Nothing is dialled yet.
func (q Request) Source(log *slog.Logger) Source { return q.SourceOf(log) }

// SourceOf is Source for who keeps q, and does not change it, as long as the source.
func (q *Request) SourceOf(log *slog.Logger) Source {
	switch {
	case q.source != nil:
		return q.source(log)
	case q.Route.Redis():
		return q.redis(log)
	case q.Route.Follows():
		return &follow{q: *q, log: log, jar: q.Route.jar()}
	case q.Route.Polls():
		return q.poll(log)
	}
	s := &subscription{q: *q, log: log, jar: q.Route.jar(), mu: new(sync.Mutex), state: new(translate.State)}
	s.converse()
	if q.Route.Operates() {
		return &faced{Source: s, log: log, shown: q.Shown}
	}
	return s
}

// converse gives s a session of its own, which has no connection yet.
func (s *subscription) converse() {
	q := s.q
	script := *q.script
	script.State, script.Bound = s.state, boundProgram
	if q.Route.ticketMethod != "" {
		script.Ticket = s.ticket
	}
	s.session = script.Wrap(q.Route.dialect.New(dialect.Options{
		Operation: q.Route.Operates(), Posts: q.Route.posts(), Dial: s.dial, Connect: s.connect, Subscribe: s.subscribe,
		Decode: q.Route.decode, Binary: q.Route.settings.Binary, MaxMessage: q.Route.settings.MaxMessage, Separator: q.Route.separator,
		Speaks: q.Route.settings.Send || q.Route.settings.Reply != "" || q.Route.settings.Ping != "", Now: time.Now,
	}))
}

func (q *Request) poll(log *slog.Logger) *poll {
	p := &poll{q: q, log: log, jar: q.Route.jar()}
	if q.Route.settings.Mode == ModePatch {
		p.patcher = translate.NewPatcher(q.Route.key)
	}
	return p
}

// Stats counts what the sources of a route meet. Each is a total since the start.
type Stats struct {
	Connects   atomic.Int64 // connections that got through, or polls that were answered after none was
	Moves      atomic.Int64 // connections that took the place of one whose server had named another address
	Received   atomic.Int64 // payloads
	Oversize   atomic.Int64 // payloads over MAX_MESSAGE, skipped
	Undecoded  atomic.Int64 // messages that DECODE failed for
	JQFailed   atomic.Int64 // messages a program failed for
	JQTimeouts atomic.Int64 // messages a program was cut for
	Polls      [pollOutcomes]atomic.Int64
	Answers    atomic.Int64 // openings of connections, and requests of polls, that succeeded
	AnswerTime atomic.Int64 // that they took, in ns
}

// Took notes that an opening of a connection, or a request of a poll, has succeeded, and how long that took.
func (s *Stats) Took(d time.Duration) {
	s.Answers.Add(1)
	s.AnswerTime.Add(int64(d))
}

// programTime bounds the jq programs over one message.
const programTime = time.Second

// boundProgram bounds a program that runs over no message.
func boundProgram() (context.Context, context.CancelFunc) {
	return context.WithTimeout(translate.At(context.Background(), time.Now()), programTime)
}

// apply runs the route's programs over ms. A message that a program fails for is left out, counted and said at a bounded
// rate; payload is the error of an answer that is not what a poll needs. With a [translate.Brief] it may be *unfinished; out is then what the messages before became.
func (rt *Route) apply(ctx context.Context, log *slog.Logger, ms []translate.Message) (out []translate.Message, done bool, payload error) {
	brief := translate.BriefOf(ctx)
	for i, m := range ms {
		if !brief.Message() {
			return out, false, &unfinished{ms[i:]}
		}
		made, last, err := ms, false, error(nil)
		if len(ms) > 1 || !rt.unparsed() || rt.program.Strict {
			made, last, err = rt.applied(ctx, m)
		}
		if errors.Is(err, translate.ErrPayload) {
			return nil, false, err
		}
		if ctx.Err() != nil {
			return nil, false, ctx.Err() // the stream ends, which is no program's failure
		}
		if errors.Is(err, translate.ErrLong) {
			return out, false, &unfinished{ms[i:]}
		}
		if m.Gap == "" {
			rt.trace.applied(rt, len(made), err)
		}
		if err != nil {
			rt.failed(log, err)
			continue
		}
		rt.drops.saw(log, len(made))
		if out == nil {
			out = made // of which nobody else has anything
		} else {
			out = append(out, made...)
		}
		if last {
			return out, true, nil
		}
	}
	return out, false, nil
}

// unfinished are messages that would take time to speak of.
type unfinished struct{ rest []translate.Message }

func (*unfinished) Error() string { return translate.ErrLong.Error() }

// drops tell of programs that make nothing of what arrives. Safe for concurrent use.
type drops struct {
	mu    sync.Mutex // guards what follows
	n     int        // in a row
	since time.Time
}

// dropTime is for how long everything is dropped before that is said, once as long.
const dropTime = time.Minute

// saw notes that so many events came of a message.
func (d *drops) saw(log *slog.Logger, events int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if events > 0 {
		d.n = 0
		return
	}
	now := time.Now()
	if d.n++; d.n == 1 {
		d.since = now
	}
	if now.Sub(d.since) >= dropTime {
		log.Warn("the route's programs have dropped everything for a minute; tap -raw shows what arrives", "messages", d.n)
		d.n = 0
	}
}

// bounded runs f, which runs programs over one message, for a second at most.
func (rt *Route) bounded(ctx context.Context, f func(context.Context) error) error {
	ctx, m := rt.inTime(ctx)
	defer m.release()
	return f(ctx)
}

// applied is what the route's programs make of one message, within the same bound.
func (rt *Route) applied(ctx context.Context, msg translate.Message) (made []translate.Message, last bool, err error) {
	ctx, m := rt.inTime(ctx)
	defer m.release()
	return rt.program.Apply(ctx, msg)
}

// inTime returns a context for programs over one message, and what to release then; nil: nothing.
func (rt *Route) inTime(ctx context.Context) (context.Context, *moment) {
	if rt.unparsed() {
		return ctx, nil
	}
	if rt.timed {
		ctx = translate.At(ctx, time.Now())
	}
	if translate.BriefOf(ctx) != nil { // which bounds it itself
		return ctx, nil
	}
	m := newMoment(ctx, programTime)
	return m, m
}

// brief reports whether what is to be done with a message takes no time to speak of, but for some messages.
func (rt *Route) brief() bool {
	return rt.brisk() && rt.dialect.Name == "raw" && !rt.posts()
}

// brisk reports whether what is done with a small message takes none, whatever waits for what comes of it.
func (rt *Route) brisk() bool {
	return rt.program.Brief() && rt.onlyProgram() && len(rt.decode) == 0
}

// unparsed reports whether no program ever runs.
func (rt *Route) unparsed() bool { return rt.program.Plain() && rt.onlyProgram() }

// onlyProgram reports whether no program ever runs but those of rt.program.
func (rt *Route) onlyProgram() bool {
	return rt.reply == nil && rt.state == nil && rt.pong == nil && len(rt.steps) == 0 && rt.cursor == nil && rt.next == nil &&
		rt.reset == nil && rt.refused == nil && rt.interval == nil && rt.settings.Mode != ModePatch
}

// failed counts and logs a program that failed for a message.
func (rt *Route) failed(log *slog.Logger, err error) { rt.faulty(log, err, "message dropped") }

// faulty counts and logs a program that failed, and what that means.
func (rt *Route) faulty(log *slog.Logger, err error, then string) {
	if errors.Is(err, context.DeadlineExceeded) {
		rt.Stats.JQTimeouts.Add(1)
	} else {
		rt.Stats.JQFailed.Add(1)
	}
	if more, ok := rt.noisy.Allow(); ok {
		log.Warn("jq program failed, "+then, "err", err, "suppressed", more)
	}
}

// Quiet keeps a line that repeats from filling a log: Allow lets one through every ten seconds and counts the rest.
type Quiet struct {
	mu     sync.Mutex
	next   time.Time
	unsaid int
}

// Allow reports whether to say it, and how often it was not said since.
func (q *Quiet) Allow() (unsaid int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if now.Before(q.next) {
		q.unsaid++
		return 0, false
	}
	unsaid, q.unsaid, q.next = q.unsaid, 0, now.Add(10*time.Second)
	return unsaid, true
}
