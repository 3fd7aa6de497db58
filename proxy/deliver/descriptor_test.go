//go:build linux && !portable

package deliver

import (
	"errors"
	"net"
	"testing"
	"time"
)

// A connection that its peer has reset before it is handed on has no remote address: it is none.
func TestConnectionThatWasReset(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, reset := range []bool{false, true} {
		peer, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		own, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if reset {
			peer.(*net.TCPConn).SetLinger(0)
			peer.Close()
			own.SetReadDeadline(time.Now().Add(time.Minute))
			own.Read(make([]byte, 1)) // until it is there
		}
		fd, err := duplicate(own.(*net.TCPConn))
		if err != nil {
			t.Fatal(err)
		}
		c, err := connection(int32(fd))
		switch {
		case reset && (c != nil || !errors.Is(err, net.ErrClosed)):
			t.Errorf("reset: %v, %v", c, err)
		case !reset && (err != nil || c.RemoteAddr().String() != peer.LocalAddr().String()):
			t.Errorf("%v, %v", c, err)
		}
		if c != nil {
			c.Close()
		}
		own.Close()
		peer.Close()
	}
}
