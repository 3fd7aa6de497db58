package dialect

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidestream/translate"
)

// noon is the time at which tests receive what they receive, unless time matters.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// compiled compiles src, or nothing of "".
func compiled(t testing.TB, setting, src string) *translate.Code {
	t.Helper()
	if src == "" {
		return nil
	}
	c, err := translate.CompileJQ(setting, src)
	if err != nil {
		t.Fatalf("%s %q: %v", setting, src, err)
	}
	return c
}

// program is written as "SELECT=…", "DATA=…" and so on.
func program(t testing.TB, settings ...string) *translate.Program {
	t.Helper()
	p := new(translate.Program)
	for _, s := range settings {
		name, src, _ := strings.Cut(s, "=")
		code := compiled(t, name, src)
		switch name {
		case "SELECT":
			p.Select = code
		case "EVENT":
			p.Event = code
		case "DATA":
			p.Data = code
		case "ID":
			p.ID = code
		case "DONE":
			p.Done = code
		case "strict":
			p.Strict = true
		default:
			t.Fatalf("no setting %q", name)
		}
	}
	return p
}

// said writes messages as name#id=data, one after the other.
func said(ms []translate.Message) string {
	var b strings.Builder
	for i, m := range ms {
		if i > 0 {
			b.WriteString(" | ")
		}
		b.WriteString(m.Event + "#" + m.ID + "=" + string(m.Data))
	}
	return b.String()
}
