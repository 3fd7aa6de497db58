package config

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestOverlay(t *testing.T) {
	file := "\ufeff# a comment\n\n  # another\nSSE_A=one # not a comment\nSSE_B= $HOME \"quoted\" it's \r\n" +
		"SSE_HELLO='> {\"op\":\"x\"}\n\n# no comment\n< .ok' \nSSE_EMPTY=\nSSE_QUOTED=''\nSSE_GIVEN=file\nSSE_BLANK=file\nOTHER=x=y"
	got, err := Overlay([]string{"SSE_GIVEN=process", "SSE_BLANK=", "PATH=/bin"}, []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"SSE_GIVEN=process", "PATH=/bin", "SSE_A=one # not a comment", "SSE_B= $HOME \"quoted\" it's ",
		"SSE_HELLO=> {\"op\":\"x\"}\n\n# no comment\n< .ok", "SSE_EMPTY=", "SSE_QUOTED=", "SSE_BLANK=file", "OTHER=x=y"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestOverlayProblems(t *testing.T) {
	cases := map[string]string{
		"A=1\nsecret":        "line 2: there is no =; write KEY=value, and put a value of several lines between single quotes",
		"export A=1":         "line 1: this is not a shell script; leave out `export`",
		"A =1":               "line 1: there is a space next to A; write KEY=value without spaces",
		`{"secret":"=="}`:    "line 1: what is before = is not a variable name; write KEY=value, and put a value of several lines between single quotes",
		"A='secret\n\nB=1\n": "line 1: the single quote at the beginning of the value is never closed; add one at the end",
		"A='x\ny' secret": "line 2: text follows the closing quote; a quoted value cannot contain a single quote, " +
			"so leave the quotes out (one line), or put the value into a file of its own and name that in <KEY>_FILE",
		"A=1\nB=2\nA=3":  "line 3: A is already set in line 1; keep one",
		"A=a\x00secret":  "line 1: the value of A contains a NUL byte; remove it",
		"x\nA=1\ny\nA=2": "line 1: there is no =; write KEY=value, and put a value of several lines between single quotes\nline 3: there is no =; write KEY=value, and put a value of several lines between single quotes\nline 4: A is already set in line 2; keep one",
	}
	for file, want := range cases {
		_, err := Overlay(os.Environ(), []byte(file))
		if err == nil || err.Error() != want {
			t.Errorf("%q\ngot  %v\nwant %s", file, err, want)
		}
	}
}

// Whatever the value, it comes out as it was written: literally, or between quotes.
func FuzzOverlay(f *testing.F) {
	f.Add("A=1\nB='x\ny'\n", "value")
	f.Add("A='", "> {\"a\":[1]}\n< .ok | not")
	f.Add("\ufeff#\n=", "it's")
	f.Fuzz(func(t *testing.T, file, value string) {
		if merged, err := Overlay([]string{"KEPT=1"}, []byte(file)); err == nil && !slices.Contains(merged, "KEPT=1") {
			t.Error("a process variable is gone")
		}
		if strings.ContainsAny(value, "\r\x00") {
			return
		}
		if !strings.HasPrefix(value, "'") && !strings.Contains(value, "\n") {
			roundTrip(t, value, "KEY="+value+"\n")
		}
		if !strings.Contains(value, "'") {
			roundTrip(t, value, "KEY='"+value+"'\n")
		}
	})
}

func roundTrip(t *testing.T, value, line string) {
	t.Helper()
	got, err := Overlay(nil, []byte("# before\n"+line+"AFTER=1"))
	if err != nil || !slices.Equal(got, []string{"KEY=" + value, "AFTER=1"}) {
		t.Errorf("%q gave %q, %v", line, got, err)
	}
}
