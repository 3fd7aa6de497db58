package stream

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/history"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// store is one that several processes could share: the test says who leads, what others append, and what becomes of appends.
type store struct {
	mu      sync.Mutex
	loaded  history.Loaded
	opening chan struct{} // Open waits until it is closed; nil: it does not
	term    chan history.Term
	append  func(history.Batch) error // nil: all is kept
	batches []history.Batch
	asked   int
	arrives func(history.Follower) // called by Refresh
	f       history.Follower
	closed  bool
}

func (s *store) Open(ctx context.Context, _ string, _ [sha256.Size]byte, _ uint64) (history.Log, history.Loaded, error) {
	if s.opening != nil {
		select {
		case <-s.opening:
		case <-ctx.Done():
			return nil, history.Loaded{}, ctx.Err()
		}
	}
	return s, s.loaded, nil
}

func (s *store) Holder(context.Context, string, [sha256.Size]byte) (string, error) { return "", nil }

func (s *store) Lead(ctx context.Context, f history.Follower) (history.Term, error) {
	s.mu.Lock()
	s.f = f
	s.mu.Unlock()
	select {
	case t := <-s.term:
		return t, nil
	default:
		f.Follows()
	}
	select {
	case t, ok := <-s.term:
		if !ok {
			return t, history.ErrEnded
		}
		return t, nil
	case <-ctx.Done():
		return history.Term{}, ctx.Err()
	}
}

func (s *store) Append(b history.Batch) error {
	s.mu.Lock()
	do := s.append
	s.mu.Unlock()
	if do != nil {
		if err := do(b); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, b)
	return nil
}

func (s *store) Refresh(context.Context) {
	s.mu.Lock()
	s.asked++
	f, do := s.f, s.arrives
	s.mu.Unlock()
	if do != nil {
		do(f)
	}
}

func (s *store) Brief() bool { return false }

func (s *store) Close() { s.closed = true }

// kept is what all batches have, with their states.
func (s *store) kept() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, batch := range s.batches {
		for _, e := range batch.Events {
			_, data, _ := strings.Cut(string(e.Data), "data: ")
			data, _, _ = strings.Cut(data, "\n")
			fmt.Fprintf(&b, "%d-%d %s ", e.Epoch, e.Seq, data)
		}
		fmt.Fprintf(&b, "[%s] ", batch.State)
	}
	return strings.TrimSpace(b.String())
}

// sharing runs f in a bubble with streams of the store and source that made makes, in it too.
func sharing(t *testing.T, made func() (*store, *legacy), f func(t *testing.T, st *store, l *legacy, s *Streams)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		st, l := made()
		l.begun = time.Now()
		s := NewStreams(Policy{Log: slog.New(slog.DiscardHandler), History: st, Linger: time.Minute, All: new(Limit), Own: new(Limit), Bounds: Bounds{Events: 100}})
		s.source = func(*upstream.Request, *slog.Logger) upstream.Source { return &fakeSource{legacy: l} }
		f(t, st, l, s)
		s.Close()
		if !st.closed {
			t.Error("the log is not closed")
		}
	})
}

// theirs are events of another process's, from seq on.
func theirs(epoch, seq uint64, texts ...string) (events []history.Event) {
	for i, text := range texts {
		p := history.Position{Epoch: epoch, Seq: seq + uint64(i)}
		events = append(events, history.Event{Position: p, At: time.Now(), Data: []byte(fmt.Sprintf("data: %s\nid: %d-%d\n\n", text, p.Epoch, p.Seq))})
	}
	return events
}

func marker(epoch uint64) []history.Event {
	return []history.Event{{Position: history.Position{Epoch: epoch}}}
}

// full is what a client at cursor gets, with the ids.
func full(r *Ring, cursor uint64) string {
	events, _, missed, _ := r.After(nil, cursor)
	text := ""
	if missed == Unknown {
		text = "missed some "
	} else if missed > 0 {
		text = fmt.Sprintf("missed %d ", missed)
	}
	for _, e := range events {
		var data, id string
		for _, line := range strings.Split(string(e), "\n") {
			if d, ok := strings.CutPrefix(line, "data: "); ok {
				data = d
			}
			if d, ok := strings.CutPrefix(line, "id: "); ok {
				id = d
			}
		}
		text += data + "=" + id + " "
	}
	return strings.TrimSpace(text)
}

