//go:build linux && !portable

package deliver

import (
	"runtime"
	"syscall"
	"testing"
	"time"

	"sidestream/proxy/stream"
	"sidestream/translate"
)

// Who appends last before it waits has written to the few clients that there are, once the shard is at nothing else; what more comes of a walk is the shard's:
// a client that is gone is let go of, and one that takes nothing gets the rest once it does.
func TestNear(t *testing.T) { overEach(t, near) }

func near(t *testing.T, newHarbour wire) {
	h := newHarbour(t, stream.Bounds{Events: 100}, time.Hour)
	c, in := h.open("1.1", "")
	defer c.Close()
	r := reference{in: in, next: 1}
	wait := func() {
		t.Helper()
		if _, err := r.event(); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := tcp(c).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	there := func() (n int) { // bytes that can be read at once
		raw.Read(func(fd uintptr) bool {
			var p [4096]byte
			n, _, _ = syscall.Recvfrom(int(fd), p[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			return true
		})
		return n
	}
	at := 0
	next := func() translate.Message {
		at++
		return translate.Message{Data: []byte(payload(at))}
	}
	h.ring.Append(next())
	wait()
	late, places := 0, runtime.GOMAXPROCS(1) // so that nobody else does it meanwhile
	for range 200 {
		h.ring.AppendLast(next())
		if there() <= 0 {
			late++
		}
		wait()
	}
	runtime.GOMAXPROCS(places)
	if late > 20 { // the shard may be at something, as after its own wait
		t.Errorf("%d of 200 events had not left when they were appended", late)
	}

	gone, _ := h.open("1.1", "")
	eventually(t, "it is there", func() bool { return h.route.Stats.Clients.Load() == 2 })
	tcp(gone).SetLinger(0)
	gone.Close()
	h.ring.AppendLast(next())
	wait()
	eventually(t, "it is let go of", func() bool { return h.route.Stats.Clients.Load() == 1 })

	for range mostNear + 1 { // more than whoever appends writes to
		other, _ := h.open("1.1", "")
		defer other.Close()
	}
	eventually(t, "they are there", func() bool { return h.route.Stats.Clients.Load() == mostNear+2 })
	h.ring.AppendLast(next())
	wait()
}

// A client that takes nothing blocks nobody, and misses nothing that is kept.
func TestNearBlocked(t *testing.T) {
	h := newHarbour(t, stream.Bounds{}, time.Hour)
	c, in := h.open("1.1", "")
	defer c.Close()
	began := time.Now()
	const n = 30000
	for i := range n {
		h.ring.AppendLast(translate.Message{Data: []byte(payload(i + 1))})
	}
	eventually(t, "it is blocked", func() bool { return h.route.Stats.Events.Load() < n })
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v to append", took)
	}
	r := reference{in: in, next: 1}
	for range n {
		if _, err := r.event(); err != nil {
			t.Fatal(err)
		}
	}
}

// Nor does whoever appends give a client what was there before it came and it waits for its turn for, which may be much.
func TestNearLeavesReplaysAlone(t *testing.T) {
	h := newHarbour(t, stream.Bounds{}, time.Hour)
	h.clients.replays.rate.Store(1)
	for i := range 2000 {
		h.ring.Append(translate.Message{Data: []byte(payload(i + 1))})
	}
	for range 2 { // the first has the turn that is saved up
		c, _ := h.open("1.1", h.ring.Position(0))
		defer c.Close()
	}
	eventually(t, "one waits for its turn", func() bool {
		h.clients.engine.mu.Lock()
		defer h.clients.engine.mu.Unlock()
		for _, s := range h.clients.engine.shards {
			s.own.Lock()
			waits, groups := len(s.waits), s.groups
			s.own.Unlock()
			if waits == 0 {
				continue
			}
			for _, g := range groups {
				if g != nil && s.near(g) {
					t.Error("it is written to")
				}
			}
			return true
		}
		return false
	})
}
