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
		switch pass, flaw := c.heard(f, frame[frameHead:]); {
		case flaw:
			c.queued = append(largestUpdate, largestUpdate...)
		case pass:
			c.queued = frame
		}
		return nil
	}
	switch c.notice(f) {
	case h2Ignored:
		_, err := c.source.Discard(f.size)
		return err
	case h2Excess:
		return c.refuse(f)
	}
	c.queued, c.passing = head, f.size
	return nil
}

// largestUpdate grants the connection as much as there can be. Two of them are more, at which net/http ends the connection with
// FLOW_CONTROL_ERROR: that is how it is told of what it cannot see.
var largestUpdate = binary.BigEndian.AppendUint32(h2Frame{4, frameWindowUpdate, 0, 0}.append(nil), largestWindow)

// refuse passes on the head of a request that is one too many. net/http does not count the streams that it has handed over,
// but has to read the head, which the compression of the next ones builds on. So it is made one that depends on itself
// (RFC 7540, section 5.3.1), which net/http answers as it does one that it finds to be too many: with a stream error.
func (c *h2Conn) refuse(f h2Frame) error {
	front, pad := 0, 0
	if f.flags&flagPadded != 0 {
		front, pad = 1, 1
	}
	if f.flags&flagPriority != 0 {
		front += 5
	}
	if f.size < front { // of which net/http makes an error of its own
		c.queued, c.passing = c.in[:frameHead], f.size
		return nil
	}
	var had [6]byte
	if _, err := io.ReadFull(c.source, had[:front]); err != nil {
		return err
	}
	rest := f.size - front
	frame := h2Frame{rest + pad + 5, f.kind, f.flags | flagPriority, f.stream}.append(nil)
	frame = append(frame, had[:pad]...)
	c.queued, c.passing = append(binary.BigEndian.AppendUint32(frame, f.stream), 0), rest
	return nil
}

// grant lets more be sent, or less, and returns whether that is within what there can be. What net/http has sent of a window
// is not counted here: it judges those of its own streams.
func (s *h2Stream) grant(more int64) (within bool) {
	s.window += more
	within = s.window <= largestWindow || s.strand == nil
	s.window = min(s.window, largestWindow)
	return within
}

// What is done with a frame that is not looked into.
const (
	h2Passed  = iota // it is net/http's
	h2Ignored        // nobody gets it
	h2Excess         // the head of a request that is one too many
)

// limit sees to it that the head of a request does not take for ever, unless it is there.
func (c *h2Conn) limit(f h2Frame) {
	c.headEnd = f.flags&flagEndHeaders != 0 // of any other frame within a head it does not matter: net/http ends the connection
	if f.kind == frameHeaders && !c.slow && !(c.headEnd && c.source.Buffered() >= f.size) {
		c.slow = true
		c.Conn.SetReadDeadline(time.Now().Add(h2HeadTime))
	}
}

// notice takes in a frame that is not looked into, and returns what is done with it.
func (c *h2Conn) notice(f h2Frame) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return h2Ignored
	}
	s := c.streams[f.stream]
	switch f.kind {
	case frameHeaders:
		if s == nil && f.stream > c.newest {
			c.newest = f.stream
			if len(c.streams) >= h2MaxStreams {
				return h2Excess
			}
			c.streams[f.stream] = &h2Stream{window: c.initial, whole: f.flags&flagEndStream != 0}
			c.idle = 0
		}
	case frameReset:
		c.forget(f.stream, Left)
	case frameGoAway: // net/http would close a connection that has none but our streams
		if c.farewell = c.strands == 0; !c.farewell {
			return h2Ignored
		}
	}
	return h2Passed
}

// heard takes in a frame of settings or a window update, which it may change, and returns whether it is passed on. flaw: it
// makes a window larger than there can be, which ends the connection (sections 6.9.1 and 6.9.2).
func (c *h2Conn) heard(f h2Frame, payload []byte) (pass, flaw bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return false, false
	}
	if f.kind == frameSettings {
		for ; len(payload) >= 6; payload = payload[6:] {
			if value := int64(binary.BigEndian.Uint32(payload[2:])); binary.BigEndian.Uint16(payload) == settingWindow && value <= largestWindow {
				for _, s := range c.streams {
					if !s.grant(value - c.initial) {
						return false, true
					}
				}
				c.initial = value
				c.touch()
			}
		}
		return true, false
	}
	more := int64(binary.BigEndian.Uint32(payload) & math.MaxInt32)
	if f.stream != 0 {
		s := c.streams[f.stream]
		if s == nil {
			return true, false
		}
		switch within := s.grant(more); {
		case s.strand == nil:
			return true, false
		case !within:
			s.strand.cut(flowError)
		case len(s.strand.rest) > 0:
			s.strand.group.touch()
		}
		return false, false
	}
	if more == 0 {
		return true, false // an error, which net/http deals with
	}
	if c.avail += more; c.avail > largestWindow {
		return false, true
	}
	c.moved = time.Since(c.clock.start)
	if c.starved || len(c.held) > 0 {
		c.schedule()
	}
	more = c.avail - c.waiting - c.granted
	if more <= 0 {
		return false, false // of what event streams have used
	}
	c.granted += more
	binary.BigEndian.PutUint32(payload, uint32(more))
	return true, false
}
