//go:build linux && !portable

package wsconn

import (
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lookout tells connections that doze when there is something to be read: one epoll instance for all, and one goroutine, which waits by the runtime's
// poller and so holds no thread. It is there while a connection is that dozes, or has and is not lingered for.
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

// unwatch comes before the descriptor is closed, which may be another connection's then, or where nobody is to be told any more. c.mu is held, or c is closed.
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

// leave ends a lookout for nobody. lookouts is held, which closing, that waits for what reads, must not be called with.
func (l *lookout) leave() {
	if len(l.conns) == 0 {
		l.file.SetReadDeadline(time.Unix(1, 0))
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

// run hands on what there is from within the wait: what comes meanwhile has it look again, which it need not do before it waits.
func (l *lookout) run() {
	defer l.end()
	raw, err := l.file.SyscallConn()
	if err != nil {
		return
	}
	events := make([]unix.EpollEvent, 128)
	var ready []news
	raw.Read(func(fd uintptr) (failed bool) {
		n, err := happened(int(fd), events)
		for err == syscall.EINTR || n == len(events) {
			ready = l.wake(ready, events[:n])
			n, err = happened(int(fd), events)
		}
		ready = l.wake(ready, events[:n])
		return err != nil
	})
}

// happened is epoll_wait(2) that does not wait, past the runtime for the same reason as [Options.Brisk].
func happened(fd int, events []unix.EpollEvent) (int, error) {
	n, _, err := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}

// news is a connection of which there is something to be known; hung: its end, too.
type news struct {
	c    *Conn
	hung bool
}

// mostGlances is how many of the connections that have something at once the lookout itself sees to, which takes it a few milliseconds at most. A reader that is woken
// costs more than what it reads, but several read at the same time: they have the rest, and begin before.
const mostGlances = 64

// wake lets the connections know that events are of. ready is for reuse.
func (l *lookout) wake(ready []news, events []unix.EpollEvent) []news {
	lookouts.Lock()
	for _, e := range events {
		if one := l.conns[e.Fd]; one.Conn != nil && one.mark == e.Pad {
			ready = append(ready, news{one.Conn, e.Events&^unix.EPOLLIN != 0})
		}
	}
	lookouts.Unlock()
	mine := ready[:min(len(ready), mostGlances)]
	for _, one := range ready[len(mine):] {
		one.c.awaken(one.hung)
	}
	for _, one := range mine {
		one.c.tell(one.hung)
	}
	clear(ready)
	return ready[:0]
}

// tell is awaken by who has the time for a glance.
func (c *Conn) tell(hung bool) {
	c.mu.Lock()
	wake, glance := c.wake, c.glance
	if hung || glance == nil {
		c.mu.Unlock()
		c.awaken(hung)
		return
	}
	c.wake, c.glance, c.glancing = nil, nil, true
	c.mu.Unlock()
	if c.arrived() && glance() {
		return
	}
	c.mu.Lock()
	c.glancing, c.ready = false, true // it may not be read yet, as where Doze was about to return
	c.mu.Unlock()
	wake()
}

// arrived reads what there is, and reports whether that is whole messages alone.
func (c *Conn) arrived() bool {
	if !c.begin() {
		return false
	}
	defer c.leave(&c.reading)
	return c.in == nil && c.got == nil && c.peek() && c.drained && c.in.whole(true)
}