// TestFollowing: a stream that follows dials nothing, has the events of the one who leads with their ids, and goes on from there when it
// leads itself, without what is owed where the source resumes.
func TestFollowing(t *testing.T) {
	sharing(t, func() (*store, *legacy) {
		l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
			emit("mine")
			return silent(ctx)
		}}
		return &store{term: make(chan history.Term, 1), loaded: history.Loaded{Epoch: 5, Events: theirs(5, 7, "a", "b")}}, l
	}, func(t *testing.T, st *store, l *legacy, s *Streams) {
		seat := join(t, s, "k")
		if len(l.Dials()) != 0 || !seat.Decided {
			t.Errorf("dialled %v, decided %v", l.Dials(), seat.Decided)
		}
		st.f.Take(theirs(5, 9, "c"), nil, nil, false)
		st.f.Take(append(marker(8), theirs(8, 1, "d")...), nil, nil, false)
		if got := full(seat.Ring, 6); got != "a=5-7 b=5-8 c=5-9 d=8-1" {
			t.Errorf("%s", got)
		}
		for id, want := range map[string]uint64{"5-8": 8, "5-9": 9, "8-0": 9, "8-1": 10} {
			if got, ok := seat.Ring.Find(id); !ok || got != want {
				t.Errorf("%s is at %d, %v", id, got, ok)
			}
		}
		st.term <- history.Term{Epoch: 20, Again: true, State: []byte("there")}
		synctest.Wait()
		// fakeSource restores nothing, so that the interruption is not bridged.
		if got := full(seat.Ring, 9); got != `d=8-1 {"reason":"upstream","missed":null}=20-1 mine=20-2` {
			t.Errorf("%s", got)
		}
		if got := st.kept(); got != `20-1 {"reason":"upstream","missed":null} [] 20-2 mine []` && got != `20-1 {"reason":"upstream","missed":null} 20-2 mine []` {
			t.Errorf("kept %s", got)
		}
	})
}

// TestTermsFollowEachOther: when another process runs the source, the stream follows that, and can run it again; when the stream is not wanted any
// more, in whichever of these, it ends.
func TestTermsFollowEachOther(t *testing.T) {
	for _, ends := range []string{"leading", "following"} {
		sharing(t, func() (*store, *legacy) {
			st := &store{term: make(chan history.Term, 1)}
			st.term <- history.Term{Epoch: 3}
			return st, &legacy{run: func(ctx context.Context, _ int, emit func(...string) error) error {
				emit("mine")
				return silent(ctx)
			}}
		}, func(t *testing.T, st *store, l *legacy, s *Streams) {
			seat := join(t, s, "k")
			for n := range 3 {
				synctest.Wait()
				if dials := len(l.Dials()); dials != n+1 {
					t.Fatalf("%d dials in term %d", dials, n+1)
				}
				st.f.TermOver()
				synctest.Wait()
				if infos := s.infos(); len(infos) != 1 || infos[0].State != Following {
					t.Fatalf("after term %d: %+v", n+1, infos)
				}
				st.f.Take(append(marker(uint64(10*n+4)), theirs(uint64(10*n+4), 1, fmt.Sprint("theirs ", n+1))...), nil, nil, false)
				if n < 2 || ends == "leading" {
					st.term <- history.Term{Epoch: uint64(10*n + 5), Again: true}
				}
			}
			synctest.Wait()
			got := full(seat.Ring, 0)
			for _, want := range []string{"mine=3-1 theirs 1=4-1 ", "mine=5-2 theirs 2=14-1 ", "mine=15-2 theirs 3=24-1"} {
				if !strings.Contains(got, want) {
					t.Errorf("there is no %s in %s", want, got)
				}
			}
			s.Stop(seat.Stream.Request().Key)
			time.Sleep(time.Second)
			synctest.Wait()
			if !st.closed {
				t.Error(ends, "it does not end")
			}
		})
	}
}

