//go:build linux && !portable

// This file accepts connections, and takes plain requests for event streams past net/http: no goroutine, no buffers, no
// reading in the background that the first answer would end at once. The rules:
//
//   - The first bytes are peeked at, never read: a connection that is net/http's after all gets there untouched. Only
//     when a client has been admitted are the bytes of its request taken out of the socket.
//   - plain (plain.go) decides from the bytes whether net/http would make anything of the request but a plain GET. The
//     request itself is made by net/http's own parser.
//   - The only answer to be had here is an event stream: [Admission] decides whether it is one. For every other answer net/http
//     gets the connection, and asks its handler, which knows nothing of the first attempt.
//   - Nothing may wait here: one client that did would keep all others out. The first client of a stream waits with a goroutine of its own (first.go).
//   - A connection that says nothing waits in the poller, for a second at the most. Then it is net/http's, with its bounds.
//   - All this happens within Accept: it has no goroutine of its own.
//   - A burst of clients wakes a shard once: it is told of them when no more connections come, and 1 ms after the first one
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

	"sidestream/proxy/deliver/h2"
)

const (
	silence    = time.Second      // a connection that has said nothing for so long is net/http's
	acceptsMax = 64               // accepted at once, before the connections that have said something are looked at
	patience   = time.Millisecond // before a shard is told of a client
	unknownMax = 256              // clients that their shards have not been told of
	peekSize   = 8192             // a larger head is net/http's
)

// acceptor is a [net.Listener]: Accept answers the clients that can be answered at once, and returns every other connection,
// but for HTTP/2.
type acceptor struct {
	clients  *Clients
	admits   Admission
	two      *arrivals // of HTTP/2; nil: it is net/http's like the others
	addr     net.Addr
	local    *unixListener // nil: TCP
	reserve  Reserve       // nil: none
	closed   atomic.Bool
	returned returned

	mu       sync.Mutex // held during Accept; guards what follows
	shut     bool
	poller   *poller
	listener int
	event    int              // wakes Accept
	waiting  map[int32]uint32 // descriptors that have said nothing, and which use of each
	queue    []silent         // the same, oldest first, and some that are not waiting any more
	uses     uint32
	others   []other               // for net/http
	failed   error                 // of accept
	from     unix.RawSockaddrInet6 // the other end of what was accepted last; larger than IPv4's
	unknown  int                   // clients that their shards have not been told of
	since    time.Time             // the first of them came
	head     []byte
	source   bytes.Reader
	parser   *bufio.Reader
}

// other is a connection for net/http.
type other struct {
	fd      int32
	two     bool // HTTP/2
	entered bool // it counts as a client; see arriving
}

// silent is a connection that has said nothing yet.
type silent struct {
	fd    int32
	use   uint32
	until time.Time
}

// acceptor takes l over if it is [Listen]'s, else it returns nil. HTTP/2 is offered to two.
func (c *Clients) acceptor(l net.Listener, admits Admission, two *arrivals) *acceptor {
	own, _ := l.(Listener)
	var socket interface {
		net.Listener
		syscall.Conn
	}
	local, ok := own.Listener.(*unixListener)
	if ok {
		socket = local.UnixListener // whose file stays
	} else if socket, ok = own.Listener.(*net.TCPListener); !ok {
		return nil
	}
	a := &acceptor{local: local, reserve: own.Reserve, clients: c, admits: admits, two: two, addr: l.Addr(), waiting: map[int32]uint32{},
		head: make([]byte, peekSize), parser: bufio.NewReaderSize(nil, peekSize)}
	if a.open(socket) != nil {
		return nil
	}
	socket.Close() // the socket lives on
	return a
}

