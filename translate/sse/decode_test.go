package sse

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// inPieces gives text to d in pieces of random sizes and writes what comes out, one event a word.
func inPieces(d *Decoder, text string, random *rand.Rand) string {
	var words []string
	for len(text) > 0 {
		n := 1 + random.IntN(min(len(text), 7))
		d.Decode([]byte(text[:n]), func(e Event) {
			word := fmt.Sprintf("%s#%s:%s", e.Name, e.ID, e.Data)
			if e.TooLarge {
				word = "gap"
			}
			words = append(words, strings.ReplaceAll(word, "\n", "|"))
		})
		text = text[n:]
	}
	return strings.Join(words, " ")
}

func TestDecoder(t *testing.T) {
	for text, want := range map[string]string{
		"data: a\n\n":                                                  "#:a",
		"data:a\r\rdata: b\r\n\r\n":                                    "#:a #:b",
		"\uFEFFdata: a\n\n":                                            "#:a",
		"event: x\nid: 7\ndata: a\ndata\ndata:  b\n\n":                 "x#7:a|| b",
		"event: message\ndata: a\n\n":                                  "#:a",
		"id: 1\ndata: a\n\ndata: b\n\n":                                "#1:a #:b",
		"event: x\n\ndata: a\n\n":                                      "#:a", // no data, no event, and its name is gone
		": comment\n\n:\n\ndata: a\n\n":                                "#:a",
		"data: a\n":                                                    "", // not complete
		"unknown: x\ndata: a\nDATA: b\n\n":                             "#:a",
		"data\n\n":                                                     "#:",
		"data: " + strings.Repeat("x", 20) + "\n\n":                    "#:" + strings.Repeat("x", 20),
		"data: " + strings.Repeat("x", 21) + "\n\ndata: b\n\n":         "gap #:b",
		"data: 1234567890\ndata: 12345678901\n\ndata: b\n\n":           "gap #:b",
		"id: 9\n" + strings.Repeat("y", 1000) + "\n\nid: 8\ndata:\n\n": "gap #8:",
		"id: a\x00b\ndata: x\n\n":                                      "#:x",
	} {
		for seed := range uint64(20) {
			if got := inPieces(NewDecoder(20), text, rand.New(rand.NewPCG(seed, 0))); got != want {
				t.Errorf("%q: %q, want %q", text, got, want)
				break
			}
		}
	}
}

func TestDecoderRemembers(t *testing.T) {
	d := NewDecoder(100)
	for _, step := range []struct {
		text  string
		id    string
		retry time.Duration
	}{
		{"id: 1\ndata: a\n\n", "1", 0},
		{"data: b\n\n", "1", 0},
		{"id: 2\n", "1", 0}, // not before its event ends
		{"\n", "2", 0},      // without data it is no event, but the id counts
		{"retry: 1500\nretry: x\nretry: -1\n\n", "2", 1500 * time.Millisecond},
		{"id\ndata: c\n\n", "", 1500 * time.Millisecond},
	} {
		d.Decode([]byte(step.text), func(Event) {})
		if d.LastID() != step.id || d.Retry() != step.retry {
			t.Errorf("after %q: %q, %v", step.text, d.LastID(), d.Retry())
		}
	}
}

// Whatever the bytes and the pieces, what comes out is the same, and what is kept is bounded.
func FuzzDecoder(f *testing.F) {
	f.Add("id: 1\r\nevent: x\rdata: a\n\n\ndata\n\n", uint64(1))
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		whole := inPieces(NewDecoder(1000), text, rand.New(rand.NewPCG(0, 0)))
		if got := inPieces(NewDecoder(1000), text, rand.New(rand.NewPCG(seed, 1))); got != whole {
			t.Fatalf("%q in other pieces: %q and %q", text, got, whole)
		}
		small := NewDecoder(8)
		for i := range len(text) {
			small.Decode([]byte{text[i]}, func(Event) {})
			if rest, _ := small.lines.Rest(); len(small.data) > 8+1 || len(rest) > 8+fieldRoom {
				t.Fatalf("%d and %d bytes are kept", len(small.data), len(rest))
			}
		}
	})
}

// What we write, we read.
func TestDecodeOwnEvents(t *testing.T) {
	var text []byte
	var want []string
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		data := strings.Repeat("x\n", random.IntN(4)) + fmt.Sprint(i)
		name := []string{"", "price"}[i%2]
		text = AppendEvent(AppendRetry(text, time.Second), fmt.Sprint(i), name, []byte(data))
		text = append(text, Heartbeat...)
		want = append(want, fmt.Sprintf("%s#%d:%s", name, i, strings.ReplaceAll(data, "\n", "|")))
	}
	if got := inPieces(NewDecoder(1<<20), string(text), random); got != strings.Join(want, " ") {
		t.Errorf("%s", got)
	}
}
