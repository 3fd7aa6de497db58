package stream

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/history"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// counting is a source that emits the numbers of a service, one each second, which can go on where it is told to, or cannot.
type counting struct {
	service *service
	next    int // the number after those emitted
	resumed bool
}

// service is what has the numbers: they go on while nothing listens.
type service struct {
	begun     time.Time
	resumable bool
	keys      bool // each number replaces those with the same last digit
	done      int  // the number after which it is finished; 0: never
}

func (s *service) now() int { return int(time.Since(s.begun) / time.Second) }

func (c *counting) History() bool { return false }

func (c *counting) Save() []byte {
	if !c.service.resumable {
		return nil
	}
	return []byte(strconv.Itoa(c.next))
}

func (c *counting) Restore(saved, _ []byte) (err error) {
	c.next, err = strconv.Atoi(string(saved))
	return err
}

func (c *counting) Connect(context.Context) (upstream.Conn, error) {
	c.resumed = c.next > 0
	if !c.service.resumable || !c.resumed {
		c.next, c.resumed = c.service.now()+1, false
	}
	return c, nil
}

func (c *counting) Resumed() bool { return c.resumed }

func (c *counting) Send(context.Context, translate.Message) error { return upstream.ErrNoUplink }

func (c *counting) Run(ctx context.Context, emit func([]translate.Message) error) error {
	for {
		for c.next <= c.service.now() {
			n := c.next
			m := translate.Message{Data: []byte(strconv.Itoa(n))}
			if c.service.keys {
				m.Key = strconv.Itoa(n % 10)
			}
			c.next++
			if err := emit([]translate.Message{m}); err != nil {
				return err
			}
			if n == c.service.done {
				return translate.ErrFinished
			}
		}
		if err := wait(ctx, time.Until(c.service.begun.Add(time.Duration(c.next)*time.Second))); err != nil {
			return err
		}
	}
}

