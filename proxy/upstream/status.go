package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

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
			return nil, fmt.Errorf("%q has no = ; write status=what, such as 404=retry", item)
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
		return 0, 0, errors.New("has no HTTP status in front of the = ; write 200 to 599, a range such as 401-403, or 5xx")
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

// Passing is a refusal that is no more than the status of an answer, which may pass: a container that is being replaced is a 404.
type Passing struct{ *translate.Refused }

// Unwrap returns the refusal.
func (e Passing) Unwrap() error { return e.Refused }

func passing(status int, reason string) error {
	return Passing{&translate.Refused{Status: status, Reason: reason}}
}

// errAnew says that what was to be gone on from is to be forgotten, as STATUS has it.
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
			return &translate.Refused{Status: refusedWith(rule.Status, status), Reason: answered.Error() + ", which STATUS calls refused"}
		}
		return &Retry{After: retryAfter(resp.Header.Get("Retry-After"), time.Now()), Err: answered}
	}
	switch page := login(resp, true, false); {
	case status >= 200 && status < 300 && page != nil:
		return page
	case status >= 300 && status < 400 && status != http.StatusNotModified:
		return passing(http.StatusUnauthorized, "redirected elsewhere, probably to a login")
	case status >= 400 && status < 500 && status != 408 && status != 425 && status != 429:
		return passing(status, answered.Error())
	}
	return &Retry{After: retryAfter(resp.Header.Get("Retry-After"), time.Now()), Err: answered}
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
