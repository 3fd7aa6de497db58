package redis

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"sidestream/proxy/history"
)

// Append is [history.Log]'s.
func (l *log) Append(b history.Batch) error {
	l.work.Lock()
	defer l.work.Unlock()
	l.assure()
	l.mu.Lock()
	role, last, renewed := l.role, l.last, l.renewed
	if b.State != nil {
		l.state = b.State
	}
	l.mu.Unlock()
	s := l.store
	switch {
	case role == closed, role == following:
		return history.ErrClosed
	case role == leading && b.Epoch != l.epoch: // it has not heard that it has an epoch
		l.unheard.Store(true)
		l.missed(b)
		return history.ErrAway
	case role == alone, l.bucket.away.Load(), s.since()-renewed > leaseTime-time.Second:
		l.missed(b)
		return history.ErrAway
	}
	if b.End != 0 {
		b.Events = append(b.Events, history.Event{Position: ending(last, b), At: time.Now(), End: b.End})
	}
	err := l.append(context.Background(), b, last)
	if err != nil && !errors.Is(err, history.ErrClosed) {
		if l.assure(); !l.leads() { // the process may have stood still meanwhile
			return history.ErrClosed
		}
		l.missed(b)
	} else if err == nil {
		s.stats.appends.Add(1)
		s.stats.events.Add(int64(len(b.Events)))
		for i := range b.Events {
			s.stats.bytes.Add(int64(len(b.Events[i].Data)))
		}
	}
	return err
}

// assure asks for the lease again where it was not renewed in time: the process may have stood still, and have been replaced. What it could not wait
// for meanwhile makes the store look as if it were away, so that it is asked all the same, once.
func (l *log) assure() {
	l.mu.Lock()
	late := l.role == leading && l.store.since()-l.renewed > leaseTime-time.Second
	l.mu.Unlock()
	if !late || l.bucket.away.Load() && l.bucket.asked.Load() {
		return
	}
	asked := l.store.since()
	m, err := l.store.exec(context.Background(), l.bucket, commandTime, renewing, []string{l.key("l")}, []string{ms(leaseTime), l.token()})
	if err != nil {
		l.bucket.asked.Store(true)
		return
	}
	if others, err := m.AsIntSlice(); err != nil || len(others) > 0 {
		l.step()
		return
	}
	l.mu.Lock()
	l.renewed = asked
	l.mu.Unlock()
}

// ending is where the end stands: after the events.
func ending(last history.Position, b history.Batch) history.Position {
	if n := len(b.Events); n > 0 {
		last = b.Events[n-1].Position
	}
	return history.Position{Epoch: last.Epoch, Seq: last.Seq + 1}
}

// missed notes that the store does not have b, whose events clients are given. Beat has it tried again.
func (l *log) missed(b history.Batch) {
	l.store.stats.failures.Add(1)
	l.owes.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ahead = l.ahead || len(b.Events) > 0
}

// append has the store take b after the entry at last, and sees to it that both have the same where it has another one.
func (l *log) append(ctx context.Context, b history.Batch, last history.Position) error {
	older := b.Older
	for try := range 4 {
		if try > 0 {
			l.store.stats.retries.Add(1)
		}
		b.Events = after(b.Events, last) // a try whose answer was lost may have kept the first ones
		end := last
		if n := len(b.Events); n > 0 {
			end = b.Events[n-1].Position
		}
		at, done, err := l.compareAndAppend(ctx, b, older, last)
		switch {
		case err != nil:
			return err
		case done, at == end: // or the answer to the try before was lost
			l.appended(end, len(b.Events) > 0)
			return nil
		case at.Epoch > l.epoch:
			l.step()
			return history.ErrClosed
		case last.Before(at): // a part of it is there
		default:
			l.store.renew(ctx, &scratch{logs: []*log{l}}, func(*log) {}) // the lease may be lost too
			b, older = l.again(b, at)
		}
		last = at
	}
	return history.ErrAway
}

// after are the events after the entry at p.
func after(events []history.Event, p history.Position) []history.Event {
	for i := range events {
		if p.Before(events[i].Position) {
			return events[i:]
		}
	}
	return nil
}

