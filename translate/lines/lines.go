// Package lines finds lines in a body that arrives in pieces.
package lines

import "bytes"

// maxKept is how much memory, in bytes, is kept for the next line once a long one has ended.
const maxKept = 64 << 10

// Splitter cuts pieces of bytes into lines. A line that is too long is reported, but never held. The zero value takes no line that
// has anything in it: set Max. It is not safe for concurrent use.
type Splitter struct {
	Max int  // bytes of a line without its end
	CR  bool // a CR ends a line too, and CRLF ends one; otherwise only LF does, and a CR before it is part of the line

	part []byte
	over bool // the line that has begun is too long
	fed  bool // the last byte was a CR that ended a line
}

// Split calls line with each line that ends in p, without its end. over reports that the line is longer than Max; what there is of it
// then is of no use. The bytes are valid until line returns.
func (s *Splitter) Split(p []byte, line func(line []byte, over bool)) {
	ends := "\n"
	if s.CR {
		ends = "\r\n"
	}
	for len(p) > 0 {
		if s.fed && p[0] == '\n' {
			p, s.fed = p[1:], false
			continue
		}
		s.fed = false
		at := bytes.IndexAny(p, ends)
		if at < 0 {
			s.keep(p)
			return
		}
		s.fed = p[at] == '\r'
		if len(s.part) > 0 || s.over {
			s.keep(p[:at])
			line(s.part, s.over)
		} else {
			line(p[:at], at > s.Max)
		}
		s.Drop()
		p = p[at+1:]
	}
}

// End calls line with the last line if that has no end of its own.
func (s *Splitter) End(line func(line []byte, over bool)) {
	if len(s.part) > 0 || s.over {
		line(s.part, s.over)
	}
	s.part, s.over = nil, false
}

// Rest returns what has arrived of a line that has not ended, and whether that is too long already.
func (s *Splitter) Rest() (part []byte, over bool) { return s.part, s.over }

// Drop forgets the Rest: the line goes on with the next piece as if it began there.
func (s *Splitter) Drop() {
	s.part, s.over = s.part[:0], false
	if cap(s.part) > maxKept {
		s.part = nil
	}
}

func (s *Splitter) keep(p []byte) {
	if s.over = s.over || len(s.part)+len(p) > s.Max; s.over {
		s.part = s.part[:0]
		return
	}
	s.part = append(s.part, p...)
}
