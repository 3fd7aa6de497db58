//go:build linux && !portable

// This file is the first clients of streams, which wait for the upstream's verdict. The rules:
//
//   - Each has a goroutine until then, and nothing else: no connection of net's, no buffers.
//   - Its request stays in the socket. What is no event stream after all is net/http's answer, from the first byte on.
//   - One that disconnects meanwhile is given up within goneTime, since nobody reads its socket.
//   - When the sidecar drains all are net/http's, which tells them so: the drain is not over before they are being answered, since a server of
//     net/http that is shut down answers no request that it has not begun with.

package deliver

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// goneTime is how often it is looked whether a client that waits is still connected.
const goneTime = 100 * time.Millisecond

// opener is a first client, whose request opens its stream.
type opener struct {
	fd      int32
	head    []byte // its request; with TCP it has no more than the right length
	shard   *shard
	request *http.Request
	header  http.Header
	first   First
}

// returned are connections that are net/http's after all.
type returned struct {
	mu     sync.Mutex // guards what follows
	conns  []other
	closed bool
}

// await lets w wait, or returns false: the sidecar stops. Until it is answered, be it by net/http, w counts as a client
// that is there.
func (a *acceptor) await(w opener) bool {
	if !a.clients.enter() {
		return false
	}
	ctx := a.clients.engine.undrained()
	started := a.clients.engine.runners.start(func() { // ends with the verdict, after some seconds at the latest
		if a.decided(ctx, &w) {
			return
		}
		if !a.returned.add(w.fd) {
			a.clients.present.Done()
			return
		}
		a.poller.wake()
	})
	if !started {
		a.clients.present.Done()
	}
	return started
}

// decided waits for the verdict; false: it is not an event stream. A panic is net/http's, as in admit.
func (a *acceptor) decided(ctx context.Context, w *opener) (done bool) {
	defer func() {
		if recover() != nil {
			done = false
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := watch(func() bool { return hungUp(w.fd) }, cancel)
	cl, ok := w.first(ctx)
	stop()
	if !ok {
		return false
	}
	if a.clients.Draining() { // ctx may have ended on the way
		cl.leave()
		return false
	}
	if a.takes(w.fd, w.head, &cl, w.request) {
		w.shard.begin(cl, w.header, kind{fd: w.fd, unchunked: w.request.ProtoMinor == 0, local: a.local != nil}, true)
	}
	return true
}

// watch calls then once gone says so, which it asks every goneTime. It does neither any more when stop has returned: a descriptor may be another's then.
func watch(gone func() bool, then func()) (stop func()) {
	var mu sync.Mutex // guards what follows, and is held while it looks
	var over bool
	var looks *time.Timer
	mu.Lock()
	defer mu.Unlock()
	looks = time.AfterFunc(goneTime, func() {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case over:
		case gone():
			then()
		default:
			looks.Reset(goneTime)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		looks.Stop()
	}
}

// takes has the connection become the client's, who has entered; false: it was lost.
func (a *acceptor) takes(fd int32, head []byte, cl *Client, r *http.Request) bool {
	a.clients.joined(cl, r)
	a.clients.byWriter[ByShard].Add(1)
	cl.Route.Stats.Direct.Add(1)
	if a.consume(fd, head) != nil {
		unix.Close(int(fd))
		a.clients.disconnected(ByShard, cl.Route, cl.hold(), cl.Leave, Left, r.RemoteAddr)
		return false
	}
	return true
}

// consume takes a request out of the socket: it is answered now. The connection is lost if it fails.
func (a *acceptor) consume(fd int32, head []byte) error {
	into, flags := unsafe.Pointer(nil), unix.MSG_TRUNC // which throws it away
	if a.local != nil {
		into, flags = unsafe.Pointer(unsafe.SliceData(head)), 0 // only TCP knows how
	}
	if n, errno := receive(fd, into, len(head), flags); errno != 0 || n != len(head) {
		return unix.ECONNRESET
	}
	return nil
}

// hungUp reports whether the other end of fd has said its last word.
func hungUp(fd int32) bool {
	fds := []unix.PollFd{{Fd: fd, Events: unix.POLLRDHUP}}
	n, err := unix.Poll(fds, 0)
	return n > 0 && err == nil
}

// connection is net/http's.
func (o other) connection(c *Clients) (net.Conn, error) {
	conn, err := connection(o.fd)
	switch {
	case !o.entered:
	case err != nil:
		c.present.Done()
	default:
		conn = &arriving{Conn: conn, clients: c}
	}
	return conn, err
}

func (o other) close(c *Clients) {
	unix.Close(int(o.fd))
	if o.entered {
		c.present.Done()
	}
}

// arriving is a connection that counts as a client until net/http answers, or closes it.
type arriving struct {
	net.Conn
	once    sync.Once
	clients *Clients
}

func (a *arriving) arrive() { a.once.Do(a.clients.present.Done) }

// Write is net.Conn's.
func (a *arriving) Write(p []byte) (int, error) {
	a.arrive()
	return a.Conn.Write(p)
}

// Close is net.Conn's.
func (a *arriving) Close() error {
	a.arrive()
	return a.Conn.Close()
}

// CloseWrite is what net/http ends with where more may come of a request.
func (a *arriving) CloseWrite() error { return a.Conn.(socket).CloseWrite() }

// below is for WithConn.
func (a *arriving) below() net.Conn { return a.Conn }

// add leaves a connection, or closes it and returns false: nobody takes it any more.
func (r *returned) add(fd int32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		unix.Close(int(fd))
		return false
	}
	r.conns = append(r.conns, other{fd: fd, entered: true})
	return true
}

// take takes those that were left.
func (r *returned) take() []other {
	r.mu.Lock()
	defer r.mu.Unlock()
	conns := r.conns
	r.conns = nil
	return conns
}

// close has those be closed that will be left, and takes the others.
func (r *returned) close() []other {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	return r.take()
}
