// This file is the poll. Its rules:
//
//   - One request in flight, EVERY from start to start and up to a tenth more, so that many routes do not ask in step. With
//     EVERY=0 the next one goes out at once when something new came, as long as that is no hot loop.
//   - Validators (ETag, Last-Modified; RFC 9110, section 8.8) are sent back as they came, and are kept only once their
//     answer was understood. Servers lie with them, so what was translated is compared as well.
//   - An answer that is not what was asked for is an error and never an event: pages keep what they had.
//   - A poll that fails has lost nothing: the next one that succeeds goes on where it was, unless RESET says otherwise.
//   - A cursor is kept once the messages of its answer are in the ring.

package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"sidestream/translate"
)

// What became of a poll, as an index into Stats.Polls.
const (
	PollNew         = iota // something to emit
	PollUnchanged          // an answer, but nothing new in it
	PollNotModified        // 304, or 204
	PollFailed
	PollRefused
	pollOutcomes
)

// PollOutcomes names them for metrics.
var PollOutcomes = [pollOutcomes]string{"new", "unchanged", "not_modified", "failed", "refused"}

// emptyPace is how soon after its start a poll with EVERY=0 that brought nothing is followed by the next.
const emptyPace = 500 * time.Millisecond

// poll is the source of a poll route.
type poll struct {
	q     *Request // the stream's
	log   *slog.Logger
	count translate.Counter // {stream.n}: counts requests
	jar   *jar

	etag, modified string            // of the last answer that was understood
	last           [sha256.Size]byte // what it was translated to
	answered       bool              // there was one
	heard          bool              // so was an answer without any, as 304
	items          items
	patcher        *translate.Patcher // with MODE=patch
	cursor         string             // of the last answer whose messages are in the ring; "" none
	ahead          string             // the cursor once the messages being emitted are
	forgot         bool               // the cursor was forgotten since the last connection, which is a gap

	started time.Time     // when the last request began
	fresh   bool          // whether it brought something
	wait    time.Duration // how long it asked us to wait, from its start
	bucket  bucket
}

// answer is what one poll brought.
type answer struct {
	messages []translate.Message
	done     bool
	dropped  bool   // a program failed for it
	partial  bool   // NEXT failed, so that pages may be missing
	first    bool   // that was understood
	cursor   string // to be kept once the messages are in the ring
}

func (p *poll) Connect(ctx context.Context) (Conn, error) {
	a, err := p.ask(ctx)
	if err != nil {
		return nil, err
	}
	p.q.Route.Stats.Connects.Add(1)
	c := &pollConn{poll: p, has: a, resumed: !p.forgot}
	p.forgot = false
	return c, nil
}

// keep goes on from cursor. Validators are of another address then.
func (p *poll) keep(cursor string) {
	p.ahead = cursor
	if cursor != p.cursor {
		p.cursor, p.etag, p.modified = cursor, "", ""
	}
}

// next is when the next request may begin.
func (p *poll) next() time.Time {
	every := p.q.Route.settings.Every
	at := p.started
	switch {
	case every > 0:
		at = at.Add(every + rand.N(every/10+1))
	case p.fresh:
		at = p.bucket.take(at)
	default:
		at = at.Add(emptyPace)
	}
	return latest(at, p.started.Add(p.wait))
}

// bucket lets polls follow each other at once as long as that is an exception: a burst, and then so many a second.
type bucket struct {
	full time.Time // when it is full again
}

const (
	bucketBurst = 20
	bucketEvery = 200 * time.Millisecond
)

// take returns when the next poll may begin, not before at.
func (b *bucket) take(at time.Time) time.Time {
	b.full = latest(b.full, at).Add(bucketEvery)
	return latest(at, b.full.Add(-bucketBurst*bucketEvery))
}

