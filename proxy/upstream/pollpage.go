// This file is the requests of a poll and what their answers say beside their data: where the next page is, the cursor of
// the next poll, that one has to start over, how long to wait. The rules:
//
//   - Pages are followed within one poll, PAGES at most, and only on the host where our credentials were meant to go, by the scheme
//     and port that we know it by. If one fails the whole poll has: it begins again where the last one had ended. Where NEXT fails the
//     pages before it count; if CURSOR has gone on meanwhile, that is a gap.
//   - A cursor is text. One that is a whole number and smaller than the one before says that the upstream has started
//     over: what lies between is a gap, and the next poll starts without a cursor.
//   - RESET, by default status 410, says that the cursor is too old: likewise. Without a cursor it is an error. Where it is true of a
//     poll that had no answer, that is the gap.
//   - What an answer asks us to wait can only lengthen EVERY.

package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sidestream/translate"
)

const maxCursor = 4 << 10 // bytes

// reset forgets the cursor.
func (p *poll) reset() answer {
	p.log.Warn("the upstream no longer knows the cursor: starting over")
	p.items = items{}
	return answer{messages: []translate.Message{{Gap: translate.GapUpstream}}}
}

// asked is how long an answer wants us to wait.
func (p *poll) asked(pg reply) time.Duration {
	wait := max(retryAfter(pg.resp.Header, "Retry-After"), retryAfter(pg.resp.Header, "X-Poll-Interval"))
	return max(wait, p.interval(context.Background(), pg.message))
}

// interval is INTERVAL of an answer, 0 when it says nothing.
func (p *poll) interval(ctx context.Context, m translate.Message) (d time.Duration) {
	rt := p.q.Route
	if rt.interval == nil || m.Data == nil {
		return 0
	}
	rt.try(ctx, p.log, func(ctx context.Context) error {
		text, ok, err := rt.interval.Value(ctx, m)
		if err != nil || !ok {
			return err
		}
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || seconds < 0 || seconds != seconds {
			return errors.New("INTERVAL does not yield a number of seconds")
		}
		d = time.Duration(min(seconds, maxRetryAfter.Seconds()) * float64(time.Second))
		return nil
	})
	return d
}

// follow finds the cursor after a page and the address of the next page, "" for none. back says that the upstream has
// started over.
func (p *poll) follow(ctx context.Context, pg reply, a *answer) (back bool, address string, err error) {
	rt := p.q.Route
	err = rt.bounded(ctx, func(ctx context.Context) (err error) {
		if rt.cursor == nil {
			return nil
		}
		cursor, ok, err := rt.cursor.Value(ctx, pg.message)
		switch {
		case err != nil:
			return err
		case len(cursor) > maxCursor:
			return fmt.Errorf("CURSOR yields more than %d bytes", maxCursor)
		case ok && smaller(cursor, a.cursor):
			back, a.cursor = true, ""
		case ok:
			a.cursor = cursor
		}
		return nil
	})
	if err != nil || back || rt.settings.Pages <= 1 {
		return back, "", err
	}
	address, err = p.nextPage(ctx, pg, a.cursor)
	var failed *translate.ProgramError
	if errors.As(err, &failed) && ctx.Err() == nil { // which is no reason to keep this page back
		rt.faulty(p.log, err, "the next page is not requested")
		a.partial, address, err = true, "", nil
	}
	return false, address, err
}

var wholeNumber = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

// smaller reports whether both are whole numbers and a is the smaller one.
func smaller(a, b string) bool {
	if !wholeNumber.MatchString(a) || !wholeNumber.MatchString(b) {
		return false
	}
	return len(a) < len(b) || len(a) == len(b) && a < b
}

