package lines

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// in gives text to s in random pieces and returns its lines, with ! for one that is too long and ~ for a last one without an end.
func in(s *Splitter, text string, random *rand.Rand) string {
	var out []string
	add := func(mark string) func([]byte, bool) {
		return func(line []byte, over bool) {
			if over {
				line = []byte("!")
			}
			out = append(out, mark+string(line))
		}
	}
	for len(text) > 0 {
		n := 1 + random.IntN(len(text))
		s.Split([]byte(text[:n]), add(""))
		text = text[n:]
	}
	s.End(add("~"))
	return strings.Join(out, "|")
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		cr         bool
		text, want string
	}{
		{false, "", ""}, {false, "a\nb\n\nc", "a|b||~c"}, {false, "a\rb\r\n", "a\rb\r"}, {false, "12345\n123456\n1", "12345|!|~1"}, {false, "123456", "~!"},
		{true, "a\rb\r\nc\n\rd\r\r\n", "a|b|c||d|"}, {true, "123456\r12345\r\n", "!|12345"},
	} {
		for seed := range uint64(30) {
			if got := in(&Splitter{Max: 5, CR: c.cr}, c.text, rand.New(rand.NewPCG(seed, 0))); got != c.want {
				t.Errorf("CR %v, %q: %q, want %q", c.cr, c.text, got, c.want)
				break
			}
		}
	}
}

// What is too long is never held, whatever is still to come of it.
func TestRest(t *testing.T) {
	s := Splitter{Max: 5}
	none := func([]byte, bool) { t.Error("a line without an end") }
	s.Split([]byte("123"), none)
	if part, over := s.Rest(); string(part) != "123" || over {
		t.Errorf("%q, %v", part, over)
	}
	s.Drop()
	s.Split([]byte("4567"), none)
	if part, over := s.Rest(); string(part) != "4567" || over {
		t.Errorf("after Drop: %q, %v", part, over)
	}
	for range 1000 {
		s.Split([]byte("89"), none)
	}
	if part, over := s.Rest(); len(part) > 5 || cap(part) > 100 || !over {
		t.Errorf("%d bytes are held, %v", cap(part), over)
	}
}
