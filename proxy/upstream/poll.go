// This file is the poll. Its rules:
//
//   - One request in flight, EVERY from start to start and up to a tenth more, so that many routes do not ask in step.
//   - Validators (ETag, Last-Modified; RFC 9110, section 8.8) are sent back as they came, and are kept only once their
//     answer was understood. Servers lie with them, so what was translated is compared as well.
//   - An answer that is not what was asked for is an error and never an event: pages keep what they had.
//   - A poll that fails has lost nothing: the next one that succeeds goes on where it was.

package upstream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
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
	q     Request
	log   *slog.Logger
	count translate.Counter // {stream.n}: counts requests

	etag, modified string            // of the last answer that was understood
	last           [sha256.Size]byte // what it was translated to
	answered       bool              // there was one
	heard          bool              // so was an answer without any, as 304
	items          items
	started        time.Time // when the last request began
	fresh          bool      // and whether it brought something
}

// answer is what one poll brought.
type answer struct {
	messages []translate.Message
	done     bool
	dropped  bool // a program failed for it
	first    bool // that was understood
}

func (p *poll) Connect(ctx context.Context) (Conn, error) {
	a, err := p.ask(ctx)
	if err != nil {
		return nil, err
	}
	p.q.Route.Stats.Connects.Add(1)
	return &polling{poll: p, first: a}, nil
}

// polling is a run of polls that succeed.
type polling struct {
	*poll
	first answer
}

// Resumed is true: see the last rule.
func (c *polling) Resumed() bool { return true }

func (c *polling) Run(ctx context.Context, emit func([]translate.Message) error) error {
	a := c.first
	c.first = answer{}
	for {
		// The first answer of a list is history even when it is empty, so the stream is told of it in any case.
		if a.first || len(a.messages) > 0 {
			if err := emit(a.messages); err != nil {
				return err
			}
		}
		if a.done {
			return translate.ErrFinished
		}
		if err := sleep(ctx, time.Until(c.next())); err != nil {
			return err
		}
		var err error
		if a, err = c.ask(ctx); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// next is when the next request may begin.
func (p *poll) next() time.Time {
	every := p.q.Route.settings.Every
	switch {
	case every > 0:
		return p.started.Add(every + rand.N(every/10+1))
	case p.fresh:
		return p.started
	default:
		return p.started.Add(emptyPace)
	}
}

// ask makes one request. Its error is *[translate.Refused], *[Retry] or ctx's.
func (p *poll) ask(ctx context.Context) (answer, error) {
	p.started, p.fresh = time.Now(), false
	a, outcome, err := p.exchange(ctx)
	if ctx.Err() != nil {
		return answer{}, ctx.Err()
	}
	var refused *translate.Refused
	if errors.As(err, &refused) {
		outcome = PollRefused
	}
	p.q.Route.Stats.Polls[outcome].Add(1)
	p.fresh = outcome == PollNew
	if err == nil {
		a.first = !p.heard && !a.dropped
		p.heard = p.heard || a.first
	}
	if err == nil || outcome == PollRefused {
		return a, err
	}
	wait := time.Until(p.next())
	var retry *Retry
	if errors.As(err, &retry) {
		wait = max(wait, retry.After)
	}
	return answer{}, &Retry{After: wait, Lossless: true, Err: err}
}

func (p *poll) exchange(ctx context.Context) (a answer, outcome int, err error) {
	resp, body, outcome, err := p.fetch(ctx)
	if body == nil {
		return a, outcome, err
	}
	return p.understand(ctx, resp, body)
}

// fetch makes the request, within TIMEOUT. body is nil when there is nothing to understand.
func (p *poll) fetch(ctx context.Context) (resp *http.Response, body []byte, outcome int, err error) {
	if d := p.q.Route.settings.Timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	req, err := p.request(ctx)
	if err != nil {
		return nil, nil, PollFailed, err
	}
	if resp, err = polls.Do(req); err != nil {
		return nil, nil, PollFailed, fmt.Errorf("poll: %w", cleaned(err))
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified, resp.StatusCode == http.StatusNoContent:
		return resp, nil, PollNotModified, nil
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return resp, nil, PollFailed, verdict(resp)
	}
	if body, err = p.body(resp); err != nil {
		return resp, nil, PollFailed, err
	}
	if len(bytes.TrimSpace(body)) == 0 && p.q.Route.settings.Every == 0 { // how long polls say that nothing came
		return resp, nil, PollNotModified, nil
	}
	return resp, body, PollUnchanged, nil
}

func (p *poll) request(ctx context.Context) (*http.Request, error) {
	address, h, err := p.q.fill(p.count.Value)
	if err != nil {
		return nil, err
	}
	body, err := p.q.body.Fill(p.count.Value)
	if err != nil {
		return nil, err
	}
	method := p.q.Route.settings.Method
	req, err := newRequest(ctx, method, address, h, body)
	if err != nil {
		return nil, err
	}
	if method != http.MethodGet && method != http.MethodHead || p.q.Route.settings.Mode == ModeEvery {
		return req, nil
	}
	if p.etag != "" {
		h.Set("If-None-Match", p.etag)
	}
	if p.modified != "" {
		h.Set("If-Modified-Since", p.modified)
	}
	return req, nil
}

func (p *poll) body(resp *http.Response) ([]byte, error) {
	limit := int64(p.q.Route.settings.MaxMessage)
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", cleaned(err))
	}
	p.q.Route.Stats.Received.Add(1)
	if int64(len(body)) > limit {
		p.q.Route.Stats.Oversize.Add(1)
		return nil, fmt.Errorf("the answer is over MAX_MESSAGE (%d bytes)", limit)
	}
	return bytes.TrimPrefix(body, byteOrderMark), nil
}

// byteOrderMark is what some services begin their JSON with; parsers may ignore it (RFC 8259, section 8.1).
var byteOrderMark = []byte("\uFEFF")

// understand translates an answer and keeps of it what is new.
func (p *poll) understand(ctx context.Context, resp *http.Response, body []byte) (a answer, outcome int, err error) {
	rt := p.q.Route
	var out []translate.Message
	err = rt.bounded(ctx, func(ctx context.Context) (err error) {
		out, a.done, err = rt.program.Apply(ctx, translate.Message{Data: body, Header: resp.Header, Status: resp.StatusCode})
		return err
	})
	if errors.Is(err, translate.ErrPayload) {
		return answer{}, PollFailed, err
	}
	if ctx.Err() != nil {
		return answer{}, PollFailed, ctx.Err()
	}
	if err != nil {
		rt.failed(p.log, err)
		return answer{dropped: true}, PollUnchanged, nil
	}
	p.etag, p.modified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	a.messages = p.news(out)
	if len(a.messages) == 0 {
		return a, PollUnchanged, nil
	}
	return a, PollNew, nil
}

// news is what of out is to be emitted.
func (p *poll) news(out []translate.Message) []translate.Message {
	switch p.q.Route.settings.Mode {
	case ModeEvery:
		return out
	case ModeItems:
		return p.items.news(out)
	}
	sum := digest(out...)
	if p.answered && sum == p.last {
		return nil
	}
	p.answered, p.last = true, sum
	return out
}

// digest is equal for equal messages.
func digest(ms ...translate.Message) [sha256.Size]byte {
	h := sha256.New()
	var size [8]byte
	for _, m := range ms {
		for _, field := range []string{m.Event, m.ID, string(m.Data)} {
			binary.BigEndian.PutUint64(size[:], uint64(len(field)))
			h.Write(size[:])
			io.WriteString(h, field)
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}