// ask makes one request. Its error is *[translate.Refused], *[Retry] or ctx's.
func (p *poll) ask(ctx context.Context) (answer, error) {
	p.started, p.fresh, p.wait = time.Now(), false, 0
	a, outcome, err := p.exchange(ctx)
	if ctx.Err() != nil {
		return answer{}, ctx.Err()
	}
	var refused *translate.Refused
	if errors.As(err, &refused) {
		outcome = PollRefused
		p.jar.forget()
	}
	p.q.Route.Stats.Polls[outcome].Add(1)
	p.fresh = outcome == PollNew && (p.q.Route.cursor == nil || a.cursor != p.cursor)
	if err == nil {
		a.first = !p.heard && !a.dropped
		p.heard = p.heard || a.first
	}
	var mayPass Passing
	if err == nil || outcome == PollRefused && !errors.As(err, &mayPass) {
		return a, err
	}
	return answer{}, p.later(ctx, err)
}

// later is the error of a poll that failed: after it, whether the next one goes on where the last had ended depends on RESET.
func (p *poll) later(ctx context.Context, err error) error {
	wait := time.Until(p.next())
	var retry *Retry
	if errors.As(err, &retry) {
		wait = max(wait, retry.After)
	}
	if p.cursor != "" && p.q.Route.lostPlace(ctx, err) {
		p.reset()
		p.keep("")
		p.forgot = true
		return &Retry{After: wait, Err: err}
	}
	return &Retry{After: wait, Lossless: !p.q.Route.forgets, Resumes: p.q.Route.forgets, Err: err}
}

// exchange makes the request, follows its pages, and keeps what is new.
func (p *poll) exchange(ctx context.Context) (answer, int, error) {
	rt := p.q.Route
	a := answer{cursor: p.cursor}
	var out []translate.Message
	var first *http.Response // of the pages
	outcome, gap, address := PollUnchanged, false, ""
	for range rt.settings.Pages {
		pg, got, err := p.fetch(ctx, address, a.cursor)
		switch {
		case errors.Is(err, errReset):
			return p.reset(), PollUnchanged, nil
		case err != nil:
			return answer{}, got, err
		}
		p.wait = max(p.wait, p.asked(pg))
		if pg.body == nil {
			outcome = got
			break
		}
		if first == nil {
			first = pg.resp
		}
		made, done, err := p.translate(ctx, pg)
		if err != nil {
			return p.dropped(ctx, out, pg, err)
		}
		out, a.done = append(out, made...), done
		if done {
			break
		}
		gap, address, err = p.follow(ctx, pg, &a)
		if err != nil {
			return answer{}, PollFailed, err
		}
		if gap || address == "" {
			break
		}
	}
	if first == nil {
		return a, outcome, nil
	}
	if a.partial {
		return p.part(ctx, a, out)
	}
	if gap { // the upstream has started over, maybe with the ids that it had before
		p.items = items{}
	}
	var err error
	if a.messages, err = p.news(ctx, out); err != nil {
		return answer{}, PollFailed, err
	}
	p.etag, p.modified = first.Header.Get("ETag"), first.Header.Get("Last-Modified")
	if gap {
		a.messages = append([]translate.Message{{Gap: translate.GapUpstream}}, a.messages...)
	}
	if len(a.messages) == 0 {
		p.q.Route.trace.step("nothing has changed since the last poll")
		return a, PollUnchanged, nil
	}
	return a, PollNew, nil
}

// part is the answer of which NEXT did not find the rest. What was read counts; where the cursor is past the rest, that is a gap.
func (p *poll) part(ctx context.Context, a answer, out []translate.Message) (answer, int, error) {
	var err error
	if p.q.Route.settings.Mode == ModeItems {
		p.items.order = &p.q.Route.order
		a.messages = p.items.part(out)
	} else if a.messages, err = p.news(ctx, out); err != nil {
		return answer{}, PollFailed, err
	}
	p.etag, p.modified = "", "" // it is not understood as a whole
	if a.cursor != p.cursor {
		a.messages = append(a.messages, translate.Message{Gap: translate.GapUpstream})
	}
	if len(a.messages) == 0 {
		return a, PollUnchanged, nil
	}
	return a, PollNew, nil
}

