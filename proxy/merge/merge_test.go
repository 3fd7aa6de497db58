package merge

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate"
	"sidestream/translate/sse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// legacy is what a part's stream is fed by.
type legacy struct {
	first    []translate.Message // of the first emit, where history
	messages chan translate.Message
	end      chan error
	history  bool
}

func newLegacy() *legacy {
	return &legacy{messages: make(chan translate.Message), end: make(chan error)}
}

func (l *legacy) say(texts ...string) {
	for _, text := range texts {
		l.messages <- translate.Message{Data: []byte(text)}
	}
	synctest.Wait()
}

func (l *legacy) Connect(context.Context) (upstream.Conn, error) { return l, nil }
func (l *legacy) History() bool                                  { return l.history }
func (l *legacy) Save() []byte                                   { return nil }
func (l *legacy) Restore([]byte, []byte) error                   { return nil }
func (l *legacy) Resumed() bool                                  { return true }
func (l *legacy) Send(context.Context, translate.Message) error  { return upstream.ErrNoUplink }
func (l *legacy) Run(ctx context.Context, emit func([]translate.Message) error) error {
	if l.history {
		if err := emit(append([]translate.Message{}, l.first...)); err != nil {
			return err
		}
	}
	for {
		select {
		case m := <-l.messages:
			if err := emit([]translate.Message{m}); err != nil {
				return err
			}
		case err := <-l.end:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// house is parts and the streams that merge them.
type house struct {
	t      *testing.T
	parts  []*legacy
	plan   Plan
	merged *stream.Streams
	rt     *upstream.Route
	seats  []*stream.Seat // that keep parts open
}

// policy is that of a test's streams.
func policy(b stream.Bounds, age time.Duration) stream.Policy {
	return stream.Policy{Bounds: b, Linger: time.Minute, MaxAge: age, Retry: time.Second, Log: slog.New(slog.DiscardHandler), All: stream.NewLimit(0), Own: stream.NewLimit(0)}
}

// build returns parts with these bounds, which merge as a set. It is called in a bubble.
func build(t *testing.T, age time.Duration, bounds ...stream.Bounds) *house {
	rt, err := upstream.Compile(upstream.SourceSettings{From: "routes:"})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, rt: rt, plan: Plan{Indexed: true, Marks: true, Keys: true, Events: 16}}
	for i, b := range bounds {
		l := newLegacy()
		h.parts = append(h.parts, l)
		streams := stream.NewStreams(policy(b, age))
		t.Cleanup(streams.Close)
		h.plan.Parts = append(h.plan.Parts, Part{Label: fmt.Sprint(i), About: fmt.Sprintf(`"from":"/%d"`, i), Start: b.Start, Streams: streams,
			Request: rt.Merged([32]byte{byte(i)}, "part", func(*slog.Logger) upstream.Source { return l }, nil)})
	}
	h.merged = stream.NewStreams(policy(stream.Bounds{Events: 16, Start: stream.StartKeys}, 0))
	t.Cleanup(h.merged.Close)
	return h
}

// open opens the streams of the parts, before anything merges them.
func (h *house) open() {
	for _, part := range h.plan.Parts {
		seat, err := part.Streams.Join(h.t.Context(), part.Request)
		if err != nil {
			h.t.Fatal(err)
		}
		h.seats = append(h.seats, seat)
	}
	synctest.Wait()
}

// join gives a client a seat in the merged stream.
func (h *house) join() (*stream.Seat, *Source) {
	plan := h.plan
	req := h.rt.Merged([32]byte{0xff}, "merged", func(log *slog.Logger) upstream.Source { return New(plan, log) }, nil)
	seat, err := h.merged.Join(h.t.Context(), req)
	if err != nil {
		h.t.Fatal(err)
	}
	synctest.Wait()
	return seat, seat.Source().(*Source)
}

// close ends all of it, within the bubble.
func (h *house) close() {
	h.merged.Close()
	for _, seat := range h.seats {
		seat.Leave()
	}
	for _, part := range h.plan.Parts {
		part.Streams.Close()
	}
	synctest.Wait()
}

// client is one that reads as a page's script does.
type client struct {
	ring   *stream.Ring
	cursor uint64
	skip   map[string]uint64
	last   []string
	got    []string
}

// come is a client's arrival with its places in the parts.
func (h *house) come(ids ...string) *client {
	h.t.Helper()
	seat, source := h.join()
	place, ok := source.Place(h.t.Context(), seat.Ring, ids)
	if !ok {
		h.t.Fatal("no place")
	}
	c := &client{ring: seat.Ring, cursor: place.Cursor, last: make([]string, len(h.plan.Parts))}
	copy(c.last, ids)
	c.take(place.Words)
	return c
}

// read takes what the ring has for the client, and returns all that it has got since it was called last.
func (c *client) read() string {
	for {
		events, next, _, _ := c.ring.After(nil, c.cursor)
		for _, e := range events {
			c.take(e)
		}
		if next == c.cursor || len(events) == 0 {
			break
		}
		c.cursor = next
	}
	got := strings.Join(c.got, " ")
	c.got = nil
	return got
}

func (c *client) take(text []byte) {
	for block := range strings.SplitSeq(strings.TrimSuffix(string(text), "\n\n"), "\n\n") {
		mark, rest, marked := strings.Cut(block, "\n")
		if marked = marked && strings.HasPrefix(mark, ": "); !marked {
			rest = block
		}
		mark = strings.TrimPrefix(mark, ": ")
		label, place, _ := strings.Cut(mark, " ")
		sse.NewDecoder(1<<20).Decode([]byte(rest+"\n\n"), func(e sse.Event) {
			switch {
			case e.Name == openEvent:
				c.open(e.Data)
				return
			case marked && place != "" && c.skip[label] > 0:
				c.skip[label]--
				return
			case marked && place != "":
				var i int
				fmt.Sscan(label, &i)
				c.last[i] = place
			}
			c.got = append(c.got, strings.TrimPrefix(e.Name+"="+string(e.Data), "stream."))
		})
	}
}

func (c *client) open(data []byte) {
	var said struct {
		At   map[string]string
		Skip map[string]uint64
	}
	json.Unmarshal(data, &said)
	c.skip = said.Skip
	for label, id := range said.At {
		var i int
		fmt.Sscan(label, &i)
		if c.last[i] == "" {
			c.last[i] = id
		}
	}
}

func (h *house) want(what, got, want string) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("%s: got\n%s\nwant\n%s", what, got, want)
	}
}

