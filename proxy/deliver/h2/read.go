// This file is what net/http reads of a connection: all frames but those that are about adopted streams.

package h2

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"syscall"
	"time"
)

// read is v's Read.
func (c *Conn) read(v *Visit, p []byte) (int, error) {
	for {
		if len(c.queued) > 0 {
			n := copy(p, c.queued)
			c.queued = c.queued[n:]
			return n, nil
		}
		if c.passing > 0 {
			n, err := c.source.Read(p[:min(len(p), c.passing)])
			c.passing -= n
			c.told.block.goesOn(p[:n], &c.told.table)
			return n, c.note(err)
		}
		if c.slow && c.headEnd {
			c.slow = false
			c.Conn.SetReadDeadline(time.Time{})
		}
		if v.over.Load() {
			return 0, io.EOF
		}
		c.settled()
		switch err := c.receive(); {
		case err == errParks:
			return 0, c.lets()
		case err != nil:
			return 0, c.note(err)
		}
	}
}

// note remembers why the connection was lost.
func (c *Conn) note(err error) error {
	if errors.Is(err, syscall.ETIMEDOUT) {
		c.mu.Lock()
		c.stalled = true
		c.mu.Unlock()
	}
	return err
}

// receive reads the head of the next frame, and all of those that are looked into. What net/http gets of it is queued.
func (c *Conn) receive() error {
	first := c.in[:headSize]
	may := c.told.between()
	if may {
		c.expecting.Store(expects)
	}
	next, err := c.source.Peek(headSize)
	if may && !c.expecting.CompareAndSwap(expects, reads) {
		return errParks
	}
	if err != nil {
		return err
	}
	c.source.Discard(copy(first, next))
	f := readHead(first)
	c.told.block.begins(f)
	c.limit(f)
	switch {
	case f.kind == frameWindowUpdate && f.size == 4, f.kind == frameSettings && f.flags&flagAck == 0 && f.size <= maxSettings*6:
		frame := append(c.in[:headSize], make([]byte, f.size)...)
		if _, err := io.ReadFull(c.source, frame[headSize:]); err != nil {
			return err
		}
		switch pass, flaw := c.heard(f, frame[headSize:]); {
		case flaw:
			c.queued = slices.Concat(largestUpdate, largestUpdate)
		case pass:
			c.queued = frame
		}
		return nil
	}
	switch c.notice(f) {
	case ignored:
		_, err := c.source.Discard(f.size)
		return err
	case excess:
		return c.refuse(f)
	}
	c.queued, c.passing = first, f.size
	return nil
}

// largestUpdate grants the connection as much as there can be. Two of them are more, at which net/http ends the connection with
// FLOW_CONTROL_ERROR: that is how it is told of what it cannot see.
var largestUpdate = binary.BigEndian.AppendUint32(head{4, frameWindowUpdate, 0, 0}.append(nil), largestWindow)

// refuse passes on the head of a request that is one too many. net/http does not count the streams that it has handed over,
// but has to read the head, which the compression of the next ones builds on. So it is made one that depends on itself
// (RFC 7540, section 5.3.1), which net/http answers as it does one that it finds to be too many: with a stream error.
func (c *Conn) refuse(f head) error {
	front, pad := 0, 0
	if f.flags&flagPadded != 0 {
		front, pad = 1, 1
	}
	if f.flags&flagPriority != 0 {
		front += 5
	}
	if f.size < front { // of which net/http makes an error of its own
		c.queued, c.passing = c.in[:headSize], f.size
		return nil
	}
	var had [6]byte
	if _, err := io.ReadFull(c.source, had[:front]); err != nil {
		return err
	}
	c.told.block.goesOn(had[:front], &c.told.table)
	rest := f.size - front
	frame := head{rest + pad + 5, f.kind, f.flags | flagPriority, f.stream}.append(nil)
	frame = append(frame, had[:pad]...)
	c.queued, c.passing = append(binary.BigEndian.AppendUint32(frame, f.stream), 0), rest
	return nil
}

// grant lets more be sent, or less, and returns whether that is within what there can be. What net/http has sent of a window
// is not counted here: it judges those of its own streams.
func (s *Stream) grant(more int64) (within bool) {
	s.window += more
	within = s.window <= largestWindow || !s.adopted
	s.window = min(s.window, largestWindow)
	return within
}

