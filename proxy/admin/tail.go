package admin

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Bounds on the log lines that are kept for the dashboard.
const (
	tailLines    = 400
	tailLineSize = 4 << 10
)

// Tail keeps the last lines of the log, for the dashboard, and sets its level. Safe for concurrent use.
type Tail struct {
	Level *slog.LevelVar // that the whole log has

	mu    sync.Mutex // guards what follows
	lines []tailLine // oldest first
	last  uint64     // number of the newest
}

// tailLine is one line, as JSON of slog's.
type tailLine struct {
	Number uint64          `json:"n"`
	Line   json.RawMessage `json:"line"`
}

// newTail returns one whose log begins with a level.
func newTail(level slog.Level) *Tail {
	t := &Tail{Level: new(slog.LevelVar)}
	t.Level.Set(level)
	return t
}

// handler is a handler that keeps what next writes, too.
func (t *Tail) handler(next slog.Handler) slog.Handler {
	return slog.NewMultiHandler(next, slog.NewJSONHandler(t, &slog.HandlerOptions{Level: t.Level, ReplaceAttr: shorten}))
}

// shorten bounds what a line is made of, so that it stays JSON.
func shorten(_ []string, a slog.Attr) slog.Attr {
	const most = 1 << 10
	if a.Value.Kind() == slog.KindString || a.Value.Kind() == slog.KindAny {
		if text := a.Value.String(); len(text) > most {
			cut := most
			for cut > 0 && !utf8.RuneStart(text[cut]) {
				cut--
			}
			a.Value = slog.StringValue(text[:cut] + "…")
		}
	}
	return a
}

// Write takes one line of JSON. It never fails.
func (t *Tail) Write(line []byte) (int, error) {
	n := len(line)
	line = []byte(strings.TrimSpace(string(line)))
	if len(line) > tailLineSize {
		line = []byte(`{"level":"INFO","msg":"(a long line, which only the log itself has)"}`)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	if len(t.lines) == tailLines {
		t.lines = slices.Delete(t.lines, 0, 1)
	}
	t.lines = append(t.lines, tailLine{t.last, line})
	return n, nil
}

// after returns the lines after the one numbered n.
func (t *Tail) after(n uint64) []tailLine {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n >= t.last {
		return nil
	}
	kept := uint64(len(t.lines))
	return slices.Clone(t.lines[kept-min(kept, t.last-n):])
}