// Each part begins as if it had been asked for alone, for the first client and for those that come later.
func TestStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live, latest, two, all := stream.Bounds{Events: 8}, stream.Bounds{Events: 8, Start: 1}, stream.Bounds{Events: 8, Start: 2}, stream.Bounds{Events: 8, Start: stream.StartAll}
		h := build(t, 0, live, latest, two, all)
		defer h.close()
		h.open()
		for i, text := range []string{"a", "b", "c"} {
			for _, part := range h.parts {
				part.say(text)
				time.Sleep(time.Duration(i+1) * time.Millisecond)
			}
		}
		first := h.come()
		h.want("the first", first.read(), "3=a 2=b 3=b 1=c 2=c 3=c")
		for _, part := range h.parts {
			part.say("d")
		}
		h.want("the first, later", first.read(), "0=d 1=d 2=d 3=d")
		late := h.come()
		h.want("a late one", late.read(), "3=a 3=b 2=c 3=c 1=d 2=d 3=d")
		h.parts[0].say("e")
		h.want("and then", late.read(), "0=e")
		h.want("one that comes back", h.come(first.last...).read(), "0=e")
	})
}

// The newest of each key, and a document, stand in for what was before.
func TestStartsOfKeysAndDocuments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, 0, stream.Bounds{Events: 2, Start: 1}, stream.Bounds{Events: 8, Start: 1})
		defer h.close()
		h.open()
		keyed := func(key, text string) {
			h.parts[0].messages <- translate.Message{Key: key, Data: []byte(text)}
			synctest.Wait()
		}
		document := func(name, text, whole string) {
			h.parts[1].messages <- translate.Message{Event: name, Data: []byte(text), State: []byte(whole)}
			synctest.Wait()
		}
		keyed("x", "x1")
		time.Sleep(time.Millisecond)
		document("snapshot", "{}", "{}")
		time.Sleep(time.Millisecond)
		for _, text := range []string{"y1", "y2", "y3"} { // x1 is in the ring no more
			keyed("y", text)
		}
		document("patch", "+1", "{1}")
		first := h.come()
		h.want("the first", first.read(), "0=x1 0=y3 1:snapshot={1}")
		keyed("x", "x2")
		document("patch", "+2", "{12}")
		h.want("the first, later", first.read(), "0=x2 1:patch=+2")
		h.want("a late one", h.come().read(), "0=y3 0=x2 1:snapshot={12}")
		back := h.come(first.last[0], "1-1") // its place in the document is none
		h.want("one without a place in the document", back.read(), `gap={"reason":"restart","missed":null,"from":"/1"} 1:snapshot={12}`)
		document("patch", "+3", "{123}")
		h.want("and then", back.read(), "1:patch=+3")
	})
}

