package h2

import (
	"encoding/binary"
	"time"
)

// batchSize is how much a connection writes at once.
const batchSize = 64 << 10

// Writer is what a connection writes at once. A [Filler] has it while Fill runs.
type Writer struct {
	Scratch any // for the filler, while Fill runs: what it leaves here it may find again in another call, also of another connection

	conn     *Conn
	frames   []byte
	over     bool      // the connection ends with it
	refilled bool      // see Refilled
	ended    []*Stream // by the filler
	flown    []held    // frames that were held, and leave with it
	open     *Stream   // whose frame is the last, and may go on
	start    int       // of that frame
}

func (w *Writer) reset(c *Conn) {
	w.conn, w.frames, w.open, w.over, w.refilled = c, w.frames[:0], nil, false, false
}

// Takes reports whether bytes can be written to s at all: it has a head, and no end.
func (w *Writer) Takes(s *Stream) bool { return s.live && !s.ended }

// Write appends of p what the windows of s and of the connection take, and returns how much that is. A stream that is not
// ready takes nothing.
func (w *Writer) Write(s *Stream, p []byte) (n int) {
	c := w.conn
	for w.Takes(s) && n < len(p) && !w.Full() {
		more := min(int64(len(p)-n), s.window, c.avail)
		if more <= 0 {
			c.starved = c.starved || c.avail <= 0
			break
		}
		if w.open != s || len(w.frames)-w.start-headSize >= framePayload {
			w.open, w.start = s, len(w.frames)
			w.frames = head{0, frameData, 0, s.id}.append(w.frames)
		}
		used := len(w.frames) - w.start - headSize
		more = min(more, int64(framePayload-used))
		w.frames = append(w.frames, p[n:n+int(more)]...)
		n += int(more)
		c.use(s, more)
		used += int(more)
		w.frames[w.start], w.frames[w.start+1], w.frames[w.start+2] = byte(used>>16), byte(used>>8), byte(used)
	}
	return n
}

// use accounts for bytes that an adopted stream sends. mu is held.
func (c *Conn) use(s *Stream, n int64) {
	s.window -= n
	c.avail -= n
	c.owed += n
}

// Full reports whether nothing more fits in: what is left is for the next call of Fill.
func (w *Writer) Full() bool { return len(w.frames) >= batchSize }

// Starved reports whether a stream has been left without the connection's window, for which streams had better take turns.
func (w *Writer) Starved() bool { return w.conn.starved }

// Refilled reports whether there is something of that window again: every stream that was left without it is ready.
func (w *Writer) Refilled() bool { return w.refilled }

// Stalls is when a stream is to be given up that has taken nothing since then. Where it is the connection's window that is
// too small, others may have taken that.
func (w *Writer) Stalls(s *Stream, since time.Duration) time.Duration {
	if s.window > 0 {
		since = max(since, w.conn.moved)
	}
	return since + StallTime
}

// Depart has the connection end with its last stream, where net/http does not see to it: clients are being sent away. GOAWAY is not said before, though
// streams may go on after it (section 6.8): undici 7.30 takes it for the end of all.
func (w *Writer) Depart() { w.conn.departs = true }

// End ends s as complete.
func (w *Writer) End(s *Stream) {
	w.frames, w.open = head{0, frameData, flagEndStream, s.id}.append(w.frames), nil
	w.end(s)
}

// Reset ends s with an error, as net/http does where a handler is aborted.
func (w *Writer) Reset(s *Stream) { w.cut(s, internalError) }

func (w *Writer) cut(s *Stream, code uint32) {
	w.frames, w.open = head{4, frameReset, 0, s.id}.append(w.frames), nil
	w.frames = binary.BigEndian.AppendUint32(w.frames, code)
	w.end(s)
}

func (w *Writer) end(s *Stream) {
	s.ended = true
	w.ended = append(w.ended, s)
}
