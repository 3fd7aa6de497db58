// This file is what tap tells beside the events: what arrived, what took it, and how many messages were dropped by what.

package proxy

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sidestream/proxy/upstream"
)

// looks are what tap's options ask for.
type looks struct {
	raw  bool
	most int           // events; 0 any number
	time time.Duration // 0 until the stream ends
}

// tapOptions takes the options out of words: -raw, -n N, -for T.
func tapOptions(words []string) (o looks, rest []string, err error) {
	for i := 0; i < len(words); i++ {
		switch words[i] {
		case "-raw":
			o.raw = true
			continue
		case "-n", "-for":
		default:
			rest = append(rest, words[i])
			continue
		}
		if i+1 == len(words) {
			return o, nil, fmt.Errorf("%w: %s needs a value", ErrWords, words[i])
		}
		text := words[i+1]
		if words[i] == "-n" {
			if o.most, err = strconv.Atoi(text); err != nil || o.most < 1 {
				return o, nil, fmt.Errorf("%w: -n is followed by how many events are wanted, such as 10", ErrWords)
			}
		} else if o.time, err = time.ParseDuration(text); err != nil || o.time <= 0 {
			return o, nil, fmt.Errorf("%w: -for is followed by a time, such as 30s", ErrWords)
		}
		i++
	}
	return o, rest, nil
}

const (
	shownFrame  = 2 << 10         // bytes of a frame
	silentAfter = 5 * time.Second // after which tap says what it has seen instead of events
)

// explainer is a writer of events that also tells what came of what arrived. It ends once it has written as many events as are wanted.
type explainer struct {
	looks
	rt   *RouteSettings
	log  *slog.Logger
	stop func() // no more events are wanted

	mu      sync.Mutex // guards what follows
	w       io.Writer
	arrived int
	dropped map[string]int // by what
	events  int            // written
	last    string         // the newest frame, bounded
}

// trace is what the sources tell.
func (e *explainer) trace() *upstream.Trace {
	return &upstream.Trace{Arrived: e.see, Decoded: e.decoded, Step: func(what string) { e.say("   " + what) }, Made: e.made}
}

func (e *explainer) see(data []byte, binary bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.arrived++
	kind := "text"
	if binary {
		kind = "binary"
	}
	e.last = oneLine(data, binary)
	if e.raw {
		fmt.Fprintf(e.w, ": < %d bytes, %s: %s\n", len(data), kind, e.last)
	}
	if e.arrived == 1 {
		e.hint(data)
	}
}

// decoded tells what DECODE has made of what arrived.
func (e *explainer) decoded(data []byte, err error) {
	if err != nil {
		e.say("   does not decode: " + err.Error())
		e.made(0, "DECODE")
		return
	}
	shown := oneLine(data, false)
	e.say(fmt.Sprintf("   decoded to %d bytes: %s", len(data), shown))
	e.mu.Lock()
	e.last = shown
	e.mu.Unlock()
}

// hint says when a first frame is of another dialect than the route's. mu is held.
func (e *explainer) hint(data []byte) {
	speaks := e.rt.Upstream.Protocol()
	if guess := upstream.Guess(data); speaks == "raw" && guess != "" {
		e.log.Warn("what arrives looks like another dialect", "hint", "PROTOCOL="+guess+"?")
	}
}

// oneLine is data fit to be shown in a line.
func oneLine(data []byte, binary bool) string {
	more := ""
	if len(data) > shownFrame {
		data, more = data[:shownFrame], "…"
	}
	if binary {
		return fmt.Sprintf("%x%s", data, more)
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '␣'
		}
		return r
	}, strings.ToValidUTF8(string(bytes.TrimSpace(data)), "\ufffd"))
	return text + more
}

// say writes a line about the newest frame.
func (e *explainer) say(what string) {
	if !e.raw {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	fmt.Fprintf(e.w, ": %s\n", what)
}

func (e *explainer) made(events int, dropped string) {
	if events > 0 {
		e.say(fmt.Sprintf("   %d events", events))
		return
	}
	e.mu.Lock()
	e.dropped[dropped]++
	e.mu.Unlock()
	e.say("   dropped by " + dropped)
}

// Write writes one event, and what else a client is told.
func (e *explainer) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.most > 0 && e.events >= e.most {
		return len(p), nil
	}
	n, err := e.w.Write(p)
	if bytes.HasSuffix(p, []byte("\n\n")) {
		if e.events++; e.events == e.most {
			e.stop()
		}
	}
	return n, err
}

// counts is what there is to tell, so far.
func (e *explainer) counts() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	text := many(e.arrived, "message") + " arrived"
	for _, by := range slices.SortedFunc(maps.Keys(e.dropped), func(a, b string) int { return cmp.Compare(e.dropped[b], e.dropped[a]) }) {
		were := "were"
		if e.dropped[by] == 1 {
			were = "was"
		}
		text += fmt.Sprintf(", %d %s dropped by %s", e.dropped[by], were, by)
	}
	return text + ", " + many(e.events, "event")
}

func many(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// watch says, while there is no event, what there is instead, until done.
func (e *explainer) watch(done <-chan struct{}, state func() string) {
	t := time.NewTicker(silentAfter)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		e.mu.Lock()
		events, last := e.events, e.last
		e.mu.Unlock()
		if events > 0 {
			return
		}
		e.log.Info("no event yet: "+e.counts(), "upstream", state(), "newest", last)
	}
}
