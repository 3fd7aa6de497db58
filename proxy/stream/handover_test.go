package stream

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/history"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// handing is a source whose place moves with each message, and which learns of nothing but what emit returns.
type handing struct {
	fakeSource
	at    string
	texts chan string
	plain bool  // it acknowledges nothing
	told  error // by emit, last
	acked error // by emit(nil)
}

func (h *handing) Save() []byte { return []byte(h.at) }

func (h *handing) Connect(context.Context) (upstream.Conn, error) { return h, nil }

func (h *handing) Resumed() bool { return true }

func (h *handing) Send(context.Context, translate.Message) error { return upstream.ErrNoUplink }

func (h *handing) Run(ctx context.Context, emit func([]translate.Message) error) error {
	for text := range h.texts {
		h.at = text
		h.told = emit([]translate.Message{{Data: []byte(text)}})
		if !h.plain {
			h.acked = emit(nil)
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// sourceOf is what makes every stream's source h.
func sourceOf(h *handing) func(*upstream.Request, *slog.Logger) upstream.Source {
	return func(*upstream.Request, *slog.Logger) upstream.Source { return h }
}

// TestNothingIsLeftBehind: a ring that is retired ends before its source knows, which may be emitting. What clients cannot be given any more is not kept,
// nor is the place after it, from which another process would go on; and the source is told, so that it acknowledges nothing.
func TestNothingIsLeftBehind(t *testing.T) {
	for _, how := range []string{"retired", "the term is over"} {
		var h *handing
		var over func()
		sharing(t, func() (*store, *legacy) {
			st := &store{term: make(chan history.Term, 1)}
			over = func() { st.f.TermOver() }
			st.term <- history.Term{Epoch: 3}
			return st, &legacy{run: func(ctx context.Context, _ int, _ func(...string) error) error { return silent(ctx) }}
		}, func(t *testing.T, st *store, l *legacy, s *Streams) {
			h = &handing{fakeSource: fakeSource{legacy: l}, texts: make(chan string)}
			s.source = sourceOf(h)
			seat := join(t, s, "k")
			h.texts <- "1"
			synctest.Wait()
			if h.told != nil || h.acked != nil {
				t.Errorf("%s: %v %v", how, h.told, h.acked)
			}
			if how == "retired" {
				seat.Ring.Close(End{Kind: Retired})
			} else {
				over()
			}
			h.texts <- "2"
			h.texts <- "3"
			synctest.Wait()
			if h.told == nil || h.acked == nil || how == "retired" && !errors.Is(h.acked, upstream.ErrRetired) {
				t.Errorf("%s: the source was told %v and %v", how, h.told, h.acked)
			}
			if got := st.kept(); got != "3-1 1 [1]" {
				t.Errorf("%s: kept %s", how, got)
			}
			close(h.texts)
			over()
			time.Sleep(time.Second)
		})
	}
}

// TestWhatIsOnItsWayIsTheLast: a batch that is on its way while the ring is retired is the last one: what gathered behind it would be numbered as the
// same events again.
func TestWhatIsOnItsWayIsTheLast(t *testing.T) {
	var held chan error
	var h *handing
	sharing(t, func() (*store, *legacy) {
		held = make(chan error)
		st := &store{term: make(chan history.Term, 1), append: func(history.Batch) error { return <-held }}
		st.term <- history.Term{Epoch: 3}
		return st, &legacy{run: func(ctx context.Context, _ int, _ func(...string) error) error { return silent(ctx) }}
	}, func(t *testing.T, st *store, l *legacy, s *Streams) {
		h = &handing{fakeSource: fakeSource{legacy: l}, texts: make(chan string), plain: true}
		s.source = sourceOf(h)
		seat := join(t, s, "k")
		h.texts <- "1"
		synctest.Wait() // it is on its way
		h.texts <- "2"
		synctest.Wait()
		seat.Ring.Close(End{Kind: Retired})
		held <- nil
		synctest.Wait()
		if got := st.kept(); got != "3-1 1 [1]" {
			t.Errorf("kept %s", got)
		}
		close(h.texts)
	})
}
