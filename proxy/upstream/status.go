package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sidestream/translate"
)

// statuses says what HTTP statuses mean (STATUS). The zero value has no opinion.
type statuses []statusRule

type statusRule struct {
	from, to int
	translate.Meaning
}

// parseStatuses reads rules such as "404=retry,401-403=refused:401,5xx=retry". The first that holds counts. The error names the
// rule and what to write instead.
func parseStatuses(text string) (rules statuses, err error) {
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		codes, what, ok := strings.Cut(item, "=")
		if !ok {
			return nil, fmt.Errorf("%q has no =; write status=what, such as 404=retry", item)
		}
		var r statusRule
		if r.from, r.to, err = statusRange(strings.TrimSpace(codes)); err == nil {
			r.Meaning, err = translate.ParseMeaning(what)
		}
		if err != nil {
			return nil, fmt.Errorf("%q %w", item, err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// statusRange reads 404, 400-404 or 5xx.
func statusRange(text string) (from, to int, err error) {
	if class, ok := strings.CutSuffix(strings.ToLower(text), "xx"); ok && len(class) == 1 {
		from, err = strconv.Atoi(class + "00")
		to = from + 99
	} else {
		first, last, ranged := strings.Cut(text, "-")
		if !ranged {
			last = first
		}
		if from, err = strconv.Atoi(strings.TrimSpace(first)); err == nil {
			to, err = strconv.Atoi(strings.TrimSpace(last))
		}
	}
	if err != nil || from < 200 || to > 599 || to < from {
		return 0, 0, errors.New("has no HTTP status before the =; write 200 to 599, a range such as 401-403, or 5xx")
	}
	return from, to, nil
}

// rule returns the first rule for an answer's status, nil when there is none.
func (s statuses) rule(status int) *statusRule {
	for i, r := range s {
		if r.from <= status && status <= r.to {
			return &s[i]
		}
	}
	return nil
}

// welcome reports whether an answer is what was asked for.
func (rt *Route) welcome(resp *http.Response) bool {
	return rt.statuses.rule(resp.StatusCode) == nil && resp.StatusCode >= 200 && resp.StatusCode <= 299
}

// Passing is a refusal that may pass: the status of an answer, as a container that is being replaced is a 404, or what the dialect
// says to a connection that is being opened, as a namespace is not there yet.
type Passing struct{ *translate.Refused }

// Unwrap returns the refusal.
func (e Passing) Unwrap() error { return e.Refused }

// mayPass makes a refusal of the dialect's to a connection that is being opened one that may pass, unless the route's settings rule
// it out.
func mayPass(err error) error {
	var refused *translate.Refused
	var ruled translate.Ruled
	var already Passing
	if !errors.As(err, &refused) || errors.As(err, &ruled) || errors.As(err, &already) {
		return err
	}
	return Passing{refused}
}

func passing(status int, reason string) error {
	return Passing{&translate.Refused{Status: status, Reason: reason}}
}

// errAnew means that what was to be gone on from is to be forgotten, as STATUS has it.
var errAnew = errors.New("answered with a status that STATUS calls new")

// verdict makes an error of an answer that is not what was asked for: errAnew, [translate.ErrFinished], *[translate.Refused] when
// asking again is pointless, *[Retry] otherwise. Where STATUS does not say it, a refusal may pass.
func (rt *Route) verdict(resp *http.Response) error {
	status := resp.StatusCode
	answered := fmt.Errorf("answered %d", status)
	if rule := rt.statuses.rule(status); rule != nil {
		switch rule.What {
		case translate.MeansNew:
			return errAnew
		case translate.MeansFinished:
			return fmt.Errorf("%w: %w", answered, translate.ErrFinished)
		case translate.MeansRefused:
			return translate.Ruled{Refused: &translate.Refused{Status: refusedWith(rule.Status, status), Reason: answered.Error() + ", which STATUS calls refused"}}
		}
		return &Retry{After: retryAfter(resp.Header, "Retry-After"), Err: answered}
	}
	switch page := login(resp, true, false); {
	case status >= 200 && status < 300 && page != nil:
		return page
	case status >= 300 && status < 400 && status != http.StatusNotModified:
		return passing(http.StatusUnauthorized, "redirected "+rt.elsewhere(resp))
	case status >= 400 && status < 500 && status != 408 && status != 425 && status != 429:
		return passing(status, answered.Error())
	}
	return &Retry{After: retryAfter(resp.Header, "Retry-After"), Err: answered}
}

// elsewhere names where a redirect leads that was not followed: an origin to set FROM to, or a login.
func (rt *Route) elsewhere(resp *http.Response) string {
	to, err := resp.Location()
	if err != nil || to.Host == "" {
		return "nowhere"
	}
	if !webScheme(to) {
		return "to " + shownURL(to)
	}
	if !strings.EqualFold(to.Hostname(), resp.Request.URL.Hostname()) {
		return "to " + shownURL(to) + ", probably to a login"
	}
	scheme := to.Scheme
	if !rt.Polls() && !rt.posts() {
		scheme = strings.Replace(scheme, "http", "ws", 1)
	}
	return fmt.Sprintf("to %s, which is not where FROM leads; if that is the service, begin FROM with %s://%s", shownURL(to), scheme, shownHost(to))
}

// shownURL is an address of the upstream's making, fit for logs: without userinfo and query, and without what may be a token.
func shownURL(u *url.URL) string {
	if !webScheme(u) {
		return "something that is not an HTTP address"
	}
	segments := strings.Split(shownPath(u.EscapedPath(), false), "/")
	for i, s := range segments {
		if len(s) > maxSegment {
			segments[i] = "…"
		}
	}
	if len(segments) > maxSegments {
		segments = append(segments[:maxSegments], "…")
	}
	return u.Scheme + "://" + shownHost(u) + strings.Join(segments, "/")
}

func webScheme(u *url.URL) bool {
	return slices.Contains([]string{"http", "https", "ws", "wss"}, u.Scheme)
}

const (
	maxSegment  = 20 // bytes of a path's segment that is no token
	maxSegments = 8
)

// shownHost is u's host, escaped and bounded.
func shownHost(u *url.URL) string {
	if host := url.PathEscape(u.Host); len(host) <= maxShown {
		return strings.ReplaceAll(host, "%3A", ":")
	}
	return "…"
}

// refusedWith is the client's status for an answer that is called refused: the one named, else the answer's own if it refuses.
func refusedWith(named, own int) int {
	switch {
	case named != 0:
		return named
	case own >= 400 && own <= 499:
		return own
	}
	return http.StatusForbidden
}
