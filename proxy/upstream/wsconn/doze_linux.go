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
	conns map[int32]seen // by descriptor; guarded by lookouts
}

// seen is a connection that is looked out for, and its mark: an event that was on its way when its descriptor became another connection's has another one.
type seen struct {
	*Conn
	mark int32
}

var (
	lookouts sync.Mutex // guards what follows; may be taken within Conn.mu
	current  *lookout   // nil: nobody has dozed
	marks    int32
)

// watch has c told, once for each time that something comes. It reports whether that is possible. c.mu is held.
func (c *Conn) watch() (watched bool) {
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
	c.raw.Control(func(fd uintptr) { // within which it is no other connection's
		marks++
		event := &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(fd), Pad: marks}
		if unix.EpollCtl(current.fd, unix.EPOLL_CTL_ADD, int(fd), event) == nil {
			current.conns[int32(fd)] = seen{c, marks}
			c.watched, watched = int(fd), true
		}
	})
	current.leave()
	return watched
}

// unwatch comes before the descriptor is closed, which may be another connection's then. c.mu is not held.
func (c *Conn) unwatch() {
	lookouts.Lock()
	defer lookouts.Unlock()
	if current == nil || current.conns[int32(c.watched)].Conn != c {
		return
	}
	unix.EpollCtl(current.fd, unix.EPOLL_CTL_DEL, c.watched, nil)
	delete(current.conns, int32(c.watched))
	current.leave()
}

// leave ends a lookout for nobody. lookouts is held.
func (l *lookout) leave() {
	if len(l.conns) == 0 {
		l.file.Close()
		current = nil
	}
}

// end wakes those that nobody looks out for any more, whatever has ended it.
func (l *lookout) end() {
	lookouts.Lock()
	if current == l {
		current = nil
	}
	conns := l.conns
	l.conns = nil
	l.file.Close()
	lookouts.Unlock()
	for _, one := range conns {
		one.awaken(true)
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
	return &lookout{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), conns: map[int32]seen{}}, nil
}

func (l *lookout) run() {
	defer l.end()
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
	for raw.Read(look) == nil && n > 0 {
		lookouts.Lock()
		for _, e := range events[:n] {
			if one := l.conns[e.Fd]; one.Conn != nil && one.mark == e.Pad {
				ready = append(ready, news{one.Conn, e.Events&^unix.EPOLLIN != 0})
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
