package stream

import (
	"testing"

	"sidestream/proxy/history"
	"sidestream/translate"
)

// TestEvictedGap: where a gap is among what a client has missed, nobody knows how many events that were, and it gets no number.
func TestEvictedGap(t *testing.T) {
	event := func(key string) translate.Message { return translate.Message{Key: key, Data: []byte("x")} }
	gap := translate.Message{Gap: translate.GapUpstream}
	mark := translate.Message{Gap: translate.GapUpstream, Notice: "stream.gap", Data: []byte(`{"route":"/a"}`), Mark: "at 1-1"}
	for name, one := range map[string]struct {
		appended []translate.Message
		missed   map[uint64]uint64 // by cursor
	}{
		"none":           {[]translate.Message{event(""), event(""), event(""), event(""), event("")}, map[uint64]uint64{0: 3, 1: 2, 3: 0}},
		"let go of":      {[]translate.Message{event(""), gap, event(""), event(""), event("")}, map[uint64]uint64{0: Unknown, 1: Unknown, 2: 1, 3: 0}},
		"a part's":       {[]translate.Message{event(""), mark, event(""), event(""), event("")}, map[uint64]uint64{0: Unknown, 1: Unknown, 2: 1, 3: 0}},
		"kept":           {[]translate.Message{event(""), event(""), event(""), event(""), gap}, map[uint64]uint64{0: 3, 2: 1, 3: 0}},
		"both":           {[]translate.Message{gap, event(""), event(""), event(""), gap}, map[uint64]uint64{0: Unknown, 1: 2, 3: 0}},
		"with keys":      {[]translate.Message{event("a"), event("b"), gap, event("a"), event("c")}, map[uint64]uint64{0: Unknown, 2: Unknown, 3: 0, 4: 0}},
		"with keys kept": {[]translate.Message{event("a"), event("b"), event("a"), gap, event("c")}, map[uint64]uint64{0: Unknown, 2: Unknown, 3: 0}},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewRing(1, Bounds{Events: 2}, new(Stats), false)
			r.Append(one.appended...)
			for cursor, want := range one.missed {
				if _, _, missed, _ := r.After(nil, cursor); missed != want {
					t.Errorf("%d after %d, want %d", missed, cursor, want)
				}
				if rd := r.Read(cursor); rd.Missed != want {
					t.Errorf("read: %d after %d, want %d", rd.Missed, cursor, want)
				}
			}
		})
	}
}

// TestEvictedBeforeARestart: what a process before this one has let go of may have had a gap among it, also where a newer event of each key stands for it.
func TestEvictedBeforeARestart(t *testing.T) {
	for _, key := range []string{"", "a"} {
		r := NewRing(1, Bounds{Events: 2}, new(Stats), false)
		events := theirs(9, 5, "x", "y")
		events[0].Key, events[1].Key = key, key
		r.Restore(history.Loaded{Events: events, Epoch: 9})
		for cursor, want := range map[uint64]uint64{0: Unknown, 3: Unknown, 4: 0} {
			if _, _, missed, _ := r.After(nil, cursor); missed != want {
				t.Errorf("key %q: %d after %d, want %d", key, missed, cursor, want)
			}
			if rd := r.Read(cursor); rd.Missed != want {
				t.Errorf("key %q: read: %d after %d, want %d", key, rd.Missed, cursor, want)
			}
		}
	}
}
