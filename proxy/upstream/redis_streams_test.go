package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/translate"
)

func TestRedisStream(t *testing.T) {
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		r.add("a", entryID{5, 0}, "old", "1")
		k := start(t, SourceSettings{From: "redis://h?stream=a", Idle: 20 * time.Second, MaxMessage: 40, Event: "$topic", Data: "."})
		synctest.Wait()
		r.add("a", entryID{7, 1}, "id", "1", "text", "a\"\n日")
		synctest.Wait()
		r.add("a", entryID{7, 2})
		synctest.Wait()
		r.cut()
		r.add("a", entryID{7, 3}, "long", strings.Repeat("x", 40))
		r.add("a", entryID{7, 4}, "raw", "\xff")
		time.Sleep(time.Second)
		k.expect("0s ", `0s a:{"id":"1","text":"a\"\n日"}#7-1`, "0s a:{}#7-2", "0s lost: the Redis closed the connection", "1s ",
			`1s gap upstream a:{"raw":"/w=="}#7-4`)
		k.end()
	})
	// However many fields the first entry has, what comes after it is seen.
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		w := watch(t, SourceSettings{From: "redis://h?stream=a", Idle: 20 * time.Second}, nil)
		time.Sleep(time.Second)
		w.end()
		r.add("a", entryID{7, 1}, slices.Repeat([]string{"n", ""}, 5000)...)
		r.add("a", entryID{7, 2}, "n", "2")
		w = watch(t, SourceSettings{From: "redis://h?stream=a", Idle: 20 * time.Second}, w)
		time.Sleep(time.Second)
		if w.end(); len(*w.seen) != 2 || (*w.seen)[1] != `{"n":"2"}` {
			t.Errorf("%d events", len(*w.seen))
		}
	})
	// Entries of two streams may have the same id.
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		k := start(t, SourceSettings{From: "redis://h?stream=a&stream=b", Binary: "drop"})
		synctest.Wait()
		r.add("a", entryID{7, 1}, "n", "1")
		synctest.Wait()
		r.add("b", entryID{7, 1}, "n", "\xff")
		k.expect("0s ", `0s {"n":"1"}#a:7-1`, `0s {"n":null}#b:7-1`)
		k.end()
	})
}

// TestRedisStreamAgainstModel has entries added, trimmed, deleted, the stream dropped and begun anew, connections cut and the process replaced, at random:
// each entry arrives once and in order, and where one does not there is a gap, after it was added and at the latest two seconds after the next one that
// arrives. Where nothing is taken away there is no gap.
func TestRedisStreamAgainstModel(t *testing.T) {
	for seed := range 100 {
		withRedis(t, func(t *testing.T, r *fakeRedis) { modelled(t, r, rand.New(rand.NewPCG(uint64(seed), 2)), seed%4 == 0) })
	}
}

func modelled(t *testing.T, r *fakeRedis, random *rand.Rand, keeps bool) {
	settings := SourceSettings{From: "redis://h?stream=a", Idle: 20 * time.Second}
	w := watch(t, settings, nil)
	time.Sleep(2 * time.Second)
	added := []time.Time{{}}
	add := func() {
		r.add("a", entryID{}, "n", fmt.Sprint(len(added)))
		added = append(added, time.Now())
	}
	for range 60 {
		switch n := random.IntN(20); {
		case n < 9:
			for range 1 + random.IntN(4) {
				add()
			}
		case n < 11:
			r.cut()
		case n < 12:
			w = watch(t, settings, w.end())
		case keeps:
		case n < 14:
			r.trim("a", random.IntN(4))
		case n < 15:
			r.change("a", func(s *fakeStream) {
				if len(s.entries) > 0 {
					i := random.IntN(len(s.entries))
					s.entries = slices.Delete(slices.Clone(s.entries), i, i+1)
				}
			})
		case n < 16:
			r.drop("a")
		}
		if random.IntN(3) > 0 {
			time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
		}
	}
	add()
	time.Sleep(time.Minute) // until all is looked at
	w.end()
	if problem := faults(*w.seen, *w.at, added, keeps); problem != "" {
		t.Errorf("%s\n%s", problem, strings.Join(*w.seen, " "))
	}
}

