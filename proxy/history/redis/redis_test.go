//go:build e2e

package redis

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidestream/e2e/redistest"
	"sidestream/proxy/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func identity(n int) [sha256.Size]byte { return sha256.Sum256([]byte{byte(n)}) }

// replica is a store of a test's.
func replica(t *testing.T, s *redistest.Server) *Store {
	t.Helper()
	settings, err := Parse("redis://" + s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	settings.Prefix, settings.TTL = "test", time.Hour
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	store := Open(settings, logger)
	t.Cleanup(store.Stop)
	store.wait(t.Context())
	return store
}

// stream is a follower, and a holder, that keeps all that it has.
type stream struct {
	t   *testing.T
	log history.Log

	mu     sync.Mutex
	events []history.Event
	flying []history.Event
	past   string
	holes  int
	beside bool
	epoch  uint64 // of Retry
	tried  int
	seq    uint64
	term   history.Term
	ended  chan struct{} // closed when the term is over; nil: there was none
}

// TermOver is part of [history.Follower].
func (s *stream) TermOver() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.ended = make(chan struct{})
	}
	select {
	case <-s.ended:
	default:
		close(s.ended)
	}
}

// isOver reports whether the last term is.
func (s *stream) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

func (s *stream) Holds(history.Position, string) bool { return true }

func (s *stream) Take(events, _ []history.Event, past []byte, hole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if hole {
		s.holes++
	}
	for _, e := range events {
		if e.Seq != 0 {
			s.events = append(s.events, e)
		}
	}
	if past != nil {
		s.past = string(past)
	}
}

func (s *stream) Since(p history.Position) (after []history.Event, past []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range append(s.events[:len(s.events):len(s.events)], s.flying...) {
		if p.Before(e.Position) {
			after = append(after, e)
		}
	}
	if s.past != "" {
		past = []byte(s.past)
	}
	return after, past
}

func (s *stream) Older() []history.Event { return nil }

func (s *stream) Follows() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beside = true
}

func (s *stream) isBeside() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beside
}

func (s *stream) Retry(epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tried++; epoch != 0 {
		s.epoch = epoch
	}
}

