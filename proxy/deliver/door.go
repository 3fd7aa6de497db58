//go:build linux && !portable

// This file accepts connections, and takes plain requests for event streams past net/http: no goroutine, no buffers, no
// reading in the background that the first answer would end at once. The rules:
//
//   - The first bytes are peeked at, never read: a connection that is net/http's after all gets there untouched. Only
//     when a client has been admitted are the bytes of its request taken out of the socket.
//   - plain (plain.go) decides from the bytes whether net/http would make anything of the request but a plain GET. The
//     request itself is made by net/http's own parser, and the handler is the server's own: it negotiates, counts and
//     logs as always. What it answers with anything but an event stream it declines (visit.go), and net/http asks it again.
//   - Nothing may wait here: a handler that would have to declines as well.
//   - A connection that says nothing waits in the poller, for a second at the most. Then it is net/http's, with its bounds.
//   - All this happens within Accept: the door has no goroutine of its own.
//   - A burst of clients wakes a shard once: who has come is told to it when nobody comes any more, and 1 ms after it came
//     at the latest. A ring that grows meanwhile wakes the shard anyway.

package deliver

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	silence    = time.Second      // a connection that has said nothing for so long is net/http's
	acceptsMax = 64               // accepted at once, before those are asked who have said something
	patience   = time.Millisecond // before a shard is told of a client
	unknownMax = 256              // clients that their shards are not told of yet
	peekSize   = 8192             // a larger head is net/http's
)

// door is a [net.Listener]: Accept answers who can be answered at once and returns everyone else, but for HTTP/2.
type door struct {
	clients *Clients
	handler http.Handler
	two     *arrivals // of HTTP/2
	addr    net.Addr
	closed  atomic.Bool

	mu       sync.Mutex // held while somebody accepts; guards what follows
	shut     bool
	poller   *poller
	listener int
	event    int              // wakes Accept
	waiting  map[int32]uint32 // descriptors that have said nothing, and which use of each
	queue    []silent         // the same, oldest first, and some that are not waiting any more
	uses     uint32
	others   []other               // for net/http
	failed   error                 // of accept
	from     unix.RawSockaddrInet6 // whom it accepted last; larger than IPv4's
	unknown  int                   // clients that their shards are not told of
	since    time.Time             // the first of them came
	head     []byte
	source   bytes.Reader
	parser   *bufio.Reader
	visit    visit
}

// other is a connection for net/http.
type other struct {
	fd  int32
	two bool // HTTP/2
}

// silent is a connection that has said nothing yet.
type silent struct {
	fd    int32
	use   uint32
	until time.Time
}

// door takes l over if it is [Listen]'s, else it returns nil. HTTP/2 is offered to two.
func (c *Clients) door(l net.Listener, handler http.Handler, two *arrivals) *door {
	own, _ := l.(Listener)
	tcp, ok := own.Listener.(*net.TCPListener)
	if !ok {
		return nil
	}
	d := &door{clients: c, handler: handler, two: two, addr: l.Addr(), waiting: map[int32]uint32{},
		head: make([]byte, peekSize), parser: bufio.NewReaderSize(nil, peekSize)}
	if d.open(tcp) != nil {
		return nil
	}
	tcp.Close() // the socket lives on
	return d
}

// open takes a descriptor of l's socket.
func (d *door) open(l *net.TCPListener) (err error) {
	if d.listener, err = duplicate(l); err != nil {
		return err
	}
	if protocol, err := unix.GetsockoptInt(d.listener, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || protocol != unix.IPPROTO_TCP {
		unix.Close(d.listener)
		return errors.New("not plain TCP") // MPTCP's connections inherit less
	}
	if d.poller, err = newPoller(128); err != nil {
		unix.Close(d.listener)
		return err
	}
	if d.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(d.listener)
		d.poller.close()
		return err
	}
	for _, fd := range []int{d.listener, d.event} {
		if err = d.watch(fd, unix.EPOLLIN); err != nil {
			d.release()
			return err
		}
	}
	return nil
}

func (d *door) watch(fd int, events uint32) error {
	return d.poller.add(fd, events, int32(fd), 0)
}

// Addr is the address listened on.
func (d *door) Addr() net.Addr { return d.addr }

// Close stops listening. Who has said nothing is cut; Accept returns.
func (d *door) Close() error {
	if d.closed.Swap(true) {
		return net.ErrClosed
	}
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(d.event, one[:]) // open until closed is seen under mu
	d.mu.Lock()
	defer d.mu.Unlock()
	d.release()
	d.two.Close()
	return nil
}

// release gives everything back, once. mu is held, or nobody else knows d.
func (d *door) release() {
	if d.shut {
		return
	}
	d.shut = true
	d.tell()
	for fd := range d.waiting {
		unix.Close(int(fd))
	}
	for _, o := range d.others {
		unix.Close(int(o.fd))
	}
	d.waiting, d.others = nil, nil
	unix.Close(d.listener)
	d.poller.close()
	unix.Close(d.event)
}

// Accept returns the next connection that is not answered here.
func (d *door) Accept() (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.closed.Load() {
		if n := len(d.others); n > 0 {
			o := d.others[0]
			d.others = d.others[1:]
			switch c, err := connection(o.fd); {
			case err != nil:
			case o.two:
				d.two.offer(newH2Conn(c, d.clients))
			default:
				d.tell()
				return c, nil
			}
			continue
		}
		if err := d.failed; err != nil {
			d.failed = nil
			d.tell()
			return nil, d.error(os.NewSyscallError("accept4", err))
		}
		d.round()
	}
	return nil, d.error(net.ErrClosed)
}