// open takes a descriptor of l's socket.
func (a *acceptor) open(l syscall.Conn) (err error) {
	if a.listener, err = duplicate(l); err != nil {
		return err
	}
	if protocol, err := unix.GetsockoptInt(a.listener, unix.SOL_SOCKET, unix.SO_PROTOCOL); a.local == nil && (err != nil || protocol != unix.IPPROTO_TCP) {
		unix.Close(a.listener)
		return errors.New("not plain TCP") // MPTCP's connections inherit less
	}
	if a.poller, err = newPoller(128); err != nil {
		unix.Close(a.listener)
		return err
	}
	if a.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(a.listener)
		a.poller.close()
		return err
	}
	for _, fd := range []int{a.listener, a.event} {
		if err = a.watch(fd, unix.EPOLLIN); err != nil {
			a.release()
			return err
		}
	}
	return nil
}

func (a *acceptor) watch(fd int, events uint32) error {
	return a.poller.add(fd, events, int32(fd), 0)
}

// Addr is the address listened on.
func (a *acceptor) Addr() net.Addr { return a.addr }

// Close stops listening. Connections that have said nothing are cut; Accept returns.
func (a *acceptor) Close() error {
	if a.closed.Swap(true) {
		return net.ErrClosed
	}
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(a.event, one[:]) // open until closed is seen under mu
	a.mu.Lock()
	defer a.mu.Unlock()
	a.release()
	if a.two != nil {
		a.two.Close()
	}
	return nil
}

// release gives everything back, once. mu is held, or a is not known elsewhere yet.
func (a *acceptor) release() {
	if a.shut {
		return
	}
	a.shut = true
	a.tell()
	if a.local != nil {
		a.local.remove()
	}
	for fd := range a.waiting {
		unix.Close(int(fd))
	}
	for _, o := range append(a.others, a.returned.close()...) {
		o.close(a.clients)
	}
	a.waiting, a.others = nil, nil
	unix.Close(a.listener)
	a.poller.close()
	unix.Close(a.event)
}

// Accept returns the next connection that is not answered here.
func (a *acceptor) Accept() (net.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.closed.Load() {
		if n := len(a.others); n > 0 {
			o := a.others[0]
			a.others = a.others[1:]
			switch c, err := o.connection(a.clients); {
			case err != nil:
			case o.two && a.two != nil:
				a.two.offer(newCarrier(c, a.clients, a.two))
			default:
				a.tell()
				return c, nil
			}
			continue
		}
		if back := a.returned.take(); len(back) > 0 {
			a.others = append(a.others, back...)
			continue
		}
		if err := a.failed; err != nil {
			a.failed = nil
			a.tell()
			return nil, a.error(os.NewSyscallError("accept4", err))
		}
		a.round()
	}
	return nil, a.error(net.ErrClosed)
}

func (a *acceptor) error(err error) error {
	return &net.OpError{Op: "accept", Net: a.addr.Network(), Addr: a.addr, Err: err}
}

// round waits until something happens, and sees to it.
func (a *acceptor) round() {
	events := a.poller.wait(a.timeout())
	if len(events) == 0 {
		a.tell()
	}
	for _, e := range events {
		switch int(e.Fd) {
		case a.event: // closed
		case a.listener:
			a.accept()
		default:
			a.unwatch(e.Fd)
			a.classify(e.Fd, false)
		}
	}
	if a.unknown >= unknownMax || a.unknown > 0 && time.Since(a.since) >= patience {
		a.tell()
	}
	a.expire()
}

// timeout is how long there is nothing to do but wait, less than 0 for ever.
func (a *acceptor) timeout() time.Duration {
	switch {
	case a.unknown > 0:
		return patience
	case len(a.queue) > 0:
		return max(0, time.Until(a.queue[0].until))
	}
	return -1
}

// tell tells the shards of the clients that have come.
func (a *acceptor) tell() {
	if a.unknown > 0 {
		a.unknown = 0
		a.clients.engine.kick()
	}
}

// accept takes the connections that the kernel has made.
func (a *acceptor) accept() {
	for range acceptsMax {
		size := uint32(unsafe.Sizeof(a.from))
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(a.listener), uintptr(unsafe.Pointer(&a.from)),
			uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			if a.reserve != nil && a.reserve.Short() {
				unix.Close(int(fd))
				a.reserve.Fill()
				a.failed = unix.EMFILE
				return
			}
			if a.local == nil {
				watchOver(fd)
			}
			a.classify(int32(fd), true)
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EAGAIN:
			return
		default:
			a.failed = errno
			return
		}
	}
}