// opened is a stream of st's that has what the store has.
func opened(t *testing.T, st *Store) *stream {
	t.Helper()
	log, loaded, err := st.Open(t.Context(), "r", identity(1), 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{t: t, log: log, events: loaded.Events, past: string(loaded.Past)}
	t.Cleanup(log.Close)
	return s
}

// lead begins a term.
func (s *stream) lead() *stream {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.t.Cleanup(cancel)
	s.mu.Lock()
	s.ended = nil
	s.mu.Unlock()
	term, err := s.log.Lead(ctx, s)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term, s.seq = term, 0
	return s
}

// follow has it wait for a term.
func (s *stream) follow() (led chan struct{}) {
	led = make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.t.Cleanup(func() { cancel(); <-done })
	go func() { // ends with the test
		defer close(done)
		if term, err := s.log.Lead(ctx, s); err == nil {
			s.mu.Lock()
			s.term, s.seq = term, 0
			s.mu.Unlock()
			close(led)
		}
	}()
	return led
}

// append appends numbers, which are not kept here where the store does not take them.
func (s *stream) append(texts ...string) error {
	s.mu.Lock()
	b := history.Batch{Epoch: s.term.Epoch, State: []byte("after " + texts[len(texts)-1])}
	seq := s.seq
	for _, text := range texts {
		seq++
		b.Events = append(b.Events, history.Event{Position: history.Position{Epoch: b.Epoch, Seq: seq}, At: time.Now(), Data: []byte(text)})
	}
	b.Oldest = b.Events[0].Position
	if len(s.events) > 0 {
		b.Oldest = s.events[0].Position
	}
	s.flying = b.Events
	s.mu.Unlock()
	err := s.log.Append(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flying = nil; err == nil {
		s.seq, s.events = seq, append(s.events, b.Events...)
	}
	return err
}

func (s *stream) must(texts ...string) {
	s.t.Helper()
	if err := s.append(texts...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stream) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, e := range s.events {
		text := string(e.Data)
		if e.End != 0 {
			text = fmt.Sprint("end ", e.End)
		}
		all = append(all, text)
	}
	return strings.Join(all, " ") + strings.Repeat("!", s.holes)
}

func (s *stream) expect(want string) {
	s.t.Helper()
	defer func() { // the end of a long text tells more than its beginning
		if got := s.text(); got != want {
			same := 0
			for same < min(len(got), len(want)) && got[same] == want[same] {
				same++
			}
			s.t.Errorf("it has …%.200q, want …%.200q", got[max(0, same-20):], want[max(0, same-20):])
		}
	}()
	redistest.Until(s.t, "what was appended", func() bool { return s.text() == want })
}

func TestFollowerHasWhatTheHolderAppends(t *testing.T) {
	server := redistest.Start(t)
	a, b := replica(t, server), replica(t, server)
	holder := opened(t, a).lead()
	if holder.term.Epoch == 0 || holder.term.Again || holder.term.Damaged || holder.term.State != nil {
		t.Fatalf("%+v", holder.term)
	}
	holder.must("1", "2")
	follower := opened(t, b)
	led := follower.follow()
	follower.expect("1 2")
	for n := 3; n < 50; n++ {
		holder.must(fmt.Sprint(n))
	}
	follower.expect(holder.text())
	redistest.Until(t, "Follows", follower.isBeside)
	if who, err := b.Holder(t.Context(), "r", identity(1)); err != nil || who != a.Replica() {
		t.Errorf("the holder is %q, %v", who, err)
	}
	if who, err := a.Holder(t.Context(), "r", identity(1)); err != nil || who != "" {
		t.Errorf("the holder is %q, %v", who, err)
	}
	// A lease that is given up is taken at once, with what the source needs to go on.
	begun := time.Now()
	holder.log.Close()
	<-led
	if took := time.Since(begun); took > leaseTime/2 {
		t.Errorf("it took %v", took)
	}
	if !follower.term.Again || follower.term.Damaged || string(follower.term.State) != "after 49" || follower.term.Epoch <= holder.term.Epoch {
		t.Errorf("%+v", follower.term)
	}
	follower.must("50")
	again := opened(t, a)
	again.follow()
	again.expect(follower.text())
	if strings.Contains(again.text(), "!") {
		t.Error("something is missing")
	}
}

// TestHolderDies: its lease ends by itself.
func TestHolderDies(t *testing.T) {
	server := redistest.Start(t)
	a, b := replica(t, server), replica(t, server)
	holder := opened(t, a).lead()
	holder.must("1")
	follower := opened(t, b)
	led := follower.follow()
	follower.expect("1")
	a.Stop() // without giving it up
	begun := time.Now()
	<-led
	if took := time.Since(begun); took > 15*time.Second+20*time.Second {
		t.Errorf("it took %v", took)
	}
	if string(follower.term.State) != "after 1" || follower.term.Damaged {
		t.Errorf("%+v", follower.term)
	}
	// The one before comes back from a long pause: what it has to say, nobody is told.
	if err := holder.append("2"); !errors.Is(err, history.ErrAway) {
		t.Errorf("%v", err)
	}
}

// TestReplacedHolder: a holder that was stopped meanwhile is refused, and follows.
func TestReplacedHolder(t *testing.T) {
	server := redistest.Start(t)
	a, b := replica(t, server), replica(t, server)
	holder := opened(t, a).lead()
	holder.must("1")
	other := opened(t, b)
	other.expect("1")
	server.Do("DEL", holder.log.(*log).key("l")) // as if it had ended
	other.lead()
	other.must("2")
	if err := holder.append("two"); !errors.Is(err, history.ErrClosed) {
		t.Fatalf("%v", err)
	}
	redistest.Until(t, "the end of the term", holder.isOver)
	holder.follow()
	holder.expect("1 2")
	other.must("3")
	holder.expect("1 2 3")
}

// TestStoreLosesData: whatever has become of it, the holder keeps again what it has, and followers miss nothing.
func TestStoreLosesData(t *testing.T) {
	back := func(s *redistest.Server, l *log, kinds string, was map[string]string) { // as a failover does
		for _, kind := range strings.Split(kinds, "") {
			s.Do("RESTORE", l.key(kind), "0", was[kind], "REPLACE")
		}
	}
	for name, lose := range map[string]func(*redistest.Server, *log, map[string]string){
		"everything":      func(s *redistest.Server, _ *log, _ map[string]string) { s.Do("FLUSHALL") },
		"the stream":      func(s *redistest.Server, l *log, _ map[string]string) { s.Do("DEL", l.key("s")) },
		"the meta":        func(s *redistest.Server, l *log, _ map[string]string) { s.Do("DEL", l.key("m")) },
		"the last events": func(s *redistest.Server, l *log, was map[string]string) { back(s, l, "sm", was) },
		"a restart":       func(s *redistest.Server, _ *log, _ map[string]string) { s.Kill(); s.Run() },
		"the lease": func(s *redistest.Server, l *log, was map[string]string) {
			s.Do("DEL", l.key("l"))
			back(s, l, "sm", was)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			a, b := replica(t, server), replica(t, server)
			holder := opened(t, a).lead()
			holder.must("1")
			l := holder.log.(*log)
			was := map[string]string{"s": server.Do("DUMP", l.key("s")), "m": server.Do("DUMP", l.key("m"))}
			holder.must("2", "3")
			follower := opened(t, b)
			follower.follow()
			follower.expect("1 2 3")
			redistest.Until(t, "Follows", follower.isBeside)
			lose(server, l, was)
			for n := 4; n < 8; n++ {
				redistest.Until(t, "an append", func() bool { return holder.append(fmt.Sprint(n)) == nil })
			}
			follower.expect("1 2 3 4 5 6 7")
			fresh := opened(t, replica(t, server))
			fresh.follow()
			fresh.expect("1 2 3 4 5 6 7")
			holder.log.Close()
			redistest.Until(t, "a term", func() bool {
				follower.mu.Lock()
				defer follower.mu.Unlock()
				fresh.mu.Lock()
				defer fresh.mu.Unlock()
				return follower.term.Epoch+fresh.term.Epoch > 0
			})
			for _, s := range []*stream{follower, fresh} {
				if s.term.Epoch != 0 && (s.term.Damaged || string(s.term.State) != "after 7") {
					t.Errorf("%+v", s.term)
				}
			}
		})
	}
}
