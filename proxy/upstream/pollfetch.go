// This file is one request of a poll and what its answer is taken for.

package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"sidestream/translate"
)

// reply is one answer: a page of it.
type reply struct {
	resp    *http.Response
	url     *url.URL          // that answered, after redirects
	body    []byte            // nil: nothing came
	message translate.Message // the body, parsed
}

var errPatience = errors.New("no answer within TIMEOUT")

// fetch makes one request: to address, or where the cursor leads when that is empty.
func (p *poll) fetch(ctx context.Context, address, cursor string) (pg reply, outcome int, err error) {
	ctx, alive, stop := p.patience(ctx)
	defer stop()
	req, err := p.request(ctx, address, cursor)
	if err != nil {
		return pg, PollFailed, err
	}
	asked := time.Now()
	resp, err := p.q.Route.client(p.q.Route.pools().polls, p.jar).Do(req)
	if err != nil {
		return pg, PollFailed, noAnswer{fmt.Errorf("poll: %w", because(ctx, err))}
	}
	defer resp.Body.Close()
	p.q.Route.Stats.Took(time.Since(asked))
	pg = reply{resp: resp, url: resp.Request.URL}
	ruled := p.q.Route.statuses.rule(resp.StatusCode) != nil
	if !ruled && (resp.StatusCode == http.StatusNotModified || resp.StatusCode == http.StatusNoContent) {
		return pg, PollNotModified, nil
	}
	if !p.q.Route.welcome(resp) {
		return pg, PollFailed, p.unwelcome(ctx, resp, cursor)
	}
	body, err := p.body(ctx, resp, alive)
	if err != nil {
		return pg, PollFailed, err
	}
	p.q.Route.trace.arrived(body, len(p.q.Route.decode) > 0)
	if body, err = p.q.Route.unpack(p.log, resp, body); err != nil {
		return pg, PollFailed, err
	}
	if len(bytes.TrimSpace(body)) == 0 && p.q.Route.settings.Every == 0 { // how long polls say that nothing came
		return pg, PollNotModified, nil
	}
	pg.body = body
	if pg.message = (translate.Message{Data: body, Header: resp.Header, Status: resp.StatusCode}); p.q.Route.unparsed() {
		pg.message, err = pg.message.Check()
	} else {
		pg.message, err = pg.message.Parse(true)
	}
	if page := login(resp, !p.q.Route.unparsed(), err == nil); page != nil {
		return pg, PollFailed, page
	}
	if err == nil {
		err = p.said(ctx, pg.message, cursor)
	}
	return pg, PollFailed, err
}

// because is why a request failed: our own impatience rather than what came of it.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return Kind(err)
}

// patience bounds a request by TIMEOUT: all of it, or for long polls each wait for more, which alive ends.
func (p *poll) patience(ctx context.Context) (_ context.Context, alive, stop func()) {
	d := p.q.Route.settings.Timeout
	if d == 0 {
		return ctx, func() {}, func() {}
	}
	whole := ctx // a context that is made of it would have it keep what only those have who wait for its end
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(whole))
	over := whenOver(whole, func() { cancel(context.Cause(whole)) })
	t := time.AfterFunc(d, func() { cancel(fmt.Errorf("%w (%v)", errPatience, d)) })
	alive = func() {}
	if p.q.Route.settings.Every == 0 {
		alive = func() { t.Reset(d) }
	}
	return ctx, alive, func() { t.Stop(); over(); cancel(nil) }
}

func (p *poll) request(ctx context.Context, address, cursor string) (*http.Request, error) {
	value := func(name string) string {
		if name == "cursor" {
			return cursor
		}
		return p.count.Value(name)
	}
	p.q.Route.reread(p.log)
	from, h, err := p.q.fill(value, cursor == "")
	if err != nil {
		return nil, err
	}
	body, err := p.q.text("BODY").Fill(value)
	if err != nil {
		return nil, err
	}
	first := address == "" // of the pages
	if first {
		address = from
	}
	method := p.q.Route.settings.Method
	req, err := newRequest(ctx, method, address, h, body)
	if err != nil {
		return nil, err
	}
	if !first || method != http.MethodGet && method != http.MethodHead || p.q.Route.settings.Mode == ModeEvery {
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

func (p *poll) body(ctx context.Context, resp *http.Response, alive func()) ([]byte, error) {
	limit := int64(p.q.Route.settings.MaxMessage)
	plain, err := decoded(resp, alive)
	if err != nil {
		return nil, err
	}
	body, err := whole(plain, limit+1, resp.ContentLength)
	if err != nil {
		return nil, noAnswer{because(ctx, fmt.Errorf("read the answer: %w", Kind(err)))}
	}
	p.q.Route.Stats.Received.Add(1)
	if int64(len(body)) > limit {
		p.q.Route.Stats.Oversize.Add(1)
		return nil, fmt.Errorf("the answer is larger than MAX_MESSAGE (%d bytes)", limit)
	}
	return bytes.TrimPrefix(body, byteOrderMark), nil
}

// whole is io.ReadAll of at most limit bytes of r, which said would be so many; less than 0: it did not say. It has room for no more than that where it is not
// encoded, unless what was said is much, and might be never sent.
func whole(r io.Reader, limit, said int64) ([]byte, error) {
	if said < 0 || said > mostTrusted {
		return io.ReadAll(io.LimitReader(r, limit))
	}
	body := make([]byte, min(said+1, limit)) // one more, since that there is none is heard only by reading on
	n := 0
	for n < len(body) {
		more, err := r.Read(body[n:])
		n += more
		if err == io.EOF {
			return body[:n], nil
		}
		if err != nil {
			return nil, err
		}
	}
	more, err := io.ReadAll(io.LimitReader(r, limit-int64(n))) // it has been decoded, and was said of what had not
	return append(body, more...), err
}

// mostTrusted is the largest Content-Length, in bytes, for which memory is reserved before the body arrives.
const mostTrusted = 16 << 10

// byteOrderMark is what some services begin their JSON with; parsers may ignore it (RFC 8259, section 8.1).
var byteOrderMark = []byte("\uFEFF")

// unwelcome is the error of an answer other than 2xx.
func (p *poll) unwelcome(ctx context.Context, resp *http.Response, cursor string) error {
	m, err := p.q.Route.problem(ctx, resp)
	if err != nil {
		return err
	}
	if err := p.said(ctx, m, cursor); err != nil && err != errNoPlace {
		return err
	}
	if err = p.q.Route.verdict(resp); err == errAnew && cursor != "" {
		return errReset
	}
	var retry *Retry
	if errors.As(err, &retry) {
		retry.After = max(retry.After, p.interval(ctx, m))
	}
	return err
}

// said is the error of an answer for which RESET or REFUSED is true.
func (p *poll) said(ctx context.Context, m translate.Message, cursor string) error {
	old := p.q.Route.tooOld(ctx, p.log, m)
	if old && cursor != "" {
		return errReset
	}
	if err := p.q.Route.refusal(ctx, p.log, m); err != nil {
		return err
	}
	if old {
		return errNoPlace
	}
	return nil
}