// process is a sidecar's streams with the history in dir, until it is ended.
func process(t *testing.T, dir string, settings Policy, sv *service) (s *Streams, end func()) {
	t.Helper()
	f, err := history.Open(history.Settings{Dir: dir, Sync: -1, TTL: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	settings.Log, settings.History, settings.Route, settings.Linger = slog.New(slog.DiscardHandler), f, "r", 10*time.Minute
	settings.All, settings.Own = new(Limit), new(Limit)
	s = NewStreams(settings)
	s.source = func(*upstream.Request, *slog.Logger) upstream.Source { return &counting{service: sv} }
	return s, func() {
		s.Close()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// reader is a client that comes back with its last id.
type reader struct {
	id   string
	last int // the number that it has got last
	gap  bool
	gaps int
}

// read takes what r has for it. It holds that numbers follow each other but where a gap was said.
func (c *reader) read(t *testing.T, r *Ring, cursor uint64, lost bool) uint64 {
	t.Helper()
	if lost {
		c.gap = true
		c.gaps++
	}
	for {
		events, next, missed, _ := r.After(nil, cursor)
		if missed > 0 {
			c.gap = true
			c.gaps++
		}
		for _, e := range events {
			text := string(e)
			for _, block := range strings.SplitAfter(text, "\n\n") {
				if block == "" {
					continue
				}
				if _, id, ok := strings.Cut(block, "id: "); ok {
					c.id, _, _ = strings.Cut(id, "\n")
				}
				_, data, _ := strings.Cut(block, "data: ")
				data, _, _ = strings.Cut(data, "\n")
				if strings.HasPrefix(block, "event: stream.gap") {
					c.gap = true
					c.gaps++
					continue
				}
				n, err := strconv.Atoi(data)
				if err != nil {
					t.Fatalf("%q", block)
				}
				if n <= c.last || n != c.last+1 && !c.gap && c.last != 0 {
					t.Fatalf("%d after %d, gap %v", n, c.last, c.gap)
				}
				c.last, c.gap = n, false
			}
		}
		if len(events) == 0 || next == cursor {
			return next
		}
		cursor = next
	}
}

// comes back to s, and reads.
func (c *reader) comes(t *testing.T, s *Streams) (*Seat, uint64) {
	t.Helper()
	seat := join(t, s, "a")
	cursor, lost := seat.Start(), false
	if c.id != "" {
		var ok bool
		if cursor, ok = seat.Ring.Find(c.id); !ok {
			cursor, lost = seat.Start(), true
		}
	}
	return seat, c.read(t, seat.Ring, cursor, lost)
}

// TestRestarts ends and begins processes at random moments: a client that comes back gets each number once, in order, or is told.
func TestRestarts(t *testing.T) {
	for seed := range uint64(40) {
		resumable := seed%2 == 0
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			sv := &service{begun: time.Now(), resumable: resumable}
			dir := t.TempDir()
			settings := Policy{Bounds: Bounds{Events: 20 + random.IntN(100)}, MaxAge: time.Duration(random.IntN(2)) * 100 * time.Second}
			clients := make([]reader, 3)
			restarts := 0
			for ; restarts < 8; restarts++ {
				s, end := process(t, dir, settings, sv)
				for range 1 + random.IntN(6) {
					c := &clients[random.IntN(len(clients))]
					was, kept := *c, sv.now()-c.last < settings.Bounds.Events-5
					seat, cursor := c.comes(t, s)
					if resumable && kept && was.last > 0 && c.gaps != was.gaps {
						t.Errorf("seed %d: a client that has %d is told at %d that something is missing, of %d events", seed, was.last, sv.now(), settings.Bounds.Events)
					}
					for range random.IntN(5) {
						time.Sleep(time.Duration(random.IntN(8000)) * time.Millisecond)
						synctest.Wait()
						cursor = c.read(t, seat.Ring, cursor, false)
					}
					seat.Leave()
				}
				end()
				time.Sleep(time.Duration(random.IntN(20000)) * time.Millisecond)
			}
			gaps := clients[0].gaps + clients[1].gaps + clients[2].gaps
			if !resumable && gaps == 0 && clients[0].last > 0 {
				t.Errorf("seed %d: %d restarts of a source that cannot resume, and no gap", seed, restarts)
			}
		})
	}
}

// A source that resumes leaves no gap at a restart, and one that does not leaves one, with the same id for everybody.
func TestRestartSaysWhatWasLost(t *testing.T) {
	for _, resumable := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			sv := &service{begun: time.Now(), resumable: resumable}
			dir := t.TempDir()
			s, end := process(t, dir, Policy{Bounds: Bounds{Events: 100}}, sv)
			var a, b reader
			seat, cursor := a.comes(t, s)
			time.Sleep(3500 * time.Millisecond)
			synctest.Wait()
			a.read(t, seat.Ring, cursor, false)
			b = a
			if a.last != 3 || a.gaps != 0 {
				t.Errorf("%+v", a)
			}
			time.Sleep(2 * time.Second) // 4 and 5 are written, and given to neither
			end()
			time.Sleep(2 * time.Second) // 6 and 7 are in nobody's ring
			s, end = process(t, dir, Policy{Bounds: Bounds{Events: 100}}, sv)
			for i, c := range []*reader{&a, &b} {
				seat, cursor = c.comes(t, s)
				synctest.Wait()
				cursor = c.read(t, seat.Ring, cursor, false)
				time.Sleep(time.Second)
				synctest.Wait()
				c.read(t, seat.Ring, cursor, false)
				if want := map[bool]int{true: 0, false: 1}[resumable]; c.last != 8+i || c.gaps != want {
					t.Errorf("resumable %v: %+v, want %d gaps", resumable, *c, want)
				}
			}
			// A new client begins where START says, not with what was there before.
			var fresh reader
			fresh.comes(t, s)
			if fresh.last != 0 {
				t.Errorf("a new client of a live stream is given %d", fresh.last)
			}
			end()
		})
	}
}

