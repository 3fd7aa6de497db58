//go:build linux && !portable

package deliver

import (
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is an epoll instance that is waited for by the runtime's own: a goroutine that waits holds no thread. In
// epoll_wait(2) itself it would, and the runtime, which takes such a thread's place away after 20 µs, would look for more
// of them as often: a tenth of the CPU where clients come or events go out every millisecond.
type poller struct {
	fd     int
	file   *os.File
	conn   syscall.RawConn
	events []unix.EpollEvent
	found  int
	errno  syscall.Errno
	timed  bool // there is a deadline, or has been
	look   func(fd uintptr) bool
	woken  atomic.Bool // since the last wait
}

// past is a deadline that ends a wait.
var past = time.Unix(1, 0)

// newPoller makes one that reports so many events at once.
func newPoller(events int) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for os; epoll_wait does not care
		unix.Close(fd)
		return nil, err
	}
	p := &poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), events: make([]unix.EpollEvent, events)}
	if err := p.file.SetReadDeadline(time.Time{}); err != nil { // the runtime does not poll it
		p.close()
		return nil, err
	}
	if p.conn, err = p.file.SyscallConn(); err != nil {
		p.close()
		return nil, err
	}
	p.look = p.peek
	return p, nil
}

func (p *poller) close() { p.file.Close() }

// add watches fd; what comes back is data.
func (p *poller) add(fd int, events uint32, data, pad int32) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: data, Pad: pad})
}

// peek takes what there is.
func (p *poller) peek(uintptr) bool {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p.events))), uintptr(len(p.events)), 0, 0, 0)
	p.found, p.errno = 0, errno
	if errno == 0 {
		p.found = int(n)
	}
	return p.found > 0 || errno != 0 && errno != unix.EINTR
}

// wait returns what has happened, once something has or wake was called, or after timeout; less than 0 is none. The result is valid until the next call.
// One goroutine waits. What was left for it before a wake is to be looked for after wait.
func (p *poller) wait(timeout time.Duration) []unix.EpollEvent {
	if timeout > 0 {
		p.file.SetReadDeadline(time.Now().Add(timeout))
		p.timed = true
	} else if timeout < 0 && p.timed {
		p.file.SetReadDeadline(time.Time{})
		p.timed = false
	}
	// Woken from here on, Read fails: wake sets its deadline after the one above.
	if timeout == 0 || p.woken.Load() {
		p.peek(0)
	} else if p.conn.Read(p.look) != nil { // the time is over, before or after the last look
		p.timed = true
		p.peek(0)
	}
	p.woken.Store(false)
	return p.events[:p.found]
}

// wake ends the wait, or the next one: by the runtime alone, without a system call. It does not block, and may be called by any.
func (p *poller) wake() {
	if p.woken.CompareAndSwap(false, true) {
		p.file.SetReadDeadline(past)
	}
}

// hangUp is close(2), past the runtime: of a socket that does not linger it does not block, only costs.
func hangUp(fd int32) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// reset has fd's connection end so that nobody takes that for the end of what was sent. What the kernel still holds is thrown away.
func reset(fd int32) {
	unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
