package stream

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// sink takes what is sent.
type sink struct {
	mu  sync.Mutex
	got []string
}

func (k *sink) send(_ context.Context, n int, data string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.got = append(k.got, fmt.Sprintf("%d:%s", n, data))
	return nil
}

func (k *sink) expect(t *testing.T, want string) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if got := strings.Join(k.got, " "); got != want {
		t.Errorf("the upstream got %q, want %q", got, want)
	}
}

func text(s string) translate.Message { return translate.Message{Data: []byte(s)} }

func TestSendGoesOverTheConnectionThereIs(t *testing.T) {
	k := new(sink)
	l := &legacy{send: k.send, run: func(ctx context.Context, n int, emit func(...string) error) error {
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
		return errLost
	}, connect: func(ctx context.Context, n int) error {
		if n == 2 {
			return wait(ctx, time.Minute)
		}
		return nil
	}}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		if s.Find(request(t, "a")) != nil {
			t.Error("found a stream that nobody opened")
		}
		seat := join(t, s, "a")
		st := s.Find(request(t, "a"))
		if st != seat.Stream || s.Find(request(t, "b")) != nil {
			t.Fatal("found another stream")
		}
		if err := st.Send(t.Context(), text("x")); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Second) // the first connection is lost, the second not there yet
		if err := st.Send(t.Context(), text("y")); !errors.Is(err, ErrDown) {
			t.Errorf("sent without a connection: %v", err)
		}
		k.expect(t, "1:x")
		if s.Stats.Sent.Load() != 1 || s.Stats.SendFailed.Load() != 1 {
			t.Errorf("counted %d sent and %d failed", s.Stats.Sent.Load(), s.Stats.SendFailed.Load())
		}
		seat.Leave()
		time.Sleep(29 * time.Second)
		if s.Find(request(t, "a")) == nil {
			t.Error("a lingering stream takes messages too")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s.Find(request(t, "a")) != nil {
			t.Error("found a stream that has gone")
		}
	})
}

func TestSendOnce(t *testing.T) {
	k := new(sink)
	l := &legacy{}
	l.send = func(ctx context.Context, n int, data string) error {
		switch data {
		case "slow":
			time.Sleep(5 * time.Second)
		case "bad":
			k.send(ctx, n, data)
			return &upstream.BadMessage{Err: errLost}
		case "lost":
			k.send(ctx, n, data)
			return errLost
		}
		return k.send(ctx, n, data)
	}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		st := join(t, s, "a").Stream
		once := func(key, data string) error { return st.SendOnce(t.Context(), key, text(data)) }
		for range 2 {
			if err := once("1", "x"); err != nil {
				t.Error(err)
			}
		}
		if err := once("1", "y"); !errors.Is(err, ErrReused) {
			t.Errorf("a key with another message: %v", err)
		}
		for range 2 { // it may have left in part, so it is not tried again
			if err := once("2", "lost"); !errors.Is(err, errLost) {
				t.Error(err)
			}
		}
		for range 2 { // it never left
			if err := once("3", "bad"); !errors.As(err, new(*upstream.BadMessage)) {
				t.Error(err)
			}
		}
		k.expect(t, "1:x 1:lost 1:bad 1:bad")

		// A second one waits for the first, and the first goes on when its client has gone.
		begun := time.Now()
		gone, leave := context.WithCancel(t.Context())
		var both sync.WaitGroup
		both.Go(func() {
			if err := st.SendOnce(gone, "4", text("slow")); err != nil || time.Since(begun) != 5*time.Second {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
		})
		time.Sleep(time.Second)
		leave()
		both.Go(func() {
			if err := once("4", "slow"); err != nil || time.Since(begun) != 5*time.Second {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
		})
		if err := st.SendOnce(gone, "4", text("slow")); !errors.Is(err, context.Canceled) {
			t.Errorf("who has gone does not wait: %v", err)
		}
		both.Wait()
		k.expect(t, "1:x 1:lost 1:bad 1:bad 1:slow")

		time.Sleep(keyTime)
		if err := once("1", "z"); err != nil {
			t.Errorf("the key is forgotten: %v", err)
		}
		k.expect(t, "1:x 1:lost 1:bad 1:bad 1:slow 1:z")
	})
}

// TestSendOnceOverAnAge: a client that repeats what it sent to the stream that was replaced meanwhile has not sent twice.
func TestSendOnceOverAnAge(t *testing.T) {
	k := new(sink)
	bubble(t, Policy{MaxAge: time.Minute, Linger: time.Minute}, &legacy{send: k.send}, func(t *testing.T, s *Streams) {
		old := join(t, s, "a")
		if err := old.SendOnce(t.Context(), "1", text("x")); err != nil {
			t.Fatal(err)
		}
		<-old.Retiring()
		successor, other := join(t, s, "a"), join(t, s, "b")
		if successor.Stream == old.Stream {
			t.Fatal("not replaced")
		}
		for _, seat := range []*Seat{successor, old, other} {
			if err := seat.SendOnce(t.Context(), "1", text("x")); err != nil {
				t.Error(err)
			}
		}
		if len(k.got) != 2 {
			t.Errorf("sent %q, want it once for each of two streams", k.got)
		}
	})
}

