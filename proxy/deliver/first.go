//go:build linux && !portable

// This file is the first clients of streams, which wait for the upstream's verdict. The rules:
//
//   - Each has a goroutine until then, and nothing else: no connection of net's, no buffers.
//   - Its request stays in the socket. What is no event stream after all is net/http's answer, from the first byte on.
//   - One that disconnects meanwhile is given up within goneTime, since nobody reads its socket.
//   - When the sidecar drains all are net/http's, which tells them so.

package deliver

import (
	"context"
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

// await lets w wait, or returns false: the sidecar stops.
func (a *acceptor) await(w opener) bool {
	ctx := a.clients.engine.undrained()
	return a.clients.engine.runners.start(func() { // ends with the verdict, after some seconds at the latest
		if !a.decided(ctx, &w) {
			a.returned.add(w.fd)
			a.poller.wake()
		}
	})
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
	var looks *time.Timer
	looks = time.AfterFunc(time.Hour, func() {
		if hungUp(w.fd) {
			cancel()
			return
		}
		looks.Reset(goneTime)
	})
	looks.Reset(goneTime)
	cl, ok := w.first(ctx)
	looks.Stop()
	if !ok {
		return false
	}
	if !a.clients.enter() {
		cl.leave()
		return false
	}
	if a.takes(w.fd, w.head, &cl, w.request) {
		w.shard.begin(cl, w.header, kind{fd: w.fd, unchunked: w.request.ProtoMinor == 0, local: a.local != nil}, true)
	}
	return true
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

// add leaves a connection, which is closed where nobody takes it any more.
func (r *returned) add(fd int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		unix.Close(int(fd))
		return
	}
	r.conns = append(r.conns, other{fd: fd})
}

// take takes those that were left.
func (r *returned) take() []other {
	r.mu.Lock()
	defer r.mu.Unlock()
	conns := r.conns
	r.conns = nil
	return conns
}

// close closes those that were left, and that will be.
func (r *returned) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, one := range r.conns {
		unix.Close(int(one.fd))
	}
	r.conns = nil
}