// translate runs the route's programs over one page.
func (p *poll) translate(ctx context.Context, pg reply) (out []translate.Message, done bool, err error) {
	err = p.q.Route.bounded(ctx, func(ctx context.Context) (err error) {
		out, done, err = p.q.Route.program.Apply(ctx, pg.message)
		return err
	})
	if err == nil && len(out) == 0 && p.q.Route.settings.Mode == ModeItems { // a list may have nothing in it
		p.q.Route.trace.step("no items")
		return out, done, nil
	}
	p.q.Route.trace.applied(p.q.Route, len(out), err)
	if err == nil {
		p.q.Route.drops.saw(p.log, len(out))
	}
	return out, done, err
}

// dropped is the answer that a program failed for. Behind a cursor it would come again and again, and nothing else:
// it is left out, and that is said after out, the pages before it.
func (p *poll) dropped(ctx context.Context, out []translate.Message, pg reply, failed error) (a answer, outcome int, err error) {
	if ctx.Err() != nil {
		return answer{}, PollFailed, ctx.Err()
	}
	p.q.Route.failed(p.log, failed)
	a = answer{cursor: p.cursor, dropped: true}
	if p.q.Route.cursor == nil {
		return a, PollUnchanged, nil
	}
	if _, _, err := p.follow(ctx, pg, &a); err != nil {
		return answer{}, PollFailed, err
	}
	if a.cursor == p.cursor {
		return a, PollUnchanged, nil
	}
	if a.messages, err = p.news(ctx, out); err != nil {
		return answer{}, PollFailed, err
	}
	a.messages = append(a.messages, translate.Message{Gap: translate.GapUpstream})
	return a, PollUnchanged, nil
}

// news is what of out is to be emitted.
func (p *poll) news(ctx context.Context, out []translate.Message) ([]translate.Message, error) {
	switch p.q.Route.settings.Mode {
	case ModeEvery:
		return out, nil
	case ModeItems:
		p.items.order = &p.q.Route.order
		return p.items.news(out, p.q.Route.cursor != nil), nil
	case ModePatch:
		return p.patches(ctx, out)
	}
	sum := digest(out...)
	if p.answered && sum == p.last {
		return nil, nil
	}
	p.answered, p.last = true, sum
	return out, nil
}

// patches is the snapshot or patch that takes pages from the last document to this one.
func (p *poll) patches(ctx context.Context, out []translate.Message) (made []translate.Message, err error) {
	if len(out) != 1 {
		return nil, fmt.Errorf("MODE=patch needs one document from each answer, but SELECT and DATA made %d", len(out))
	}
	err = p.q.Route.bounded(ctx, func(ctx context.Context) (err error) {
		made, err = p.patcher.Next(ctx, out[0])
		return err
	})
	return made, err
}

// digests are what digest has used before: those of all polls, of which few are busy at once.
var digests = sync.Pool{New: func() any { return &digester{Hash: sha256.New()} }}

// digester takes fields apart from each other.
type digester struct {
	hash.Hash
	room []byte // of a field's size, or a name
	sum  [sha256.Size]byte
}

func (d *digester) size(n int) {
	d.room = binary.BigEndian.AppendUint64(d.room[:0], uint64(n))
	d.Write(d.room)
}

func (d *digester) name(s string) {
	d.size(len(s))
	d.room = append(d.room[:0], s...)
	d.Write(d.room)
}

// done lets go of it, and of what one long name has needed.
func (d *digester) done() {
	if cap(d.room) > 1<<10 {
		d.room = nil
	}
	digests.Put(d)
}

// digest is equal for equal messages.
func digest(ms ...translate.Message) [sha256.Size]byte {
	d := digests.Get().(*digester)
	defer d.done()
	d.Reset()
	for i := range ms {
		d.name(ms[i].Event)
		d.name(ms[i].ID)
		content := ms[i].Content()
		d.size(len(content))
		d.Write(content)
	}
	d.Sum(d.sum[:0])
	return d.sum
}
