//go:build linux && !portable

package wsconn

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// lookout tells connections that doze when there is something to be read: one epoll instance for all, and one goroutine, which waits by the runtime's
// poller and so holds no thread. It is there while a connection is that has dozed.
type lookout struct {
	fd    int
	file  *os.File
	conns map[int32]*Conn // by descriptor; guarded by lookouts
}

var (
	lookouts sync.Mutex // guards what follows; may be taken within Conn.mu
	current  *lookout   // nil: nobody has dozed
)

// watch has c told, once for each time that something comes. It reports whether that is possible. c.mu is held.
func (c *Conn) watch() bool {
	fd := -1
	if c.raw.Control(func(is uintptr) { fd = int(is) }) != nil {
		return false
	}
	lookouts.Lock()
	defer lookouts.Unlock()
	if current == nil {
		l, err := newLookout()
		if err != nil {
			return false
		}
		current = l
		go l.run() // ends with the last connection
	}
	event := &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(fd)}
	if unix.EpollCtl(current.fd, unix.EPOLL_CTL_ADD, fd, event) != nil {
		return false
	}
	current.conns[int32(fd)] = c
	c.watched = fd
	return true
}

// unwatch comes before the descriptor is closed, which may be another connection's then. c.mu is not held.
func (c *Conn) unwatch() {
	lookouts.Lock()
	defer lookouts.Unlock()
	if current == nil || current.conns[int32(c.watched)] != c {
		return
	}
	unix.EpollCtl(current.fd, unix.EPOLL_CTL_DEL, c.watched, nil)
	delete(current.conns, int32(c.watched))
	if len(current.conns) == 0 {
		current.file.Close()
		current = nil
	}
}

func newLookout() (*lookout, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for os; epoll_wait does not care
		unix.Close(fd)
		return nil, err
	}
	return &lookout{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), conns: map[int32]*Conn{}}, nil
}

func (l *lookout) run() {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return
	}
	events := make([]unix.EpollEvent, 128)
	type news struct {
		c    *Conn
		hung bool
	}
	var ready []news
	n := 0
	look := func(fd uintptr) bool {
		var err error
		for {
			if n, err = unix.EpollWait(int(fd), events, 0); err != syscall.EINTR {
				return n > 0 || err != nil
			}
		}
	}
	for raw.Read(look) == nil {
		lookouts.Lock()
		for _, e := range events[:max(n, 0)] {
			if c := l.conns[e.Fd]; c != nil {
				ready = append(ready, news{c, e.Events&^unix.EPOLLIN != 0})
			}
		}
		lookouts.Unlock()
		for _, one := range ready {
			one.c.awaken(one.hung)
		}
		clear(ready)
		ready = ready[:0]
	}
}
