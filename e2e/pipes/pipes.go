// Package pipes is a network in memory for tests: the time of a synctest bubble does not pass while a real socket is read.
package pipes

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Listener is a net.Listener whose connections are made by Dial, or given by Offer. Safe for concurrent use.
type Listener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// Listen returns a listener that must be closed.
func Listen() *Listener { return &Listener{conns: make(chan net.Conn), done: make(chan struct{})} }

// Accept waits for the next connection. It fails with [net.ErrClosed] once the listener is closed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial. Connections stay.
func (l *Listener) Close() error { l.once.Do(func() { close(l.done) }); return nil }

// Addr is an empty address.
func (l *Listener) Addr() net.Addr { return &net.TCPAddr{} }

// Offer has c accepted, and waits until it is. It returns false when the listener is closed before.
func (l *Listener) Offer(c net.Conn) bool {
	select {
	case l.conns <- c:
		return true
	case <-l.done:
		return false
	}
}

// Dial returns the near end of a connection whose far end is accepted. It has the shape of [net.Dialer.DialContext], and fails when
// the listener is closed or ctx is done before.
func (l *Listener) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, errors.New("nothing listens")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
