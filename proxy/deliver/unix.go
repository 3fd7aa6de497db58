package deliver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// LocalAddress is [http.Request].RemoteAddr of whoever comes over a Unix socket: it has none.
const LocalAddress = "@"

// ListenUnix listens on the Unix socket at path, @name for an abstract one of Linux. Its file has mode, from the moment when it is there, and goes
// when the listener is closed. One that a process left that is not there any more is replaced; the error is not nil where one listens on it still, or
// where the path is something else.
func ListenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	abstract := strings.HasPrefix(path, "@")
	if !abstract {
		if err := makeWay(path); err != nil {
			return nil, err
		}
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		if abstract {
			return nil
		}
		return c.Control(func(fd uintptr) { narrow(fd, mode) })
	}}
	listening, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	l := &unixListener{UnixListener: listening.(*net.UnixListener), path: path}
	l.SetUnlinkOnClose(false) // the acceptor goes on with another descriptor, and the file may be another process's by then
	if abstract {
		return Listener{Listener: l}, nil
	}
	if err = os.Chmod(path, mode); err == nil {
		l.file, err = os.Lstat(path)
	}
	if err != nil {
		l.UnixListener.Close()
		return nil, errors.Join(err, os.Remove(path))
	}
	return Listener{Listener: l}, nil
}

// makeWay removes a socket's file that nobody listens on.
func makeWay(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is no socket; remove it", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("another process listens on %s", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// unixListener removes its file when it is closed.
type unixListener struct {
	*net.UnixListener
	path string
	file fs.FileInfo // nil: it has none
}

// Close stops listening.
func (l *unixListener) Close() error {
	err := l.UnixListener.Close()
	l.remove()
	return err
}

// remove removes the file, unless it is another one by now.
func (l *unixListener) remove() {
	if l.file == nil {
		return
	}
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.file) {
		os.Remove(l.path)
	}
}

// Accept waits for the next connection.
func (l *unixListener) Accept() (net.Conn, error) {
	c, err := l.UnixListener.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return &localConn{UnixConn: c, patience: stallTime}, nil
}

// localConn is a connection over a Unix socket for net/http: a write that its peer does not take within patience fails, as the kernel has it over
// TCP, unless there is a deadline that was set.
type localConn struct {
	*net.UnixConn
	patience time.Duration

	mu  sync.Mutex // guards what follows, and the deadline
	set bool       // there is one
}

// Write writes p.
func (c *localConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if !c.set {
		c.UnixConn.SetWriteDeadline(time.Now().Add(c.patience))
	}
	c.mu.Unlock()
	return c.UnixConn.Write(p)
}

// SetWriteDeadline is net.Conn's.
func (c *localConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set = !t.IsZero()
	return c.UnixConn.SetWriteDeadline(t)
}

// SetDeadline is net.Conn's.
func (c *localConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
