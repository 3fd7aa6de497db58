package translate

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ClosePolicy says what close codes mean (CLOSE). The zero value has no opinion.
type ClosePolicy []closeRule

type closeRule struct {
	from, to int
	verdict  error // nil: connect again
	anew     bool  // forget the state first
}

// ParseClose reads rules such as "4004=refused:401,4010-4014=refused,4009=new". The first that holds counts. The error
// names the rule and what to write instead.
func ParseClose(text string) (ClosePolicy, error) {
	var policy ClosePolicy
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		rule, err := parseCloseRule(item)
		if err != nil {
			return nil, fmt.Errorf("%q %w", item, err)
		}
		policy = append(policy, rule)
	}
	return policy, nil
}

func parseCloseRule(item string) (closeRule, error) {
	codes, what, ok := strings.Cut(item, "=")
	if !ok {
		return closeRule{}, errors.New("has no = ; write code=what, such as 4004=refused")
	}
	from, to, ranged := strings.Cut(codes, "-")
	if !ranged {
		to = from
	}
	var r closeRule
	var err error
	if r.from, err = closeCode(from); err == nil {
		r.to, err = closeCode(to)
	}
	if err == nil && r.to < r.from {
		err = errors.New("ends before it begins; write the smaller code first")
	}
	if err != nil {
		return r, err
	}
	m, err := ParseMeaning(what)
	switch {
	case err != nil:
		return r, err
	case m.What == MeansRefused:
		r.verdict = Ruled{&Refused{Status: cmp.Or(m.Status, 403), Reason: "closed by the upstream with a code that CLOSE calls refused"}}
	case m.What == MeansFinished:
		r.verdict = ErrFinished
	}
	r.anew = m.What == MeansNew
	return r, nil
}

// What the end of a connection, or an answer, can mean (CLOSE, STATUS).
const (
	MeansRetry    = "retry"
	MeansRefused  = "refused"
	MeansFinished = "finished"
	MeansNew      = "new" // forget what was to be gone on from, then retry
)

// Meaning is one of the Means constants.
type Meaning struct {
	What   string
	Status int // that refused names, 400 to 499; 0 none
}

// ParseMeaning reads a meaning such as "retry" or "refused:401". The error says what to write instead.
func ParseMeaning(text string) (m Meaning, err error) {
	what, status, _ := strings.Cut(strings.TrimSpace(text), ":")
	m.What = what
	switch what {
	case MeansRefused:
		if status != "" {
			if m.Status, err = strconv.Atoi(status); err != nil || m.Status < 400 || m.Status > 499 {
				return m, errors.New("refuses with a status that says something else; write 400 to 499, such as refused:401")
			}
		}
		return m, nil
	case MeansRetry, MeansFinished, MeansNew:
		if status != "" {
			return m, errors.New("has a status, which only refused can have")
		}
		return m, nil
	}
	return m, errors.New("says none of retry, refused, finished, new; write one of them behind the = ")
}

// closeCode reads a code of RFC 6455, section 7.4.
func closeCode(text string) (int, error) {
	code, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || code < 1000 || code > 4999 {
		return 0, errors.New("has a code that no connection is closed with; write 1000 to 4999, or a range such as 4010-4014")
	}
	return code, nil
}

// rule returns the first rule for code, nil when there is none.
func (p ClosePolicy) rule(code int) *closeRule {
	for i, r := range p {
		if r.from <= code && code <= r.to {
			return &p[i]
		}
	}
	return nil
}
