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

const (
	handshakeTime  = 10 * time.Second // how long a client has for the handshake
	handshakeLeast = 3 * time.Second  // how long it has in any case
	handshakesMost = 4096             // at once
)

// secured is a [net.Listener] whose connections have done their handshake. Those of HTTP/2 are offered to two, unless that is
// nil. Its goroutines begin with the first Accept, and Close waits for them.
type secured struct {
	net.Listener
	clients    *Clients
	config     *tls.Config
	plain      *arrivals
	two        *arrivals
	failed     chan error
	handshakes handshakes
	once       sync.Once // for run
	runners    runners
	ctx        context.Context // until Close
	close      context.CancelFunc
}

func (c *Clients) secured(l net.Listener, config *tls.Config, two *arrivals) *secured {
	config = config.Clone()
	config.DynamicRecordSizingDisabled = true // an event is a record, whatever its size, as is a batch: each is a write of its own
	s := &secured{Listener: l, clients: c, config: config, plain: newArrivals(l.Addr()), two: two, failed: make(chan error),
		handshakes: handshakes{most: handshakesMost, ended: make(chan struct{}, 1)}}
	s.ctx, s.close = context.WithCancel(context.Background())
	return s
}

// Accept returns the next connection that is not for two.
func (s *secured) Accept() (net.Conn, error) {
	s.once.Do(func() { s.runners.start(s.run) }) // ends with Close
	return s.plain.accept(s.failed)
}

// run accepts connections, as many as may shake hands at once.
func (s *secured) run() {
	for {
		c, err := s.Listener.Accept()
		if err == nil {
			err = s.receive(c)
		}
		if err == nil {
			continue
		}
		select {
		case s.failed <- err: // from which net/http sees whether to go on
		case <-s.ctx.Done():
			return
		}
	}
}

// receive begins the handshake of c, once there is room for it. It fails when s is closed.
func (s *secured) receive(c net.Conn) error {
	ctx, cancel := context.WithTimeout(s.ctx, handshakeTime)
	h := s.handshakes.enter(s.ctx, cancel)
	if h == nil {
		cancel()
		c.Close()
		return net.ErrClosed
	}
	began := s.runners.start(func() { // ends with the handshake
		defer s.handshakes.leave(h)
		defer cancel()
		s.handshake(ctx, c)
	})
	if !began {
		cancel()
		c.Close()
		return net.ErrClosed
	}
	return nil
}

// handshake does the handshake. One that fails is net/http's, which says so to the log, and to clients that speak plain HTTP.
func (s *secured) handshake(ctx context.Context, c net.Conn) {
	conn := tls.Server(&sealed{Conn: c}, s.config)
	err := conn.HandshakeContext(ctx)
	if err == nil && s.two != nil && conn.ConnectionState().NegotiatedProtocol == "h2" {
		s.two.offer(newCarrier(conn, s.clients, s.two))
		return
	}
	s.plain.offer(conn)
}

// Close ends the listener, and what it has begun.
func (s *secured) Close() error {
	s.close()
	err := s.Listener.Close()
	s.plain.Close()
	if s.two != nil {
		s.two.Close()
	}
	s.runners.wait()
	return err
}

// handshakes are those that are going on, at most so many: each costs a goroutine and buffers before anything is known of its client. When
// there are too many, the one that has taken longest is ended, after handshakeLeast: clients that say nothing do not keep
// others out for longer than that, nor do many at once keep each other from ever getting through.
type handshakes struct {
	most  int
	ended chan struct{} // has one element when there may be room

	mu    sync.Mutex // guards what follows
	open  int
	queue []*handshake // oldest first, and some that have ended
}

// handshake is one of them.
type handshake struct {
	began time.Time
	end   context.CancelFunc
	over  bool
}

// enter waits until there is room for a handshake that end ends. It returns nil when ctx is done before.
func (hs *handshakes) enter(ctx context.Context, end context.CancelFunc) *handshake {
	for {
		h, wait := hs.try(end)
		if h != nil {
			return h
		}
		again := time.NewTimer(wait)
		select {
		case <-hs.ended:
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// try enters if there is room. Otherwise it ends the oldest handshake if that has had its time, and returns when to try again.
func (hs *handshakes) try(end context.CancelFunc) (h *handshake, wait time.Duration) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for len(hs.queue) > 0 && hs.queue[0].over {
		hs.queue[0] = nil
		hs.queue = hs.queue[1:]
	}
	if hs.open < hs.most {
		h = &handshake{began: time.Now(), end: end}
		hs.open++
		hs.queue = append(hs.queue, h)
		return h, 0
	}
	oldest := hs.queue[0]
	if wait = time.Until(oldest.began.Add(handshakeLeast)); wait <= 0 {
		oldest.end()
		wait = handshakeLeast // it makes room before
	}
	return nil, wait
}

// leave notes that a handshake has ended.
func (hs *handshakes) leave(h *handshake) {
	hs.mu.Lock()
	h.over = true
	hs.open--
	hs.mu.Unlock()
	select {
	case hs.ended <- struct{}{}:
	default:
	}
}

// h2Secured is a connection of HTTP/2 within TLS. It has no ConnectionState: net/http would speak HTTP/1 over it.
type h2Secured struct {
	*h2.Visit
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
