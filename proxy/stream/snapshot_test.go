package stream

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

// read is all that a client with this cursor gets, and how much it is told to have missed.
func read(t *testing.T, r *Ring, cursor uint64) (text string, next, missed uint64) {
	t.Helper()
	text, next, missed, _ = all(t, r.After, cursor)
	chunked, n, m, _ := all(t, r.Chunks, cursor)
	if got := unchunked(t, chunked); got != text || n != next || m != missed {
		t.Errorf("chunks differ: %q and %q", got, text)
	}
	return text, next, missed
}

// brief writes events as name:data or data, one word each.
func brief(text string) string {
	var words []string
	for block := range strings.SplitSeq(strings.TrimSuffix(text, "\n\n"), "\n\n") {
		name, data := "", ""
		for line := range strings.SplitSeq(block, "\n") {
			field, value, _ := strings.Cut(line, ": ")
			switch field {
			case "event":
				name = value + ":"
			case "data":
				data += value
			}
		}
		words = append(words, name+data)
	}
	return strings.Join(words, " ")
}

func put(r *Ring, key string, data ...any) {
	for _, d := range data {
		r.Append(translate.Message{Key: key, Data: []byte(fmt.Sprint(d))})
	}
}

func TestNewestOfEachKey(t *testing.T) {
	r := NewRing(NewEpoch(time.Now()), Bounds{Events: 3, Start: 1}, new(Stats), false)
	if text, next, missed := read(t, r, Begin); text != "" || next != 0 || missed != 0 {
		t.Errorf("of nothing: %q, %d, %d", text, next, missed)
	}
	put(r, "a", "a1", "a2")
	put(r, "b", "b1")
	for _, step := range []struct {
		key, data string
		begin     string // what a beginner gets
		from1     string // who has the first event only
		missed    uint64
	}{
		{"c", "c1", "a2 b1 c1", "a2 b1 c1", 0},
		{"c", "c2", "a2 b1 c2", "a2 b1 c2", 1}, // c1 is missed, and nothing else
		{"b", "b2", "a2 c2 b2", "a2 c2 b2", 2},
		{"", "x", "a2 c2 b2", "a2 c2 b2", 3}, // without a key, and so not for beginners
		{"c", "c3", "a2 b2 c3", "a2 b2 c3", 4},
		{"c", "c4", "a2 b2 c4", "a2 b2 c4", 5},
		{"a", "a3", "b2 c4 a3", "b2 c4 a3", 6},
	} {
		put(r, step.key, step.data)
		text, next, missed := read(t, r, Begin)
		if last, _ := r.Last(); brief(text) != step.begin || missed != 0 || next != last {
			t.Errorf("%s: a beginner gets %q, %d missed, and goes on after %d", step.data, brief(text), missed, next)
		}
		text, _, missed = read(t, r, 1)
		if brief(text) != step.from1 || missed != step.missed {
			t.Errorf("%s: who has the first gets %q, %d missed", step.data, brief(text), missed)
		}
	}
	// Who has a place in the ring gets what is after it, and nothing else.
	last, _ := r.Last()
	if text, _, missed := read(t, r, last-2); brief(text) != "c4 a3" || missed != 0 {
		t.Errorf("after %d: %q, %d", last-2, brief(text), missed)
	}
}

// Whoever is cut in the middle of the past comes back to where everything after is either kept or said to be missing.
func TestIDsOfThePast(t *testing.T) {
	r := NewRing(NewEpoch(time.Now()), Bounds{Events: 3, Start: 1}, new(Stats), false)
	put(r, "a", "a1")
	put(r, "b", "b1")
	put(r, "c", "c1", "c2", "c3")
	text, _, _ := read(t, r, Begin)
	for i, want := range []string{"a1 b1 c3", "c1 c2 c3", ""} {
		_, id, _ := strings.Cut(strings.Split(text, "\n\n")[i], "id: ")
		id, _, _ = strings.Cut(id, "\n")
		cursor, ok := r.Find(id)
		if !ok {
			t.Fatalf("%q is not known", id)
		}
		text, _, _ := read(t, r, cursor)
		if got := brief(text); got != want {
			t.Errorf("after %s come %q, want %q", id, got, want)
		}
	}
	// The gap before the past leads before everything, so that whoever is cut after it gets the past again.
	cursor, ok := r.Find(r.Position(4))
	if text, _, missed := read(t, r, cursor); !ok || brief(text) != "a1 b1 c3" || missed == 0 {
		t.Errorf("%q, %d missed", brief(text), missed)
	}
}

func TestKeysWithAnotherStart(t *testing.T) {
	for start, want := range map[int]string{0: "", 2: "b1 a2", StartAll: "a1 b1 a2"} {
		r := NewRing(NewEpoch(time.Now()), Bounds{Start: start}, new(Stats), false)
		put(r, "a", "a1")
		put(r, "b", "b1")
		put(r, "a", "a2")
		if text, _, _ := read(t, r, Begin); brief(text) != want {
			t.Errorf("START %d: %q", start, brief(text))
		}
	}
}

