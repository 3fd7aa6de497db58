package config

import (
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sidestream/proxy/stream"
)

// The kinds of value that variables take. Each reads itself from text, and its error is a *valueError.
type (
	span   time.Duration // Go duration; 0 or off: none
	size   int           // bytes, with KiB, MiB, GiB or without
	count  int           // 0 or off: none
	toggle bool          // true or false
	pace   time.Duration // as span up to 1h, but off is less than 0
	rhythm string        // Go duration from 10ms to 24h, 0 or off: none; or a jq program, which does not begin like a number
	list   []string      // comma-separated, blanks around the items dropped
	rate   int64         // as size, a second, with /s or without
	mode   fs.FileMode   // permissions, in octal
	start  int           // live, latest, all or a number of events, as Route.Start has it
)

// valueError keeps the value apart from what is wrong with it, because a value read from a file is not shown: the
// file may be the wrong one, and a secret.
type valueError struct{ value, problem string }

func (e *valueError) Error() string { return quote(e.value) + " " + e.problem }

// quote shows a value that is no secret, as far as a line has room for it.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%.*q...", most, s)
	}
	return strconv.Quote(s)
}

// quoted reports whether a value is in quotes, which nothing here takes away.
func quoted(s string) bool {
	return len(s) > 1 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0]
}

func (d *span) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if s == "off" {
		*d = 0
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return &valueError{s, "is not a duration; write " + likelyDuration(s)}
	}
	if v < 0 {
		return &valueError{s, "is negative; write 0 or off for none"}
	}
	*d = span(v)
	return nil
}

var spokenDuration = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)(?:(ms)|(s)(?:ec(?:ond)?s?)?|(m)(?:in(?:ute)?s?)?|(h)(?:ours?)?)?$`)

// likelyDuration guesses what s was meant to be: 15 and 15 sec are 15s.
func likelyDuration(s string) string {
	parts := spokenDuration.FindStringSubmatch(strings.ToLower(strings.ReplaceAll(s, " ", "")))
	if parts == nil {
		return "a number with its unit, such as 500ms, 15s or 2m"
	}
	if unit := strings.Join(parts[2:], ""); unit != "" {
		return parts[1] + unit
	}
	return parts[1] + "s"
}

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

// longestPace bounds a pace.
const longestPace = time.Hour

func (p *pace) UnmarshalText(text []byte) error {
	if s := strings.TrimSpace(string(text)); s == "off" {
		*p = -1
		return nil
	}
	var d span
	if err := d.UnmarshalText(text); err != nil {
		return err
	}
	if d.duration() > longestPace {
		return &valueError{strings.TrimSpace(string(text)), "is out of bounds; write up to 1h, 0 for each event, or off for never"}
	}
	*p = pace(d)
	return nil
}

// The bounds of a rhythm, as those of a span stand in its tags.
const (
	shortestRhythm = 10 * time.Millisecond
	longestRhythm  = 24 * time.Hour
)

func (r *rhythm) UnmarshalText(text []byte) error {
	*r = rhythm(strings.TrimSpace(string(text)))
	if r.program() != "" {
		return nil
	}
	var d span
	if err := d.UnmarshalText(text); err != nil {
		return err
	}
	if d != 0 && (d.duration() < shortestRhythm || d.duration() > longestRhythm) {
		return &valueError{string(*r), "is out of bounds; write 10ms to 24h, or 0 for none"}
	}
	return nil
}

// program is r's jq, "" when it is a span.
func (r rhythm) program() string {
	if r == "" || r == "off" || strings.IndexByte("0123456789+-.", r[0]) >= 0 {
		return ""
	}
	return string(r)
}

// span is how long r is, 0 when it is a program.
func (r rhythm) span() time.Duration {
	d, err := time.ParseDuration(string(r))
	if err != nil {
		return 0
	}
	return d
}

func (b *size) UnmarshalText(text []byte) error {
	n, err := bytesOf(strings.TrimSpace(string(text)), math.MaxInt)
	*b = size(n)
	return err
}

func (r *rate) UnmarshalText(text []byte) error {
	n, err := bytesOf(strings.TrimSuffix(strings.TrimSpace(string(text)), "/s"), math.MaxInt64)
	*r = rate(n)
	return err
}

// bytesOf reads a size of at most so many bytes. That of memory is an int, which has 32 bits on some machines.
func bytesOf(s string, most int64) (int64, error) {
	if s == "off" {
		return 0, nil
	}
	digits, factor := s, int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			digits, factor = strings.TrimSpace(rest), u.bytes
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case err != nil:
		return 0, &valueError{s, "is not a size; write bytes or KiB, MiB, GiB, such as 65536 or 4MiB"}
	case n < 0:
		return 0, &valueError{s, "is negative; write a size such as 4MiB"}
	case n > most/factor:
		return 0, &valueError{s, "is larger than any memory; write a size such as 4MiB"}
	}
	return n * factor, nil
}

func (c *count) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if s == "off" {
		*c = 0
		return nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return &valueError{s, "is not a number; write digits only, such as 1000"}
	}
	if n < 0 {
		return &valueError{s, "is negative; write a number such as 1000"}
	}
	*c = count(n)
	return nil
}

func (m *mode) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || fs.FileMode(n)&^fs.ModePerm != 0 {
		return &valueError{s, "is no permissions in octal; write such as 0660"}
	}
	*m = mode(n)
	return nil
}

func (t *toggle) UnmarshalText(text []byte) error {
	switch s := strings.TrimSpace(string(text)); s {
	case "true", "1", "on":
		*t = true
	case "false", "0", "off":
		*t = false
	default:
		return &valueError{s, "is neither true nor false; write true or false"}
	}
	return nil
}

func (l *list) UnmarshalText(text []byte) error {
	*l = nil
	for item := range strings.SplitSeq(string(text), ",") {
		if item = strings.TrimSpace(item); item != "" {
			*l = append(*l, item)
		}
	}
	return nil
}

func (st *start) UnmarshalText(text []byte) error {
	switch s := strings.TrimSpace(string(text)); s {
	case "live", "off":
		*st = 0
	case "latest":
		*st = 1
	case "all":
		*st = stream.StartAll
	default:
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return &valueError{s, "is not a place to start; write live, latest, all or a number of events"}
		}
		*st = start(n)
	}
	return nil
}
