// This file is what an answer over HTTP says beside its data, whatever asked for it: that the place we want to go on from is
// too old (RESET), that the upstream refuses (REFUSED). The rules:
//
//   - RESET is also asked when there is no answer, or it broke off: over null, with $status null. What it says then is known
//     beforehand.
//   - Programs look at any answer, with up to 64 KiB of its body, and with MODE=stream at any record.
//   - A program that fails is counted and said, and has no opinion.

package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"sidestream/translate"
)

const maxProblem = 64 << 10 // bytes of an answer that is none, for RESET and INTERVAL to look at

var (
	errReset   = errors.New("the cursor is too old")
	errNoPlace = errors.New("RESET is true, but there is no cursor to forget")
)

// problem is an answer other than 2xx as programs see it.
func (rt *Route) problem(ctx context.Context, resp *http.Response) (translate.Message, error) {
	m := translate.Message{Header: resp.Header, Status: resp.StatusCode}
	if rt.reset != nil || rt.refused != nil || rt.interval != nil {
		plain, err := decoded(resp, func() {})
		if err != nil {
			return m, nil // its status says enough
		}
		body, err := io.ReadAll(io.LimitReader(plain, maxProblem))
		if err != nil {
			return m, because(ctx, err)
		}
		if data, err := rt.decode.Decode(body, maxProblem); err == nil { // errors are often not packed
			body = data
		}
		m.Data = bytes.TrimPrefix(body, byteOrderMark)
	}
	return m.Parse(false)
}

// tooOld reports whether an answer or record is the verdict on our place: RESET, or without it status 410.
func (rt *Route) tooOld(ctx context.Context, log *slog.Logger, m translate.Message) (yes bool) {
	if rt.reset == nil {
		return rt.cursor != nil && m.Status == http.StatusGone
	}
	rt.try(ctx, log, func(ctx context.Context) (err error) {
		yes, err = rt.reset.Truth(ctx, m)
		return err
	})
	return yes
}

// refusal is what REFUSED makes of an answer or record, nil when it does not refuse.
func (rt *Route) refusal(ctx context.Context, log *slog.Logger, m translate.Message) error {
	if rt.refused == nil {
		return nil
	}
	status := 0
	rt.try(ctx, log, func(ctx context.Context) error {
		v, ok, err := rt.refused.Output(ctx, m)
		if err != nil || !ok {
			return err
		}
		switch v := v.(type) {
		case bool:
			if v {
				status = http.StatusForbidden
			}
		case string:
		default:
			if n, err := strconv.ParseFloat(fmt.Sprint(v), 64); err == nil && n >= 400 && n <= 499 {
				status = int(n)
			}
		}
		return nil
	})
	if status == 0 {
		return nil
	}
	return &translate.Refused{Status: status, Reason: "an answer that REFUSED calls refused"}
}

// forgetful reports whether RESET is true where there is no answer: over null, with $status null. One that fails then has no
// opinion.
func forgetful(reset *translate.Code) bool {
	ctx, cancel := context.WithTimeout(context.Background(), programTime)
	defer cancel()
	yes, err := reset.Truth(ctx, translate.Message{Data: []byte("null")})
	return yes && err == nil
}

// lostPlace reports whether err, with which a request failed or a connection was lost, is RESET's.
func (rt *Route) lostPlace(ctx context.Context, err error) bool {
	var none noAnswer
	return rt.forgets && ctx.Err() == nil && errors.As(err, &none)
}

// try runs f, one program over an answer, bounded. A failure is counted and said.
func (rt *Route) try(ctx context.Context, log *slog.Logger, f func(context.Context) error) {
	if err := rt.bounded(ctx, f); err != nil && ctx.Err() == nil {
		rt.faulty(log, err, "its result is ignored")
	}
}
