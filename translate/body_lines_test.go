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

func TestLineRecords(t *testing.T) {
	for text, want := range map[string]string{
		"{\"a\":1}\n{\"a\":2}\r\n\n\n3":   "#:{\"a\":1} #:{\"a\":2}",
		"\x1e{}\n\x1e[]\n":                "#:{} #:[]",
		" a\rb \n":                        "#:a\rb",
		strings.Repeat("x", 30) + "\ny\n": "gap #:y",
	} {
		for seed := range uint64(20) {
			if got := inPieces(newLineRecords(20), text, rand.New(rand.NewPCG(seed, 0))); got != want {
				t.Errorf("%q: %q, want %q", text, got, want)
				break
			}
		}
	}
}

// Events become messages: an event that is too large is a gap, and what asks for a reconnect is passed on.
func TestEventRecords(t *testing.T) {
	text := "retry: 1500\nevent: x\nid: 7\ndata: a\ndata: b\n\nevent: message\ndata: c\n\ndata: " + strings.Repeat("x", 21) + "\n\nid: 8\ndata: d\n"
	for seed := range uint64(20) {
		r := newEventRecords(20)
		if got := inPieces(r, text, rand.New(rand.NewPCG(seed, 0))); got != "x#7:a|b #:c gap" {
			t.Fatalf("%q", got)
		}
		if len(r.End()) > 0 || r.LastID() != "7" || r.Retry() != 1500*time.Millisecond {
			t.Fatalf("%q, %v", r.LastID(), r.Retry())
		}
	}
}