// faults are what is wrong with what was seen, and when, of entries that were added at these times.
func faults(seen []string, at, added []time.Time, keeps bool) string {
	last := 0 // the newest entry
	for i, line := range append(slices.Clone(seen), fmt.Sprintf(`{"n":"%d"}`, len(added))) {
		var n int
		if fmt.Sscanf(line, `{"n":"%d"}`, &n); line == "gap" {
			if keeps {
				return "a gap, though nothing was taken away"
			}
			continue
		}
		if n <= last {
			return fmt.Sprintf("%d after %d", n, last)
		}
		if n > last+1 && !told(seen, at, added[n-1], append(at, at[len(at)-1])[i].Add(2*time.Second)) {
			return fmt.Sprintf("%d after %d, and no gap", n, last)
		}
		last = n
	}
	return ""
}

// told reports whether there is a gap in this time.
func told(seen []string, at []time.Time, from, to time.Time) bool {
	for i, line := range seen {
		if line == "gap" && !at[i].Before(from) && !at[i].After(to) {
			return true
		}
	}
	return false
}

// watched is a stream's life over several sources, as proxy/stream has it.
type watched struct {
	seen  *[]string
	at    *[]time.Time // when
	saved []byte
	end   func() *watched
}

// watch goes on from what before has saved, or begins.
func watch(t *testing.T, s SourceSettings, before *watched) *watched {
	w := &watched{seen: new([]string), at: new([]time.Time)}
	source := expanded(t, compiled(t, s), "/").Source(quietLog)
	owed, resumes := false, false
	if before != nil {
		w.seen, w.at, w.saved, owed = before.seen, before.at, before.saved, true
		resumes = len(w.saved) > 0 && source.Restore(w.saved, nil) == nil
	}
	done := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	emit := func(ms []translate.Message) error {
		for _, m := range ms {
			line := string(m.Data)
			if m.Gap != "" {
				line = "gap"
			}
			*w.seen, *w.at = append(*w.seen, line), append(*w.at, time.Now())
		}
		if saved := source.Save(); saved != nil {
			w.saved = saved
		}
		return ctx.Err()
	}
	go func() { // ends with stop
		defer close(done)
		for ctx.Err() == nil {
			c, err := source.Connect(ctx)
			if err == nil {
				if owed && (!resumes || !c.Resumed()) {
					emit([]translate.Message{{Gap: translate.GapUpstream}})
				}
				owed, resumes = false, true
				err = c.Run(ctx, emit)
				var retry *Retry
				if owed = errors.As(err, &retry) && retry.Resumes; !owed && ctx.Err() == nil {
					emit([]translate.Message{{Gap: translate.GapUpstream}})
				}
			}
			sleep(ctx, time.Second)
		}
	}()
	w.end = func() *watched { stop(); <-done; return w }
	return w
}

// The servers before 7 do not count: where the first entry is after our place, it cannot be told what was before it.
func TestOldRedis(t *testing.T) {
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		r.old = true
		for i := range uint64(3) {
			r.add("a", entryID{1, i + 1}, "n", fmt.Sprint(i))
		}
		w := watch(t, SourceSettings{From: "redis://h?stream=a", Idle: 20 * time.Second}, nil)
		step := func(want ...string) {
			t.Helper()
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if !slices.Equal(*w.seen, want) {
				t.Errorf("%q, want %q", *w.seen, want)
			}
			*w.seen = nil
		}
		step()
		r.cut()
		r.add("a", entryID{1, 4}, "n", "3")
		step(`{"n":"3"}`)
		r.trim("a", 1) // with our place still in it
		r.cut()
		r.add("a", entryID{1, 5}, "n", "4")
		step(`{"n":"4"}`)
		r.cut()
		r.add("a", entryID{1, 6}, "n", "5")
		r.add("a", entryID{1, 7}, "n", "6")
		r.trim("a", 1)
		step("gap", `{"n":"6"}`)
		r.add("a", entryID{1, 8}, "n", "7")
		step(`{"n":"7"}`)
		r.cut()
		r.add("a", entryID{1, 9}, "n", "8")
		r.trim("a", 0)
		step("gap")
		r.drop("a")
		step("gap")
		r.add("a", entryID{1, 1}, "n", "anew")
		step(`{"n":"anew"}`)
		w.end()
	})
}