// A part that has reached its age, or is complete, does not end the others; one that is refused ends the stream for its clients, who are to come back.
func TestPartsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, time.Minute, stream.Bounds{Events: 8}, stream.Bounds{Events: 8})
		defer h.close()
		h.open()
		c := h.come()
		h.parts[0].say("a")
		h.want("at first", c.read(), "0=a")
		time.Sleep(61 * time.Second) // both are replaced
		synctest.Wait()
		gaps := strings.Split(c.read(), " ")
		slices.Sort(gaps)
		h.want("at their age", strings.Join(gaps, " "), `gap={"reason":"restart","missed":null,"from":"/0"} gap={"reason":"restart","missed":null,"from":"/1"}`)
		for _, part := range h.parts { // each has two streams now, of which the older one is still there
			part.say("b", "b")
		}
		if got := c.read(); !strings.Contains(got, "0=b") || !strings.Contains(got, "1=b") {
			t.Errorf("after that: %s", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := build(t, 0, stream.Bounds{Events: 8}, stream.Bounds{Events: 8})
		defer h.close()
		h.open()
		c := h.come()
		h.parts[0].say("a")
		h.parts[0].end <- translate.ErrFinished
		synctest.Wait()
		h.parts[1].say("b")
		h.want("one is complete", c.read(), `0=a end={"from":"/0"} 1=b`)
		late := h.come()
		h.want("for one that comes then", late.read(), "")
		h.parts[1].end <- &translate.Refused{Status: 403}
		synctest.Wait()
		if _, end := c.ring.Last(); end.Kind != stream.Retired {
			t.Errorf("the end is %+v, want one from which clients come back", end)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := build(t, 0, stream.Bounds{Events: 8})
		defer h.close()
		h.open()
		h.parts[0].say("a")
		h.parts[0].end <- translate.ErrFinished
		synctest.Wait()
		seat, _ := h.join() // it was complete before
		if _, end := seat.Ring.Last(); end.Kind != stream.Finished {
			t.Errorf("the end is %+v, want a complete stream", end)
		}
	})
}

// A part that has reached its age, and finds no place, ends the stream for its clients, who are to come back: a source does not begin twice, or all that its
// parts have would come again.
func TestPartFindsNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, time.Minute, stream.Bounds{Events: 8})
		defer h.close()
		h.open()
		c := h.come()
		h.parts[0].say("a")
		h.want("at first", c.read(), "0=a")
		places := h.plan.Parts[0].Streams.All
		places.Take() // another route's
		places.Set(1) // fewer than there are, by a reload
		time.Sleep(61 * time.Second)
		synctest.Wait()
		places.Give()
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, end := c.ring.Last(); end.Kind != stream.Retired {
			t.Errorf("the end is %+v, want one from which clients come back", end)
		}
		h.want("until then", c.read(), "")
		h.come()
		h.parts[0].say("b")
	})
}

// A client may be ahead of what the merged stream has read of a part: it had another connection before. And its place may be older than all that is kept.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, 0, stream.Bounds{Events: 8}, stream.Bounds{Events: 40})
		defer h.close()
		h.open()
		seat, s := h.join()
		ring := h.seats[0].Ring
		h.parts[0].say("a", "b")
		s.mu.Lock() // it reads nothing now
		h.parts[0].messages <- translate.Message{Data: []byte("c")}
		for last := uint64(0); last < 3; last, _ = ring.Last() {
			runtime.Gosched() // whoever waits for a lock keeps the bubble's clock from going on
		}
		p := placing{source: s, ring: seat.Ring, parts: make([]placed, 2)}
		place, _ := p.back([]string{ring.LastID(), ""})
		s.mu.Unlock()
		synctest.Wait()
		c := &client{ring: seat.Ring, cursor: place.Cursor, last: make([]string, 2)}
		c.take(place.Words)
		h.want("one that is ahead", c.read(), "")
		h.parts[0].say("d")
		h.want("and then", c.read(), "0=d")
		old := []string{c.last[0], h.seats[1].Ring.Place(0)}
		for i := range 30 {
			h.parts[1].say(fmt.Sprint(i))
		}
		back := h.come(old...)
		got := back.read()
		if !strings.HasPrefix(got, `gap={"reason":"evicted","missed":null,"from":"/1"} 1=14 `) || !strings.HasSuffix(got, " 1=29") {
			t.Errorf("one that was away for too long got %s", got)
		}
	})
}

// A source goes on where the one before stopped.
func TestRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, 0, stream.Bounds{Events: 8}, stream.Bounds{Events: 8})
		h.plan.Indexed, h.plan.Marks = false, false
		defer h.close()
		h.open()
		_, s := h.join()
		h.parts[0].say("a")
		saved := s.Save()
		h.parts[0].say("b")
		h.parts[1].say("c")
		next := New(h.plan, slog.New(slog.DiscardHandler))
		if err := next.Restore(saved, nil); err != nil {
			t.Fatal(err)
		}
		if next.Restore([]byte("x"), nil) == nil {
			t.Error("nonsense was restored")
		}
		next.Restore(saved, nil)
		conn, err := next.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		ctx, stop := context.WithCancel(t.Context())
		conn.Run(ctx, func(ms []translate.Message) error {
			for _, m := range ms {
				got = append(got, m.Event+"="+string(m.Data))
			}
			stop()
			return nil
		})
		h.want("what it emits first", strings.Join(got, " "), "0=b 1=c")
		var lost []string
		next = New(h.plan, slog.New(slog.DiscardHandler))
		next.Restore([]byte(`{"0":"1-1"}`), nil)
		conn, _ = next.Connect(t.Context())
		ctx, stop = context.WithCancel(t.Context())
		conn.Run(ctx, func(ms []translate.Message) error {
			for _, m := range ms {
				lost = append(lost, m.Gap+string(m.Data))
			}
			stop()
			return nil
		})
		h.want("where a place is unknown", strings.Join(lost, " "), `restart{"reason":"restart","missed":null,"from":"/0"}`)
	})
}