// classify sees what a connection has said. One that is fresh, just accepted, and has said nothing is waited for.
func (a *acceptor) classify(fd int32, fresh bool) {
	n, errno := peek(fd, a.head)
	switch {
	case errno == unix.EAGAIN && fresh && a.watch(int(fd), unix.EPOLLIN|unix.EPOLLRDHUP) == nil:
		a.uses++
		a.waiting[fd] = a.uses
		a.queue = append(a.queue, silent{fd, a.uses, time.Now().Add(silence)})
	case errno != 0 && errno != unix.EAGAIN, errno == 0 && n == 0:
		unix.Close(int(fd))
	case errno == 0 && bytes.HasPrefix(a.head[:n], []byte(h2.Preface)):
		a.others = append(a.others, other{fd: fd, two: true})
	case errno != 0 || n == len(a.head) || !plain(a.head[:n]) || !a.serve(fd, a.head[:n], fresh):
		a.others = append(a.others, other{fd: fd})
	}
}

// unwatch ends the waiting for fd.
func (a *acceptor) unwatch(fd int32) {
	unix.EpollCtl(a.poller.fd, unix.EPOLL_CTL_DEL, int(fd), nil)
	delete(a.waiting, fd)
}

// expire gives connections that have been silent for too long to net/http.
func (a *acceptor) expire() {
	for len(a.queue) > 0 {
		first := a.queue[0]
		if waits := a.waiting[first.fd] == first.use; waits && time.Until(first.until) > 0 {
			return
		} else if waits {
			a.unwatch(first.fd)
			a.others = append(a.others, other{fd: first.fd})
		}
		a.queue = a.queue[1:]
	}
	a.queue = nil
}

// serve reports whether the connection has become a client's. fresh: it is the one that was accepted last.
func (a *acceptor) serve(fd int32, head []byte, fresh bool) bool {
	a.source.Reset(head)
	a.parser.Reset(&a.source)
	r, err := http.ReadRequest(a.parser)
	if err != nil {
		return false
	}
	if r.RemoteAddr = a.remote(fd, fresh); r.RemoteAddr == "" {
		return false
	}
	s := a.clients.engine.shard(a.clients)
	if s == nil {
		return false
	}
	cl, header, first, ok := a.admit(r)
	if first != nil {
		if a.local != nil {
			head = bytes.Clone(head)
		}
		return a.await(opener{fd, head, s, r, header, first})
	}
	if !ok {
		return false
	}
	if !a.clients.enter() {
		cl.leave()
		return false
	}
	if !a.takes(fd, head, &cl, r) {
		return true
	}
	s.begin(cl, header, kind{fd: fd, unchunked: r.ProtoMinor == 0, local: a.local != nil}, false)
	if a.unknown++; a.unknown == 1 {
		a.since = time.Now()
	}
	return true
}

// admit asks whether r's client can join others. A panic is a fault of the program, which net/http's handler has as well:
// there it is logged and costs one connection, here it would cost the listener.
func (a *acceptor) admit(r *http.Request) (c Client, header http.Header, first First, ok bool) {
	defer func() {
		if recover() != nil {
			first, ok = nil, false
		}
	}()
	return a.admits.Beside(r)
}

// remote is the address of fd's other end, "" when that is not connected any more.
func (a *acceptor) remote(fd int32, fresh bool) string {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&a.from.Port))[:])
	switch {
	case a.local != nil:
		return LocalAddress
	case fresh && a.from.Family == unix.AF_INET:
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.from))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), port).String()
	case fresh && a.from.Family == unix.AF_INET6 && a.from.Scope_id == 0:
		return netip.AddrPortFrom(netip.AddrFrom16(a.from.Addr).Unmap(), port).String()
	}
	return peer(int(fd))
}
