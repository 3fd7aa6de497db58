//go:build linux && !portable

package deliver

import (
	"net"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sidestream/proxy/stream"
)

const portable, abstracts = false, true

// A client on a Unix socket whose peer takes nothing of what waits for 30 s is cut; one whose peer takes something is not, nor one for which
// nothing waits.
func TestStallsOverUnixSockets(t *testing.T) {
	s, err := newShard(&Clients{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.poller.close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	s.slots = append(s.slots, slot{fd: int32(pair[0])})
	s.watch(1)
	piece := make([]byte, 4096)
	for {
		if _, err := unix.Write(pair[0], piece); err != nil {
			break
		}
	}
	at := func(seconds tick, blocked bool, lost int) {
		t.Helper()
		s.now = 1000 * seconds
		s.slots[1].flags &^= isBlocked
		if blocked {
			s.slots[1].flags |= isBlocked
		}
		if s.stalls(); len(s.dead) != lost {
			t.Errorf("after %d s %d are cut, want %d", seconds, len(s.dead), lost)
		}
	}
	at(100, false, 0)
	at(1000, false, 0) // idle
	at(1001, true, 0)
	at(1029, true, 0)
	if _, err := unix.Read(pair[1], piece); err != nil {
		t.Fatal(err)
	}
	at(1030, true, 0)
	at(1059, true, 0)
	at(1060, true, 1)
	if s.slots[1].why != Stalled {
		t.Errorf("cut for %d", s.slots[1].why)
	}
}

// Shards know which of their clients are on Unix sockets, however they have come.
func TestClientsOverUnixSocketsAreWatched(t *testing.T) {
	watched := func(h *harbour) (n int) {
		h.clients.engine.mu.Lock()
		shards := slices.Clone(h.clients.engine.shards)
		h.clients.engine.mu.Unlock()
		for _, s := range shards {
			s.ask(func() { n += len(s.locals) })
		}
		return n
	}
	local := newHarbourAt(t, listenUnix(t, filepath.Join(t.TempDir(), "sse.sock"), 0o600), stream.Bounds{}, 0, 0)
	tcp := newHarbour(t, stream.Bounds{}, 0)
	for h, want := range map[*harbour]int{local: 4, tcp: 0} {
		var all []net.Conn
		for range 4 {
			c, _ := h.open("1.1", "")
			all = append(all, c)
		}
		eventually(t, "all are with shards", func() bool { return h.clients.ByWriter()[ByShard] == 4 && watched(h) == want })
		if n := h.route.Stats.Direct.Load(); n == 0 || n == 4 {
			t.Errorf("%d of 4 came past net/http", n)
		}
		for _, c := range all {
			c.Close()
		}
		eventually(t, "none is watched", func() bool { return watched(h) == 0 })
	}
}
