package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Reason is why a replica has not answered.
type Reason int

// The reasons.
const (
	Unknown     Reason = iota // it has no address: it has ended
	Refused                   // nothing listens there
	Denied                    // what is there is another replica, or has another secret
	Unreachable               // no connection could be made, or the directory did not answer
	Full                      // there is no room for the request, here or there
	Late                      // no answer in time
	Lost                      // the connection was lost before the answer
	reasons
)

// Reasons names them.
var Reasons = [reasons]string{"unknown", "refused", "denied", "unreachable", "full", "late", "lost"}

// Error is that a replica has not answered.
type Error struct {
	Reason Reason
	err    error
}

func (e *Error) Error() string { return "another replica has not answered: " + e.err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.err }

// Gone reports whether there is no such replica any more, as far as can be told.
func (e *Error) Gone() bool { return e.Reason <= Denied }

// Sent reports whether the request may have been served.
func (e *Error) Sent() bool { return e.Reason >= Late }

// Question is a client's request for another replica.
type Question struct {
	Kind    Kind
	Request *http.Request
	Body    []byte        // of the request, whatever its own is
	Within  time.Duration // that the answer has to begin
}

// Ask has replica answer a client's request. It is asked once: twice only where its clock had to be learned. The answer's body must be
// closed. The error is an *[Error], or ctx's.
func (p *Peers) Ask(ctx context.Context, replica string, q Question) (*http.Response, error) {
	resp, failed := p.ask(ctx, replica, q)
	switch {
	case failed == nil:
		p.Stats.Forwarded[q.Kind].Add(1)
		p.denied.Store(false)
		return resp, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	p.Stats.Failed[failed.Reason].Add(1)
	if failed.Reason == Denied && !p.denied.Swap(true) {
		p.Log.Warn("another replica refuses what it is asked: SSE_PEER_SECRET has to be the same everywhere, and SSE_PEER each replica's own address", "replica", replica, "err", failed.err)
	} else {
		p.Log.Debug("another replica has not answered", "replica", replica, "reason", Reasons[failed.Reason], "err", failed.err)
	}
	return nil, failed
}

func (p *Peers) ask(ctx context.Context, replica string, q Question) (*http.Response, *Error) {
	defer p.asked.Add(-1)
	if p.asked.Add(1) > maxAsked {
		return nil, &Error{Full, ErrFull}
	}
	body, err := encode(q.Kind, q.Request, q.Body)
	if err != nil {
		return nil, &Error{Denied, err}
	}
	for again := true; ; again = false {
		known, err := p.look(ctx, replica)
		switch {
		case err != nil:
			return nil, &Error{Unreachable, err}
		case known.url == "":
			return nil, &Error{Unknown, errors.New("it has no address")}
		}
		resp, failed := p.askOnce(ctx, known.url, ticket{to: replica, at: time.Now().Add(known.ahead).UnixMilli(), body: digest(body)}, body, q.Within)
		var off errClock
		switch {
		case failed != nil && errors.As(failed.err, &off) && again:
			p.learn(replica, func(e *entry) { e.ahead = time.Until(time.UnixMilli(int64(off))) })
			continue
		case failed != nil && failed.Reason == Unreachable && known.gone:
			failed.Reason = Unknown
		}
		return resp, failed
	}
}

// errClock is the time of a replica that would not accept ours, in ms.
type errClock int64

func (e errClock) Error() string { return "its clock is another one" }

// askOnce asks once. t is finished here.
func (p *Peers) askOnce(ctx context.Context, url string, t ticket, body []byte, within time.Duration) (*http.Response, *Error) {
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(within, func() { cancel(errLate) })
	defer late.Stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, bytes.NewReader(body))
	if err != nil {
		cancel(nil)
		return nil, &Error{Denied, errors.New("its address is not one")}
	}
	secret := p.Secrets[0]
	t.nonce = newNonce()
	t.mac = t.sign(secret, r.Method, path)
	r.Header[mark] = []string{t.String()}
	r.Header["User-Agent"] = nil
	r.GetBody = nil // nothing is sent twice
	resp, err := p.transport.RoundTrip(r)
	if err != nil {
		defer cancel(nil)
		return nil, &Error{reasonOf(err, context.Cause(ctx)), err}
	}
	resp.Body = &answer{resp.Body, cancel}
	if failed := accept(resp, secret, t.nonce); failed != nil {
		resp.Body.Close()
		return nil, failed
	}
	return resp, nil
}

// answer is an answer's body, with which the request ends.
type answer struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (a *answer) Close() error {
	a.cancel(nil)
	return a.ReadCloser.Close()
}

func newNonce() string {
	b := make([]byte, nonceSize)
	rand.Read(b)
	return hex.EncodeToString(b)
}

var errLate = errors.New("no answer in time")

func reasonOf(err, cause error) Reason {
	var not unmade
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.As(err, &not):
		return Unreachable
	case errors.Is(cause, errLate):
		return Late
	}
	return Lost
}

// accept takes the mark off an answer, which says whether it is one.
func accept(resp *http.Response, secret, nonce string) *Error {
	value := resp.Header.Get(mark)
	delete(resp.Header, mark)
	parts := strings.Split(value, " ")
	if len(parts) != 3 || !equal(signAnswer(secret, nonce, parts[0], parts[1]), parts[2]) {
		return &Error{Denied, fmt.Errorf("status %d, not signed", resp.StatusCode)}
	}
	switch word, argument := parts[0], parts[1]; word {
	case wordServed:
		return nil
	case wordClock:
		at, err := strconv.ParseInt(argument, 10, 64)
		if err == nil {
			return &Error{Denied, errClock(at)}
		}
	case wordFull:
		return &Error{Full, ErrFull}
	}
	return &Error{Denied, errors.New("it is another replica")}
}
