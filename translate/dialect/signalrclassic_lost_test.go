package dialect

import (
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

// A group that is joined in the place of another one is no less a gap.
func TestSignalRClassicSwapped(t *testing.T) {
	s := classicSession()
	s.connects(t)
	s.hears(t, noon, `{"C":"d-1-A,0|F,3","G":"f","S":1,"M":[]}`)
	s.connects(t)
	s.hears(t, noon, `{"C":"d-1-A,A|F,3","M":[1,1,1,1,1,1,1,1,1,1]}`)
	if got := s.hears(t, noon, `{"C":"d-1-A,C|G,7","G":"g","S":1,"M":[1]}`); len(got.Messages) != 2 || got.Messages[0].Gap != translate.GapUpstream {
		t.Errorf("%+v", got)
	}
}

// The time away begins with the last message, also where that was the one that went on.
func TestSignalRClassicSeen(t *testing.T) {
	s := classicSession()
	s.connects(t)
	s.hears(t, noon, `{"C":"d-1-A,0","S":1,"M":[]}`)
	s.connects(t)
	s.hears(t, noon.Add(20*time.Second), `{"C":"d-1-A,1","S":1,"M":[]}`)
	s.connects(t)
	if got := s.hears(t, noon.Add(40*time.Second), `{"C":"d-1-A,2","S":1,"M":[]}`); !got.Resumed {
		t.Errorf("%+v", got)
	}
}

// A null says nothing.
func TestSignalRClassicNulls(t *testing.T) {
	s := classicSession()
	s.connects(t)
	got := s.hears(t, noon, `{"C":"d-1-A,0","S":1,"T":null,"D":null,"I":null,"E":null,"M":[]}`)
	if !got.Ready {
		t.Errorf("%+v", got)
	}
	s = classicSession("A.B")
	s.connects(t)
	if got := s.hears(t, noon, `{"C":"d-1-A,0","S":null,"M":[]}`); len(got.Replies) > 0 {
		t.Errorf("%+v", got)
	}
}

// What another process saved at a time that has not come yet says nothing of how long the connection was lost.
func TestSignalRClassicClock(t *testing.T) {
	s := classicSession("A")
	s.connects(t)
	s.hears(t, noon, `{"C":"d-1-A,0","S":1,"M":[]}`)
	next := classicSession("A")
	if err := next.Restore(s.Save()); err != nil {
		t.Fatal(err)
	}
	next.connects(t)
	got, err := next.Receive(t.Context(), noon.Add(-time.Hour), Frame{Data: []byte(`{"C":"d-1-A,1","S":1,"M":[]}`)})
	if err == nil || !strings.Contains(err.Error(), "DisconnectTimeout, 30s") {
		t.Errorf("%+v, %v", got, err)
	}
}

// What cannot be read would come again.
func TestSignalRClassicUnreadable(t *testing.T) {
	s := classicSession()
	s.connects(t)
	s.hears(t, noon, `{"C":"d-1-A,0","S":1,"M":[]}`)
	if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`{"C":"d-1-A,1","M":1}`)}); err == nil || s.Resumable() {
		t.Errorf("%v", err)
	}
}
