package deliver

import (
	"net/http"
	"time"
)

// Stream is an answer that is an event stream, of which its caller decides every byte: it has the header, the flushes and the cut of
// those that this package decides about. One goroutine uses it.
type Stream struct{ out *output }

// NewStream begins an answer that may take no longer than this.
func NewStream(w http.ResponseWriter, r *http.Request, longest time.Duration) *Stream {
	s := &Stream{newOutput(w, r)}
	s.out.flusher.SetWriteDeadline(time.Now().Add(longest))
	s.out.flusher.Flush()
	return s
}

// Write sends p at once. It fails when the client has disconnected.
func (s *Stream) Write(p []byte) error { return s.out.write(p) }

// Close is called once nothing more is written, also where the answer is then cut: the connection may have other answers to give.
func (s *Stream) Close() { s.out.flusher.SetWriteDeadline(time.Time{}) }

// Cut is the [Rest] of an answer that no client is to take for complete.
func (s *Stream) Cut() (cut bool) { return s.out.abort() }
