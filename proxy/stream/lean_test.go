package stream

import (
	"bytes"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/upstream"
)

// TestStreamIsLean: a stream, of which there may be one for each of thousands of users, begins with what every one needs.
func TestStreamIsLean(t *testing.T) {
	const most = 1500 // bytes, its source apart
	s := NewStreams(Policy{Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), All: NewLimit(0), Own: NewLimit(0)})
	defer s.Close()
	s.source = func(*upstream.Request, *slog.Logger) upstream.Source { return &fakeSource{} }
	var before, after runtime.MemStats
	const n = 1000
	runtime.ReadMemStats(&before)
	for range n {
		newStream(s, upstream.Request{}, nil)
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / n; each > most {
		t.Errorf("%d bytes, want %d at most", each, most)
	}
}

// TestStreamLog: every line says whose it is, also one that has more to say, or says it in a group.
func TestStreamLog(t *testing.T) {
	var lines bytes.Buffer
	log := slog.New(&aboutStream{slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelInfo}), 7, "ws://h"})
	log.Debug("unheard")
	log.Info("one", "a", 1)
	log.With("b", 2).Info("two")
	log.WithGroup("g").Info("three", "c", 3)
	want := []string{`msg=one stream=7 upstream=ws://h a=1`, `msg=two stream=7 upstream=ws://h b=2`, `msg=three stream=7 upstream=ws://h g.c=3`}
	got := strings.Split(strings.TrimSpace(lines.String()), "\n")
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i, line := range got {
		if !strings.HasSuffix(line, want[i]) {
			t.Errorf("%s, want %s", line, want[i])
		}
	}
}

func TestAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a alarm
		a.stop() // which it is
		called := make(chan time.Time, 9)
		call := func() { called <- time.Now() }
		begun := time.Now()
		a.set(time.Minute, call)
		a.set(time.Hour, call)
		if at := <-called; at.Sub(begun) != time.Hour {
			t.Errorf("after %v", at.Sub(begun))
		}
		a.set(time.Minute, call)
		a.stop()
		time.Sleep(time.Hour)
		if len(called) > 0 {
			t.Error("called though it was stopped")
		}
		a.set(time.Minute, call)
		<-called
	})
}