// After a disk that was full, a client is told of one gap when it opens the stream, whether its last id was written or not.
func TestDamageIsSaidOnce(t *testing.T) {
	toldOnce(t, true, 5, func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "stale"), []byte("yes\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
}

// Where the source begins anew, a client is told of one gap when it opens the stream, whether its last id has reached the disk or not.
func TestLossOfAMachineIsSaidOnce(t *testing.T) {
	toldOnce(t, false, 7, func(string) { time.Sleep(2 * time.Second) })
}

// toldOnce has a client come back after a restart, with its own id and with one that is not known: it is told of one gap, and gets what comes up to last. between happens while no
// process has the folder.
func toldOnce(t *testing.T, resumable bool, last int, between func(dir string)) {
	t.Helper()
	for name, id := range map[string]string{"known": "", "unknown": "999"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sv := &service{begun: time.Now(), resumable: resumable}
				dir := t.TempDir()
				s, end := process(t, dir, Policy{Bounds: Bounds{Events: 100}}, sv)
				var c reader
				seat, cursor := c.comes(t, s)
				time.Sleep(3500 * time.Millisecond)
				synctest.Wait()
				c.read(t, seat.Ring, cursor, false)
				end()
				if epoch, _, _ := strings.Cut(c.id, "-"); id != "" {
					c.id = epoch + "-" + id
				}
				between(dir)
				s, end = process(t, dir, Policy{Bounds: Bounds{Events: 100}}, sv)
				seat, cursor = c.comes(t, s)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if c.read(t, seat.Ring, cursor, false); c.gaps != 1 || c.last != last {
					t.Errorf("%d gaps, up to %d", c.gaps, c.last)
				}
				end()
			})
		})
	}
}

// flaky is a store that takes nothing while it is away, as a folder whose disk is full.
type flaky struct {
	history.Store
	away *atomic.Bool
	led  *history.Follower
}

type flakyLog struct {
	history.Log
	flaky
}

func (s flaky) Open(ctx context.Context, route string, identity [sha256.Size]byte, epoch uint64) (history.Log, history.Loaded, error) {
	l, loaded, err := s.Store.Open(ctx, route, identity, epoch)
	return flakyLog{l, s}, loaded, err
}

func (l flakyLog) Lead(ctx context.Context, f history.Follower) (history.Term, error) {
	*l.led = f
	return l.Log.Lead(ctx, f)
}

func (l flakyLog) Append(b history.Batch) error {
	if l.away.Load() {
		return history.ErrAway
	}
	return l.Log.Append(b)
}

// What a folder could not take it is given once it asks for it, though nothing comes any more: after a restart nothing is missing, and no id is unknown.
func TestOwedIsCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sv := &service{begun: time.Now(), resumable: true}
		dir := t.TempDir()
		s, end := process(t, dir, Policy{Bounds: Bounds{Events: 100}}, sv)
		store := flaky{s.History, new(atomic.Bool), new(history.Follower)}
		s.History = store
		var c reader
		seat, cursor := c.comes(t, s)
		time.Sleep(1500 * time.Millisecond)
		store.away.Store(true)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		c.read(t, seat.Ring, cursor, false)
		store.away.Store(false)
		(*store.led).Retry(0)
		end()
		s, end = process(t, dir, Policy{Bounds: Bounds{Events: 100}}, sv)
		seat, cursor = c.comes(t, s)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if c.read(t, seat.Ring, cursor, false); c.gaps != 0 || c.last != 5 {
			t.Errorf("%d gaps, up to %d", c.gaps, c.last)
		}
		end()
	})
}

// slow is a store of which a term takes a while to begin, as where many streams are read at once.
type slow struct {
	history.Store
	by time.Duration
}

type slowLog struct {
	history.Log
	by time.Duration
}

func (s slow) Open(ctx context.Context, route string, identity [sha256.Size]byte, epoch uint64) (history.Log, history.Loaded, error) {
	l, loaded, err := s.Store.Open(ctx, route, identity, epoch)
	return slowLog{l, s.by}, loaded, err
}

func (l slowLog) Lead(ctx context.Context, f history.Follower) (history.Term, error) {
	time.Sleep(l.by)
	return l.Log.Lead(ctx, f)
}

// However long it takes until the term begins that says what was lost, a client whose id is not known is told once: it has no place before that. So has a
// stream that merges this one.
func TestDamageIsSaidOnceHoweverLate(t *testing.T) {
	for name, enter := range map[string]func(t *testing.T, s *Streams) *Seat{
		"a client": func(t *testing.T, s *Streams) *Seat {
			begun := time.Now()
			seat, err := s.Join(t.Context(), request(t, "a"))
			for ; errors.Is(err, ErrUnread); seat, err = s.Join(t.Context(), request(t, "a")) {
				time.Sleep(time.Second) // it comes back
			}
			if err != nil || time.Since(begun) < decisionTime {
				t.Fatalf("joined after %v: %v", time.Since(begun), err)
			}
			return seat
		},
		"a part": func(t *testing.T, s *Streams) *Seat {
			seat, err := s.Sit(request(t, "a"))
			if err != nil || seat.Loaded(t.Context()) != nil {
				t.Fatal(err)
			}
			return seat
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { damagedAndSlow(t, enter) })
		})
	}
}

