package jq

import (
	"errors"
	"strings"
	"testing"
)

// TestBriefShares checks what a run takes of the time of a Brief: its steps, and a little for itself.
func TestBriefShares(t *testing.T) {
	for src, c := range map[string]struct {
		doc   string
		least int // runs that there is time for
		most  int
	}{
		".a":            {`{"a":1}`, briefShares / 5, briefShares / 3},
		".[]":           {"[" + strings.Repeat("1,", 199) + "1]", 1, 1},
		".[]|.a":        {"[" + strings.Repeat(`{"a":1},`, 99) + `{"a":1}]`, 1, 1},
		".a|.b|.c|.d":   {`{}`, briefShares / 8, briefShares / 5},
		".[]|select(.)": {"[" + strings.Repeat("1,", 500) + "1]", 0, 0},
		".a|tostring":   {`{"a":1}`, 0, 0}, // gojq's
	} {
		p, err := withShape(src)
		if err != nil {
			t.Fatal(err)
		}
		v, _ := fromText(c.doc)
		brief := Briefly(t.Context())
		for range 2 {
			brief.Renew()
			n := 0
			for ; n < 1000; n++ {
				if err := p.Run(brief, v, []any{nil, nil}, func(any) error { return nil }); errors.Is(err, ErrLong) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if n < c.least || n > c.most {
				t.Errorf("%s: %d runs", src, n)
			}
		}
	}
}
