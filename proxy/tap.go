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
	"sidestream/proxy/merge"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate"
	"sidestream/translate/graphql"
)

// ErrWords is wrapped by Tap's error when the words name no route or do not make a request.
var ErrWords = errors.New("the arguments of tap")

// TapNamed is [Tap] of the route among routes that the first of words names.
func TapNamed(ctx context.Context, routes []*RouteSettings, words []string, w io.Writer, log *slog.Logger) error {
	var names []string
	for _, rt := range routes {
		names = append(names, rt.Name)
		if len(words) > 0 && rt.Name == strings.ToLower(words[0]) {
			return tapOf(ctx, rt, partsOf(rt, routes), words[1:], w, log)
		}
	}
	return fmt.Errorf("%w: the first must be the name of a route; there are: %s", ErrWords, strings.Join(names, ", "))
}

// Tap writes the events of one stream of rt to w, as its first client would get them, until the stream is finished or
// ctx is done. words stand for the client's request: path.id=7, query.since=3, header.X-Team=a, cookie.session=s, auth.sub=u (AUTH itself is
// not asked). It fails
// when they do not make a request, the upstream refuses, or w does.
func Tap(ctx context.Context, rt *RouteSettings, words []string, w io.Writer, log *slog.Logger) error {
	return tapOf(ctx, rt, nil, words, w, log)
}

// partsOf are the routes that rt merges.
func partsOf(rt *RouteSettings, routes []*RouteSettings) (parts []*RouteSettings) {
	for _, name := range rt.Upstream.Merges() {
		for _, other := range routes {
			if other.Name == name {
				parts = append(parts, other)
			}
		}
	}
	return parts
}

// tapOf is Tap, of a route that merges parts, if there are some.
func tapOf(ctx context.Context, rt *RouteSettings, parts []*RouteSettings, words []string, w io.Writer, log *slog.Logger) error {
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
	for _, part := range parts {
		part.Upstream.Trace(e.trace())
	}
	r, req, end, err := requested(ctx, rt, parts, words, log)
	defer end()
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
	at := seat.Start()
	if parts != nil { // their streams have begun just now, for this: what they have had before they were read for the first time is no past
		at = 0
	}
	return advised(tapRing(ctx, seat.Ring, at, e), rt, r)
}

// requested is the request that words stand for, and what rt makes of it, which merges parts if there are some. end is to be called in any case, once
// what the request is for has ended.
func requested(ctx context.Context, rt *RouteSettings, parts []*RouteSettings, words []string, log *slog.Logger) (r request, req upstream.Request, end func(), err error) {
	end = func() {}
	r, claims, err := tapRequest(ctx, words)
	if err != nil {
		return r, req, end, err
	}
	if query := r.URL.Query(); rt.Upstream.Scoped() && !query.Has("session") {
		query.Set("session", rand.Text()) // as a page does
		r.URL.RawQuery = query.Encode()
	}
	path := func(name string) string { return r.paths[name] }
	claim := func(name string) string { return claims[name] }
	missing := rt.Upstream.Missing(r.Request, path, claim)
	for _, part := range parts {
		missing = union(missing, part.Upstream.Missing(r.Request, path, claim))
	}
	if len(missing) > 0 {
		return r, req, end, fmt.Errorf("the route needs %s", wanted(missing))
	}
	if parts != nil {
		req, end, err = tapParts(rt, parts, log, func(part *RouteSettings) (upstream.Request, error) {
			return part.Upstream.ExpandFor(r.Request, path, claim)
		})
		return r, req, end, err
	}
	sent, err := tapSent(rt, r)
	if err != nil {
		return r, req, end, err
	}
	req, err = rt.Upstream.ExpandSent(r.Request, path, claim, sent)
	return r, req, end, err
}

// tapSent is what a client would send besides the head of its request: a subscription, in the words query.query=… and query.variables=….
func tapSent(rt *RouteSettings, r request) (*upstream.Sent, error) {
	switch {
	case rt.Upstream.Runs():
		return nil, errors.New("the route's runs are started by what clients POST; try one with curl -N -d")
	case !rt.Upstream.Operates():
		return nil, nil
	}
	request, problem := graphql.FromQuery(r.URL.Query())
	if problem == nil {
		var operation string
		if operation, problem = request.Subscription(rt.Upstream.Documents()); problem == nil {
			return &upstream.Sent{Operation: operation}, nil
		}
	}
	return nil, fmt.Errorf("%w: what a client would subscribe to is given as query.query=… and query.variables=…", problem)
}

// tapParts is the request for a route that merges parts, which expand makes those of. end closes their streams.
func tapParts(rt *RouteSettings, parts []*RouteSettings, log *slog.Logger, expand func(*RouteSettings) (upstream.Request, error)) (req upstream.Request, end func(), err error) {
	plan := merge.Plan{Route: rt.Upstream, Keys: rt.Start == stream.StartKeys, Events: rt.ReplayEvents}
	end = func() {
		for _, part := range plan.Parts {
			part.Streams.Close()
			part.Request.Route.CloseIdle()
		}
	}
	for _, part := range parts {
		req, err := expand(part)
		if err != nil {
			return req, end, err
		}
		plan.Parts = append(plan.Parts, merge.Part{Label: part.Name, About: aboutRoute(part.Name), Start: part.Start, Request: req,
			Streams: stream.NewStreams(settings(part, log.With("route", part.Name)))})
	}
	return rt.Upstream.Merged([32]byte{}, rt.Upstream.From(), func(log *slog.Logger) upstream.Source { return merge.New(plan, log) }, nil), end, nil
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
func advised(err error, rt *RouteSettings, r request) error {
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
	case rt.Upstream.Shared() && !rt.Upstream.Redis():
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

// tapRequest is the request that words stand for, and its claims.
func tapRequest(ctx context.Context, words []string) (r request, claims map[string]string, err error) {
	r.paths, claims = map[string]string{}, map[string]string{}
	if r.Request, err = http.NewRequestWithContext(ctx, http.MethodGet, "/", nil); err != nil {
		return r, nil, err
	}
	query := r.URL.Query()
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		kind, name, named := strings.Cut(key, ".")
		if !ok || !named || name == "" {
			return r, nil, fmt.Errorf("%q is not of the form query.since=3", word)
		}
		switch kind {
		case "path":
			r.paths[name] = value
		case "query":
			query.Add(name, value)
		case "header":
			r.Header.Add(name, value)
		case "auth":
			claims[name] = value
		case "cookie":
			r.AddCookie(&http.Cookie{Name: name, Value: value})
		default:
			return r, nil, fmt.Errorf("%q must begin with path, query, header, cookie or auth, and a dot", word)
		}
	}
	r.URL.RawQuery = query.Encode()
	return r, claims, nil
}

func tapRing(ctx context.Context, ring *stream.Ring, cursor uint64, w io.Writer) error {
	end, err := deliver.Copy(ctx, ring, cursor, w)
	if err == nil && end.Kind == stream.Refused {
		return &translate.Refused{Status: end.Status, Reason: "the log has the reason"}
	}
	return err
}