// What is done with a frame that is not looked into.
const (
	passed  = iota // it is net/http's
	ignored        // it is dropped
	excess         // the head of a request that is one too many
)

// limit sees to it that the head of a request does not take for ever, unless it is there.
func (c *Conn) limit(f head) {
	c.headEnd = f.flags&flagEndHeaders != 0 // of any other frame within a head it does not matter: net/http ends the connection
	if f.kind == frameHeaders && !c.slow && !(c.headEnd && c.source.Buffered() >= f.size) {
		c.slow = true
		c.Conn.SetReadDeadline(time.Now().Add(headTime))
	}
}

// notice takes in a frame that is not looked into, and returns what is done with it.
func (c *Conn) notice(f head) int {
	c.mu.Lock()
	defer c.unlock()
	if c.leaving {
		return ignored
	}
	if f.kind != framePing { // which a parked connection answers, too
		c.stir()
	}
	s := c.streams[f.stream]
	switch f.kind {
	case frameData:
		c.told.credit -= int64(f.size)
	case framePing:
		if f.flags&flagAck == 0 {
			c.told.replies++
		}
	case frameSettings:
		c.told.acked = c.told.acked || f.flags&flagAck != 0
	case frameHeaders:
		if s == nil && f.stream > c.newest {
			c.newest = f.stream
			if len(c.streams) >= maxStreams {
				return excess
			}
			c.streams[f.stream] = &Stream{id: f.stream, window: c.initial, whole: f.flags&flagEndStream != 0}
			c.idle = 0
		}
	case frameReset:
		c.forget(f.stream, false)
	case frameGoAway: // net/http would close a connection that has none but adopted streams
		if c.farewell = c.adopted == 0; !c.farewell {
			return ignored
		}
	}
	return passed
}

// heard takes in a frame of settings or a window update, which it may change, and returns whether it is passed on. flaw: it
// makes a window larger than there can be, which ends the connection (sections 6.9.1 and 6.9.2).
func (c *Conn) heard(f head, payload []byte) (pass, flaw bool) {
	c.mu.Lock()
	defer c.unlock()
	if c.leaving {
		return false, false
	}
	if f.kind == frameSettings {
		c.stir()
		c.told.set(payload)
		c.told.owes = true
		return true, !c.resize(payload)
	}
	more := int64(binary.BigEndian.Uint32(payload) & math.MaxInt32)
	switch {
	case f.stream != 0:
		return c.grant(f.stream, more), false
	case more == 0:
		return true, false // an error, which net/http deals with
	}
	if c.avail += more; c.avail > largestWindow {
		c.avail -= more
		return false, true
	}
	c.moved = time.Since(c.start)
	if c.starved || len(c.held) > 0 {
		c.Wake()
	}
	makesUp := min(more, c.owed)
	c.owed -= makesUp
	if more -= makesUp; more <= 0 {
		return false, false
	}
	c.granted += more
	binary.BigEndian.PutUint32(payload, uint32(more))
	return true, false
}

// resize takes in settings, of which one changes the windows of all streams. It returns false where that makes one of an
// adopted stream larger than there can be. mu is held.
func (c *Conn) resize(settings []byte) (within bool) {
	for ; len(settings) >= 6; settings = settings[6:] {
		value := int64(binary.BigEndian.Uint32(settings[2:]))
		if binary.BigEndian.Uint16(settings) != settingWindow || value > largestWindow {
			continue
		}
		for _, s := range c.streams {
			if !s.grant(value - c.initial) {
				return false
			}
		}
		c.initial = value
		for _, s := range c.streams {
			c.ready(s)
		}
	}
	return true
}

// grant takes in an update of one stream's window, and returns whether it is net/http's. mu is held.
func (c *Conn) grant(id uint32, more int64) (pass bool) {
	s := c.streams[id]
	if s == nil {
		return true
	}
	switch within := s.grant(more); {
	case !s.adopted:
		return true
	case !within:
		c.flawed = append(c.flawed, s)
		c.Wake()
	default:
		c.ready(s)
	}
	return false
}

// ready tells the filler that s takes bytes, if it is its. mu is held.
func (c *Conn) ready(s *Stream) {
	if s.live && c.filler.Ready(s) {
		c.Wake()
	}
}
