package deliver

import (
	"net"
	"os"
	"syscall"
)

// Reserve is file descriptors that are kept back for others than clients.
type Reserve interface {
	// Short reports whether one of them was given to somebody else. Then the connection that was accepted last is closed, and Fill called.
	Short() bool
	// Fill takes back what is missing.
	Fill()
}

// Yielding is l, one of [Listen]'s or [ListenUnix]'s, that does not keep what r needs: Accept fails instead, as where no descriptor is left.
func Yielding(l net.Listener, r Reserve) net.Listener {
	own, ok := l.(Listener)
	if !ok {
		own.Listener = l
	}
	own.Reserve = r
	return own
}

// accept is Accept, but for what is set on connections.
func (l Listener) accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.Reserve == nil || !l.Reserve.Short() {
		return c, err
	}
	c.Close()
	l.Reserve.Fill()
	return nil, &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}
