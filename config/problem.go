package config

import (
	"fmt"
	"slices"
	"strings"
)

// Error lists everything that is wrong with the environment, so that it can be put right in one go.
type Error struct {
	Problems []Problem // in order of Variable; never empty
}

// Problem is one thing to put right.
type Problem struct {
	Variable string // full name of the variable that holds, or should hold, the value
	Text     string // what is wrong, and the fix; no secret
}

// Error gives one line for each problem, beginning with the variable's name.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Variable + ": " + p.Text
	}
	return strings.Join(lines, "\n")
}

// problems collects what is wrong. A global value that several routes inherit is told once.
type problems []Problem

func (ps *problems) add(variable, format string, args ...any) {
	p := Problem{variable, fmt.Sprintf(format, args...)}
	if !slices.Contains(*ps, p) {
		*ps = append(*ps, p)
	}
}

func (ps problems) about(variable string) bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return p.Variable == variable })
}

// err is nil when there are none.
func (ps problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int { return strings.Compare(a.Variable, b.Variable) })
	return &Error{Problems: ps}
}
