// Package descriptors keeps file descriptors back for the operator's port, so that a probe does not take a sidecar that is merely full for one
// that is dead.
package descriptors

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// Size is how many connections the operator's port has when no other descriptor is to be had.
const Size = 4

// Reserve is descriptors that are kept back. One that is spent is free for a moment, and whoever else waits for one may be given it: see Short.
type Reserve struct {
	log   *slog.Logger
	short atomic.Int32 // how many others than the operator's connections have

	mu     sync.Mutex // guards what follows
	spare  []*os.File
	lent   int // to connections, or about to be
	said   bool
	closed bool
}

// New keeps descriptors back. It fails when there are none. It logs to log, once, that they were needed.
func New(log *slog.Logger) (*Reserve, error) {
	r := &Reserve{log: log}
	for range Size {
		f, err := os.Open(os.DevNull)
		if err != nil {
			r.release()
			return nil, err
		}
		r.spare = append(r.spare, f)
	}
	return r, nil
}

// Short reports whether somebody else has been given a descriptor of the reserve's. Who accepts connections that are not the operator's then
// closes the one that it was given last, and calls Fill.
func (r *Reserve) Short() bool {
	if r.short.Load() == 0 {
		return false
	}
	r.Fill() // there may be others by now
	return r.short.Load() != 0
}

// Fill takes back what was spent, as far as there is.
func (r *Reserve) Fill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fill()
}

// fill is Fill. mu is held.
func (r *Reserve) fill() {
	for len(r.spare) < Size && !r.closed {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		r.spare = append(r.spare, f)
	}
	r.count()
}

// count notes how many are missing. mu is held.
func (r *Reserve) count() {
	missing := Size - len(r.spare) - r.lent
	if r.closed {
		missing = 0
	}
	r.short.Store(int32(max(missing, 0)))
}

// spend gives one descriptor back to the process, and returns whether there was one.
func (r *Reserve) spend() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.said {
		r.said = true
		r.log.Warn("no file descriptors are left: new clients and upstream connections fail; raise the limit (ulimit -n, LimitNOFILE) or lower SSE_MAX_CLIENTS and SSE_MAX_STREAMS")
	}
	n := len(r.spare)
	if n == 0 {
		return false
	}
	r.lent++
	r.spare[n-1].Close()
	r.spare = r.spare[:n-1]
	return true
}

// back ends that n descriptors are lent.
func (r *Reserve) back(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lent -= n
	r.fill()
}

func (r *Reserve) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.spare {
		f.Close()
	}
	r.spare, r.closed = nil, true
	r.count()
}

// Listener is l as a listener that accepts also when the process has no descriptor left. Closing it gives the reserve back.
func (r *Reserve) Listener(l net.Listener) net.Listener { return &listener{l, r} }

type listener struct {
	net.Listener
	reserve *Reserve
}

// Accept returns the next connection. Where no descriptor is left it is accepted with one of the reserve, which is filled up
// again once there are others.
func (l *listener) Accept() (net.Conn, error) {
	l.reserve.Fill()
	spent := 0
	for {
		c, err := l.Listener.Accept()
		switch {
		case err == nil && spent > 0:
			l.reserve.back(spent - 1) // what it has is one
			return &lent{Conn: c, reserve: l.reserve}, nil
		case err == nil:
			return c, nil
		case !exhausted(err) || !l.reserve.spend():
			l.reserve.back(spent)
			return nil, err
		}
		spent++
	}
}

func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Close ends the listener and gives the reserve back.
func (l *listener) Close() error {
	defer l.reserve.release()
	return l.Listener.Close()
}

// lent is a connection that has a descriptor of the reserve's.
type lent struct {
	net.Conn
	reserve *Reserve
	over    sync.Once
}

// Close ends the connection.
func (c *lent) Close() error {
	err := c.Conn.Close()
	c.over.Do(func() { c.reserve.back(1) })
	return err
}
