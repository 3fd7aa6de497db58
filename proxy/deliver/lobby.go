//go:build linux && !portable

// This file is where connections of HTTP/2 wait that are parked: in an epoll instance of their own, and with no goroutine. See package h2.

package deliver

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"sidestream/proxy/deliver/h2"
)

// lobby is the connections that are parked. The zero value has none, and begins with the first.
type lobby struct {
	mu     sync.Mutex // guards what follows
	poller *poller    // nil: there was none yet
	parked map[int32]*carrier
	closed bool
}

// enter has m attended when something comes over its connection, or returns false.
func (l *lobby) enter(m *carrier, running *runners) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || !l.begin(running) {
		return false
	}
	entered := false
	m.socket.raw.Control(func(fd uintptr) {
		m.socket.fd = int32(fd)
		entered = l.poller.add(int(fd), unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET, int32(fd), 0) == nil
	})
	if entered {
		l.parked[m.socket.fd] = m
	}
	return entered
}

// begin starts the lobby. mu is held.
func (l *lobby) begin(running *runners) bool {
	if l.poller != nil {
		return true
	}
	p, err := newPoller(256)
	if err != nil {
		return false
	}
	l.poller, l.parked = p, map[int32]*carrier{}
	if running.start(l.run) { // ends with close
		return true
	}
	l.poller = nil
	p.close()
	return false
}

// leave forgets m, if it is there.
func (l *lobby) leave(m *carrier) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.socket == nil || l.parked[m.socket.fd] != m {
		return
	}
	delete(l.parked, m.socket.fd)
	m.socket.raw.Control(func(fd uintptr) { unix.EpollCtl(l.poller.fd, unix.EPOLL_CTL_DEL, int(fd), nil) })
}

// count is how many are there.
func (l *lobby) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.parked)
}

// run attends to connections. What comes for one that has left is no matter: Attend looks.
func (l *lobby) run() {
	for {
		events := l.poller.wait(-1)
		l.mu.Lock()
		if l.closed {
			l.poller.close()
			l.mu.Unlock()
			return
		}
		for _, e := range events {
			if m := l.parked[e.Fd]; m != nil {
				m.conn.Attend()
			}
		}
		l.mu.Unlock()
	}
}

func (l *lobby) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed = true; l.poller != nil {
		l.poller.wake()
	}
}

// parkable is a socket's connection whose reads wait, or do not.
type parkable struct {
	net.Conn
	raw  syscall.RawConn
	fd   int32       // in the lobby
	now  atomic.Bool // reads do not wait
	look func(fd uintptr) bool

	// Of the read that is under way; there is one at a time.
	to    []byte
	n     int
	errno syscall.Errno
}

// newParkable returns nil where c is no socket.
func newParkable(c net.Conn) *parkable {
	under, ok := c.(socket)
	if !ok {
		return nil
	}
	raw, err := under.SyscallConn()
	if err != nil {
		return nil
	}
	s := &parkable{Conn: c, raw: raw}
	s.look = s.peek
	return s
}

// Read is net.Conn's. It fails with [os.ErrDeadlineExceeded] where there is nothing to read for now, and reads do not wait: crypto/tls takes no
// other error for passing.
func (s *parkable) Read(p []byte) (int, error) {
	if !s.now.Load() || len(p) == 0 {
		return s.Conn.Read(p)
	}
	s.to = p
	err := s.raw.Read(s.look)
	s.to = nil
	switch {
	case err != nil:
		return 0, err
	case s.errno == unix.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	case s.errno != 0:
		return 0, os.NewSyscallError("recvfrom", s.errno)
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}

// peek takes what there is.
func (s *parkable) peek(fd uintptr) bool {
	s.n, s.errno = receive(int32(fd), unsafe.Pointer(unsafe.SliceData(s.to)), len(s.to), 0)
	return true
}

// Park is [h2.Filler]'s.
func (m *carrier) Park(*h2.Conn) bool {
	m.socket.now.Store(true)
	m.Quiet()
	return m.clients.engine.lobby.enter(m, &m.clients.engine.runners)
}

// Quiet is [h2.Filler]'s.
func (m *carrier) Quiet() {
	if m.secure != nil {
		letGo(m.secure)
	}
}

// Recall is [h2.Filler]'s.
func (m *carrier) Recall(v *h2.Visit) bool {
	m.clients.engine.lobby.leave(m)
	m.socket.now.Store(false)
	return m.two.offer(m.visited(v))
}

// visited is v as net/http is to have it.
func (m *carrier) visited(v *h2.Visit) net.Conn {
	if m.secure != nil {
		return h2Secured{v, m.secure}
	}
	return v
}