// damagedAndSlow has a client come that the last process has given what is not in the folder.
func damagedAndSlow(t *testing.T, enter func(t *testing.T, s *Streams) *Seat) {
	sv := &service{begun: time.Now(), resumable: true}
	dir := t.TempDir()
	s, end := process(t, dir, Policy{Bounds: Bounds{Events: 100}}, sv)
	join(t, s, "a")
	time.Sleep(3500 * time.Millisecond)
	end()
	if err := os.WriteFile(filepath.Join(dir, "stale"), []byte("yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, end = process(t, dir, Policy{Bounds: Bounds{Events: 100}}, sv)
	s.History = slow{s.History, 5 * time.Second}
	seat := enter(t, s)
	if _, ok := seat.Ring.Find("1-999"); ok {
		t.Error("an id of nobody's is known")
	}
	var c reader
	cursor := c.read(t, seat.Ring, seat.Start(), true)
	time.Sleep(10 * time.Second)
	synctest.Wait()
	if c.read(t, seat.Ring, cursor, false); c.gaps != 1 || c.last == 0 {
		t.Errorf("told of %d gaps, up to %d", c.gaps, c.last)
	}
	seat.Leave()
	end()
}

// The client that opens a stream that was there before gets what comes from then on, and by START=latest the last event.
func TestOpeningWhatWasThere(t *testing.T) {
	for start, want := range map[int]string{0: "", 1: "3", StartAll: "1 2 3"} {
		synctest.Test(t, func(t *testing.T) {
			sv := &service{begun: time.Now(), resumable: true}
			dir, settings := t.TempDir(), Policy{Bounds: Bounds{Events: 100, Start: start}}
			s, end := process(t, dir, settings, sv)
			join(t, s, "a")
			time.Sleep(3500 * time.Millisecond)
			end()
			s, end = process(t, dir, settings, sv)
			seat := join(t, s, "a")
			if got, _ := told(t, seat.Ring, seat.Start()); got != want {
				t.Errorf("START %d: %q, want %q", start, got, want)
			}
			end()
		})
	}
}

// The newest event of each key is kept as in the ring.
func TestRestartKeepsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sv := &service{begun: time.Now(), resumable: true, keys: true}
		dir, settings := t.TempDir(), Policy{Bounds: Bounds{Events: 12, Start: 1}}
		s, end := process(t, dir, settings, sv)
		join(t, s, "a")
		time.Sleep(40500 * time.Millisecond)
		synctest.Wait()
		before := past(t, join(t, s, "a"))
		end()
		s, end = process(t, dir, settings, sv)
		if after := past(t, join(t, s, "a")); after != before || strings.Count(after, "data:") != 10 {
			t.Errorf("before\n%s\nafter\n%s", before, after)
		}
		end()
	})
}

func past(t *testing.T, seat *Seat) string {
	t.Helper()
	events, _, _, _ := seat.Ring.After(nil, Begin)
	return strings.Join(strings.Fields(fmt.Sprintf("%s", events)), "\n")
}

// What was finished is finished after a restart too, until LINGER is over.
func TestRestartOfAFinishedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sv := &service{begun: time.Now(), resumable: true, done: 2}
		dir := t.TempDir()
		s, end := process(t, dir, Policy{}, sv)
		var a reader
		seat, cursor := a.comes(t, s)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		a.read(t, seat.Ring, cursor, false)
		end()
		s, end = process(t, dir, Policy{}, sv)
		seat, _ = a.comes(t, s)
		if _, last := seat.Ring.Last(); last.Kind != Finished || a.last != 2 || a.gaps != 0 {
			t.Errorf("%+v, %+v", last, a)
		}
		end()
		sv.done = 0
		time.Sleep(time.Hour)
		s, end = process(t, dir, Policy{}, sv)
		seat, _ = a.comes(t, s)
		if _, last := seat.Ring.Last(); last.Kind != Open {
			t.Errorf("it is never begun again: %+v", last)
		}
		end()
	})
}

