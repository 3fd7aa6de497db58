package deliver

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidestream/proxy/stream"
)

func listenUnix(t *testing.T, path string, mode fs.FileMode) net.Listener {
	t.Helper()
	l, err := ListenUnix(path, mode)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The same over Unix sockets as over TCP, with clients that come by net/http and past it, and the same of writers.
func TestEveryByteOverUnixSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sse.sock")
	for _, path := range []string{path, "@" + path} {
		if strings.HasPrefix(path, "@") && !abstracts {
			continue
		}
		h := newHarbourAt(t, listenUnix(t, path, 0o600), stream.Bounds{Start: stream.StartAll}, 5*time.Millisecond, 0)
		everyByteReachesEveryClient(t, h)
		everyByteReachesEveryClient(t, newHarbourWith(t, listenUnix(t, path+"s", 0o600), selfSigned(), stream.Bounds{Start: stream.StartAll}, 5*time.Millisecond, 0))
		direct, sharded := h.route.Stats.Direct.Load(), h.clients.ByWriter()[ByShard]
		if abstracts && !portable && direct == 0 {
			t.Errorf("%s: no client was taken past net/http, %d by shards now", path, sharded)
		}
	}
}

// The file has its mode, goes with the listener, and replaces one that nobody listens on.
func TestUnixSocketFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sse.sock")
	for range 2 {
		l := listenUnix(t, path, 0o624)
		if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o624 {
			t.Errorf("%v, %v", info, err)
		}
		if other, err := ListenUnix(path, 0o600); err == nil || !strings.Contains(err.Error(), "another process listens on") {
			t.Errorf("a second one: %v, %v", other, err)
		}
		l.Close()
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("after the end: %v", err)
		}
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close() // as a kill leaves it
	l := listenUnix(t, path, 0o600)
	if c, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	// Whoever comes later and takes the place keeps it.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	next := listenUnix(t, path, 0o600)
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other one's file: %v", err)
	}
	next.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := ListenUnix(path, 0o600); err == nil || !strings.Contains(err.Error(), "is no socket; remove it") {
		t.Errorf("in place of a file: %v, %v", l, err)
	}
	if l, err := ListenUnix(filepath.Join(path, "no", "folder"), 0o600); err == nil {
		t.Errorf("in no folder: %v", l)
	}
}

// The file goes as well where the listener is taken over.
func TestUnixSocketFileGoesWithTheServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sse.sock")
	t.Cleanup(func() { // after the harbour's
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("after the end: %v", err)
		}
	})
	h := newHarbourAt(t, listenUnix(t, path, 0o600), stream.Bounds{}, 0, 0)
	for range 4 {
		c, _ := h.open("1.1", "")
		defer c.Close()
	}
}

// A peer that takes nothing is given up, whatever is written to it; a deadline that was set is obeyed.
func TestWritesOverUnixSocketsEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sse.sock")
	l := listenUnix(t, path, 0o600)
	defer l.Close()
	accepted := func() *localConn {
		t.Helper()
		peer, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { peer.Close() })
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		local := c.(*localConn)
		if local.patience != stallTime {
			t.Errorf("it is waited for %v", local.patience)
		}
		return local
	}
	fill := func(c *localConn, began time.Time) (time.Duration, error) {
		for {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				return time.Since(began), err
			}
		}
	}
	c := accepted()
	c.patience = 200 * time.Millisecond
	if after, err := fill(c, time.Now()); !errors.Is(err, os.ErrDeadlineExceeded) || after < c.patience {
		t.Errorf("given up after %v: %v", after, err)
	}
	c = accepted()
	c.patience = time.Hour
	began := time.Now()
	c.SetDeadline(began.Add(200 * time.Millisecond))
	if after, err := fill(c, began); !errors.Is(err, os.ErrDeadlineExceeded) || after < 100*time.Millisecond {
		t.Errorf("given up after %v: %v", after, err)
	}
	c = accepted()
	c.patience = time.Hour
	ended := make(chan error)
	go func() { // ends below
		_, err := fill(c, time.Now())
		ended <- err
	}()
	c.SetWriteDeadline(time.Unix(1, 0)) // as a writer cuts one
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}
