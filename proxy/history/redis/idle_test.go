//go:build e2e

package redis

import (
	"strconv"
	"strings"
	"testing"

	"sidestream/e2e/redistest"
)

// TestIdleStreamsAreKept checks what becomes of streams that append nothing: many are looked at in one command, each is kept for another TTL, and
// one that the store has lost is written again.
func TestIdleStreamsAreKept(t *testing.T) {
	server := redistest.Start(t)
	s := replica(t, server)
	var all []*stream
	for i := range 250 {
		l, _, err := s.Open(t.Context(), "r", identity(i), 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		one := (&stream{t: t, log: l}).lead()
		one.must("event " + strconv.Itoa(i))
		all = append(all, one)
	}
	keys := func(l *log) []string { return []string{l.key("s"), l.key("m")} }
	for _, one := range all {
		for _, key := range keys(one.log.(*log)) {
			server.Do("PEXPIRE", key, "600000")
		}
	}
	lost := all[17].log.(*log)
	server.Do("DEL", lost.key("s"), lost.key("m"))
	before := server.Do("INFO", "commandstats")
	for _, one := range all {
		l := one.log.(*log)
		l.work.Lock()
		l.trims = nil // as when they have appended nothing for a while
		l.work.Unlock()
		l.mu.Lock()
		l.compared = -compareTime
		l.mu.Unlock()
	}
	s.sweep(t.Context(), &scratch{}, s.buckets)
	for i, one := range all {
		for _, key := range keys(one.log.(*log)) {
			if ms, err := strconv.Atoi(server.Do("PTTL", key)); err != nil || ms < 601_000 {
				t.Errorf("stream %d: %s is kept for %d ms more", i, key, ms)
			}
		}
	}
	if text := server.Do("XRANGE", lost.key("s"), "-", "+"); !strings.Contains(text, "event 17") {
		t.Errorf("the stream that was lost: %q", text)
	}
	if n := calls(server.Do("INFO", "commandstats")) - calls(before); n > 2*buckets+20 {
		t.Errorf("%d commands for 250 streams", n)
	}
}

// calls are the scripts that were run.
func calls(stats string) (n int) {
	for line := range strings.Lines(stats) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_evalsha:calls="); ok {
			n, _ = strconv.Atoi(rest[:strings.IndexByte(rest, ',')])
		}
	}
	return n
}
