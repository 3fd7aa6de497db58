package translate

import (
	"bytes"
	"strconv"
	"time"
)

// Records takes apart a body that never ends: events of text/event-stream, or lines. It is not safe for concurrent use.
type Records interface {
	// Next takes the next bytes, whose memory is the caller's again afterwards, and returns the messages that are
	// complete with them. One that is too large is left out, and is a gap.
	Next(p []byte) []Message
	// End says that the body has properly ended, and returns what is complete with that.
	End() []Message
	// LastID is the last id seen, for Last-Event-ID; "" none.
	LastID() string
	// Retry is how long the body asks to wait before it is asked for again; 0 when it does not.
	Retry() time.Duration
}

// eventRecords reads text/event-stream (WHATWG HTML, section 9.2.6, interpreting an event stream). Other than there an
// event without an id field has none: the ring gives it one of its own, so that who resumes behind it does not get it
// twice.
type eventRecords struct {
	lines  lineSplitter
	begun  bool // a byte order mark is behind us
	max    int
	data   []byte
	has    bool // there was a data field
	over   bool // the event is too large
	event  string
	id     string
	ided   bool // it has an id field
	lastID string
	retry  time.Duration
}

// NewEventRecords reads text/event-stream; max bounds one event, in bytes.
func NewEventRecords(max int) Records {
	return &eventRecords{max: max, lines: lineSplitter{max: max + fieldRoom, cr: true}}
}

// fieldRoom is what a line may hold beside a value: the name of its field.
const fieldRoom = 16

func (r *eventRecords) LastID() string       { return r.lastID }
func (r *eventRecords) Retry() time.Duration { return r.retry }

func (r *eventRecords) Next(p []byte) (out []Message) {
	r.lines.split(p, func(line []byte, over bool) {
		if !r.begun {
			r.begun = true
			line = bytes.TrimPrefix(line, []byte("\uFEFF"))
		}
		switch {
		case over:
			r.over = true
		case len(line) > 0:
			r.field(line)
		default:
			if m, ok := r.dispatch(); ok {
				out = append(out, m)
			}
		}
	})
	return out
}

// End emits nothing: an event without its blank line is none.
func (r *eventRecords) End() []Message { return nil }

func (r *eventRecords) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		if len(r.data)+len(value)+1 > r.max+1 {
			r.over, r.data = true, nil
			return
		}
		if r.has = true; !r.over {
			r.data = append(append(r.data, value...), '\n')
		}
	case "event":
		r.event = string(value[:min(len(value), r.max)])
	case "id":
		if bytes.IndexByte(value, 0) < 0 && len(value) <= maxKey {
			r.id, r.ided = string(value), true
		}
	case "retry":
		if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			r.retry = time.Duration(ms) * time.Millisecond
		}
	}
}

// dispatch ends an event; false when it is none.
func (r *eventRecords) dispatch() (m Message, ok bool) {
	if r.ided {
		r.lastID = r.id
		m.ID = r.id
	}
	switch {
	case r.over:
		m, ok = Message{Gap: GapUpstream}, true
	case r.has:
		m.Data, m.Event, ok = r.data[:len(r.data)-1], r.event, true
		if m.Event == "message" {
			m.Event = ""
		}
	}
	r.data, r.has, r.over, r.event, r.id, r.ided = nil, false, false, "", "", false
	return m, ok
}

// lineRecords reads lines of JSON: newline-delimited JSON, JSON Lines, and JSON text sequences (RFC 7464), whose record
// separator begins a line. Blank lines keep a connection alive and say nothing.
type lineRecords struct{ lines lineSplitter }

// NewLineRecords reads lines; max bounds one, in bytes.
func NewLineRecords(max int) Records { return &lineRecords{lineSplitter{max: max + 2}} }

func (r *lineRecords) LastID() string       { return "" }
func (r *lineRecords) Retry() time.Duration { return 0 }

func (r *lineRecords) Next(p []byte) (out []Message) {
	r.lines.split(p, func(line []byte, over bool) { out = appendLine(out, line, over) })
	return out
}

// End emits the last line, which needs no line end.
func (r *lineRecords) End() (out []Message) {
	r.lines.end(func(line []byte, over bool) { out = appendLine(out, line, over) })
	return out
}

func appendLine(out []Message, line []byte, over bool) []Message {
	if over {
		return append(out, Message{Gap: GapUpstream})
	}
	if line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte{0x1e})); len(line) > 0 {
		out = append(out, Message{Data: bytes.Clone(line)})
	}
	return out
}

// lineSplitter finds lines in pieces of bytes.
type lineSplitter struct {
	max  int  // bytes of a line
	cr   bool // a CR ends a line too
	part []byte
	over bool // the line that began is too large
	fed  bool // the last byte was a CR that ended a line
}

// split calls line with each line that ends in p. What it gets is good until it returns.
func (s *lineSplitter) split(p []byte, line func(line []byte, over bool)) {
	ends := "\n"
	if s.cr {
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
			line(p[:at], at > s.max)
		}
		s.part, s.over = s.part[:0], false
		if cap(s.part) > 64<<10 {
			s.part = nil
		}
		p = p[at+1:]
	}
}

// end calls line with what has no line end, if there is any.
func (s *lineSplitter) end(line func(line []byte, over bool)) {
	if len(s.part) > 0 || s.over {
		line(s.part, s.over)
	}
	s.part, s.over = nil, false
}

func (s *lineSplitter) keep(p []byte) {
	if s.over = s.over || len(s.part)+len(p) > s.max; s.over {
		s.part = s.part[:0]
		return
	}
	s.part = append(s.part, p...)
}
