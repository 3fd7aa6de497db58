// This file is a connection without net/http, for which there is nothing to do but to answer PINGs: where all streams are adopted, net/http would keep two
// goroutines and their buffers, ten times what the rest is. The rules:
//
//   - It leaves when for a while nothing has come by that is its, and nothing is owed: no reply, no part of a frame. It is called back with the first frame that is not
//     one of those which are looked into here, and gets that frame. So what is wrong with a frame is always said by net/http.
//   - Whoever has the connection reads it. net/http's reader gives it up where its read ends by a deadline that is set for that; once it is called back it has it again.
//   - Nothing waits for a parked connection: the filler hears when there is something to read, and a goroutine reads what there is.

package h2

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	parkFirst = 200 * time.Millisecond // how long net/http has nothing to do before it leaves for the first time
	parkAgain = 5 * time.Second        // and after that: coming costs as much as a small request
	repliesAt = 1 << 10                // bytes of replies that are written at once
)

var sources = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readAhead) }}

// stir notes that a frame has come by that is net/http's, or was. mu is held.
func (c *Conn) stir() { c.stirred = time.Since(c.start) }

// parks has net/http leave if it may, and returns when to ask again. mu is held.
func (c *Conn) parks(now time.Duration) (next time.Duration) {
	if !c.parkable || c.visit == nil || c.adopted == 0 || c.leaving || c.farewell || c.departs {
		return Never
	}
	quiet := parkFirst
	if c.returned {
		quiet = parkAgain
	}
	if next = max(c.stirred, time.Duration(c.wrote.Load())) + quiet; now < next {
		return next
	}
	if !c.dispensable() {
		return now + quiet
	}
	c.visit.over.Store(true)
	c.visit, c.returned = nil, true
	c.Conn.SetReadDeadline(past) // its reader hears of it, and lets go
	return Never
}

var past = time.Unix(1, 0)

// dispensable is whether net/http knows nothing that it would not be told when it is called back. mu is held.
func (c *Conn) dispensable() bool {
	if c.adopted != len(c.streams) || len(c.held) > 0 || len(c.flawed) > 0 || c.blocked != 0 || c.settling.resets > 0 {
		return false
	}
	if !c.told.acked || c.told.owes || c.told.replies != 0 || c.writes.Load() {
		return false
	}
	for _, s := range c.streams {
		if !s.live || s.held > 0 {
			return false
		}
	}
	return c.expecting.CompareAndSwap(expects, parksNow)
}

// What Conn.expecting says of net/http's reader.
const (
	reads    = iota
	expects  // the next frame, of which nothing is read yet
	parksNow // it is to let go of the connection instead
)

var errParks = errors.New("net/http leaves the connection")

// lets is net/http's reader, which lets go of the connection. It returns what net/http is to take for its end.
func (c *Conn) lets() error {
	c.mu.Lock()
	closed := c.closed
	c.parked = !closed
	c.Conn.SetReadDeadline(time.Time{})
	c.unlock()
	switch {
	case closed:
	case c.filler.Park(c):
		if c.Attend(); c.over() {
			c.filler.Closed() // it did not know that the connection is parked
		}
	default: // the system has no room for it: it goes on as before
		c.mu.Lock()
		c.parkable = false
		c.unlock()
		if c.recall() != nil {
			c.Close()
		}
	}
	return io.EOF
}

// over is whether the connection is closed.
func (c *Conn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Attend has read what there is to read of a parked connection. It does not block, and may be called at any time.
func (c *Conn) Attend() {
	if c.attends.wants() {
		c.filler.Go(c.attend) // ends when there is nothing to read
	}
}

func (c *Conn) attend() {
	c.attends.do(func() {
		c.mu.Lock()
		parked := c.parked && !c.closed
		c.mu.Unlock()
		if parked && !c.catchUp() {
			c.Close()
		}
	})
}

// catchUp reads what there is to read. It returns false where that is the end.
func (c *Conn) catchUp() bool {
	if c.source == nil {
		c.source = sources.Get().(*bufio.Reader)
		c.source.Reset(c.Conn)
	}
	var replies []byte
	for {
		var err error
		var done bool
		replies, done, err = c.overhear(replies)
		if len(replies) > 0 && (done || err != nil || len(replies) >= repliesAt) {
			if c.send(replies) != nil {
				return false
			}
			replies = replies[:0]
		}
		switch {
		case err == nil && done:
			return true
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded): // for now
			if c.source.Buffered() == 0 {
				c.source.Reset(nil)
				sources.Put(c.source)
				c.source = nil
			}
			c.filler.Quiet()
			return true
		default:
			c.note(err)
			return false
		}
	}
}

// overhear reads the next frame of a parked connection, and appends what is replied. done: it is for net/http, which has come. err is of
// os.ErrDeadlineExceeded where not all of the frame is there.
func (c *Conn) overhear(replies []byte) (_ []byte, done bool, err error) {
	if c.passing > 0 {
		n, err := c.source.Discard(c.passing)
		c.passing -= n
		return replies, false, err
	}
	first, err := c.source.Peek(headSize)
	if err != nil {
		return replies, false, err
	}
	f := readHead(first)
	if c.discards(f) {
		c.source.Discard(headSize)
		c.passing = f.size
		return replies, false, nil
	}
	if !c.simple(f) {
		return replies, true, c.recall()
	}
	whole, err := c.source.Peek(headSize + f.size)
	if err != nil {
		return replies, false, err
	}
	switch payload := whole[headSize:]; f.kind {
	case framePing:
		replies = append(head{8, framePing, flagAck, 0}.append(replies), payload...)
	case frameReset:
		c.notice(f)
	case frameWindowUpdate:
		update := [4]byte(payload)
		if update[0]&0x7f|update[1]|update[2]|update[3] == 0 {
			return replies, true, c.recall()
		}
		if _, flaw := c.heard(f, update[:]); flaw { // it is heard again
			return replies, true, c.recall()
		}
	}
	c.source.Discard(len(whole))
	return replies, false, nil
}

// simple is whether f is a frame that asks nothing of net/http, if its payload does not.
func (c *Conn) simple(f head) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f.kind {
	case framePing:
		return f.size == 8 && f.stream == 0 && f.flags&flagAck == 0
	case frameReset:
		return f.size == 4 && c.opened(f.stream)
	case frameWindowUpdate:
		return f.size == 4 && (f.stream == 0 || c.opened(f.stream))
	}
	return false
}

// opened is whether the client has opened the stream id, or one after it (section 5.1.1): those with even numbers are not its to open. mu is held.
func (c *Conn) opened(id uint32) bool { return id%2 == 1 && id <= c.newest }

// discards is whether f is nothing to anybody: a kind of frame that is not known (section 4.1), or whatever comes after GOAWAY.
func (c *Conn) discards(f head) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f.size <= framePayload && (c.leaving || f.kind > frameContinuation)
}

// recall calls net/http back, which reads on: what was not consumed is for it.
func (c *Conn) recall() error {
	v := &Visit{Conn: c}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.comes(v)
	c.unlock()
	c.Wake() // which sees to it that it leaves
	if !c.filler.Recall(v) {
		return net.ErrClosed
	}
	return nil
}
