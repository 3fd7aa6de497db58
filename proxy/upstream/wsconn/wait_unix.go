//go:build unix && !portable

package wsconn

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// rawConn is what waits without a buffer: a socket of the system's of which nothing has been read ahead.
func (c *Conn) rawConn() syscall.RawConn {
	switch c.conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	raw, err := c.conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	c.try = c.read
	if c.rw == c.conn {
		return raw
	}
	// What has come with the answer to the upgrade is there at once.
	c.conn.SetReadDeadline(time.Unix(1, 0))
	defer c.conn.SetReadDeadline(time.Time{})
	b := buffers.Get().(*buffer)
	if n, _ := c.rw.Read(b.data[:]); n > 0 {
		b.start, b.end = 0, n
		c.in = b
		c.rw = c.conn
		return raw
	}
	buffers.Put(b)
	c.rw = c.conn
	return raw
}

// await is wait for such a socket.
func (c *Conn) await() error {
	if c.got != nil {
		return c.got
	}
	if err := c.untilRead(c.try); err != nil {
		for _, known := range []error{net.ErrClosed, os.ErrDeadlineExceeded} {
			if errors.Is(err, known) {
				return known
			}
		}
		return err
	}
	return c.got
}

// read reads what there is; false: nothing.
func (c *Conn) read(fd uintptr) bool {
	b, from := buffers.Get().(*buffer), syscall.Read
	if c.options.Brisk {
		from = readBriskly
	}
	n, err := from(int(fd), b.data[:])
	for err == syscall.EINTR {
		n, err = from(int(fd), b.data[:])
	}
	c.drained = n < len(b.data)
	if n > 0 {
		b.start, b.end = 0, n
		c.in = b
		return true
	}
	buffers.Put(b)
	switch {
	case err == syscall.EAGAIN:
		return false
	case err == nil:
		c.got = io.EOF
	default:
		c.got = &net.OpError{Op: "read", Net: c.conn.LocalAddr().Network(), Source: c.conn.LocalAddr(), Addr: c.conn.RemoteAddr(), Err: os.NewSyscallError("read", err)}
	}
	return true
}

// gone reports whether the peer has ended the connection, and nothing else is there to be read: what is written then goes nowhere, and no error says so.
func (c *Conn) gone() (gone bool) {
	if c.raw == nil {
		return false
	}
	c.raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = n == 0 && err == nil
	})
	return gone
}
