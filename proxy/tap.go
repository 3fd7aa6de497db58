package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// ErrWords is wrapped by Tap's error when the words name no route or do not make a request.
var ErrWords = errors.New("the arguments of tap")

// TapNamed is [Tap] of the route among routes that the first of words names.
func TapNamed(ctx context.Context, routes []*RouteSettings, words []string, w io.Writer, log *slog.Logger) error {
	var names []string
	for _, rt := range routes {
		names = append(names, rt.Name)
		if len(words) > 0 && rt.Name == strings.ToLower(words[0]) {
			return Tap(ctx, rt, words[1:], w, log)
		}
	}
	return fmt.Errorf("%w: the first must be the name of a route; there are: %s", ErrWords, strings.Join(names, ", "))
}

// Tap writes the events of one stream of rt to w, as its first client would get them, until the stream is finished or
// ctx is done. words stand for the client's request: path.id=7, query.since=3, header.X-Team=a, cookie.session=s, auth.sub=u (AUTH itself is
// not asked). It fails
// when they do not make a request, the upstream refuses, or w does.
func Tap(ctx context.Context, rt *RouteSettings, words []string, w io.Writer, log *slog.Logger) error {
	o, words, err := tapOptions(words)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if o.time > 0 {
		ctx, stop = context.WithTimeout(ctx, o.time)
		defer stop()
	}
	e := &explainer{looks: o, rt: rt, log: log.With("route", rt.Name), stop: stop, w: w, dropped: map[string]int{}}
	rt.Upstream.Trace(e.trace())
	r, paths, claims, err := tapRequest(ctx, words)
	if err != nil {
		return err
	}
	if query := r.URL.Query(); rt.Upstream.Scoped() && !query.Has("session") {
		query.Set("session", rand.Text()) // as a page does
		r.URL.RawQuery = query.Encode()
	}
	path := func(name string) string { return paths[name] }
	claim := func(name string) string { return claims[name] }
	if missing := rt.Upstream.Missing(r, path, claim); len(missing) > 0 {
		return fmt.Errorf("%w: the route needs %s", ErrWords, wanted(missing))
	}
	req, err := rt.Upstream.ExpandFor(r, path, claim)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWords, err)
	}
	streams := stream.NewStreams(settings(rt, log))
	rt.Upstream.LogTo(log.With("route", rt.Name))
	defer func() { e.log.Info(e.counts()) }()
	defer upstream.CloseIdle()
	defer rt.Upstream.CloseIdle()
	defer streams.Close()
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	watching.Go(func() { // ends with ctx
		e.watch(ctx.Done(), func() string { h := streams.Health(); return strings.TrimSpace(h.State + " " + h.Error) })
	})
	seat, err := streams.Join(ctx, req)
	if err != nil {
		return unlessDone(ctx, advised(err, rt, r))
	}
	defer seat.Leave()
	return advised(tapRing(ctx, seat.Ring, seat.Start(), e), rt, r)
}

// wanted is placeholders as words: path.id=… query.since=…
func wanted(missing []string) string {
	words := make([]string, len(missing))
	for i, m := range missing {
		words[i] = strings.Trim(m, "{}") + "=…"
	}
	return strings.Join(words, " ")
}

// advised is err; where the upstream wants credentials, with how to give them.
func advised(err error, rt *RouteSettings, r *http.Request) error {
	var refused *translate.Refused
	if !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
		return err
	}
	var words []string
	for _, name := range rt.Upstream.ClientHeaders() {
		if r.Header.Get(name) == "" {
			words = append(words, "header."+name+"=…")
		}
	}
	switch {
	case len(words) > 0:
		return fmt.Errorf("%w; pass what a client would send: %s", err, strings.Join(words, " "))
	case rt.Upstream.Shared():
		return fmt.Errorf("%w; nothing of a client's request goes upstream: forward its credentials with FORWARD=Cookie or FORWARD=Authorization, or give the route its own in HEADERS", err)
	}
	return err
}

func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// tapRequest is the request that words stand for, its path values and its claims.
func tapRequest(ctx context.Context, words []string) (_ *http.Request, paths, claims map[string]string, _ error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return nil, nil, nil, err
	}
	query := r.URL.Query()
	paths, claims = map[string]string{}, map[string]string{}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		kind, name, named := strings.Cut(key, ".")
		if !ok || !named || name == "" {
			return nil, nil, nil, fmt.Errorf("%w: %q is not of the form query.since=3", ErrWords, word)
		}
		switch kind {
		case "path":
			paths[name] = value
		case "query":
			query.Add(name, value)
		case "header":
			r.Header.Add(name, value)
		case "auth":
			claims[name] = value
		case "cookie":
			r.AddCookie(&http.Cookie{Name: name, Value: value})
		default:
			return nil, nil, nil, fmt.Errorf("%w: %q must begin with path, query, header, cookie or auth, and a dot", ErrWords, word)
		}
	}
	r.URL.RawQuery = query.Encode()
	return r, paths, claims, nil
}

func tapRing(ctx context.Context, ring *stream.Ring, cursor uint64, w io.Writer) error {
	end, err := deliver.Copy(ctx, ring, cursor, w)
	if err == nil && end.Kind == stream.Refused {
		return &translate.Refused{Status: end.Status, Reason: "the log has the reason"}
	}
	return err
}
