//go:build linux && !portable

package deliver

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"sidestream/proxy/deliver/h2"
)

// arrivals is a [net.Listener] of connections that somebody else has accepted.
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

// offer leaves c for Accept, or closes it when the listener is closed. It does not wait.
func (a *arrivals) offer(c net.Conn) {
	a.mu.Lock()
	closed := a.closed
	if !closed {
		a.conns = append(a.conns, c)
	}
	a.mu.Unlock()
	if closed {
		c.Close()
		return
	}
	a.tell()
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

// Close ends the listener, and the connections that nobody has accepted.
func (a *arrivals) Close() error {
	a.mu.Lock()
	closed, conns := a.closed, a.conns
	a.closed, a.conns = true, nil
	a.mu.Unlock()
	if !closed {
		close(a.done)
	}
	for _, c := range conns {
		c.Close()
	}
	return nil
}

// Addr is the address of the listener that has accepted them.
func (a *arrivals) Addr() net.Addr { return a.addr }

// handshakeTime is how long a client has for the handshake.
const handshakeTime = 10 * time.Second

// Listeners returns l for two servers of net/http with the same handler. Neither is asked for the event streams that
// admits has an answer to, where the connection lets it. The first is for what comes by HTTP/1, and whatever else comes
// over. The second is for HTTP/2 alone, which it takes for unencrypted, TLS or not; it must have no idle timeout. It is nil
// where there is no such thing. Closing the first closes the second. With a config they are for TLS. l is taken over if
// it is [Listen]'s.
func (c *Clients) Listeners(l net.Listener, admits Admission, config *tls.Config) (first, second net.Listener) {
	two := newArrivals(l.Addr())
	if config != nil {
		return c.secured(l, config, two), two
	}
	if a := c.acceptor(l, admits, two); a != nil {
		return a, two
	}
	return l, nil
}

// secured is a [net.Listener] whose connections have done their handshake. Those of HTTP/2 are offered to others.
type secured struct {
	net.Listener
	clients *Clients
	config  *tls.Config
	plain   *arrivals
	two     *arrivals
	failed  chan error
	ctx     context.Context // until Close
	close   context.CancelFunc
}

func (c *Clients) secured(l net.Listener, config *tls.Config, two *arrivals) *secured {
	s := &secured{Listener: l, clients: c, config: config, plain: newArrivals(l.Addr()), two: two, failed: make(chan error)}
	s.ctx, s.close = context.WithCancel(context.Background())
	go s.run() // ends with Close
	return s
}

func (s *secured) run() {
	for {
		c, err := s.Listener.Accept()
		if err == nil {
			go s.handshake(c) // ends with the handshake
			continue
		}
		select {
		case s.failed <- err: // which says whether it is worth going on
		case <-s.ctx.Done():
			return
		}
	}
}

// handshake does the handshake. One that fails is net/http's, which says so to the log, and to who speaks plain HTTP.
func (s *secured) handshake(c net.Conn) {
	conn := tls.Server(c, s.config)
	ctx, cancel := context.WithTimeout(s.ctx, handshakeTime)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err == nil && conn.ConnectionState().NegotiatedProtocol == "h2" {
		s.two.offer(h2Secured{newCarrier(conn, s.clients), conn})
		return
	}
	s.plain.offer(conn)
}

// Accept returns the next connection that is not HTTP/2.
func (s *secured) Accept() (net.Conn, error) { return s.plain.accept(s.failed) }

func (s *secured) Close() error {
	s.close()
	s.plain.Close()
	s.two.Close()
	return s.Listener.Close()
}

// h2Secured is a connection of HTTP/2 within TLS. It has no ConnectionState: net/http would speak HTTP/1 over it.
type h2Secured struct {
	*h2.Conn
	secure *tls.Conn
}

// TLS is what [http.Request].TLS would be, had net/http seen the TLS; nil without.
func TLS(r *http.Request) *tls.ConnectionState {
	if c, ok := r.Context().Value(connKey{}).(h2Secured); ok {
		state := c.secure.ConnectionState()
		return &state
	}
	return r.TLS
}