// Keys without end cost no more than the ring may hold.
func TestKeysAreBounded(t *testing.T) {
	r := NewRing(NewEpoch(time.Now()), Bounds{Events: 100, Bytes: 20 << 10, Start: 1}, new(Stats), false)
	for i := range 5000 {
		put(r, strconv.Itoa(i), strings.Repeat("x", i%400))
		if n := len(r.snapshot.keys); n > 100 || n != r.snapshot.order.Len() {
			t.Fatalf("%d keys", n)
		}
	}
	detached := 0
	for el := r.snapshot.order.Front(); el != nil; el = el.Next() {
		if k := el.Value.(*keyed); k.own {
			detached += len(k.chunk)
		}
	}
	if detached != r.snapshot.detached || detached > 20<<10 {
		t.Errorf("%d bytes are kept, %d counted", detached, r.snapshot.detached)
	}
}

// A plain model: the newest of each key, in the order of their events.
func TestKeysAgainstModel(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 1))
		r := NewRing(NewEpoch(time.Now()), Bounds{Events: 1 + random.IntN(20), Start: 1}, new(Stats), false)
		keys := 1 + random.IntN(r.bounds.Events)
		newest := map[string]int{}
		for n := 1; n <= 200; n++ {
			key := strconv.Itoa(random.IntN(keys))
			newest[key] = n
			put(r, key, n)
			cursor := uint64(random.IntN(n + 1))
			text, _, missed := read(t, r, cursor)
			got := brief(text)
			var want []int
			if cursor >= r.log.before() {
				for i := int(cursor) + 1; i <= n; i++ {
					want = append(want, i)
				}
			} else {
				want = slices.Sorted(maps.Values(newest))
				rest := slices.DeleteFunc(slices.Clone(want), func(i int) bool { return i <= int(cursor) })
				if missed != uint64(n)-cursor-uint64(len(rest)) {
					t.Fatalf("seed %d: %d missed after %d of %d with %v", seed, missed, cursor, n, want)
				}
			}
			if got != strings.Trim(fmt.Sprint(want), "[]") {
				t.Fatalf("seed %d: after %d of %d come %s, want %v", seed, cursor, n, got, want)
			}
		}
	}
}

func TestSnapshots(t *testing.T) {
	say := func(r *Ring, event, data, state string) {
		r.Append(translate.Message{Event: event, Data: []byte(data), State: []byte(state)})
	}
	for _, start := range []int{0, 1, StartAll} {
		r := NewRing(NewEpoch(time.Now()), Bounds{Events: 2, Start: start}, new(Stats), false)
		say(r, "snapshot", "s1", "s1")
		say(r, "patch", "p2", "s2")
		if text, _, _ := read(t, r, 0); brief(text) != "snapshot:s1 patch:p2" {
			t.Errorf("from the beginning: %q", brief(text))
		}
		say(r, "patch", "p3", "s3")
		text, next, missed := read(t, r, Begin)
		if brief(text) != "snapshot:s3" || next != 3 || missed != 0 || !strings.Contains(text, "id: "+r.Epoch().String()+"-3\n") {
			t.Errorf("START %d: a beginner gets %q", start, text)
		}
		if text, _, missed := read(t, r, 0); brief(text) != "snapshot:s3" || missed != 3 {
			t.Errorf("who has fallen off gets %q, %d missed", brief(text), missed)
		}
		if text, _, missed := read(t, r, 1); brief(text) != "patch:p2 patch:p3" || missed != 0 {
			t.Errorf("who has the first gets %q, %d missed", brief(text), missed)
		}
		r.Append(translate.Message{Gap: translate.GapUpstream})
		if text, next, _ := read(t, r, Begin); brief(text) != "snapshot:s3" || next != 4 {
			t.Errorf("after a gap a beginner gets %q", brief(text))
		}
		r.Close(End{Kind: Finished})
		if text, _, _ := read(t, r, Begin); brief(text) != "snapshot:s3" {
			t.Errorf("after the end a beginner gets %q", brief(text))
		}
	}
}

// The piece is made once for all who come between two events.
func TestThePastIsEncodedOnce(t *testing.T) {
	r := NewRing(NewEpoch(time.Now()), Bounds{Start: 1}, new(Stats), false)
	put(r, "a", 1)
	put(r, "b", 2)
	first, _, _, _ := r.After(nil, Begin)
	second, _, _, _ := r.After(nil, Begin)
	if &first[0][0] != &second[0][0] {
		t.Error("made twice")
	}
	before := string(first[0])
	put(r, "a", 3)
	if third, _, _, _ := r.After(nil, Begin); &third[0][0] == &first[0][0] || string(first[0]) != before {
		t.Error("written again")
	}
}