// stepped is a store that was written by a clock which was ahead of the one that there is now.
type stepped struct {
	history.Store
	by time.Duration
}

func (s stepped) Open(ctx context.Context, route string, identity [sha256.Size]byte, epoch uint64) (history.Log, history.Loaded, error) {
	l, loaded, err := s.Store.Open(ctx, route, identity, epoch)
	for i := range loaded.Events {
		loaded.Events[i].At = loaded.Events[i].At.Add(s.by)
	}
	return l, loaded, err
}

// However far the clock was set back since, what was finished begins again once LINGER is over.
func TestFinishedByAnotherClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sv := &service{begun: time.Now(), resumable: true, done: 2}
		s, end := process(t, t.TempDir(), Policy{}, sv)
		s.History = stepped{s.History, 24 * time.Hour}
		join(t, s, "a").Leave()
		time.Sleep(s.Linger + time.Minute)
		synctest.Wait()
		sv.done = 0
		if _, last := join(t, s, "a").Ring.Last(); last.Kind != Open {
			t.Errorf("it is never begun again: %+v", last)
		}
		end()
	})
}

// Ids of all epochs are known as far as their events were, and no further: what follows was lost with the machine.
func TestIDsOfSeveralEpochs(t *testing.T) {
	r := NewRing(9, Bounds{}, new(Stats), false)
	var l history.Loaded
	for _, p := range []history.Position{{Epoch: 3, Seq: 5}, {Epoch: 3, Seq: 6}, {Epoch: 4, Seq: 1}, {Epoch: 7, Seq: 1}, {Epoch: 7, Seq: 2}} {
		l.Epoch, l.Events = 8, append(l.Events, history.Event{Position: p, Data: []byte("data: x\nid: y\n\n")})
	}
	r.Restore(l)
	r.Begin(9, false)
	r.Append(translate.Message{Data: []byte("x")})
	for id, want := range map[string]uint64{"3-0": 0, "3-4": 4, "3-5": 5, "3-6": 6, "4-0": 6, "4-1": 7, "7-0": 7, "7-2": 9, "8-0": 9, "9-0": 9, "9-1": 10} {
		if cursor, ok := r.Find(id); !ok || cursor != want {
			t.Errorf("%s is at %d, %v; want %d", id, cursor, ok, want)
		}
	}
	for _, id := range []string{"3-7", "4-2", "7-3", "8-1", "9-2", "2-1", "5-1", "10-0", "3-", "3-05"} {
		if cursor, ok := r.Find(id); ok {
			t.Errorf("%s is at %d", id, cursor)
		}
	}
	for cursor, want := range map[uint64]string{4: "3-4", 6: "3-6", 7: "4-1", 9: "7-2", 10: "9-1"} {
		if got := r.Place(cursor); got != want {
			t.Errorf("the place %d is %s, want %s", cursor, got, want)
		}
	}
	if _, _, missed, _ := r.After(nil, 2); missed != Unknown { // a gap may have been one of the two
		t.Errorf("%d missed of what was let go of", missed)
	}
	if r.LastID() != "9-1" {
		t.Errorf("the last is %s", r.LastID())
	}
}

// A place that a client was given before there was an event is known after a restart: what came meanwhile is not lost, or is said.
func TestRestartKnowsThePlaceBeforeAnyEvent(t *testing.T) {
	for _, resumable := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			sv := &service{begun: time.Now(), resumable: resumable}
			dir := t.TempDir()
			s, end := process(t, dir, Policy{Bounds: Bounds{Events: 10}}, sv)
			seat := join(t, s, "a")
			place := seat.Ring.Place(0)
			end()
			s, end = process(t, dir, Policy{Bounds: Bounds{Events: 10}}, sv)
			seat = join(t, s, "a")
			cursor, ok := seat.Ring.Find(place)
			synctest.Wait()
			if got, _ := told(t, seat.Ring, cursor); !ok || got != "+" {
				t.Errorf("resumable %v: %s is known: %v, and leads to %q", resumable, place, ok, got)
			}
			end()
		})
	}
}
