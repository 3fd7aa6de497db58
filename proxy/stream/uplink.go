// This file is the way up through a stream. Its rules:
//
//   - A message goes up over the connection there is, or not at all: nothing is kept for the next one.
//   - A key that was seen in the last minutes has the outcome that it had then, and nothing is sent; also while the first
//     with it is still under way. What never left is forgotten, so that it can be tried again. What one stream knows of the same
//     upstream request the next one knows, too: see memory.go.

package stream

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"sidestream/proxy/history"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

const (
	maxSends = 64              // of one stream under way at once
	keyTime  = 5 * time.Minute // how long a key is remembered
	maxKeys  = 1024            // remembered at once, of one stream
)

// ErrDown means that a message never left, so that it can be tried again.
var ErrDown = errors.New("the upstream is not connected now")

// errPending means that another process has begun to send a message, and whether it did is not known.
var errPending = errors.New("whether the message was sent is not known")

// ErrReused means that a key came with another message than before.
var ErrReused = errors.New("the Idempotency-Key was used for another message")

// uplink is the uplink up of one stream.
type uplink struct {
	mu      sync.Mutex    // guards what follows
	conn    upstream.Conn // nil while there is none
	sending int
}

// keys are those of messages, and what became of them. The zero value has none. Safe for concurrent use.
type keys struct {
	mu    sync.Mutex // guards what follows
	byKey map[string]*list.Element
	order list.List // of *sent, oldest first

	// Guarded by memory.mu.
	users int           // streams that have them
	gone  *list.Element // in memory.gone; nil: some stream has them
}

// sent is the message of one key, and what became of it.
type sent struct {
	key     string
	digest  [sha256.Size]byte
	at      time.Time
	outcome chan struct{} // closed when err is set
	err     error
}

func (w *uplink) connect(c upstream.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = c
}

// Find returns the stream of req, nil when there is none to send to.
func (s *Streams) Find(req upstream.Request) *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.byKey[req.Key]; st != nil {
		if st.finished {
			return nil
		}
		return st
	}
	for st := range s.old { // its clients are not all released yet
		if st.req.Key == req.Key {
			return st
		}
	}
	if old := s.prior(); old != nil {
		return old.Find(req)
	}
	return nil
}

// Connected reports whether there is a connection to send on. Where several processes share the history, it is that of the holder.
func (st *Stream) Connected() bool {
	st.uplink.mu.Lock()
	defer st.uplink.mu.Unlock()
	return st.uplink.conn != nil
}

// Reserve takes one of the places of messages under way, so that what waits to be sent is bounded; false when there is
// none. It must be given back by Release. crowded: half of them are taken.
func (st *Stream) Reserve() (crowded, ok bool) {
	w := &st.uplink
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sending >= maxSends {
		return true, false
	}
	w.sending++
	return w.sending > maxSends/2, true
}

// Release gives a place back.
func (st *Stream) Release() {
	st.uplink.mu.Lock()
	defer st.uplink.mu.Unlock()
	st.uplink.sending--
}

// Send returns when m is written to the upstream. Calls made one after the other are served in that order. The error
// is [ErrDown], a *[upstream.BadMessage], [upstream.ErrNoUplink], or what went wrong when it was written.
func (st *Stream) Send(ctx context.Context, m translate.Message) (err error) {
	w := &st.uplink
	w.mu.Lock()
	conn := w.conn
	w.mu.Unlock()
	if conn == nil {
		err = ErrDown
	} else {
		err = conn.Send(ctx, m)
	}
	if err == nil {
		st.streams.Stats.Sent.Add(1)
	} else {
		st.streams.Stats.SendFailed.Add(1)
	}
	return err
}

// SendOnce is Send, but for a key that was seen before it sends nothing and has the outcome of then. Its error may also be
// [ErrReused]. ctx ends the wait only: what was begun is finished.
func (st *Stream) SendOnce(ctx context.Context, key string, m translate.Message) error {
	known := st.known()
	one, first := known.remember(key, sha256.Sum256(m.Data))
	switch {
	case one == nil:
		return ErrReused
	case !first:
		select {
		case <-one.outcome:
			return one.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	one.err = st.sendClaimed(context.WithoutCancel(ctx), one, m)
	var bad *upstream.BadMessage
	if errors.Is(one.err, ErrDown) || errors.As(one.err, &bad) || errors.Is(one.err, ErrReused) {
		known.forget(one)
	}
	close(one.outcome)
	return one.err
}

// known is what the stream was sent.
func (st *Stream) known() *keys {
	s := st.streams
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.keys != nil {
		return st.keys
	}
	if _, replaced := s.old[st]; !replaced && s.byKey[st.req.Key] != st {
		return new(keys) // it is not there any more, and what comes after it does not ask
	}
	st.keys = s.sent.take(st.req.Key)
	return st.keys
}

// sendClaimed is Send, but for a message that another process has sent, or was about to, before it was replaced. Where the store is away,
// this process alone remembers.
func (st *Stream) sendClaimed(ctx context.Context, one *sent, m translate.Message) error {
	select {
	case <-st.loaded.passed():
	default:
		return ErrDown // nobody can have been connected
	}
	claims, shared := st.kept.(history.Claims)
	if !shared {
		return st.Send(ctx, m)
	}
	claim, err := claims.Claim(ctx, one.key, one.digest)
	switch {
	case err != nil:
		return st.Send(ctx, m)
	case claim == history.ClaimOther:
		return ErrReused
	case claim == history.ClaimSent:
		return nil
	case claim == history.ClaimPending:
		return errPending
	}
	err = st.Send(ctx, m)
	var bad *upstream.BadMessage
	if never := errors.Is(err, ErrDown) || errors.As(err, &bad); err == nil || never {
		claims.Settle(ctx, one.key, one.digest, err == nil)
	}
	return err
}

// remember returns what is known of key, and whether that is nothing yet; nil when it was of another message.
func (k *keys) remember(key string, digest [sha256.Size]byte) (one *sent, first bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for e := k.order.Front(); e != nil; e = k.order.Front() {
		if old := e.Value.(*sent); now.Sub(old.at) < keyTime && k.order.Len() < maxKeys {
			break
		}
		k.remove(e)
	}
	if e := k.byKey[key]; e != nil {
		one = e.Value.(*sent)
		if one.digest != digest {
			return nil, false
		}
		return one, false
	}
	one = &sent{key: key, digest: digest, at: now, outcome: make(chan struct{})}
	if k.byKey == nil {
		k.byKey = map[string]*list.Element{}
	}
	k.byKey[key] = k.order.PushBack(one)
	return one, true
}

// size is how many there are.
func (k *keys) size() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.order.Len()
}

func (k *keys) forget(one *sent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.byKey[one.key]; e != nil && e.Value == any(one) {
		k.remove(e)
	}
}

// remove is called with mu held.
func (k *keys) remove(e *list.Element) {
	delete(k.byKey, e.Value.(*sent).key)
	k.order.Remove(e)
}
