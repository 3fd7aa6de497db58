//go:build linux && !portable

package deliver

import (
	"crypto/tls"
	"net"
	"sync"
)

// arrivals is a [net.Listener] of connections that were accepted elsewhere.
type arrivals struct {
	addr net.Addr
	came chan struct{} // has one element where conns may have some
	done chan struct{} // closed by Close

	mu     sync.Mutex // guards what follows
	conns  []net.Conn // oldest first
	closed bool
}

func newArrivals(addr net.Addr) *arrivals {
	return &arrivals{addr: addr, came: make(chan struct{}, 1), done: make(chan struct{})}
}

// offer leaves c for Accept, or closes it and returns false: the listener is closed. It does not wait.
func (a *arrivals) offer(c net.Conn) bool {
	a.mu.Lock()
	closed := a.closed
	if !closed {
		a.conns = append(a.conns, c)
	}
	a.mu.Unlock()
	if closed {
		c.Close()
		return false
	}
	a.tell()
	return true
}

func (a *arrivals) tell() {
	select {
	case a.came <- struct{}{}:
	default:
	}
}

// take returns the oldest connection, nil for none.
func (a *arrivals) take() net.Conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.conns) == 0 {
		a.conns = nil
		return nil
	}
	c := a.conns[0]
	a.conns[0] = nil
	a.conns = a.conns[1:]
	return c
}

// Accept waits for the next connection.
func (a *arrivals) Accept() (net.Conn, error) { return a.accept(nil) }

// accept is Accept, or the error that comes from failed.
func (a *arrivals) accept(failed <-chan error) (net.Conn, error) {
	for {
		if c := a.take(); c != nil {
			return c, nil
		}
		select {
		case <-a.came:
		case err := <-failed:
			return nil, err
		case <-a.done:
			return nil, &net.OpError{Op: "accept", Net: a.addr.Network(), Addr: a.addr, Err: net.ErrClosed}
		}
	}
}

// Close ends the listener, and the connections that were not accepted.
func (a *arrivals) Close() error {
	a.mu.Lock()
	closed, conns := a.closed, a.conns
	a.closed, a.conns = true, nil
	a.mu.Unlock()
	if !closed {
		close(a.done)
	}
	for _, c := range conns {
		if secure, ok := c.(*tls.Conn); ok {
			c = secure.NetConn() // TLS would take five seconds for a goodbye that may never be read
		}
		c.Close()
	}
	return nil
}

// Addr is the address of the listener that has accepted them.
func (a *arrivals) Addr() net.Addr { return a.addr }
