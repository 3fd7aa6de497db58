package deliver

import (
	"context"
	"io/fs"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listen listens on address as [net.Listen] does, over TCP, with what [Listener] sets. Keep-alive probes, which find
// peers that vanished where there are no heartbeats, are set on the listener once, as is TCP_NODELAY, which is net's
// default: accepted connections inherit them. It
// is without MPTCP (RFC 8684), Go's default, where each accept costs more and not every option is inherited.
func Listen(address string) (net.Listener, error) {
	config := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			for option, value := range map[int]int{unix.TCP_KEEPIDLE: 15, unix.TCP_KEEPINTVL: 15, unix.TCP_KEEPCNT: 9} {
				unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value)
			}
		})
	}}
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return Listener{Listener: l}, nil
}

// Listener sets on each accepted connection what the kernel is to watch over: a peer that takes nothing for 30 s is cut
// (TCP_USER_TIMEOUT, RFC 5482, which is not inherited from the listener).
type Listener struct {
	net.Listener
	Reserve Reserve // nil: none
}

// Accept waits for the next connection.
func (l Listener) Accept() (net.Conn, error) {
	c, err := l.accept()
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		if raw, err := tcp.SyscallConn(); err == nil {
			raw.Control(watchOver)
		}
	}
	return c, err
}

// watchOver has the kernel cut the accepted connection fd when its peer takes nothing.
func watchOver(fd uintptr) {
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(stallTime.Milliseconds()))
}

// narrow gives the file that a socket is about to get no more than mode: the system takes what is in its umask from that.
func narrow(fd uintptr, mode fs.FileMode) { unix.Fchmod(int(fd), uint32(mode.Perm())) }

// unsent is how many bytes the kernel holds that the peer has not acknowledged.
func unsent(c *net.TCPConn) (n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err != nil {
		return 0
	}
	return n
}
