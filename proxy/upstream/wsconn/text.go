package wsconn

import "unicode/utf8"

// text finds what is not UTF-8 in pieces of a message.
type text struct {
	rest [utf8.UTFMax]byte // of a character whose end is to come
	n    int
}

// add reports whether the text may go on with p.
func (t *text) add(p []byte) bool {
	for t.n > 0 && len(p) > 0 {
		t.rest[t.n] = p[0]
		t.n++
		p = p[1:]
		if utf8.FullRune(t.rest[:t.n]) {
			if r, size := utf8.DecodeRune(t.rest[:t.n]); r == utf8.RuneError && size <= 1 {
				return false
			}
			t.n = 0
		}
	}
	for back := 1; back < utf8.UTFMax && back <= len(p); back++ {
		if last := p[len(p)-back:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				t.n = copy(t.rest[:], last)
				p = p[:len(p)-back]
			}
			break
		}
	}
	return utf8.Valid(p)
}

// whole reports whether the text may end here.
func (t *text) whole() bool { return t.n == 0 }
