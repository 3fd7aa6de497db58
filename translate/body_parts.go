package translate

import (
	"bytes"
	"time"

	"sidestream/translate/lines"
)

// partRecords reads multipart (RFC 2046, section 5.1; GraphQL's incremental delivery, x-mixed-replace): JSON in a part is a record
// once it is complete, since the end of the part may only arrive with the next one; any other part is a record at its end.
type partRecords struct {
	lines lines.Splitter
	max   int
	delim []byte // "--" and the boundary
	place int    // in one of the following
	json  Records
	mid   bool   // what comes is the rest of a line whose beginning was JSON
	body  []byte // of a part that is not JSON
	over  bool
}

const (
	partNone = iota // before the first part, or after the last
	partHeader
	partBegun // its body has
	partJSON
	partText
)

func newPartRecords(boundary string, max int) Records {
	return &partRecords{lines: lines.Splitter{Max: max + 2}, max: max, delim: []byte("--" + boundary)}
}

func (r *partRecords) Retry() time.Duration { return 0 }

func (r *partRecords) Next(p []byte) (out []Message) {
	r.lines.Split(p, func(line []byte, over bool) { out = append(out, r.line(line, over)...) })
	// A value needs no line end to be complete.
	if rest, over := r.lines.Rest(); (r.place == partBegun || r.place == partJSON) && !over && (r.mid || !bytes.HasPrefix(rest, []byte("-"))) {
		if r.place == partBegun && len(rest) > 0 {
			r.begin(rest)
		}
		if r.place == partJSON && len(rest) > 0 {
			out = append(out, r.json.Next(rest)...)
			r.lines.Drop()
			r.mid = true
		}
	}
	return out
}

// line takes one line, or what is left of it.
func (r *partRecords) line(line []byte, over bool) []Message {
	text, mid := bytes.TrimRight(line, "\r \t"), r.mid
	r.mid = false
	if rest, ok := bytes.CutPrefix(text, r.delim); ok && !over && !mid && (len(rest) == 0 || string(rest) == "--") {
		out := r.ended()
		r.place = partNone
		if len(rest) == 0 {
			r.place = partHeader
		}
		return out
	}
	switch r.place {
	case partHeader:
		if len(text) == 0 && !over {
			r.place = partBegun
		}
		return nil
	case partNone:
		return nil
	case partBegun:
		r.begin(line)
	}
	if r.place == partJSON {
		if over {
			return []Message{{Gap: GapUpstream}}
		}
		return r.json.Next(append(bytes.Clone(line), '\n'))
	}
	if r.over = r.over || over || len(r.body)+len(line) > r.max+1; !r.over {
		r.body = append(append(r.body, line...), '\n')
	}
	return nil
}

// begin decides by the first bytes of a part's body what it is.
func (r *partRecords) begin(line []byte) {
	line = bytes.TrimLeft(line, " \t\r\n")
	switch {
	case len(line) == 0:
	case line[0] == '{' || line[0] == '[':
		r.place, r.json = partJSON, newJSONRecords(r.max)
	default:
		r.place = partText
	}
}

// ended ends a part.
func (r *partRecords) ended() (out []Message) {
	body := bytes.TrimSpace(r.body)
	switch {
	case r.json != nil:
		out = r.json.End()
	case r.over:
		out = []Message{{Gap: GapUpstream}}
	case len(body) > 0:
		out = []Message{{Data: bytes.Clone(body)}}
	}
	r.body, r.over, r.json = r.body[:0], false, nil
	return out
}

// End emits the last part where its end is missing.
func (r *partRecords) End() (out []Message) {
	r.lines.End(func(line []byte, over bool) { out = append(out, r.line(line, over)...) })
	return append(out, r.ended()...)
}