// nextPage is where NEXT says, or without it the header Link.
func (p *poll) nextPage(ctx context.Context, pg reply, cursor string) (address string, err error) {
	rt := p.q.Route
	var ref *url.URL
	if rt.next == nil {
		if ref, err = pg.url.Parse(nextLink(pg.resp.Header.Values("Link"))); err != nil {
			err = errNoAddress
		}
	} else {
		var v any
		var ok bool
		err = rt.bounded(ctx, func(ctx context.Context) (err error) {
			v, ok, err = rt.next.Output(ctx, pg.message)
			return err
		})
		if err == nil && ok {
			ref, err = p.reference(pg.url, v, cursor)
		}
	}
	if err == errNoAddress {
		p.unfollowed("is not an address", "…")
		return "", nil
	}
	if err != nil || ref == nil {
		return "", err
	}
	if !strings.EqualFold(ref.Hostname(), pg.url.Hostname()) {
		p.unfollowed("is on another host, where our credentials were not meant to go", shownURL(ref))
		return "", nil
	}
	// A service behind a proxy may not know by which scheme and port it is reached. We do.
	ref.Scheme, ref.Host, ref.User = pg.url.Scheme, pg.url.Host, pg.url.User
	if ref.String() == pg.url.String() {
		return "", nil
	}
	return ref.String(), nil
}

var errNoAddress = errors.New("what leads to the next page is not an address")

// unfollowed says why a next page is not asked for. What came before it counts all the same.
func (p *poll) unfollowed(why, link string) {
	setting := "PAGES follows the header Link; set it to 1, or NEXT to where the next page is on FROM's host"
	if p.q.Route.next != nil {
		setting = "NEXT leads there; let it yield an address on FROM's host"
	}
	if more, ok := p.q.Route.noisy.Allow(); ok {
		p.log.Warn("the next page is not followed: it "+why, "link", link, "setting", setting, "suppressed", more)
	}
}

// reference is what an output of NEXT means: true, the route's own address with the new cursor; a string, an address
// relative to the page's; an object, values to set in its query; nothing else, no page.
func (p *poll) reference(at *url.URL, v any, cursor string) (*url.URL, error) {
	switch v := v.(type) {
	case bool:
		if !v {
			return nil, nil
		}
		own, _, err := p.q.fill(func(name string) string {
			if name == "cursor" {
				return cursor
			}
			return ""
		}, cursor == "")
		if err != nil {
			return nil, err
		}
		return url.Parse(own)
	case string:
		if v == "" {
			return nil, nil
		}
		ref, err := at.Parse(v)
		if err != nil {
			return nil, errNoAddress
		}
		return ref, nil
	case map[string]any:
		next := *at
		query := at.Query()
		for name, value := range v {
			if value == nil {
				query.Del(name)
				continue
			}
			query.Set(name, scalar(value))
		}
		next.RawQuery = query.Encode()
		return &next, nil
	}
	return nil, nil
}

// scalar is a value as it stands in a query.
func scalar(v any) string {
	text, err := translate.Written(v)
	if err != nil {
		return ""
	}
	return string(text)
}

// nextLink finds the target of rel=next in the values of the header Link (RFC 8288, section 3), "" for none.
func nextLink(values []string) string {
	for _, value := range values {
		for value != "" {
			open := strings.IndexByte(value, '<')
			end := strings.IndexByte(value, '>')
			if open < 0 || end < open {
				break
			}
			target := value[open+1 : end]
			var params string
			params, value = linkParams(value[end+1:])
			for param := range strings.SplitSeq(params, ";") {
				name, rel, _ := strings.Cut(strings.TrimSpace(param), "=")
				rel = strings.ToLower(strings.Trim(strings.TrimSpace(rel), `"`))
				if strings.EqualFold(strings.TrimSpace(name), "rel") && slices.Contains(strings.Fields(rel), "next") {
					return target
				}
			}
		}
	}
	return ""
}

// linkParams cuts the parameters of one link off what follows: up to a comma outside of quotes.
func linkParams(s string) (params, rest string) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// livingReader notes that bytes go on arriving.
type livingReader struct {
	io.Reader
	alive func()
}

func (r livingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.alive()
	}
	return n, err
}
