//go:build linux && !portable

package deliver

import (
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is what the acceptor does to single descriptors.

// connection makes fd net's. One whose peer has reset it meanwhile is none: it has no remote address, which net/http's HTTP/2 asks for unseen.
func connection(fd int32) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "") // FileConn duplicates it
	defer f.Close()
	c, err := net.FileConn(f)
	if err == nil && c.RemoteAddr() == nil {
		c.Close()
		return nil, net.ErrClosed
	}
	if local, ok := c.(*net.UnixConn); ok {
		return &localConn{UnixConn: local, patience: stallTime}, err
	}
	return c, err
}

// peek looks at what fd has to be read.
func peek(fd int32, p []byte) (int, syscall.Errno) {
	return receive(fd, unsafe.Pointer(unsafe.SliceData(p)), len(p), unix.MSG_PEEK)
}

// receive is recv(2) on a non-blocking descriptor, past the runtime.
func receive(fd int32, to unsafe.Pointer, size, flags int) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(to), uintptr(size), uintptr(flags|unix.MSG_DONTWAIT), 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}
