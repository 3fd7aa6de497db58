//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// TestDialectNATSTrimmedBehind: a sidecar stands still while more comes than flow control lets out and the stream keeps. What JetStream has passed over without
// a word is a gap.
func TestDialectNATSTrimmedBehind(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	n.stream(t, "S", "memory", map[string]any{"max_msgs": 100})
	s := startSidecar(t, n.route(`SUBSCRIBE=s.x {"stream":"S"}`)...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "upstream connected")
	n.keep(t, "s.x", "first")
	events.event(t, "", "first")
	const many = 10_000
	s.Process.Signal(syscall.SIGSTOP)
	for i := range many / 100 {
		var lines strings.Builder
		for k := range 100 {
			fmt.Fprintf(&lines, "PUB s.x 1004\r\n%04d%s\r\n", i*100+k, strings.Repeat("x", 1000))
		}
		n.say(t, lines.String(), "")
	}
	s.Process.Signal(syscall.SIGCONT)
	n.keep(t, "s.x", "last")
	events.until(t, "data: last\n")
	if got := strings.Count(events.got.String(), "xxxx\n"); got >= many || got < 100 {
		t.Fatalf("%d of %d have come: nothing was trimmed", got, many)
	}
	events.event(t, "stream.gap", gapEvent)
	if c := s.connects(); c != 1 {
		t.Errorf("%d connections", c)
	}
}
