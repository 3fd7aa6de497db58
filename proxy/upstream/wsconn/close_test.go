package wsconn

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/coder/websocket"
)

// A message of which the closing handshake has thrown a part away is not taken for a whole one by who reads it.
func TestCloseWithin(t *testing.T) {
	for range 2000 {
		near, far := net.Pipe()
		c := New(near, near, Options{})
		go func() { // ends with the connection
			io.WriteString(far, frame(fin, 1, "a part, rest"))
			heard := make([]byte, 8) // a close
			io.ReadFull(far, heard)
			far.Close()
		}()
		_, r, err := c.Reader(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		var part [6]byte
		if _, err := io.ReadFull(r, part[:]); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { // ends with the test
			defer close(done)
			c.Close(websocket.StatusGoingAway, "")
		}()
		for { // until that has begun to throw away
			c.mu.Lock()
			began := c.reading || c.closed
			c.mu.Unlock()
			if began {
				break
			}
			runtime.Gosched()
		}
		rest, err := io.ReadAll(r)
		if err == nil || errors.Is(err, io.EOF) {
			t.Fatalf("the message ends whole, with %q", rest)
		}
		<-done
	}
}
