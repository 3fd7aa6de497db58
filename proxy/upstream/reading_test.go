package upstream

import (
	"strings"
	"testing"
)

// A program that must look at what comes in is no constant.
func TestProgramsRead(t *testing.T) {
	poll := SourceSettings{From: "http://legacy/", Every: 1}
	for name, test := range map[string]struct {
		set  func(*SourceSettings)
		want string
	}{
		"SELECT":      {func(s *SourceSettings) { s.Select = `"price"` }, `SELECT: it is "price", whatever comes in`},
		"DONE":        {func(s *SourceSettings) { s.Done = `1` }, `DONE: it is 1, whatever comes in`},
		"ID":          {func(s *SourceSettings) { s.ID = `"id"` }, `ID: it is "id"`},
		"wait":        {func(s *SourceSettings) { s.From, s.Every, s.Hello = "ws://legacy/", 0, "> a\n< \"x\"" }, `HELLO: HELLO line 2 is "x"`},
		"refusal":     {func(s *SourceSettings) { s.From, s.Every, s.Hello = "ws://legacy/", 0, `! "error"` }, `HELLO: HELLO line 1 is "error"`},
		"DONE meant":  {func(s *SourceSettings) { s.Done = `true` }, ""},
		"EVENT":       {func(s *SourceSettings) { s.Event = `"price"` }, ""},
		"DATA":        {func(s *SourceSettings) { s.Data = `{changed:1}` }, ""},
		"line with =": {func(s *SourceSettings) { s.From, s.Every, s.Hello = "ws://legacy/", 0, `= {a:1}` }, ""},
		"any message": {func(s *SourceSettings) { s.From, s.Every, s.Hello = "ws://legacy/", 0, `< true` }, ""},
		"regexp":      {func(s *SourceSettings) { s.Select = `select(.a|test("(?<!b)c"))` }, "SELECT: test would fail for every message"},
	} {
		s := poll
		test.set(&s)
		_, err := Compile(s)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
