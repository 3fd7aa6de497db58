package history

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, 2000)
	for i := range 3 {
		log, _, err := f.Stream("r", identity(i), 5)
		if err != nil {
			t.Fatal(err)
		}
		for seq := range uint64(20) {
			if err := log.Append(Batch{Events: []Event{{Position: Position{5, seq + 1}, At: time.Unix(1700000000+int64(seq), 0), Key: "k", Data: []byte("some text")}}, State: []byte("s"), Kept: 10}); err != nil {
				t.Fatal(err)
			}
		}
	}
	files := len(f.segments)
	f.kill()
	verify := func() (string, error) {
		t.Helper()
		before := contents(t, dir)
		var out strings.Builder
		err := Command([]string{"verify", dir}, &out)
		if contents(t, dir) != before {
			t.Error("it has changed the folder")
		}
		return out.String(), err
	}
	out, err := verify()
	if err != nil || !strings.Contains(out, "streams  3\nevents   60, and 0 older ones") || !strings.Contains(out, "from     2023-11-14T22:13:20Z to 2023-11-14T22:13:39Z\nok\n") {
		t.Errorf("%v: %s", err, out)
	}
	last := filepath.Join(dir, segmentName(uint32(files)))
	text, _ := os.ReadFile(last)
	os.WriteFile(last, text[:len(text)-3], 0o600)
	if out, err := verify(); err != nil || !strings.Contains(out, "cut off ") {
		t.Errorf("%v: %s", err, out)
	}
	first := filepath.Join(dir, segmentName(1))
	text, _ = os.ReadFile(first)
	text[len(text)/2] ^= 1
	os.WriteFile(first, text, 0o600)
	if out, err := verify(); !errors.Is(err, errVerify) || !strings.Contains(out, "damage   "+segmentName(1)) {
		t.Errorf("%v: %s", err, out)
	}
	for _, words := range [][]string{nil, {"verify"}, {"check", dir}, {"verify", dir, dir}} {
		if err := Command(words, &strings.Builder{}); !errors.Is(err, ErrWords) {
			t.Errorf("%q: %v", words, err)
		}
	}
	for _, other := range []string{t.TempDir(), filepath.Join(dir, "none"), first} {
		if err := Verify(other, &strings.Builder{}); err == nil || !strings.Contains(err.Error(), other) {
			t.Errorf("%s: %v", other, err)
		}
	}
}

// contents is all that is in a folder.
func contents(t *testing.T, dir string) (all string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(filepath.Join(dir, file.Name()))
		all += file.Name() + "\x00" + string(text) + "\x00"
	}
	return all
}
