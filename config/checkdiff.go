package config

import (
	"fmt"
	"io"
	"strings"
)

// DiffFile is the file in the words of check: -diff FILE; "" without. Its error wraps [ErrUsage].
func DiffFile(words []string) (file string, err error) {
	switch {
	case len(words) == 0:
		return "", nil
	case len(words) == 1:
		option, value, _ := strings.Cut(words[0], "=")
		words = []string{option, value}
	}
	if option := strings.TrimPrefix(words[0], "-"); len(words) > 2 || option != "-diff" && option != "diff" || option == words[0] || words[1] == "" {
		return "", fmt.Errorf("%w: check takes -live, or -diff and the name of an env file, or nothing, got %q", ErrUsage, strings.TrimSpace(strings.Join(words, " ")))
	}
	return words[1], nil
}

// CheckDiff prints what a reload would do to a sidecar that goes by c if its env file were file. No value is shown. It fails when that would
// change nothing, since something is wrong or cannot change while the sidecar runs, or when w does.
func (c *Config) CheckDiff(w io.Writer, source Source, file string) error {
	next, err := source.With(file).Load()
	if err != nil {
		return fmt.Errorf("a reload would change nothing:\n%v", err)
	}
	d := c.Diff(next)
	for _, variable := range d.Restart {
		fmt.Fprintf(w, "%s needs a restart\n", variable)
	}
	for _, variable := range d.Global {
		fmt.Fprintf(w, "%s changes at once\n", variable)
	}
	for _, rt := range d.Routes {
		fmt.Fprintf(w, "route %s: %s%s\n", rt.Name, rt.How, because(rt))
	}
	switch {
	case len(d.Restart) > 0:
		return fmt.Errorf("a reload would change nothing: %s cannot change while the sidecar runs; restart it", strings.Join(d.Restart, ", "))
	case d.Nothing():
		_, err = fmt.Fprintln(w, "\nnothing changes")
	default:
		_, err = fmt.Fprintln(w, "\na reload does this")
	}
	return err
}

// because is what becomes of a route's clients, and why.
func because(rt RouteDiff) string {
	switch rt.How {
	case Changed:
		return " (" + strings.Join(rt.Because, ", ") + "); its clients come back within SSE_DRAIN"
	case Removed:
		return "; its clients are sent away within SSE_DRAIN"
	}
	return ""
}
