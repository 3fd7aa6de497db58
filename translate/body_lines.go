package translate

import (
	"bytes"
	"time"

	"sidestream/translate/lines"
)

// lineRecords reads lines of JSON: newline-delimited JSON, JSON Lines, and JSON text sequences (RFC 7464), whose record
// separator begins a line. Blank lines keep a connection alive and mean nothing.
type lineRecords struct{ lines lines.Splitter }

// newLineRecords reads lines; max bounds one, in bytes.
func newLineRecords(max int) Records { return &lineRecords{lines.Splitter{Max: max + 2}} }

func (r *lineRecords) Retry() time.Duration { return 0 }

func (r *lineRecords) Next(p []byte) (out []Message) {
	r.lines.Split(p, func(line []byte, over bool) { out = appendLine(out, line, over) })
	return out
}

// End emits the last line, which needs no line end.
func (r *lineRecords) End() (out []Message) {
	r.lines.End(func(line []byte, over bool) { out = appendLine(out, line, over) })
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
