package dialect

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const cableRoom = `{"channel":"C","room":"a"}`

func cableSession(lines ...string) *cable {
	return newActionCable(Options{
		Dial: func() (Dial, error) {
			return Dial{URL: "ws://h/cable?a=b", Header: http.Header{}, Subprotocols: cableOffered}, nil
		},
		Subscribe: fixedLines(lines...),
	}).(*cable)
}

func (s *cable) hears(texts ...string) (got Received, err error) { return s.hearsAt(noon, texts...) }

func (s *cable) hearsAt(now time.Time, texts ...string) (got Received, err error) {
	for _, text := range texts {
		if got, err = s.Receive(context.Background(), now, Frame{Data: []byte(text)}); err != nil {
			return got, err
		}
	}
	return got, nil
}

const cableConfirmed = `{"type":"confirm_subscription","identifier":"{\"channel\":\"C\",\"room\":\"a\"}"}`

func cableData(stream, epoch string, offset int) string {
	return fmt.Sprintf(`{"identifier":"{\"channel\":\"C\",\"room\":\"a\"}","message":%d,"stream_id":%q,"epoch":%q,"offset":%d}`, offset, stream, epoch, offset)
}

func TestActionCableCheck(t *testing.T) {
	for line, want := range map[string]string{
		cableRoom: "", `{ "channel" : "C" }`: "",
		"ChatChannel": "not a JSON object", `["C"]`: "not a JSON object", `{"channel":"C"`: "not a JSON object", `{"room":"a"}`: "no channel", `{"channel":7}`: "not a JSON object",
	} {
		err := checkActionCable("", []string{cableRoom, line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

// AnyCable may choose Rails' protocol of the two; its sid tells, and the next connection offers only the extension.
func TestActionCableFindsAnyCable(t *testing.T) {
	s := cableSession(cableRoom)
	s.Open(cableV1)
	s.hears(`{"type":"welcome","sid":"x"}`, cableConfirmed, `{"type":"ping","message":1700000000}`)
	if d, _ := s.Dial(nil); !slices.Equal(d.Subprotocols, []string{cableExtended}) || d.URL != "ws://h/cable?a=b" || s.Resumable() {
		t.Errorf("%+v, resumable %v", d, s.Resumable())
	}
	s.Open(cableExtended)
	s.hears(`{"type":"welcome","sid":"a&b"}`, cableConfirmed)
	if s.Resumable() {
		t.Error("resumable before any ping")
	}
	s.hears(`{"type":"ping","message":1700000003}`)
	if d, _ := s.Dial(nil); d.URL != "ws://h/cable?a=b&sid=a%26b" || !s.Resumable() {
		t.Errorf("%+v, resumable %v", d, s.Resumable())
	}
}

// A server that never answers for its history is not asked again.
func TestActionCableSilentHistory(t *testing.T) {
	s := cableSession(cableRoom)
	s.Open(cableExtended)
	s.hears(`{"type":"welcome","sid":"x"}`, cableConfirmed, `{"type":"ping","message":1700000000}`)
	s.Open(cableExtended)
	if got, _ := s.hears(`{"type":"welcome","sid":"x"}`, cableConfirmed); got.Ready {
		t.Error("ready without its history")
	}
	s.Open(cableExtended)
	if got, _ := s.hears(`{"type":"welcome","sid":"x"}`, cableConfirmed); !got.Ready || got.Resumed {
		t.Errorf("%+v", got)
	}
}

func TestActionCableBounds(t *testing.T) {
	s := cableSession(cableRoom)
	s.Open(cableExtended)
	s.hears(`{"type":"welcome","sid":"x"}`, cableConfirmed, `{"type":"ping","message":1700000000}`)
	for i := range 3 * maxCableSeen {
		s.hears(cableData("s", "e", i))
	}
	at := s.streams[cableRoom]["s"]
	if len(at.seen) != maxCableSeen || at.complete() != 3*maxCableSeen-1 {
		t.Errorf("%d offsets, at %d", len(at.seen), at.complete())
	}
	if got, _ := s.hears(cableData("s", "e", 3*maxCableSeen-5)); len(got.Messages) != 0 {
		t.Error("delivered twice")
	}
	if got, _ := s.hears(cableData("s", "other", 1)); len(got.Messages) != 1 || !s.Resumable() {
		t.Error("a new epoch is none")
	}
	for i := range maxCableKeeps + 1 {
		s.hears(cableData(fmt.Sprint("s", i), "e", 1))
	}
	if len(s.streams[cableRoom]) != maxCableKeeps || s.Resumable() {
		t.Errorf("%d streams, resumable %v", len(s.streams[cableRoom]), s.Resumable())
	}
}

// A broadcast that was overtaken, and had not come when the connection was lost, is in the history that is asked for.
func TestActionCableAsksForWhatWasOvertaken(t *testing.T) {
	for name, c := range map[string]struct {
		came []int
		want string
	}{
		"in order": {[]int{3, 4, 5}, `"offset":5`}, "out of order": {[]int{3, 5, 4}, `"offset":5`}, "one is missing": {[]int{3, 4, 6}, `"offset":4`},
		"the first is the last": {[]int{6, 3}, `"offset":3`}, "one": {[]int{7}, `"offset":7`}, "the largest": {[]int{math.MaxInt, 1}, `"offset":1`},
	} {
		s := cableSession(cableRoom)
		s.Open(cableExtended)
		s.hears(`{"type":"welcome","sid":"x"}`, cableConfirmed, `{"type":"ping","message":1700000000}`)
		for _, offset := range c.came {
			s.hears(cableData("s", "e", offset))
		}
		s.Open(cableExtended)
		got, err := s.hears(`{"type":"welcome","sid":"y"}`)
		if err != nil || len(got.Replies) != 1 || !strings.Contains(string(got.Replies[0].Data), c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		last := c.came[len(c.came)-1]
		if got, _ := s.hears(cableData("s", "e", last)); len(got.Messages) != 0 {
			t.Errorf("%s: %d came twice", name, last)
		}
	}
}

// A stream that had said nothing has no position: AnyCable is asked by time, and does not tell what its history has lost.
func TestActionCableQuietStream(t *testing.T) {
	for name, c := range map[string]struct {
		before, during int
		gone           time.Duration
		restored       bool
		want           bool
	}{
		"silent": {0, 0, time.Minute, true, true}, "silent for long": {0, 0, 5*time.Minute - 10*time.Second, true, false},
		"silent, just not too long": {0, 0, 4*time.Minute + 30*time.Second - 1, true, true}, "silent, just too long": {0, 0, 4*time.Minute + 30*time.Second, true, false},
		"some": {0, 99, time.Minute, true, true}, "as many as are kept": {0, 100, time.Minute, true, false},
		"many, from a position": {1, 120, time.Minute, true, true},
		// For all that can be known, AnyCable was restarted.
		"silent, not restored": {0, 0, time.Minute, false, false}, "some, not restored": {0, 9, time.Minute, false, false},
		"from a position, not restored": {1, 120, time.Minute, false, true},
	} {
		s := cableSession(cableRoom)
		s.Open(cableExtended)
		s.hears(`{"type":"welcome","sid":"x"}`, cableConfirmed, `{"type":"ping","message":1700000000}`)
		for i := range c.before {
			s.hears(cableData("s", "e", i))
		}
		back := noon.Add(c.gone)
		s.Open(cableExtended)
		got, _ := s.hearsAt(back, fmt.Sprintf(`{"type":"welcome","sid":"y","restored":%v}`, c.restored))
		for i := range c.during {
			s.hearsAt(back, cableData("s", "e", c.before+i))
		}
		if !got.Ready {
			got, _ = s.hearsAt(back, cableConfirmed, cableHistoryConfirmed)
		}
		if !got.Ready || got.Resumed != c.want {
			t.Errorf("%s: ready %v, resumed %v", name, got.Ready, got.Resumed)
		}
	}
}

const cableHistoryConfirmed = `{"type":"confirm_history","identifier":"{\"channel\":\"C\",\"room\":\"a\"}"}`

// What came in a complete history is not counted in the next one.
func TestActionCableTwoHistories(t *testing.T) {
	s := cableSession(cableRoom)
	s.Open(cableExtended)
	s.hears(`{"type":"welcome","sid":"x"}`, cableConfirmed, `{"type":"ping","message":1700000000}`)
	for round := range 3 {
		s.Open(cableExtended)
		s.hears(`{"type":"welcome","sid":"y","restored":true}`)
		for i := range 60 {
			s.hears(cableData("s", "e", 60*round+i))
		}
		if got, _ := s.hears(cableHistoryConfirmed); !got.Ready || !got.Resumed {
			t.Errorf("round %d: ready %v, resumed %v", round, got.Ready, got.Resumed)
		}
		s.hears(`{"type":"ping","message":1700000100}`)
	}
}

func TestActionCableSilence(t *testing.T) {
	for pings, want := range map[string]time.Duration{
		"": 0, "1700000000": 12 * time.Second, "1700000000 1700000003": 12 * time.Second, "1700000000 1700000010": 40 * time.Second,
		"1700000000000 1700000010000": 40 * time.Second, "1700000000 1700009999": 12 * time.Second, "1700000000 1700000100": 2 * time.Minute, `"x" null`: 12 * time.Second, "-1 1e300": 12 * time.Second,
	} {
		s := cableSession(cableRoom)
		s.Open(cableV1)
		for ping := range strings.FieldsSeq(pings) {
			s.hears(`{"type":"ping","message":` + ping + `}`)
		}
		if got := s.Timers().Silence; got != want {
			t.Errorf("%s: %v, want %v", pings, got, want)
		}
	}
}

func FuzzActionCable(f *testing.F) {
	welcome, ping := "\x00{\"type\":\"welcome\",\"sid\":\"x\"}", "\x00{\"type\":\"ping\",\"message\":1700000000}"
	f.Add(pieces("\x07", welcome, "\x00"+cableConfirmed, ping, "\x00"+cableData("s", "e", 1), "\x06", "\x07", "\x00{\"type\":\"welcome\",\"sid\":\"x\",\"restored\":true}"), true)
	f.Add(pieces(welcome, "\x00"+cableConfirmed, "\x04{\"identifier\":{\"channel\":\"C\"},\"data\":\"x\"}", "\x04{\"a\":1}", "\x00{\"type\":\"disconnect\",\"reconnect\":true,\"reason\":\"no_pong\"}"), true)
	f.Add(pieces(welcome, "\x00{\"identifier\":\"x\",\"message\":\"<b>\"}", "\x00{\"type\":\"ping\",\"message\":1e300}"), false)
	f.Fuzz(func(t *testing.T, script []byte, extended bool) {
		s := cableSession(cableRoom)
		s.Open(cableV1)
		drive(t, &spokenCable{s, extended}, script, func() {
			if len(s.streams) > 1 || len(s.streams[cableRoom]) > maxCableKeeps || len(s.sid) > maxCableID || len(s.confirm) > 1 || s.silence > cableLongest || s.silence < 0 {
				t.Fatal("it grows")
			}
		})
	})
}

// spokenCable has had its protocol chosen.
type spokenCable struct {
	*cable
	extended bool
}

func (s *spokenCable) Open(string) ([]Frame, error) {
	if s.extended {
		return s.cable.Open(cableExtended)
	}
	return s.cable.Open(cableV1)
}
