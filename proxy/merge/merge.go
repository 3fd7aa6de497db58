package merge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"

	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate"
	"sidestream/translate/sse"
)

// Part is one of the streams that are merged.
type Part struct {
	Label   string // of a route its name, else its index
	About   string // what notices say of it, a member of a JSON object: "route":"prices"
	Start   int    // its route's START: see [stream.Bounds]
	Streams *stream.Streams
	Request upstream.Request
}

// Plan is what is merged, and how.
type Plan struct {
	Parts   []Part
	Route   *upstream.Route // whose programs run over the messages
	Indexed bool            // a page has named the parts: names of events are <label>, or <label>:<name>
	Marks   bool            // in front of each event a comment has its part's label and the id that it has there
	Keys    bool            // a client without a place begins with each part where it would if it had asked for that alone
	Events  int             // as many of the parts' past are taken over at most
}

// Source is the source of a merged stream. [Source.Place] is for any goroutine, once a client has its seat; the rest is as [upstream.Source] says.
type Source struct {
	plan  Plan
	log   *slog.Logger
	ready chan struct{} // closed when the past is in the ring

	saved    []byte            // what Save returns; of the goroutine that emits
	restored map[string]string // places by label that a source before this has saved; nil: there are none

	mu      sync.Mutex // guards what follows; with Plan.Indexed it is held while messages are emitted
	parts   []*reader
	emitted uint64  // events
	trail   []spoor // the newest of them
}

// spoor is where an event of the merged stream was in its part.
type spoor struct {
	part   int    // -1: in none
	cursor uint64 // its number there
}

// reader is a part while it is read.
type reader struct {
	*Part
	index    int
	seat     *stream.Seat
	unwatch  func()
	at       uint64 // cursor in its ring
	over     bool   // it is complete
	document bool   // its events are changes of one (MODE=patch)
	count    int    // events that have had a key
	since    uint64 // the merged stream's events up to this one were of another ring
	floor    uint64 // its events up to this one are not in the trail
	decoder  *sse.Decoder
}

// New returns a source of what plan names. It reads nothing yet.
func New(plan Plan, log *slog.Logger) *Source {
	return &Source{plan: plan, log: log, ready: make(chan struct{})}
}

// History is true: what the parts have when the stream begins was there before.
func (s *Source) History() bool { return true }

// Save returns the places in the parts after what is being emitted.
func (s *Source) Save() []byte { return s.saved }

// Restore is [upstream.Source]'s.
func (s *Source) Restore(saved, past []byte) error {
	if err := json.Unmarshal(saved, &s.restored); err != nil {
		s.restored = nil
		return fmt.Errorf("the places in the parts: %w", err)
	}
	return nil
}

// Connect takes a seat in each part. It fails with [upstream.ErrRetired] when one is refused, since that is known from then on.
func (s *Source) Connect(ctx context.Context) (upstream.Conn, error) {
	c := &conn{source: s, wake: make(chan struct{}, 1)}
	var readers []*reader
	for i := range s.plan.Parts {
		rd := &reader{Part: &s.plan.Parts[i], index: i, at: stream.Begin, decoder: sse.NewDecoder(maxEvent)}
		err := c.sit(ctx, rd)
		if err != nil {
			leave(readers)
			return nil, err
		}
		readers = append(readers, rd)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts = readers
	return c, nil
}

// maxEvent bounds what is read of one event: what a ring has is bounded already.
const maxEvent = math.MaxInt / 2

// leave gives seats up.
func leave(readers []*reader) {
	for _, rd := range readers {
		if rd.seat != nil {
			rd.unwatch()
			rd.seat.Leave()
			rd.seat = nil
		}
	}
}

// conn is the seats in the parts.
type conn struct {
	source *Source
	wake   chan struct{} // has one element when a part may have more
}

// sit gives rd a seat, with which it is told when there is more.
func (c *conn) sit(ctx context.Context, rd *reader) error {
	seat, err := rd.Streams.Sit(rd.Request)
	var refused *translate.Refused
	switch {
	case errors.As(err, &refused), errors.Is(err, stream.ErrReplaced):
		return fmt.Errorf("%w: %s: %w", upstream.ErrRetired, rd.Label, errors.New(err.Error())) // which is not the merged stream's own refusal
	case err != nil:
		return fmt.Errorf("%s: %w", rd.Label, err)
	}
	if err := seat.Loaded(ctx); err != nil {
		seat.Leave()
		return err
	}
	rd.seat = seat
	rd.unwatch = seat.Ring.Watch(func() {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	})
	return nil
}

// Resumed is true: of each part it is said whether something was lost.
func (c *conn) Resumed() bool { return true }

// Send is for streams that have an upstream.
func (c *conn) Send(context.Context, translate.Message) error { return upstream.ErrNoUplink }

// Run emits what the parts bring. Whatever else ends it than a part's end, its clients come back to another stream: this one cannot go on, as it would begin
// with all that its parts have once more.
func (c *conn) Run(ctx context.Context, emit func([]translate.Message) error) error {
	s := c.source
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		leave(s.parts)
	}()
	for first := true; ; first = false {
		end, err := s.turn(ctx, c, first, emit)
		if err != nil && ctx.Err() == nil && !errors.Is(err, upstream.ErrRetired) {
			err = fmt.Errorf("%w: %w", upstream.ErrRetired, err)
		}
		if err != nil {
			return err
		}
		if end != nil {
			return end
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// turn emits what the parts have by now. end is how the stream ends after that; nil: it goes on.
func (s *Source) turn(ctx context.Context, c *conn, first bool, emit func([]translate.Message) error) (end, err error) {
	s.mu.Lock()
	locked := true
	unlock := func() {
		if locked {
			locked = false
			s.mu.Unlock()
		}
	}
	defer unlock()
	b := batch{source: s, ctx: ctx, messages: []translate.Message{}}
	if first {
		b.begin()
	} else {
		b.read(c)
	}
	if b.err != nil {
		return nil, b.err
	}
	s.saved = s.places()
	if !s.plan.Indexed {
		unlock() // to keep what is emitted may take a while
	}
	if first || len(b.messages) > 0 {
		if err := emit(b.messages); err != nil {
			return nil, err
		}
	}
	if s.plan.Indexed {
		s.follow(&b)
	}
	if first {
		close(s.ready)
	}
	return b.end, nil
}

// follow notes where what was emitted was. mu is held.
func (s *Source) follow(b *batch) {
	s.emitted += uint64(len(b.messages))
	s.trail = append(s.trail, b.trail...)
	if most := 2 * max(s.plan.Events, 1); len(s.trail) > 2*most {
		s.trail = append(s.trail[:0:0], s.trail[len(s.trail)-most:]...)
	}
}

// places are the parts' as Restore reads them. mu is held.
func (s *Source) places() []byte {
	places := make(map[string]string, len(s.parts))
	for _, rd := range s.parts {
		switch {
		case rd.seat == nil || stream.Pending(rd.at):
		case stream.Ahead(rd.at):
			places[rd.Label] = s.restored[rd.Label]
		default:
			places[rd.Label] = rd.seat.Ring.Place(rd.at)
		}
	}
	text, _ := json.Marshal(places) // strings can be marshalled
	return text
}
