package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var fileKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Overlay puts the variables of an env file beneath environ, which has the shape of os.Environ: a variable that
// environ sets to something non-empty wins. A line of the file is KEY=value, the value literal to the end of the
// line, or between single quotes over several lines; it is blank; or it begins with #. Nothing is interpolated.
// Lines may end in CRLF, which reads as LF.
//
// The error names the number of each line that is none of these. It never shows the line, which may be a secret.
func Overlay(environ []string, file []byte) ([]string, error) {
	text := strings.ReplaceAll(strings.TrimPrefix(string(file), "\ufeff"), "\r\n", "\n")
	f := envFile{lines: strings.Split(text, "\n"), seen: map[string]int{}}
	for f.next < len(f.lines) {
		f.readLine()
	}
	if err := errors.Join(f.errs...); err != nil {
		return nil, err
	}
	return merge(environ, f), nil
}

func merge(environ []string, f envFile) []string {
	merged := make([]string, 0, len(environ)+len(f.keys))
	given := map[string]bool{}
	for _, entry := range environ {
		key, value, _ := strings.Cut(entry, "=")
		if _, ok := f.seen[key]; ok && value == "" {
			continue
		}
		given[key] = true
		merged = append(merged, entry)
	}
	for i, key := range f.keys {
		if !given[key] {
			merged = append(merged, key+"="+f.values[i])
		}
	}
	return merged
}

// envFile reads its lines from first to last.
type envFile struct {
	lines        []string
	next         int // index of the next line to read
	keys, values []string
	seen         map[string]int // line of each key
	errs         []error
}

func (f *envFile) fail(line int, format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...)))
}

func (f *envFile) readLine() {
	text := f.lines[f.next]
	f.next++
	at := f.next
	if t := strings.TrimSpace(text); t == "" || t[0] == '#' {
		return
	}
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		f.fail(at, "there is no =; write KEY=value, and put a value of several lines between single quotes")
		return
	}
	if quoted, ok := strings.CutPrefix(value, "'"); ok {
		if value, ok = f.readQuoted(at, quoted); !ok {
			return
		}
	}
	f.set(at, key, value)
}

// readQuoted reads up to the closing quote, of which rest is the beginning.
func (f *envFile) readQuoted(at int, rest string) (string, bool) {
	var value strings.Builder
	for {
		before, after, closed := strings.Cut(rest, "'")
		value.WriteString(before)
		if closed {
			if strings.TrimSpace(after) != "" {
				f.fail(f.next, "text follows the closing quote; a quoted value cannot contain a single quote, "+
					"so leave the quotes out (one line), or put the value into a file of its own and name that in <KEY>_FILE")
				return "", false
			}
			return value.String(), true
		}
		if f.next == len(f.lines) {
			f.fail(at, "the single quote at the beginning of the value is never closed; add one at the end")
			return "", false
		}
		value.WriteByte('\n')
		rest = f.lines[f.next]
		f.next++
	}
}

func (f *envFile) set(at int, key, value string) {
	switch {
	case strings.HasPrefix(key, "export "):
		f.fail(at, "this is not a shell script; leave out `export`")
	case fileKey.MatchString(strings.TrimSpace(key)) && key != strings.TrimSpace(key):
		f.fail(at, "there is a space next to %s; write KEY=value without spaces", strings.TrimSpace(key))
	case !fileKey.MatchString(key):
		f.fail(at, "what is before = is not a variable name; write KEY=value, and put a value of several lines between single quotes")
	case strings.ContainsRune(value, 0):
		f.fail(at, "the value of %s contains a NUL byte; remove it", key)
	case f.seen[key] != 0:
		f.fail(at, "%s is already set in line %d; keep one", key, f.seen[key])
	default:
		f.seen[key] = at
		f.keys, f.values = append(f.keys, key), append(f.values, value)
	}
}
