package h2

import (
	"net"
	"testing"
	"testing/synctest"
)

// heads is a connection that sees to it that each write has whole heads: between two of them something else may come.
type heads struct {
	net.Conn
	t      *testing.T
	pieces *int // frames that go on with a head
}

func (c heads) Write(p []byte) (int, error) {
	open := false
	for rest := p; len(rest) >= headSize; {
		f := readHead(rest)
		switch f.kind {
		case frameHeaders:
			open = f.flags&flagEndHeaders == 0
		case 9: // CONTINUATION
			open = f.flags&flagEndHeaders == 0
			*c.pieces++
		default:
			if open {
				c.t.Errorf("%+v comes within a head", f)
			}
		}
		rest = rest[min(len(rest), headSize+f.size):]
	}
	if open {
		c.t.Error("a write ends within a head")
	}
	return c.Conn.Write(p)
}

// TestHeadsInPieces: an event does not come between the frames of a head (RFC 9113, section 6.10).
func TestHeadsInPieces(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		ours, theirs := net.Pipe()
		pieces := 0
		p, f := wo.dialOver(ours, heads{theirs, t, &pieces})
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		for n := range 3 {
			large := p.Ask("GET", "/head?100000", nil)
			f.pour("x")
			synctest.Wait()
			if !p.Got(large).Ended || p.Got(id).Body.Len() != n+1 {
				t.Errorf("%d: got %q, ended: %v", n, p.Got(id).Body.String(), p.Got(large).Ended)
			}
		}
		if pieces < 9 {
			t.Errorf("only %d pieces", pieces)
		}
		p.Conn.Close()
	})
}
