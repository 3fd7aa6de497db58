package translate

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// inPieces gives text to r in pieces of random sizes and writes what comes out, one message a word.
func inPieces(r Records, text string, random *rand.Rand) string {
	var words []string
	for len(text) > 0 {
		n := 1 + random.IntN(min(len(text), 7))
		for _, m := range r.Next([]byte(text[:n])) {
			word := fmt.Sprintf("%s#%s:%s", m.Event, m.ID, m.Data)
			if m.Gap != "" {
				word = "gap"
			}
			words = append(words, strings.ReplaceAll(word, "\n", "|"))
		}
		text = text[n:]
	}
	return strings.Join(words, " ")
}

func TestEventRecords(t *testing.T) {
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
			r := NewEventRecords(20)
			if got := inPieces(r, text, rand.New(rand.NewPCG(seed, 0))); got != want {
				t.Errorf("%q: %q, want %q", text, got, want)
				break
			}
		}
	}
}

func TestEventRecordsRemember(t *testing.T) {
	r := NewEventRecords(100)
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
		r.Next([]byte(step.text))
		if r.LastID() != step.id || r.Retry() != step.retry {
			t.Errorf("behind %q: %q, %v", step.text, r.LastID(), r.Retry())
		}
	}
}

func TestLineRecords(t *testing.T) {
	for text, want := range map[string]string{
		"{\"a\":1}\n{\"a\":2}\r\n\n\n3":   "#:{\"a\":1} #:{\"a\":2}",
		"\x1e{}\n\x1e[]\n":                "#:{} #:[]",
		" a\rb \n":                        "#:a\rb",
		strings.Repeat("x", 30) + "\ny\n": "gap #:y",
	} {
		for seed := range uint64(20) {
			if got := inPieces(NewLineRecords(20), text, rand.New(rand.NewPCG(seed, 0))); got != want {
				t.Errorf("%q: %q, want %q", text, got, want)
				break
			}
		}
	}
}

// Whatever the bytes and the pieces, what comes out is the same, and what is kept is bounded.
func FuzzEventRecords(f *testing.F) {
	f.Add("id: 1\r\nevent: x\rdata: a\n\n\ndata\n\n", uint64(1))
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		whole := inPieces(NewEventRecords(1000), text, rand.New(rand.NewPCG(0, 0)))
		if got := inPieces(NewEventRecords(1000), text, rand.New(rand.NewPCG(seed, 1))); got != whole {
			t.Fatalf("%q in other pieces: %q and %q", text, got, whole)
		}
		small := NewEventRecords(8).(*eventRecords)
		for i := range len(text) {
			small.Next([]byte{text[i]})
			if len(small.data) > 8+1 || len(small.lines.part) > 8+fieldRoom {
				t.Fatalf("%d and %d bytes are kept", len(small.data), len(small.lines.part))
			}
		}
	})
}

// What we write, we read.
func TestRecordsOfOwnEvents(t *testing.T) {
	var text []byte
	var want []string
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		data := strings.Repeat("x\n", random.IntN(4)) + fmt.Sprint(i)
		m := Message{Event: []string{"", "price"}[i%2], Data: []byte(data)}
		text = AppendEvent(AppendRetry(text, time.Second), fmt.Sprint(i), m)
		text = append(text, Heartbeat...)
		want = append(want, fmt.Sprintf("%s#%d:%s", m.Event, i, strings.ReplaceAll(data, "\n", "|")))
	}
	if got := inPieces(NewEventRecords(1<<20), string(text), random); got != strings.Join(want, " ") {
		t.Errorf("%s", got)
	}
}
