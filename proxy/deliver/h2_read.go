//go:build linux && !portable

// This file is what net/http reads of an HTTP/2 connection: all frames but those that are about event streams.

package deliver

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"syscall"
	"time"
)

// Read is net/http's: it gets the frames that are for it.
func (c *h2Conn) Read(p []byte) (int, error) {
	for {
		if len(c.queued) > 0 {
			n := copy(p, c.queued)
			c.queued = c.queued[n:]
			return n, nil
		}
		if c.passing > 0 {
			n, err := c.source.Read(p[:min(len(p), c.passing)])
			c.passing -= n
			return n, c.note(err)
		}
		if c.slow && c.headEnd {
			c.slow = false
			c.Conn.SetReadDeadline(time.Time{})
		}
		if err := c.receive(); err != nil {
			return 0, c.note(err)
		}
	}
}

// note remembers why the connection was lost.
func (c *h2Conn) note(err error) error {
	if errors.Is(err, syscall.ETIMEDOUT) {
		c.mu.Lock()
		c.stalled = true
		c.mu.Unlock()
	}
	return err
}

// receive reads the head of the next frame, and all of those that are looked into. What net/http gets of it is queued.
func (c *h2Conn) receive() error {
	head := c.in[:frameHead]
	if _, err := io.ReadFull(c.source, head); err != nil {
		return err
	}
	f := readH2Frame(head)
	c.limit(f)
	switch {
	case f.kind == frameWindowUpdate && f.size == 4, f.kind == frameSettings && f.flags&flagAck == 0 && f.size <= h2MaxSettings*6:
		frame := append(c.in[:frameHead], make([]byte, f.size)...)
		if _, err := io.ReadFull(c.source, frame[frameHead:]); err != nil {
			return err
		}
		if c.heard(f, frame[frameHead:]) {
			c.queued = frame
		}
		return nil
	}
	pass, err := c.notice(f)
	switch {
	case err != nil:
		return err
	case pass:
		c.queued, c.passing = head, f.size
		return nil
	}
	_, err = c.source.Discard(f.size)
	return err
}

// limit sees to it that the head of a request does not take for ever, unless it is there.
func (c *h2Conn) limit(f h2Frame) {
	c.headEnd = f.flags&flagEndHeaders != 0 // of any other frame within a head it does not matter: net/http ends the connection
	if f.kind == frameHeaders && !c.slow && !(c.headEnd && c.source.Buffered() >= f.size) {
		c.slow = true
		c.Conn.SetReadDeadline(time.Now().Add(h2HeadTime))
	}
}

// notice says whether a frame that is not looked into is passed on.
func (c *h2Conn) notice(f h2Frame) (pass bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return false, nil
	}
	s := c.streams[f.stream]
	switch f.kind {
	case frameHeaders:
		if s == nil && f.stream > c.newest {
			if len(c.streams) >= h2MaxStreams {
				return false, errors.New("too many streams")
			}
			c.newest, c.streams[f.stream] = f.stream, &h2Stream{window: c.initial, whole: f.flags&flagEndStream != 0}
			c.idle = 0
		}
	case frameReset:
		c.forget(f.stream, Left)
	case frameGoAway: // net/http would close a connection that has none but our streams
		c.farewell = c.strands == 0
		return c.farewell, nil
	}
	return true, nil
}

// heard takes in a frame of settings or a window update, which it may change, and says whether it is passed on.
func (c *h2Conn) heard(f h2Frame, payload []byte) (pass bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return false
	}
	if f.kind == frameSettings {
		for ; len(payload) >= 6; payload = payload[6:] {
			if value := int64(binary.BigEndian.Uint32(payload[2:])); binary.BigEndian.Uint16(payload) == settingWindow && value <= largestWindow {
				for _, s := range c.streams {
					s.window = min(s.window+value-c.initial, largestWindow)
				}
				c.initial = value
				c.touch()
			}
		}
		return true
	}
	more := int64(binary.BigEndian.Uint32(payload) & math.MaxInt32)
	if f.stream != 0 {
		s := c.streams[f.stream]
		if s == nil {
			return true
		}
		s.window = min(s.window+more, largestWindow)
		if s.strand == nil {
			return true
		}
		if len(s.strand.rest) > 0 {
			s.strand.group.touch()
		}
		return false
	}
	if more == 0 {
		return true // an error, which net/http deals with
	}
	c.avail = min(c.avail+more, largestWindow)
	c.moved = time.Since(c.start)
	if c.starved || len(c.held) > 0 {
		c.schedule()
	}
	more = c.avail - c.waiting - c.granted
	if more <= 0 {
		return false // of what event streams have used
	}
	c.granted += more
	binary.BigEndian.PutUint32(payload, uint32(more))
	return true
}
