//go:build linux && !portable

package wsconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// dialTCP is a connection of the system's, and its far end.
func dialTCP(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// dozer reads c, and dozes whenever it can. What it has read, and how it has ended, goes to what it returns.
func dozer(c *Conn) (read chan string) {
	read = make(chan string, 1<<16)
	var turn func()
	turn = func() {
		for {
			if c.Doze(func() { go turn() }, nil) {
				return
			}
			if !readOne(c, read) {
				return
			}
		}
	}
	go turn() // ends with the connection
	return read
}

// readOne reads a message of c's, or how it has ended, which is false.
func readOne(c *Conn, read chan<- string) bool {
	_, r, err := c.Reader(context.Background())
	if err == nil {
		var data []byte
		if data, err = io.ReadAll(r); err == nil {
			read <- string(data)
		}
	}
	if err != nil {
		read <- "ended: " + err.Error()
		close(read)
	}
	return err == nil
}

func expectRead(t *testing.T, read chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-read:
			if got != w {
				t.Errorf("read %.100q, want %.100q", got, w)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%.100q was not read", w)
		}
	}
}

// asleep waits until c is.
func asleep(t *testing.T, c *Conn) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		is := c.wake != nil
		c.mu.Unlock()
		if is {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not doze")
		}
	}
}

func TestDoze(t *testing.T) {
	near, far := dialTCP(t)
	go io.Copy(io.Discard, far) // the pongs; ends with the connection
	c := New(near, near, Options{})
	defer c.CloseNow()
	read := dozer(c)
	for i := range 100 {
		asleep(t, c)
		if c.in != nil {
			t.Fatal("it has a buffer in its sleep")
		}
		text := fmt.Sprint(i)
		io.WriteString(far, frame(fin, 1, text)+frame(fin, 9, text))
		expectRead(t, read, text)
	}
	io.WriteString(far, frame(0, 1, "in ")) // it waits in the message then
	time.Sleep(time.Millisecond)
	io.WriteString(far, frame(fin, 0, "parts")+frame(fin, 1, big[:4080])+frame(fin, 1, big))
	expectRead(t, read, "in parts", big[:4080], big)
	asleep(t, c)
	full := big[:len(buffer{}.data)-4] // one read takes exactly this, and what is left is told no more
	io.WriteString(far, frame(fin, 1, full)+frame(fin, 1, "next"))
	expectRead(t, read, full, "next")
	asleep(t, c)
	io.WriteString(far, frame(fin, 1, "last")) // and its end at once
	far.Close()
	expectRead(t, read, "last", "ended: EOF")
}

// One that dozes is woken by its own end, from wherever that comes.
func TestDozeEnds(t *testing.T) {
	near, far := dialTCP(t)
	c := New(near, near, Options{})
	read := dozer(c)
	asleep(t, c)
	c.CloseNow()
	expectRead(t, read, "ended: "+net.ErrClosed.Error())
	if c.Doze(func() {}, nil) {
		t.Error("what is closed dozes")
	}
	far.Close()
	near, far = dialTCP(t)
	c = New(near, near, Options{})
	read = dozer(c)
	asleep(t, c)
	go io.WriteString(far, frame(fin, 8, closing(1000, ""))) // ends once it is written
	c.Close(websocket.StatusNormalClosure, "")
	expectRead(t, read, "ended: "+websocket.CloseError{Code: 1000}.Error())
	lookouts.Lock()
	defer lookouts.Unlock()
	if current != nil {
		t.Error("somebody is still looked out for")
	}
}

// Whatever ends who looks out for them: those that doze are woken, and wait by themselves from then on.
func TestLookoutEnds(t *testing.T) {
	near, far := dialTCP(t)
	c := New(near, near, Options{})
	defer c.CloseNow()
	read := dozer(c)
	asleep(t, c)
	lookouts.Lock()
	current.file.Close()
	lookouts.Unlock()
	io.WriteString(far, frame(fin, 1, "x"))
	expectRead(t, read, "x")
	io.WriteString(far, frame(fin, 1, "y"))
	expectRead(t, read, "y")
	near, far = dialTCP(t)
	d := New(near, near, Options{})
	defer d.CloseNow()
	read = dozer(d)
	asleep(t, d) // for whom somebody else looks out
	io.WriteString(far, frame(fin, 1, "z"))
	expectRead(t, read, "z")
}

// Many at once, each of which has all that it is sent.
func TestDozers(t *testing.T) {
	var all sync.WaitGroup
	for range 50 {
		near, far := dialTCP(t)
		all.Go(func() {
			c := New(near, near, Options{})
			read := dozer(c)
			const n = 300
			go func() { // ends once all is written
				for i := range n {
					io.WriteString(far, frame(fin, 1, fmt.Sprint(i)))
				}
				far.Close()
			}()
			for i := range n {
				if got := <-read; got != fmt.Sprint(i) {
					t.Errorf("message %d is %q", i, got)
					break
				}
			}
			if got := <-read; got != "ended: EOF" {
				t.Errorf("then %q", got)
			}
			c.CloseNow()
		})
	}
	all.Wait()
}

// One after the other, each the only one: the lookout comes and goes with it.
func TestDozersInTurn(t *testing.T) {
	for range 500 {
		near, far := dialTCP(t)
		c := New(near, near, Options{})
		read := dozer(c)
		for i := range 3 {
			asleep(t, c)
			io.WriteString(far, frame(fin, 1, fmt.Sprint(i)))
			expectRead(t, read, fmt.Sprint(i))
		}
		far.Close()
		expectRead(t, read, "ended: EOF")
		c.CloseNow()
	}
}

// What is written after the peer's end would be lost without a word: it is an error, whoever has noticed the end.
func TestWriteAfterEnd(t *testing.T) {
	near, far := dialTCP(t)
	c := New(near, near, Options{})
	defer c.CloseNow()
	if err := c.Write(t.Context(), websocket.MessageText, []byte("x")); err != nil {
		t.Fatal(err)
	}
	far.(*net.TCPConn).CloseWrite()
	for deadline := time.Now().Add(time.Minute); !c.gone(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the end is not seen")
		}
	}
	if err := c.Write(t.Context(), websocket.MessageText, []byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