// A stream that begins anew with smaller ids between two looks is not waited for in vain.
func TestRedisStreamBeginsAnew(t *testing.T) {
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		r.add("a", entryID{100, 0}, "n", "0")
		w := watch(t, SourceSettings{From: "redis://h?stream=a", Idle: 20 * time.Second}, nil)
		time.Sleep(time.Second)
		r.drop("a")
		r.add("a", entryID{7, 0}, "n", "1")
		time.Sleep(streamCheck)
		synctest.Wait()
		if want := []string{"gap", `{"n":"1"}`}; !slices.Equal(*w.seen, want) {
			t.Errorf("%q, want %q", *w.seen, want)
		}
		w.end()
	})
}

// What was found to be missing is said though the connection failed that has found it.
func TestLossIsNotForgottenWithItsConnection(t *testing.T) {
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		w := watch(t, SourceSettings{From: "redis://h?stream=a&stream=b", Idle: 20 * time.Second}, nil)
		r.add("a", entryID{1, 1}, "n", "0")
		r.add("b", entryID{1, 1}, "n", "0")
		time.Sleep(15 * time.Second)
		synctest.Wait()
		*w.seen = nil
		r.trim("a", 0)
		r.add("a", entryID{1, 2}, "n", "1")
		r.trim("a", 0)
		failed := 0
		r.answers(func(c *fakePeer, words []string) (string, bool) {
			if words[0] == "XINFO" && words[2] == "b" && failed < 2 {
				failed++
				c.Close()
			}
			return "", false
		})
		r.cut()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if failed != 2 || !slices.Contains(*w.seen, "gap") {
			t.Errorf("after %d failures %q", failed, *w.seen)
		}
		w.end()
	})
}

func TestRedisStreamSaves(t *testing.T) {
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		settings := SourceSettings{From: "redis://h?stream=secret&stream=b", Idle: 20 * time.Second, Select: "select(.n)"}
		w := watch(t, settings, nil)
		time.Sleep(time.Second)
		w.end()
		if len(w.saved) == 0 || strings.Contains(string(w.saved), "secret") {
			t.Fatalf("saved before the first event: %q", w.saved)
		}
		for i := range 300 {
			r.add("secret", entryID{}, "n", fmt.Sprint(i))
			r.add("b", entryID{}, "other", fmt.Sprint(i))
		}
		w = watch(t, settings, w)
		time.Sleep(10 * time.Second)
		r.add("b", entryID{}, "other", "nothing of it is emitted, and its place is saved")
		time.Sleep(10 * time.Second)
		w.end()
		if len(*w.seen) != 300 || (*w.seen)[299] != `{"n":"299"}` {
			t.Errorf("%d events", len(*w.seen))
		}
		r.trim("secret", 0)
		r.trim("b", 0)
		w = watch(t, settings, w)
		time.Sleep(10 * time.Second)
		w.end()
		if len(*w.seen) != 300 {
			t.Errorf("then %q", (*w.seen)[300:])
		}
		other := expanded(t, compiled(t, SourceSettings{From: "redis://h?stream=secret&stream=c"}), "/").Source(quietLog)
		if err := other.Restore(w.saved, nil); err != nil {
			t.Error(err)
		}
		if c, err := other.Connect(t.Context()); err != nil || c.Resumed() {
			t.Errorf("a stream that was not read before is gone on with: %v", err)
		} else {
			c.(*redisStreamsConn).conn.Close()
		}
		source := expanded(t, compiled(t, settings), "/").Source(quietLog)
		for _, saved := range []string{"", "x", "\x011", string(save("a", "1-1", "2")), string(save("a", "1", "2", "b", "1-1", "2")), string(save("a", "1-1", "x", "b", "1-1", "2"))} {
			if err := source.Restore([]byte(saved), nil); err == nil {
				t.Errorf("%q is restored", saved)
			}
		}
		if channel := expanded(t, compiled(t, SourceSettings{From: "redis://h?channel=a"}), "/").Source(quietLog); channel.Save() != nil || channel.Restore([]byte("x"), nil) == nil {
			t.Error("a channel has a place")
		}
	})
}
