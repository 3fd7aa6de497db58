package admin

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
)

// reserved is how many connections the operator's port has when no other descriptor is to be had.
const reserved = 4

// reserve is a listener that accepts also when the process has no descriptor left: it keeps some back, so that a probe does not
// take a sidecar that is merely full for one that is dead. It logs that they were needed, once.
type reserve struct {
	net.Listener
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	spare  []*os.File
	said   bool
	closed bool
}

// NewReserve returns l as a listener that accepts also when the process has no descriptor left. It fails, with l closed, when there is
// none to keep back.
func NewReserve(l net.Listener, log *slog.Logger) (net.Listener, error) {
	r := &reserve{Listener: l, log: log}
	for range reserved {
		f, err := os.Open(os.DevNull)
		if err != nil {
			r.Close()
			return nil, err
		}
		r.spare = append(r.spare, f)
	}
	return r, nil
}

// Accept returns the next connection. Where no descriptor is left it is accepted with one of the reserve, which is filled up
// again once there are others.
func (r *reserve) Accept() (net.Conn, error) {
	r.fill()
	for {
		c, err := r.Listener.Accept()
		switch {
		case err == nil:
			return refilling{c, r}, nil
		case !exhausted(err) || !r.spend():
			return nil, err
		}
	}
}

// refilling is a connection whose descriptor goes to the reserve, if that needs one.
type refilling struct {
	net.Conn
	reserve *reserve
}

// Close ends the connection.
func (c refilling) Close() error {
	defer c.reserve.fill()
	return c.Conn.Close()
}

func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// spend gives one descriptor back to the process, and returns whether there was one.
func (r *reserve) spend() bool {
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
	r.spare[n-1].Close()
	r.spare = r.spare[:n-1]
	return true
}

// fill takes back what was spent, as far as there is.
func (r *reserve) fill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.spare) < reserved && !r.closed {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return
		}
		r.spare = append(r.spare, f)
	}
}

// Close ends the listener and gives the reserve back.
func (r *reserve) Close() error {
	defer r.release()
	return r.Listener.Close()
}

func (r *reserve) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.spare {
		f.Close()
	}
	r.spare, r.closed = nil, true
}