func (d *door) error(err error) error {
	return &net.OpError{Op: "accept", Net: d.addr.Network(), Addr: d.addr, Err: err}
}

// connection makes fd net's.
func connection(fd int32) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "") // FileConn duplicates it
	defer f.Close()
	return net.FileConn(f)
}

// round waits until something happens, and sees to it.
func (d *door) round() {
	events := d.poller.wait(d.timeout())
	if len(events) == 0 {
		d.tell()
	}
	for _, e := range events {
		switch int(e.Fd) {
		case d.event: // closed
		case d.listener:
			d.accept()
		default:
			d.unwatch(e.Fd)
			d.greet(e.Fd, false)
		}
	}
	if d.unknown >= unknownMax || d.unknown > 0 && time.Since(d.since) >= patience {
		d.tell()
	}
	d.expire()
}

// timeout is how long there is nothing to do but wait, less than 0 for ever.
func (d *door) timeout() time.Duration {
	switch {
	case d.unknown > 0:
		return patience
	case len(d.queue) > 0:
		return max(0, time.Until(d.queue[0].until))
	}
	return -1
}

// tell tells the shards of the clients that have come.
func (d *door) tell() {
	if d.unknown > 0 {
		d.unknown = 0
		d.clients.engine.kick()
	}
}

// accept takes those in whom the kernel has connected.
func (d *door) accept() {
	for range acceptsMax {
		size := uint32(unsafe.Sizeof(d.from))
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(d.listener), uintptr(unsafe.Pointer(&d.from)),
			uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			watchOver(fd)
			d.greet(int32(fd), true)
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EAGAIN:
			return
		default:
			d.failed = errno
			return
		}
	}
}

// greet sees what a connection has said. One that is fresh, just accepted, and has said nothing is waited for.
func (d *door) greet(fd int32, fresh bool) {
	n, errno := peek(fd, d.head)
	switch {
	case errno == unix.EAGAIN && fresh && d.watch(int(fd), unix.EPOLLIN|unix.EPOLLRDHUP) == nil:
		d.uses++
		d.waiting[fd] = d.uses
		d.queue = append(d.queue, silent{fd, d.uses, time.Now().Add(silence)})
	case errno != 0 && errno != unix.EAGAIN, errno == 0 && n == 0:
		unix.Close(int(fd))
	case errno == 0 && bytes.HasPrefix(d.head[:n], []byte(h2Preface)):
		d.others = append(d.others, other{fd, true})
	case errno != 0 || n == len(d.head) || !plain(d.head[:n]) || !d.serve(fd, d.head[:n], fresh):
		d.others = append(d.others, other{fd, false})
	}
}

// unwatch ends the waiting for fd.
func (d *door) unwatch(fd int32) {
	unix.EpollCtl(d.poller.fd, unix.EPOLL_CTL_DEL, int(fd), nil)
	delete(d.waiting, fd)
}

// expire gives those who have been silent for too long to net/http.
func (d *door) expire() {
	for len(d.queue) > 0 {
		first := d.queue[0]
		if waits := d.waiting[first.fd] == first.use; waits && time.Until(first.until) > 0 {
			return
		} else if waits {
			d.unwatch(first.fd)
			d.others = append(d.others, other{first.fd, false})
		}
		d.queue = d.queue[1:]
	}
	d.queue = nil
}

// serve asks the handler, and returns whether the connection has become a client. fresh says that it is the one that was
// accepted last.
func (d *door) serve(fd int32, head []byte, fresh bool) bool {
	d.source.Reset(head)
	d.parser.Reset(&d.source)
	r, err := http.ReadRequest(d.parser)
	if err != nil {
		return false
	}
	if r.RemoteAddr = d.remote(fd, fresh); r.RemoteAddr == "" {
		return false
	}
	s := d.clients.engine.shard(d.clients)
	if s == nil {
		return false
	}
	clear(d.visit.header)
	d.visit = visit{fd: fd, size: len(head), shard: s, header: d.visit.header}
	if !d.visit.ask(d.handler, r) {
		return false
	}
	if d.unknown++; d.unknown == 1 {
		d.since = time.Now()
	}
	return true
}

// remote is the address of fd's other end, "" when that is gone already.
func (d *door) remote(fd int32, fresh bool) string {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&d.from.Port))[:])
	switch {
	case fresh && d.from.Family == unix.AF_INET:
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(&d.from))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), port).String()
	case fresh && d.from.Family == unix.AF_INET6 && d.from.Scope_id == 0:
		return netip.AddrPortFrom(netip.AddrFrom16(d.from.Addr).Unmap(), port).String()
	}
	return peer(int(fd))
}

// peek looks at what fd has to be read.
func peek(fd int32, p []byte) (int, syscall.Errno) {
	return receive(fd, unsafe.Pointer(unsafe.SliceData(p)), len(p), unix.MSG_PEEK)
}

// receive is recv(2) on a non-blocking descriptor, past the runtime.
func receive(fd int32, to unsafe.Pointer, size, flags int) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(to), uintptr(size), uintptr(flags|unix.MSG_DONTWAIT), 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}
