//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This file is what a sidecar takes: memory, descriptors, threads and goroutines, and whether that grows.

// takes is what a process takes. Of its memory, in MiB: what is resident, what its heap has spans for, what it may grow to until garbage is collected (twice what is in use), and stacks.
type takes struct{ rss, heap, goal, stacks, descriptors, threads, goroutines float64 }

// runtimeMetrics are where the Go runtime says so.
var runtimeMetrics = regexp.MustCompile(`(?m)^go_(goroutines|memstats_heap_inuse_bytes|memstats_next_gc_bytes|memstats_stack_inuse_bytes) ([0-9.e+]+)$`)

func (s *sidecar) takes(t *testing.T) (n takes) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		v, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "VmRSS:":
			n.rss = v / 1024
		case "Threads:":
			n.threads = v
		}
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	n.descriptors = float64(len(open))
	resp, err := plain.Get("http://" + s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	metrics, _ := io.ReadAll(resp.Body)
	for _, m := range runtimeMetrics.FindAllSubmatch(metrics, -1) {
		v, _ := strconv.ParseFloat(string(m[2]), 64)
		switch string(m[1]) {
		case "goroutines":
			n.goroutines = v
		case "memstats_heap_inuse_bytes":
			n.heap = v / (1 << 20)
		case "memstats_next_gc_bytes":
			n.goal = v / (1 << 20)
		case "memstats_stack_inuse_bytes":
			n.stacks = v / (1 << 20)
		}
	}
	return n
}

func (n takes) String() string {
	return fmt.Sprintf("%.1f MiB (heap %.1f, its goal %.1f, stacks %.1f), %.0f descriptors, %.0f threads, %.0f goroutines", n.rss, n.heap, n.goal, n.stacks, n.descriptors, n.threads, n.goroutines)
}

// atRest is what the sidecar takes once it has begun with all that it begins with: it serves, and tells so, a little before.
func (s *sidecar) atRest(t *testing.T) takes {
	t.Helper()
	looks, most := 0, 0.0
	var now takes
	eventually(t, "the sidecar to be at rest", func() bool {
		now = s.takes(t)
		looks++
		if now.goroutines > most { // the one who tells may be one of them
			looks, most = 0, now.goroutines
		}
		return looks == 20
	})
	now.goroutines = most
	return now
}

// letsGo waits until the sidecar has what it had before its clients came, and so many descriptors and goroutines: after LINGER. What waits for the next client of a route stays, and for a
// minute and a half connections that polls may use again.
func (s *sidecar) letsGo(t *testing.T, name string, was takes, descriptors, goroutines float64) {
	t.Helper()
	now := s.takes(t)
	for end := time.Now().Add(3 * patience); now.descriptors > was.descriptors+descriptors || now.goroutines > was.goroutines+goroutines; now = s.takes(t) {
		if time.Now().After(end) {
			t.Errorf("%s: what clients had is not let go of", name)
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("%s: before %s; after %s", name, was, now)
}

// mean is what a process takes over so long.
func (s *sidecar) mean(t *testing.T, over time.Duration) (n takes) {
	const looks = 10
	for range looks {
		time.Sleep(over / looks)
		now := s.takes(t)
		n.rss, n.heap, n.goal, n.stacks = n.rss+now.rss/looks, n.heap+now.heap/looks, n.goal+now.goal/looks, n.stacks+now.stacks/looks
		n.descriptors, n.threads, n.goroutines = n.descriptors+now.descriptors/looks, n.threads+now.threads/looks, n.goroutines+now.goroutines/looks
	}
	return n
}

// soakGrowth prints what the sidecars take, and holds the end against what it was after ten minutes, or a third of the time.
func soakGrowth(t *testing.T, ctx context.Context, length time.Duration, sidecars map[string]*sidecar, stats *soakStats) {
	warm, began := min(10*time.Minute, length/3), time.Now()
	window := min(time.Minute, warm/4)
	at := map[string]takes{}
	report := func(when string) {
		for name, s := range sidecars {
			n := s.mean(t, window/2)
			at[name+when] = n
			fmt.Printf("%s after %s, %s: %s; %d events, %d gaps\n", name, time.Since(began).Round(time.Second), when, n, stats.events.Load(), stats.gaps.Load())
		}
	}
	sleep := func(until time.Duration) {
		select {
		case <-time.After(until - time.Since(began)):
		case <-ctx.Done():
		}
	}
	sleep(min(warm/5, warm-4*window)) // all have come
	report("at the start")
	sleep(warm - 2*window)
	report("warm")
	for next := 2 * warm; next < length-3*window; next += warm {
		sleep(next)
		report("on the way")
	}
	sleep(length - 2*window)
	report("at the end")
	for name := range sidecars {
		was, now := at[name+"warm"], at[name+"at the end"]
		for what, grown := range map[string][2]float64{"memory": {was.rss, now.rss}, "descriptors": {was.descriptors, now.descriptors}, "threads": {was.threads, now.threads}, "goroutines": {was.goroutines, now.goroutines}} {
			if grown[1] > grown[0]*1.05+2 {
				t.Errorf("%s: %s grew from %.1f to %.1f", name, what, grown[0], grown[1])
			}
		}
	}
}
