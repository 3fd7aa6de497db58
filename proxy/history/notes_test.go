package history

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNotes checks that notes outlive the process, the later time of each counts, and a damaged file holds none.
func TestNotes(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, 1<<20)
	at := time.Unix(1_800_000_000, 0)
	for _, notes := range []map[string]time.Time{{"a": at, "b": at}, {"b": at.Add(time.Minute), "a": at.Add(-time.Minute)}} {
		if err := f.Note(t.Context(), notes); err != nil {
			t.Fatal(err)
		}
	}
	f.kill()
	f = open(t, dir, 1<<20)
	defer f.kill()
	got, err := f.Noted(t.Context())
	if err != nil || len(got) != 2 || !got["a"].Equal(at) || !got["b"].Equal(at.Add(time.Minute)) {
		t.Errorf("%v, %v", got, err)
	}
	if info, err := os.Stat(f.path(notesFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(f.path(notesFile), []byte(`{"a":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Noted(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("damaged: %v, %v", got, err)
	}
}

// TestNotesAreSealed checks that who looks at the file reads when something was, and not who; and that those of a version that did not seal are read.
func TestNotesAreSealed(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, 1<<20)
	at := time.Now().Truncate(time.Second)
	if err := os.WriteFile(f.path(notesFile), fmt.Appendf(nil, `{"[\"/clear\"]":%d}`, at.Unix()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Note(t.Context(), map[string]time.Time{`["/secret"]`: at, "watched": at}); err != nil {
		t.Fatal(err)
	}
	f.kill()
	text, err := os.ReadFile(f.path(notesFile))
	if seconds := (map[string]int64{}); err != nil || json.Unmarshal(text, &seconds) != nil || len(seconds) != 3 || seconds["watched"] != at.Unix() || strings.Contains(string(text), "secret") || strings.Contains(string(text), "clear") {
		t.Errorf("the file holds %s, %v", text, err)
	}
	f = open(t, dir, 1<<20)
	defer f.kill()
	got, err := f.Noted(t.Context())
	if err != nil || len(got) != 3 || !got[`["/secret"]`].Equal(at) || !got[`["/clear"]`].Equal(at) || !got["watched"].Equal(at) {
		t.Errorf("%v, %v", got, err)
	}
	f.key[0]++
	if got, err := f.Noted(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("with another key: %v, %v", got, err)
	}
}

// TestNotesGo checks that notes that tell of somebody go in time, and the newest stay where they are too many; and that the others stay.
func TestNotesGo(t *testing.T) {
	f := open(t, t.TempDir(), 1<<20)
	defer f.kill()
	now := time.Now().Truncate(time.Second)
	all := map[string]time.Time{"began": now.Add(-2 * NotesTime), "[old": now.Add(-NotesTime - time.Hour), "[young": now.Add(-NotesTime + time.Hour)}
	if err := f.Note(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	got, err := f.Noted(t.Context())
	if names := slices.Sorted(maps.Keys(got)); err != nil || strings.Join(names, " ") != "[young began" {
		t.Errorf("%v, %v", names, err)
	}
	if stale := Stale(map[string]time.Time{"[a": now, "[b": now.Add(-time.Minute), "[c": now.Add(-time.Hour), "d": {}}, 1); strings.Join(stale, " ") != "[b [c" {
		t.Errorf("of three one may stay: %v go", stale)
	}
	many := map[string]time.Time{"watched": now}
	for i := range maxNotes + 100 {
		many[fmt.Sprint("[", strings.Repeat("x", 250), i)] = now.Add(-time.Duration(i) * time.Second)
	}
	if err := f.Note(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	if got, err = f.Noted(t.Context()); err != nil || len(got) != maxNotes+2 || got["watched"].IsZero() || got["began"].IsZero() {
		t.Errorf("%d notes, %v", len(got), err)
	}
}