// TestHole: what is missing is said once, at the place before what follows, to all clients that were there before.
func TestHole(t *testing.T) {
	for name, c := range map[string]struct {
		events []history.Event
		want   string
	}{
		"in an epoch": {theirs(5, 20, "x"), `{"reason":"history","missed":null}=5-19 x=5-20`},
		"a new epoch": {theirs(9, 1, "x"), `{"reason":"history","missed":null}=9-0 x=9-1`},
		"its marker":  {append(marker(9), theirs(9, 1, "x")...), `{"reason":"history","missed":null}=9-0 x=9-1`},
		"later in it": {theirs(9, 40, "x"), `{"reason":"history","missed":null}=9-39 x=9-40`},
	} {
		r := NewRing(1, Bounds{Events: 100}, new(Stats), false)
		r.Restore(history.Loaded{Epoch: 5, Events: theirs(5, 1, "a", "b")})
		r.Follow(c.events, nil, nil, true)
		for cursor := range uint64(3) {
			if got := full(r, cursor); got != c.want {
				t.Errorf("%s, from %d: %s", name, cursor, got)
			}
		}
		if cursor, ok := r.Find("5-1"); !ok || full(r, cursor) != c.want {
			t.Errorf("%s: 5-1 is known: %v", name, ok)
		}
		last := c.events[len(c.events)-1]
		id := fmt.Sprintf("%d-%d", last.Epoch, last.Seq)
		cursor, ok := r.Find(id)
		if !ok || full(r, cursor) != "" || r.LastID() != id {
			t.Errorf("%s: %s is at %d, %v; the last is %s", name, id, cursor, ok, r.LastID())
		}
		r.Follow(theirs(last.Epoch, last.Seq+1, "y"), nil, nil, false)
		if got := full(r, cursor); got != fmt.Sprintf("y=%d-%d", last.Epoch, last.Seq+1) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestAheadOfTheReplica: a client that comes from another replica may have what this one has not. It is neither told that its id is unknown,
// nor given anything twice; where the epoch ends before its place is reached, it is told.
func TestAheadOfTheReplica(t *testing.T) {
	ring := func() *Ring {
		r := NewRing(1, Bounds{Events: 100}, new(Stats), false)
		r.Restore(history.Loaded{Epoch: 5, Events: theirs(5, 1, "a", "b")})
		r.share(func(context.Context) {})
		r.Follows()
		return r
	}
	r := ring()
	cursor, ok := r.FindAnywhere(t.Context(), "5-4")
	if !ok || full(r, cursor) != "" {
		t.Fatalf("%d, %v, %s", cursor, ok, full(r, cursor))
	}
	r.Follow(theirs(5, 3, "c", "d", "e"), nil, nil, false)
	if got := full(r, cursor); got != "e=5-5" {
		t.Errorf("%s", got)
	}
	// Where the epoch ends before, the client that had more is told, and it alone: whoever chooses an id chooses it for itself.
	const gap = `{"reason":"history","missed":null}`
	for name, ends := range map[string]func(r *Ring){
		"another process begins one": func(r *Ring) { r.Follow(append(marker(9), theirs(9, 1, "x")...), nil, nil, false) },
		"this one does":              func(r *Ring) { r.Begin(9, false); r.Append(translate.Message{Data: []byte("x")}) },
		"many are": func(r *Ring) {
			for epoch := uint64(10); epoch < 10+2*maxLives; epoch++ {
				r.Follow(marker(epoch), nil, nil, false)
			}
			r.Follow(append(marker(999), theirs(999, 1, "x")...), nil, nil, false)
		},
	} {
		r = ring()
		cursor, _ = r.FindAnywhere(t.Context(), "5-4")
		ends(r)
		events, next, missed, end := r.After(nil, cursor)
		if len(events) != 1 || !strings.Contains(string(events[0]), gap) || missed != 0 || end.Kind != Open {
			t.Fatalf("%s: %q, %d missed, %+v", name, events, missed, end)
		}
		_, id, _ := strings.Cut(strings.TrimSpace(string(events[0])), "id: ")
		if at, ok := r.Find(id); !ok || at != next {
			t.Errorf("%s: the gap's id %s is at %d, %v, and the client at %d", name, id, at, ok, next)
		}
		if got := full(r, next); !strings.HasPrefix(got, "x=") {
			t.Errorf("%s: then %s", name, got)
		}
		if got := full(r, 2); !strings.HasPrefix(got, "x=") {
			t.Errorf("%s: others get %s", name, got)
		}
	}
	r = ring()
	cursor, _ = r.FindAnywhere(t.Context(), "5-4")
	r.Follow(theirs(5, 10, "y"), nil, nil, true) // what it has is in what is missing
	if got := full(r, cursor); got != gap+"=5-9 y=5-10" {
		t.Errorf("%s", got)
	}
	// What cannot be is not believed.
	for _, id := range []string{"5-99999999999", "6-1", "4-1", "5-x", "5", "x-1"} {
		if cursor, ok := ring().FindAnywhere(t.Context(), id); ok {
			t.Errorf("%s is at %d", id, cursor)
		}
	}
	r = ring()
	r.Begin(6, false)
	if _, ok := r.FindAnywhere(t.Context(), "6-1"); ok {
		t.Error("who appends knows what there is")
	}
}

// TestAskedForAnID: an id that is not known is looked for in the store.
func TestAskedForAnID(t *testing.T) {
	sharing(t, func() (*store, *legacy) {
		st := &store{term: make(chan history.Term), loaded: history.Loaded{Epoch: 5, Events: theirs(5, 1, "a")}}
		st.arrives = func(f history.Follower) { f.Take(theirs(5, 2, "b"), nil, nil, false) }
		return st, new(legacy)
	}, func(t *testing.T, st *store, _ *legacy, s *Streams) {
		seat := join(t, s, "k")
		if cursor, ok := seat.Ring.FindAnywhere(t.Context(), "5-1"); !ok || cursor != 1 || st.asked != 0 {
			t.Errorf("%d, %v, asked %d times", cursor, ok, st.asked)
		}
		if cursor, ok := seat.Ring.FindAnywhere(t.Context(), "5-2"); !ok || cursor != 2 || full(seat.Ring, 1) != "b=5-2" {
			t.Errorf("%d, %v", cursor, ok)
		}
		for _, strange := range []string{"abc", "4-7", "5-", "-1", "1-2-3"} {
			if _, ok := seat.Ring.FindAnywhere(t.Context(), strange); ok {
				t.Errorf("%s is known", strange)
			}
		}
		if st.asked != 1 {
			t.Errorf("asked %d times", st.asked)
		}
	})
}

// TestGathering: while a batch is on its way what follows gathers, and clients get nothing that is not kept; where it cannot be they do, and it
// is kept when the store is back.
func TestGathering(t *testing.T) {
	var held chan error
	var more chan string
	sharing(t, func() (*store, *legacy) {
		held = make(chan error)
		st := &store{term: make(chan history.Term, 1), append: func(history.Batch) error { return <-held }}
		st.term <- history.Term{Epoch: 3}
		more = make(chan string)
		return st, &legacy{run: func(ctx context.Context, _ int, emit func(...string) error) error {
			for {
				select {
				case text := <-more:
					if err := emit(text); err != nil {
						return err
					}
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}}
	}, func(t *testing.T, st *store, _ *legacy, s *Streams) {
		seat := join(t, s, "k")
		for _, text := range []string{"1", "2", "3"} {
			more <- text
			synctest.Wait()
		}
		if got := full(seat.Ring, 0); got != "" {
			t.Errorf("clients have %q", got)
		}
		held <- nil
		synctest.Wait()
		if got := full(seat.Ring, 0); got != "1=3-1" {
			t.Errorf("clients have %q", got)
		}
		held <- errors.New("no")
		synctest.Wait()
		if got := full(seat.Ring, 0); got != "1=3-1 2=3-2 3=3-3" {
			t.Errorf("clients have %q", got)
		}
		go func() { st.f.Retry(0) }() // ends with the send
		held <- nil
		synctest.Wait()
		if got := st.kept(); got != "3-1 1 [] 3-2 2 3-3 3 []" {
			t.Errorf("kept %s", got)
		}
		more <- "4"
		held <- history.ErrClosed // another one leads
		synctest.Wait()
		if got := full(seat.Ring, 3); got != "" {
			t.Errorf("clients have %q", got)
		}
	})
}

// TestAcknowledgementsWait: what is acknowledged is kept before, however long the store is away, but no longer than the term lasts.
func TestAcknowledgementsWait(t *testing.T) {
	for _, how := range []string{"kept", "replaced", "closed"} {
		var mayKeep, acked bool
		var over func()
		sharing(t, func() (*store, *legacy) {
			mayKeep, acked = false, false
			st := &store{term: make(chan history.Term, 1), append: func(history.Batch) error {
				if mayKeep {
					return nil
				}
				return history.ErrAway
			}}
			over = func() { st.f.TermOver() }
			st.term <- history.Term{Epoch: 3}
			return st, &legacy{run: func(ctx context.Context, _ int, emit func(...string) error) error {
				emit("1")
				err := emit() // before the acknowledgement
				if acked = err == nil; err != nil {
					return err
				}
				return silent(ctx)
			}}
		}, func(t *testing.T, st *store, _ *legacy, s *Streams) {
			seat := join(t, s, "k")
			synctest.Wait()
			if got := full(seat.Ring, 0); acked || got != "1=3-1" {
				t.Errorf("acknowledged %v, clients have %q", acked, got)
			}
			switch how {
			case "kept":
				mayKeep = true
				st.f.Retry(0)
				synctest.Wait()
				if !acked {
					t.Error("it waits though all is kept")
				}
				s.end()
			case "replaced":
				over()
				synctest.Wait()
			}
			over()
		})
		if acked != (how == "kept") {
			t.Errorf("%s: acknowledged %v", how, acked)
		}
	}
}

// TestAlone: a stream that began while the store was away goes on when it is back, in an epoch that others know, and tells what they have not
// got.
func TestAlone(t *testing.T) {
	var more chan string
	sharing(t, func() (*store, *legacy) {
		st := &store{term: make(chan history.Term, 1), append: func(b history.Batch) error {
			if b.Epoch != 50 {
				return history.ErrAway
			}
			return nil
		}}
		st.term <- history.Term{}
		more = make(chan string)
		return st, &legacy{run: func(ctx context.Context, _ int, emit func(...string) error) error {
			for text := range more {
				emit(text)
			}
			return silent(ctx)
		}}
	}, func(t *testing.T, st *store, _ *legacy, s *Streams) {
		seat := join(t, s, "k")
		more <- "1"
		synctest.Wait()
		own := seat.Ring.Epoch().String()
		if got := full(seat.Ring, 0); got != "1="+own+"-1" {
			t.Errorf("clients have %q", got)
		}
		st.f.Retry(50)
		more <- "2"
		close(more)
		synctest.Wait()
		if got := full(seat.Ring, 1); got != `{"reason":"history","missed":null}=50-1 2=50-2` {
			t.Errorf("clients have %q", got)
		}
		if got := st.kept(); !strings.HasPrefix(got, `50-1 {"reason":"history","missed":null} `) || !strings.Contains(got, "50-2 2") {
			t.Errorf("kept %s", got)
		}
		if cursor, ok := seat.Ring.Find(own + "-1"); !ok || cursor != 1 {
			t.Error("the id that a client has is not known any more")
		}
	})
}

// TestSlowStore: clients wait for what is known of the stream, but not for ever; other streams do not.
func TestSlowStore(t *testing.T) {
	sharing(t, func() (*store, *legacy) {
		st := &store{term: make(chan history.Term, 2), opening: make(chan struct{})}
		st.term <- history.Term{Epoch: 3}
		return st, new(legacy)
	}, func(t *testing.T, st *store, _ *legacy, s *Streams) {
		begun := time.Now()
		if _, err := s.Join(t.Context(), request(t, "k")); !errors.Is(err, ErrUnread) || time.Since(begun) != decisionTime {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		s.Health() // what it takes is not held
		close(st.opening)
		join(t, s, "k")
	})
}

// TestEndedElsewhere: clients are told how the stream has ended where another process runs it.
func TestEndedElsewhere(t *testing.T) {
	for end, want := range map[int]End{history.EndFinished: {Kind: Finished}, 401: {Kind: Refused, Status: 401}} {
		sharing(t, func() (*store, *legacy) {
			return &store{term: make(chan history.Term), loaded: history.Loaded{Epoch: 5, Events: theirs(5, 1, "a")}}, new(legacy)
		}, func(t *testing.T, st *store, _ *legacy, s *Streams) {
			seat := join(t, s, "k")
			st.f.Take([]history.Event{{Position: history.Position{Epoch: 5, Seq: 2}, End: end}}, nil, nil, false)
			close(st.term)
			synctest.Wait()
			if _, got := seat.Ring.Last(); got != want {
				t.Errorf("%d: %+v", end, got)
			}
			_, err := s.Join(t.Context(), request(t, "k"))
			var refused *translate.Refused
			if errors.As(err, &refused) != (want.Kind == Refused) {
				t.Errorf("%d: who comes later: %v", end, err)
			}
		})
	}
}

// claiming is a store that remembers messages.
type claiming struct {
	*store
	said map[string]history.Claim
}

func (c *claiming) Open(ctx context.Context, route string, identity [sha256.Size]byte, epoch uint64) (history.Log, history.Loaded, error) {
	_, loaded, err := c.store.Open(ctx, route, identity, epoch)
	return c, loaded, err
}

func (c *claiming) Claim(_ context.Context, key string, _ [sha256.Size]byte) (history.Claim, error) {
	if key == "away" {
		return history.ClaimNew, history.ErrAway
	}
	return c.said[key], nil
}

func (c *claiming) Settle(_ context.Context, key string, _ [sha256.Size]byte, sent bool) {
	if c.said[key] = history.ClaimNew; sent {
		c.said[key] = history.ClaimSent
	}
}

// TestSentElsewhere: a message with a key that another process has sent is not sent again.
func TestSentElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		l := &legacy{begun: time.Now(), send: func(_ context.Context, _ int, data string) error {
			if got = append(got, data); data == "down" {
				return ErrDown
			}
			return nil
		}}
		st := &claiming{&store{term: make(chan history.Term, 1)}, map[string]history.Claim{"sent": history.ClaimSent, "other": history.ClaimOther, "pending": history.ClaimPending}}
		st.term <- history.Term{Epoch: 3}
		s := NewStreams(Policy{Log: slog.New(slog.DiscardHandler), History: st, Linger: time.Minute, All: new(Limit), Own: new(Limit), Bounds: Bounds{Events: 100}})
		s.source = func(*upstream.Request, *slog.Logger) upstream.Source { return &fakeSource{legacy: l} }
		seat := join(t, s, "k")
		for key, want := range map[string]error{"sent": nil, "other": ErrReused, "pending": errPending, "new": nil, "away": nil, "down": ErrDown} {
			if err := seat.SendOnce(t.Context(), key, translate.Message{Data: []byte(key)}); !errors.Is(err, want) || err != nil && want == nil {
				t.Errorf("%s: %v, want %v", key, err, want)
			}
		}
		slices.Sort(got)
		if text := strings.Join(got, " "); text != "away down new" || st.said["new"] != history.ClaimSent || st.said["down"] != history.ClaimNew {
			t.Errorf("sent %s, %v", text, st.said)
		}
		s.Close()
	})
}