// again is b with what the store has lost, whose newest entry is at. older are for its hash of keys.
func (l *log) again(b history.Batch, at history.Position) (_ history.Batch, older []history.Event) {
	l.store.stats.reseeds.Add(1)
	l.store.log.Warn("the history had lost what was kept, it is kept again", "stream", l.name.String())
	l.mu.Lock()
	follower := l.follower
	if b.State == nil && l.role == leading {
		b.State = l.state
	}
	l.mu.Unlock()
	known, past := follower.Since(at)
	if at == (history.Position{}) {
		older = follower.Older()
	}
	if b.Past == nil {
		b.Past = past
	}
	for _, e := range b.Events {
		if n := len(known); n == 0 || known[n-1].Before(e.Position) {
			known = append(known, e)
		}
	}
	b.Events, b.Oldest = known, history.Position{}
	return b, older
}

// appended notes that the store's newest entry is at end.
func (l *log) appended(end history.Position, some bool) {
	if some {
		l.owes.Store(false)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.ahead = end, l.ahead && !some
}

// compareAndAppend is the script: it is done, or the newest entry is another one.
func (l *log) compareAndAppend(ctx context.Context, b history.Batch, older []history.Event, last history.Position) (at history.Position, done bool, err error) {
	s := l.store
	oldest := ""
	if p := l.trim(b.Oldest); p != (history.Position{}) {
		oldest = place(p)
	}
	args := make([]string, 0, 12+len(b.Gone)+7*len(b.Events))
	args = append(args, place(last), l.ttl(), l.name.String(), l.token(), oldest, flag(b.State != nil), rueidis.BinaryString(b.State),
		flag(b.Past != nil), rueidis.BinaryString(b.Past), strconv.Itoa(len(b.Gone)))
	args = append(args, b.Gone...)
	for i := range older {
		args = argument(args, &older[i], keyedOnly)
	}
	args = arguments(args, last, b.Events)
	m, err := s.exec(ctx, l.bucket, commandTime, appending, []string{l.key("s"), l.key("m"), l.key("k"), l.bucket.hints}, args)
	if err != nil {
		return at, false, err
	}
	text, err := m.ToString()
	if err != nil || text == "OK" {
		return at, err == nil, err
	}
	at, err = parsePlace(text)
	return at, false, err
}

// trim is up to where the store lets go of entries, where the stream has let go of those before oldest: not at once, since who follows may not
// have read them yet. The zero Position is nowhere.
func (l *log) trim(oldest history.Position) (upTo history.Position) {
	now := time.Now()
	if oldest != (history.Position{}) && oldest.Epoch <= l.epoch {
		if n := len(l.trims); n == 0 || now.Sub(l.trims[n-1].at) >= l.store.trimTime/4 {
			l.trims = append(l.trims, trimming{now, oldest})
		}
	}
	for len(l.trims) > 0 && now.Sub(l.trims[0].at) >= l.store.trimTime {
		upTo, l.trims = l.trims[0].oldest, l.trims[1:]
	}
	return upTo
}

// trimming is what a stream had let go of at a time.
type trimming struct {
	at     time.Time
	oldest history.Position
}

func flag(set bool) string {
	if set {
		return "1"
	}
	return "0"
}

// reseed has the store take what the stream has after the entry at at, which is its newest. work is held.
func (l *log) reseed(ctx context.Context, at history.Position) error {
	b, older := l.again(history.Batch{}, at)
	b.State = []byte{} // that of a follower is not known, and what the store may have is of another place
	if len(b.Events) == 0 {
		l.known(at)
		return nil
	}
	_, done, err := l.compareAndAppend(ctx, b, older, at)
	if done { // else somebody else has kept something meanwhile
		l.known(b.Events[len(b.Events)-1].Position)
	}
	return err
}

// step ends the term: another replica has begun one.
func (l *log) step() {
	l.mu.Lock()
	was := l.role
	if was == leading || was == alone {
		l.role = following
		if l.follower != nil {
			l.follower.TermOver()
		}
	}
	if was == alone { // nothing that it has is the store's
		l.last, l.ahead = history.Position{}, true
	}
	l.mu.Unlock()
	if was == leading {
		l.store.log.Info("another replica runs a stream's source", "stream", l.name.String())
		l.release()
	}
}
