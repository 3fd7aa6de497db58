package wsconn

import (
	"encoding/binary"
	"errors"
	"os"
	"time"
)

// Doze has wake called once there is something to be read, or the connection is closed, so that until then nobody has to wait in Reader. It returns false
// where one can as well read now, or has to wait in Reader after all: within a message, or where the system cannot tell (TLS). wake must not block; it may be
// called before Doze has returned. Only the reader calls it, and does not read before it is woken.
//
// Where glance is not nil, and what has come is whole messages that are not large nor compressed, glance is called in the place of wake, by who tells all
// that doze: it is the reader, has [Conn.Whole] tell it how far it can read without waiting, must do nothing else that takes time, and returns what its own
// call of Doze did; where that is false wake is called after all.
func (c *Conn) Doze(wake func(), glance func() (dozes bool)) bool {
	if c.raw == nil || c.inside || !c.begin() {
		return false
	}
	defer c.leave(&c.reading)
	for {
		for c.in.len() > 0 {
			if !c.control() {
				return false
			}
		}
		c.answer()
		c.release()
		if dozes, may := c.sleeps(wake, glance); dozes || !may {
			return dozes
		}
		if !c.peek() {
			return false
		}
	}
}

// Linger waits for something to be read, for d at most and half of that at least, and reports whether there may be something. Where messages come one soon
// after the other that costs less than to doze. Only the reader calls it.
func (c *Conn) Linger(d time.Duration) bool {
	if c.raw == nil || c.inside || !c.begin() {
		return true
	}
	defer c.leave(&c.reading)
	if c.in.len() > 0 || c.got != nil { // which are Close's while that reads
		return true
	}
	c.answer()
	c.release()
	c.mu.Lock()
	if c.said || c.closed {
		c.mu.Unlock()
		return true
	}
	if c.watched >= 0 { // else the lookout would be woken beside who waits here
		c.unwatch()
		c.watched = -1
	}
	if now := time.Now(); c.until.Sub(now) < d/2 || c.until.Sub(now) > d {
		c.until = now.Add(d)
		c.conn.SetReadDeadline(c.until)
	}
	c.mu.Unlock()
	return !c.lapsed(c.raw.Read(c.try))
}

// lapsed reports whether err is no more than that Linger's deadline has come, which is none any more then, or is another one by now.
func (c *Conn) lapsed(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.until.IsZero() {
		return c.closing && time.Now().Before(c.until)
	}
	c.until = time.Time{}
	c.conn.SetReadDeadline(c.until)
	return true
}

// from reads what there is, and waits for it, whatever deadline Linger has left.
func (c *Conn) from(p []byte) (int, error) {
	for {
		n, err := c.rw.Read(p)
		if n > 0 || !c.lapsed(err) {
			return n, err
		}
	}
}

// Drained reports, to the reader, that all that had arrived is read. Where the system cannot tell, or the connection is being closed, it is false.
func (c *Conn) Drained() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.raw != nil && !c.reading && !c.closed && c.drained && c.in.len() == 0 // who reads begins with mu
}

// sleeps has wake called as Doze says, where all is read that there was. may: else there is more, and it can be read.
func (c *Conn) sleeps(wake func(), glance func() bool) (dozes, may bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.hung || c.watched < 0 && !c.watch() {
		return false, false
	}
	if c.drained && !c.ready {
		c.wake = wake
		if len(c.pongs) == 0 { // which to send may take time
			c.glance = glance
		}
		return true, true
	}
	c.ready = false
	return false, true
}

// control takes a ping or a pong that stands first in the buffer, and reports whether one does.
func (c *Conn) control() bool {
	b := c.in.data[c.in.start:c.in.end]
	if len(b) < 2 || b[0] != 0x80|opPing && b[0] != 0x80|opPong || b[1] > maxControl || len(b) < 2+int(b[1]) {
		return false
	}
	payload := b[2 : 2+int(b[1])]
	c.in.start += 2 + len(payload)
	c.heard(b[0]&0xf, payload)
	return true
}

// peek reads what there is, if there is anything. It returns false at the end of the connection, which Reader then tells.
func (c *Conn) peek() bool {
	err := c.untilRead(func(fd uintptr) bool {
		c.try(fd)
		return true
	})
	return err == nil && c.got == nil
}

// untilRead waits until try is true, whatever deadline Linger has left.
func (c *Conn) untilRead(try func(fd uintptr) bool) error {
	for {
		if err := c.raw.Read(try); !c.lapsed(err) {
			return err
		}
	}
}

// awaken lets the reader know that there is something to be read; hung: its end, too, which is said only once.
func (c *Conn) awaken(hung bool) {
	c.mu.Lock()
	c.hung = c.hung || hung
	wake := c.wake
	c.wake, c.glance = nil, nil
	c.ready = true
	if wake != nil {
		c.glancing = false // of the reader, which sleeps
	}
	c.mu.Unlock()
	if wake != nil {
		wake()
	}
}

// Whole reports, to the reader, that there is a message to be read which has arrived whole.
func (c *Conn) Whole() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.reading && !c.closed && !c.said && c.in.whole(false)
}

// whole reports whether b begins with a whole message in one frame, as it stands in no need of anything to be said about it; all: and has no more than such.
func (b *buffer) whole(all bool) bool {
	if b.len() == 0 {
		return false
	}
	for at := b.start; at < b.end; {
		p := b.data[at:b.end]
		if len(p) < 2 || p[0] != 0x80|opText && p[0] != 0x80|opBinary {
			return false
		}
		head, size := 2, int(p[1])
		if size == 126 && len(p) >= 4 {
			head, size = 4, int(binary.BigEndian.Uint16(p[2:]))
			if size < 126 {
				return false
			}
		} else if size > 125 {
			return false
		}
		if len(p) < head+size {
			return false
		}
		if !all {
			return true
		}
		at += head + size
	}
	return true
}
