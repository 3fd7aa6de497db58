//go:build !linux

package deliver

import "net"

// Listen is [net.Listen] over TCP.
func Listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	return Listener{l}, err
}

// Listener is the listener as it is: elsewhere than on Linux each write has a deadline.
type Listener struct{ net.Listener }

// unsent is not known here.
func unsent(*net.TCPConn) int { return 0 }
