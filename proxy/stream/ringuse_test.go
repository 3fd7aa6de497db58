package stream

import (
	"bytes"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sidestream/proxy/history"
	"sidestream/translate"
	"sidestream/translate/sse"
)

// numbered are n messages that hold their own number, from first on.
func numbered(first, n int) []translate.Message {
	ms := make([]translate.Message, n)
	for i := range ms {
		ms[i].Data = []byte(strconv.Itoa(first + i))
	}
	return ms
}

// read follows r from cursor to its end, and returns the numbers it saw and how many were missed.
func follow(r *Ring, cursor uint64) (numbers []int, missed uint64) {
	wake := make(chan struct{}, 1)
	stop := r.Watch(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	defer stop()
	for {
		events, next, lost, end := r.After(nil, cursor)
		if lost > 0 {
			missed += lost
			for range lost {
				numbers = append(numbers, -1)
			}
		}
		cursor = next
		for _, e := range events {
			_, data, _ := strings.Cut(string(e), "data: ")
			data, _, _ = strings.Cut(data, "\n")
			n, _ := strconv.Atoi(data)
			numbers = append(numbers, n)
		}
		if end.Kind != Open {
			return numbers, missed
		}
		if len(events) == 0 {
			<-wake
		}
	}
}

// Each reader sees every number once and in order, or is told how many it has missed, whatever the writer does beside.
func TestRingConcurrently(t *testing.T) {
	const total, readers = 20000, 8
	for _, bounds := range []Bounds{{}, {Events: 16}, {Bytes: 2000}} {
		r := NewRing(NewEpoch(time.Now()), bounds, new(Stats), false)
		var wait sync.WaitGroup
		for i := range readers {
			wait.Go(func() { // ends with the ring
				var cursor uint64
				if i%2 == 1 {
					cursor, _ = r.Last() // comes later
				}
				begun := int(cursor)
				numbers, missed := follow(r, cursor)
				if len(numbers) != total-begun || bounds == (Bounds{}) && missed > 0 {
					t.Errorf("%+v: %d numbers from %d on, %d missed", bounds, len(numbers), begun, missed)
					return
				}
				for i, n := range numbers {
					if n != -1 && n != begun+i+1 {
						t.Errorf("%+v: %d in the place of %d", bounds, n, begun+i+1)
						return
					}
				}
			})
		}
		for n := 0; n < total; {
			batch := min(1+n%7, total-n)
			r.Append(numbered(n+1, batch)...)
			n += batch
		}
		r.Close(End{Kind: Finished})
		wait.Wait()
	}
}

func TestRingBatches(t *testing.T) {
	r := NewRing(NewEpoch(time.Now()), Bounds{}, new(Stats), false)
	big := translate.Message{Data: bytes.Repeat([]byte("x"), maxBatch/2+1)}
	r.Append(big, big, big, big, big)
	r.Close(End{Kind: Finished})
	events, next, _, end := r.After(nil, 0)
	if len(events) != 2 || next != 2 || end.Kind != Open {
		t.Errorf("%d events, next %d, %v: more than a batch, or the end before it", len(events), next, end)
	}
	if events, next, _, end = r.After(nil, 4); len(events) != 1 || next != 5 || end.Kind != Finished {
		t.Errorf("%d events, next %d, %v", len(events), next, end)
	}
}

// What After has returned stays what it was, though the ring goes on and lets it go.
func TestRingBytesAreNotReused(t *testing.T) {
	r := NewRing(NewEpoch(time.Now()), Bounds{Events: 2}, new(Stats), false)
	var got [][]byte
	var want []string
	var cursor uint64
	for n := range 2000 {
		r.Append(translate.Message{Data: []byte(strings.Repeat(strconv.Itoa(n%10), n%50))})
		events, next, _, _ := r.After(nil, cursor)
		for _, e := range events {
			got, want = append(got, e), append(want, string(e))
		}
		cursor = next
	}
	for i := range got {
		if string(got[i]) != want[i] {
			t.Fatalf("event %d has become %q, it was %q", i, got[i], want[i])
		}
	}
}

// A ring holds little more than its bounds allow, however much has gone through it.
func TestRingMemoryIsBounded(t *testing.T) {
	r := NewRing(NewEpoch(time.Now()), Bounds{Events: 10, Bytes: 10 << 10}, new(Stats), false)
	for n := range 100_000 {
		r.Append(translate.Message{Data: bytes.Repeat([]byte("x"), n%2000)})
		if len(r.log.events) > 2*10+2 {
			t.Fatalf("%d slots for %d events", len(r.log.events), r.log.len())
		}
	}
	if cap(r.log.events) > 64 || cap(r.log.block) > 10<<10 {
		t.Errorf("%d slots, a block of %d bytes", cap(r.log.events), cap(r.log.block))
	}
}

func TestRingWatch(t *testing.T) {
	r := NewRing(NewEpoch(time.Now()), Bounds{}, new(Stats), true)
	woken := 0
	stop := r.Watch(func() { woken++ })
	for i, step := range []struct {
		do   func()
		want int
	}{
		{func() { r.Append() }, 1}, // the history is empty: who waits for it may go on
		{func() { r.Append() }, 1},
		{func() { r.Append(numbered(1, 3)...) }, 2},
		{func() { r.Close(End{Kind: Retired}) }, 3},
		{func() { r.Close(End{Kind: Finished}) }, 3},
		{func() { stop(); stop() }, 3},
		{func() { r.Append(numbered(1, 1)...) }, 3},
	} {
		if step.do(); woken != step.want {
			t.Fatalf("step %d: woken %d times, want %d", i, woken, step.want)
		}
	}
	if last, end := r.Last(); last != 3 || end.Kind != Retired {
		t.Errorf("appended after the end, or the end changed: %d, %v", last, end)
	}
	if len(r.watchers) != 0 {
		t.Error("a watcher is left")
	}
}

func TestRingStats(t *testing.T) {
	stats := new(Stats)
	r := NewRing(NewEpoch(time.Now()), Bounds{Events: 1}, stats, false)
	r.Append(translate.Message{Data: []byte("a")}, translate.Message{Gap: translate.GapUpstream})
	r.CountGap(translate.GapEvicted)
	r.CountGap("of no known reason")
	want := len("id: "+r.Position(1)+"\ndata: a\n\n") + len("id: "+r.Position(2)+"\nevent: stream.gap\ndata: {\"reason\":\"upstream\",\"missed\":null}\n\n")
	if stats.Events.Load() != 2 || stats.Bytes.Load() != int64(want) || stats.Gaps[0].Load() != 1 || stats.Gaps[1].Load() != 1 || stats.Gaps[2].Load() != 0 {
		t.Errorf("%d events, %d bytes (want %d), gaps %d %d %d", stats.Events.Load(), stats.Bytes.Load(), want, stats.Gaps[0].Load(), stats.Gaps[1].Load(), stats.Gaps[2].Load())
	}
}

func TestEpochs(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	seen := map[string]bool{}
	for range 100 {
		epoch := NewEpoch(now).String()
		n, err := strconv.ParseUint(epoch, 10, 64)
		if err != nil || n>>20 != 1_800_000_000_000 || !sse.ValidID(epoch+"-1") {
			t.Fatalf("%s: %d, %v", epoch, n>>20, err)
		}
		seen[epoch] = true
	}
	if len(seen) < 90 {
		t.Errorf("only %d of 100 epochs in one millisecond differ", len(seen))
	}
}

var payload = []byte(`{"symbol":"ACME","price":101.25,"volume":12000,"at":"2026-11-22T10:00:00Z"}`)

func BenchmarkRingAppend(b *testing.B) {
	for _, watchers := range []int{0, 100} {
		b.Run(fmt.Sprint(watchers, " watchers"), func(b *testing.B) {
			r := NewRing(NewEpoch(time.Now()), Bounds{Events: 1024, Bytes: 4 << 20}, new(Stats), false)
			for range watchers {
				defer r.Watch(func() {})()
			}
			m := translate.Message{Event: "price", Data: payload}
			b.ReportAllocs()
			for b.Loop() {
				r.Append(m)
			}
		})
	}
}

func BenchmarkRingAfter(b *testing.B) {
	r := NewRing(NewEpoch(time.Now()), Bounds{Events: 1024}, new(Stats), false)
	for range 2000 {
		r.Append(translate.Message{Data: payload})
	}
	last, _ := r.Last()
	for name, cursor := range map[string]uint64{"one": last - 1, "all": last - 1024} {
		b.Run(name, func(b *testing.B) {
			var dst [][]byte
			b.ReportAllocs()
			for b.Loop() {
				dst, _, _, _ = r.After(dst[:0], cursor)
			}
		})
	}
}

// BenchmarkKept is what an event costs where a history is kept, beside one of a ring alone: one stream, events one by one.
func BenchmarkKept(b *testing.B) {
	f, err := history.Open(history.Settings{Dir: b.TempDir(), Sync: time.Second, TTL: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	bounds := Bounds{Events: 1024, Bytes: 4 << 20}
	kept, _, err := f.Stream("r", [32]byte{}, 1)
	if err != nil {
		b.Fatal(err)
	}
	plain, ring := NewRing(2, bounds, new(Stats), false), NewRing(Epoch(kept.Epoch), bounds, new(Stats), false)
	ring.Restore(history.Loaded{})
	if _, err := kept.Lead(b.Context(), &Stream{Ring: ring}); err != nil {
		b.Fatal(err)
	}
	var alone, with time.Duration
	for b.Loop() {
		begun := time.Now()
		for range 100 {
			plain.Append(translate.Message{Data: payload})
		}
		half := time.Now()
		for range 100 {
			last, _ := ring.Last()
			p := ring.Prepare(0, translate.Message{Data: payload})
			batch := ring.Batch(last, false, p)
			batch.State = payload[:20]
			if err := kept.Append(batch); err != nil {
				b.Fatal(err)
			}
			ring.Publish(p)
		}
		alone, with = alone+half.Sub(begun), with+time.Since(half)
	}
	b.ReportMetric(float64(with)/float64(alone), "ratio")
	b.ReportMetric(float64(with-alone)/float64(b.N)/100, "ns-more/event")
}

// TestLinesAreInBlocks: events of several lines lie in blocks as others do, rather than each in an array of its own.
func TestLinesAreInBlocks(t *testing.T) {
	for _, end := range []string{"\n", "\r\n", "\r"} {
		for lines := 1; lines <= 12; lines++ {
			for size := 20; size <= 400; size += 20 {
				r := NewRing(1, Bounds{}, new(Stats), false)
				data, own := []byte(strings.Repeat(strings.Repeat("x", size/lines)+end, lines)), 0
				for range 12 {
					r.Append(translate.Message{Event: "update", Data: data})
					chunk := r.log.events[len(r.log.events)-1].chunk
					if r.log.block == nil || &r.log.block[len(r.log.block)-1] != &chunk[len(chunk)-1] {
						own++
					}
				}
				if own > 0 {
					t.Errorf("%d of 12 events of %d bytes in %d lines that end with %q have arrays of their own", own, size, lines, end)
				}
			}
		}
	}
}

// TestBlocksAreFilled: of the blocks of a small ring, as many private streams have, a quarter at most is neither an event nor what is still to be filled.
func TestBlocksAreFilled(t *testing.T) {
	for size := 20; size <= 2000; size += 20 {
		r := NewRing(1, Bounds{}, new(Stats), false)
		data, blocks := bytes.Repeat([]byte("x"), size), map[*byte]int{}
		for range 12 {
			r.Append(translate.Message{Data: data})
			blocks[&r.log.block[:1][0]] = cap(r.log.block)
		}
		all := -(cap(r.log.block) - len(r.log.block))
		for _, n := range blocks {
			all += n
		}
		if all > r.log.bytes*4/3 {
			t.Errorf("12 events of %d bytes of data take %d bytes of blocks, and are %d", size, all, r.log.bytes)
		}
	}
}
