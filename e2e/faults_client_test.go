//go:build e2e

package e2e

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

var quietLog = log.New(io.Discard, "", 0)

// eventSource is one that looks at all that it gets. It returns as browsers do, after what ends a connection, and never after an answer
// that is not a stream of events.
type eventSource struct {
	name      string
	url, user string
	zip       bool
	resumes   bool // the upstream has all that was said
	latest    bool // it begins with the latest event, and is told of what was lost after that, besides what was after its own place
	own       bool // ids are the upstream's
	short     bool // and the ring forgets them soon, so that nothing tells one that was let go of from one of another run
	kept      bool // so has the sidecar, whatever happens to it
	transport http.RoundTripper
	spring    *spring
	reader    eventReader // of the goroutine that runs it

	mu     sync.Mutex     // guards what follows
	id     string         // the id of the newest event
	last   int            // the newest number; 0: none is known
	owed   []gapSaid      // gaps that were said since
	gaps   map[string]int // how many were said in this turn, by their reason
	before int            // connections when it began
	wrong  []string       // what it should not have got
	dead   bool           // it has got an answer after which an EventSource is closed for good
	opened int            // connections
	events int
}

type gapSaid struct {
	Reason string
	Missed *int
}

func (w *eventSource) complain(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// run connects again and again, until ctx is done.
func (w *eventSource) run(ctx context.Context) {
	w.reader.retry = 300 * time.Millisecond
	for ctx.Err() == nil {
		w.connect(ctx)
		pauseFor(ctx, w.reader.retry)
	}
}

func (w *eventSource) connect(ctx context.Context) {
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, w.url, nil)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Cache-Control", "no-cache")
	r.Header.Set("Cookie", "user="+w.user)
	if w.zip {
		r.Header.Set("Accept-Encoding", "gzip")
	}
	if w.reader.id != "" {
		r.Header.Set("Last-Event-ID", w.reader.id)
	}
	resp, err := w.transport.RoundTrip(r)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	w.mu.Lock()
	w.opened++
	if resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		w.dead = true
		w.complain("is closed for good: %s, %q", resp.Status, kind)
	}
	dead := w.dead
	w.mu.Unlock()
	if dead {
		<-ctx.Done()
		return
	}
	var body io.Reader = resp.Body
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(resp.Body); err != nil {
			return
		}
	}
	w.reader.read(body, w.take)
}

// take looks at one event.
func (w *eventSource) take(m dispatched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch m.name {
	case "", "message":
		w.event(m)
	case "stream.gap":
		w.gap(m)
	case "stream.open", "stream.busy":
	default:
		w.complain("got %s %.100q", m.name, m.data)
	}
}

func (w *eventSource) gap(m dispatched) {
	var g gapSaid
	if err := json.Unmarshal([]byte(m.data), &g); err != nil {
		w.complain("got a gap %.100q: %v", m.data, err)
	}
	w.owed = append(w.owed, g)
	w.gaps[g.Reason]++
}

// event holds an event against what was said before, and what its service has said.
func (w *eventSource) event(m dispatched) {
	w.events++
	var e struct{ N int }
	if err := json.Unmarshal([]byte(m.data), &e); err != nil {
		w.complain("got %.100q, which nobody has said: %v", m.data, err)
		return
	}
	if most, _ := w.spring.said(); m.data != springText(w.spring.key, e.N) || e.N > most {
		w.complain("got %.100q, which %s has not said", m.data, w.spring.key)
		return
	}
	said := fmt.Sprint(w.owed)
	forgotten := w.told("history") || w.resumes && w.told("restart")
	only := len(w.owed) == 1 && w.last > 0
	switch missed := e.N - w.last - 1; {
	case w.last == 0:
	case missed < 0 && !forgotten:
		w.complain("got %d after %d, gaps %s", e.N, w.last, said)
	case missed > 0 && len(w.owed) == 0:
		w.complain("lost %d events after %d, and was not told", missed, w.last)
	case only && w.owed[0].Reason == "evicted" && missed == 0:
		w.complain("was told of events that are evicted, and missed none after %d", w.last)
	case only && w.owed[0].Reason == "evicted" && w.owed[0].Missed != nil && *w.owed[0].Missed != missed:
		w.complain("was told that %d are evicted, and missed %d after %d", *w.owed[0].Missed, missed, w.last)
	}
	w.placed(m.id)
	w.last, w.owed = e.N, nil
}

// placed holds an event's id against the one before: numbers of an epoch grow, and another epoch is told of, but where the events of before are kept.
// Ids of an upstream's own are numbers alone.
func (w *eventSource) placed(id string) {
	was, before := idParts(w.id)
	epoch, n := idParts(id)
	switch {
	case w.id == "":
	case epoch == was && n <= before && len(w.owed) == 0:
		w.complain("got the id %s after %s", id, w.id)
	case epoch != was && len(w.owed) == 0 && !w.kept:
		w.complain("got the id %s after %s, and was not told", id, w.id)
	}
	w.id = id
}

// told reports whether a gap for this reason was said since the last event.
func (w *eventSource) told(reason string) bool {
	for _, g := range w.owed {
		if g.Reason == reason {
			return true
		}
	}
	return false
}

// turn begins one, of which it counts the gaps.
func (w *eventSource) turn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gaps, w.before = map[string]int{}, w.opened
}

// held complains of more gaps in this turn than there were losses. One after which nothing has come yet is of a loss that goes on, which is not counted
// before it is over: who waits for others may lose its upstream again.
func (w *eventSource) held(losses map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.owed {
		w.gaps[g.Reason]--
	}
	if w.short {
		losses["restart"] += w.opened - w.before
	}
	for reason, n := range w.gaps {
		if most, ok := losses[reason]; n > most && (ok || reason != "evicted") {
			w.complain("was told of %d gaps, %s, where there were at most %d", n, reason, most)
		}
	}
	if n := w.gaps["restart"] + w.gaps["history"]; n > max(losses["restart"], losses["history"]) && !w.latest {
		w.complain("was told of %d gaps for restarts, of which there were %d", n, losses["restart"])
	}
}

func (w *eventSource) reached(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last >= n || w.dead
}

// state is how far it is.
func (w *eventSource) state() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("%s: number %d, %d connections, %d events", w.name, w.last, w.opened, w.events)
}

// idParts are an id's epoch, "" where there is none, and number.
func idParts(id string) (epoch string, n int) {
	epoch, number, ok := strings.Cut(id, "-")
	if !ok {
		epoch, number = "", id
	}
	n, _ = strconv.Atoi(number)
	return epoch, n
}
