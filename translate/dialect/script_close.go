package dialect

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sidestream/translate"
)

// ClosePolicy is what close codes mean (CLOSE). The zero value decides nothing.
type ClosePolicy []closeRule

type closeRule struct {
	from, to int
	err      error // nil: reconnect
	forget   bool  // the state, first
}

// ParseClose reads rules such as "4004=refused:401,4010-4014=refused,4009=new". The first one that applies counts. The error
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
	m, err := translate.ParseMeaning(what)
	switch {
	case err != nil:
		return r, err
	case m.What == translate.MeansRefused:
		r.err = translate.Ruled{Refused: &translate.Refused{Status: cmp.Or(m.Status, 403), Reason: "closed by the upstream with a code that CLOSE calls refused"}}
	case m.What == translate.MeansFinished:
		r.err = translate.ErrFinished
	}
	r.forget = m.What == translate.MeansNew
	return r, nil
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
