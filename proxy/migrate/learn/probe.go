package learn

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	probeTime = 30 * time.Second // for all questions together
	probeMost = 200              // questions
)

// Probe asks the service which cookies matter to it: what was polled is asked for with all cookies of a client, twice, and without each. A cookie
// matters when the answer without it is another one: by its status, or by what it holds while two answers with all cookies hold the same. A path
// whose answers differ by themselves says nothing, and is left out. Nothing but GETs of polls that clients have made is asked.
func Probe(ctx context.Context, o *Observation, asks http.RoundTripper) Probed {
	p := prober{o: o, by: asks, left: probeMost, found: Probed{}}
	tried := map[string]bool{}
	for _, a := range slices.Backward(o.Answers) { // the newest first: its cookies are still good
		pattern, _ := wildcards(shape(a.Path))
		if len(a.Cookies) == 0 || a.Base != "" || tried[pattern] || ctx.Err() != nil {
			continue
		}
		tried[pattern] = true
		if matters := p.matter(ctx, a); matters != nil {
			p.found[pattern] = matters
		}
	}
	return p.found
}

type prober struct {
	o     *Observation
	by    http.RoundTripper
	left  int
	found Probed
}

// got is an answer to a question.
type got struct {
	status int
	body   string
}

// matter tells which cookies of a request matter; nil when that is not to be told.
func (p *prober) matter(ctx context.Context, a *Answer) map[string]bool {
	first, ok1 := p.ask(ctx, a, "")
	second, ok2 := p.ask(ctx, a, "")
	if !ok1 || !ok2 || first != second || first.status != http.StatusOK {
		return nil
	}
	out := map[string]bool{}
	for _, c := range a.Cookies {
		without, ok := p.ask(ctx, a, c.Name)
		if !ok {
			return nil
		}
		out[c.Name] = without != first
	}
	return out
}

// ask asks as the client did, but for one cookie.
func (p *prober) ask(ctx context.Context, a *Answer, leave string) (g got, ok bool) {
	if p.left--; p.left < 0 {
		return g, false
	}
	path, err := url.PathUnescape(a.Path)
	if err != nil {
		return g, false
	}
	query := url.Values{}
	for _, q := range a.Query {
		query.Add(q.Name, q.Value)
	}
	u := url.URL{Scheme: p.o.Base.Scheme, Host: p.o.Base.Host, Path: strings.TrimSuffix(p.o.Base.Path, "/") + path, RawQuery: query.Encode()}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return g, false
	}
	for name, v := range a.Header {
		r.Header[name] = v
	}
	for _, c := range a.Cookies {
		if c.Name != leave {
			r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
		}
	}
	res, err := p.by.RoundTrip(r)
	if err != nil {
		return g, false
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	return got{res.StatusCode, untimed(body)}, err == nil
}

// untimed is a body without the fields that say when it was made.
func untimed(body []byte) string {
	leaves, ok := leavesOf(body)
	if !ok {
		return string(body)
	}
	texts := map[int]string{}
	for i, l := range leaves {
		if restlessNames.MatchString(l.key) {
			texts[i] = "null"
		}
	}
	return replace(body, leaves, texts)
}
