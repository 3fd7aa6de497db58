//go:build !linux

package deliver

import (
	"io/fs"
	"net"
)

// Listen is [net.Listen] over TCP.
func Listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	return Listener{Listener: l}, err
}

// Listener is the listener as it is: elsewhere than on Linux each write has a deadline.
type Listener struct {
	net.Listener
	Reserve Reserve // nil: none
}

// Accept waits for the next connection.
func (l Listener) Accept() (net.Conn, error) { return l.accept() }

// narrow cannot do anything before the file is there.
func narrow(uintptr, fs.FileMode) {}

// unsent is not known here.
func unsent(*net.TCPConn) int { return 0 }