// TestSendOnceOverAnEnd: what was sent is known for five minutes, whether or not its stream is there meanwhile.
func TestSendOnceOverAnEnd(t *testing.T) {
	k := new(sink)
	bubble(t, Policy{MaxAge: time.Minute, Linger: time.Second}, &legacy{send: k.send}, func(t *testing.T, s *Streams) {
		send := func(st *Seat) {
			t.Helper()
			if err := st.SendOnce(t.Context(), "1", text("x")); err != nil {
				t.Error(err)
			}
		}
		alone := join(t, s, "a")
		send(alone)
		<-alone.Retiring()
		alone.Leave() // as it was told to, and comes back
		time.Sleep(time.Second)
		back := join(t, s, "a")
		send(back)
		back.Leave() // for longer than LINGER
		time.Sleep(time.Minute)
		late := join(t, s, "a")
		send(late)
		k.expect(t, "1:x")
		late.Leave()
		time.Sleep(keyTime)
		later := join(t, s, "a")
		send(later)
		if len(k.got) != 2 {
			t.Errorf("after five minutes %q are sent", k.got)
		}
	})
}

// What a stream was sent that is there again is not let go of for what others were sent, also before it is sent something; one that is sent nothing has nothing.
func TestSentKeysOfStreamsThatAreBack(t *testing.T) {
	k := new(sink)
	bubble(t, Policy{Linger: time.Second}, &legacy{send: k.send}, func(t *testing.T, s *Streams) {
		remembered := func() (gone, all int) {
			s.sent.mu.Lock()
			defer s.sent.mu.Unlock()
			return s.sent.gone.Len(), len(s.sent.byStream)
		}
		first := join(t, s, "a")
		if err := first.SendOnce(t.Context(), "1", text("x")); err != nil {
			t.Fatal(err)
		}
		first.Leave()
		time.Sleep(2 * time.Second)
		if gone, all := remembered(); gone != 1 || all != 1 {
			t.Errorf("%d are of streams that have ended, of %d", gone, all)
		}
		back, silent := join(t, s, "a"), join(t, s, "b")
		if gone, all := remembered(); gone != 0 || all != 1 || back.keys == nil || silent.keys != nil {
			t.Errorf("%d are of streams that have ended, of %d", gone, all)
		}
		silent.Leave()
		back.Leave()
		time.Sleep(2 * time.Second)
		if gone, all := remembered(); gone != 1 || all != 1 {
			t.Errorf("%d are of streams that have ended, of %d, once they have left", gone, all)
		}
	})
}

// What is remembered of streams that have ended is bounded, the oldest of them are forgotten; a stream that has sent nothing leaves nothing.
func TestSentKeysOfEndedStreamsAreBounded(t *testing.T) {
	m := new(memory)
	key := func(n int) (k [sha256.Size]byte) { binary.BigEndian.PutUint64(k[:], uint64(n)); return k }
	const each, streams = 64, 2 * maxMemory / 64
	for i := range streams {
		known := m.take(key(i))
		for j := range each {
			known.remember(fmt.Sprint(j), [sha256.Size]byte{})
		}
		m.give(key(i), known)
		m.give(key(-1-i), m.take(key(-1-i)))
	}
	if len(m.byStream) != maxMemory/each || m.gone.Len() != maxMemory/each || m.held != maxMemory {
		t.Errorf("%d streams, %d of them gone, with %d keys", len(m.byStream), m.gone.Len(), m.held)
	}
	if _, first := m.take(key(streams-1)).remember("1", [sha256.Size]byte{}); first {
		t.Error("the newest is forgotten")
	}
}

func TestSentKeysAreBounded(t *testing.T) {
	k := new(sink)
	bubble(t, Policy{}, &legacy{send: k.send}, func(t *testing.T, s *Streams) {
		st := join(t, s, "a").Stream
		for i := range 3 * maxKeys {
			if err := st.SendOnce(t.Context(), fmt.Sprint(i), text("x")); err != nil {
				t.Fatal(err)
			}
		}
		if n, m := st.known().order.Len(), len(st.known().byKey); n != maxKeys || m != maxKeys {
			t.Errorf("%d and %d keys are remembered", n, m)
		}
		sent := len(k.got)
		st.SendOnce(t.Context(), fmt.Sprint(3*maxKeys-1), text("x"))
		if len(k.got) != sent {
			t.Error("the newest key is forgotten")
		}
	})
}

func TestReserve(t *testing.T) {
	bubble(t, Policy{}, new(legacy), func(t *testing.T, s *Streams) {
		st := join(t, s, "a").Stream
		for i := range maxSends {
			if crowded, ok := st.Reserve(); !ok || crowded != (i >= maxSends/2) {
				t.Fatal("no place")
			}
		}
		if _, ok := st.Reserve(); ok {
			t.Error("a place too many")
		}
		st.Release()
		if _, ok := st.Reserve(); !ok {
			t.Error("no place after one was given back")
		}
	})
}
