// This file is net/http's time with a connection. It is there from the start, leaves a connection that it has nothing to do with (parked.go), and is
// called back with a request. The rules:
//
//   - The client sees nothing of either. What net/http says of itself each time stays here: the client has heard it.
//   - It takes up where the last one has left: it is told the client's settings and the fields that its heads refer to, that every stream up to
//     the newest has ended, and that the client has as much of each window as it has.

package h2

import (
	"encoding/binary"
	"math"
	"net"
	"slices"
	"sync/atomic"
	"time"
)

// Visit is a connection as net/http has it, from when it comes until it leaves.
type Visit struct {
	*Conn
	over atomic.Bool // it is to leave, or has left
}

// Read is net/http's: it gets the frames that are for it, and the end of the connection once it is to leave.
func (v *Visit) Read(p []byte) (int, error) { return v.Conn.read(v, p) }

// Write is net/http's: its frames are passed on, whole ones at a time, and those of a head together.
func (v *Visit) Write(p []byte) (int, error) {
	if v.over.Load() {
		return len(p), nil // GOAWAY
	}
	return v.Conn.write(p)
}

// Close is net/http's.
func (v *Visit) Close() error {
	if v.over.Load() {
		return nil
	}
	return v.Conn.Close()
}

// SetDeadline and the following are net/http's.
func (v *Visit) SetDeadline(t time.Time) error { return v.unlessOver(v.Conn.Conn.SetDeadline, t) }

func (v *Visit) SetReadDeadline(t time.Time) error {
	return v.unlessOver(v.Conn.Conn.SetReadDeadline, t)
}

func (v *Visit) SetWriteDeadline(t time.Time) error {
	return v.unlessOver(v.Conn.Conn.SetWriteDeadline, t)
}

func (v *Visit) unlessOver(set func(time.Time) error, t time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.over.Load() {
		return net.ErrClosed
	}
	return set(t)
}

// told is what of a client's words net/http is told when it is called back. It is guarded by mu, but for the table, which is the reader's.
type told struct {
	settings []setting
	shrunk   uint32 // the smallest table that the client has asked net/http to use
	table    table
	block    block
	credit   int64 // what the client may send of bodies on the connection
	acked    bool  // the client has acknowledged net/http's settings
	owes     bool  // net/http has not acknowledged the client's
	replies  int   // to PINGs that net/http owes
}

// says takes in a frame of net/http's.
func (d *told) says(f head, payload []byte) {
	switch {
	case f.kind == framePing && f.flags&flagAck != 0:
		d.replies--
	case f.kind == frameSettings && f.flags&flagAck != 0:
		d.owes = false
	case f.kind == frameWindowUpdate && f.stream == 0 && len(payload) == 4:
		d.credit += int64(binary.BigEndian.Uint32(payload) & math.MaxInt32)
	}
}

// setting is one of the client's (section 6.5.2).
type setting struct {
	id    uint16
	value uint32
}

const settingsMost = 6 // of those that net/http takes any notice of

// set remembers settings.
func (d *told) set(payload []byte) {
	for ; len(payload) >= 6; payload = payload[6:] {
		s := setting{binary.BigEndian.Uint16(payload), binary.BigEndian.Uint32(payload[2:])}
		if s.id == 0 || s.id > settingsMost {
			continue
		}
		i := slices.IndexFunc(d.settings, func(had setting) bool { return had.id == s.id })
		if s.id == settingTable && (i < 0 || s.value < d.shrunk) {
			d.shrunk = s.value
		}
		if i < 0 {
			d.settings = append(d.settings, s)
			continue
		}
		d.settings[i] = s
	}
}

// append appends the client's settings, in the frames that they take. A table that was to be smaller for a while is said to be that again: the next head
// must say so, if none has yet, and may say so anyway (RFC 7541, section 4.2).
func (d *told) append(dst []byte) []byte {
	for _, s := range d.settings {
		if s.id == settingTable && d.shrunk < s.value {
			dst = setting{s.id, d.shrunk}.append(head{6, frameSettings, 0, 0}.append(dst))
		}
	}
	dst = head{6 * len(d.settings), frameSettings, 0, 0}.append(dst)
	for _, s := range d.settings {
		dst = s.append(dst)
	}
	return dst
}

func (s setting) append(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, s.id), s.value)
}

// block is the fragment of a head's block that a frame has, among its padding and priority (sections 6.2 and 6.10).
type block struct {
	open   bool // the head goes on in another frame
	within bool // a frame that has one
	padded bool // what comes next is how much padding there is
	skip   int  // bytes of priority before it
	left   int  // bytes of it, with the padding
	pad    int  // bytes of padding
}

// begins takes in the head of a frame.
func (b *block) begins(f head) {
	*b = block{open: b.open, within: f.kind == frameHeaders || f.kind == frameContinuation, left: f.size}
	if b.within {
		b.open = f.flags&flagEndHeaders == 0
	}
	if f.kind != frameHeaders {
		return
	}
	b.padded = f.flags&flagPadded != 0
	if f.flags&flagPriority != 0 {
		b.skip = 5
	}
}

// goesOn takes in some of the frame's payload, of which t gets what is its.
func (b *block) goesOn(p []byte, t *table) {
	if !b.within || len(p) == 0 {
		return
	}
	if b.padded {
		b.padded, b.pad = false, int(p[0])
		p, b.left = p[1:], b.left-1
	}
	n := min(b.skip, len(p))
	p, b.skip, b.left = p[n:], b.skip-n, b.left-n
	n = min(len(p), max(b.left-b.pad, 0))
	t.write(p[:n])
	b.left -= len(p)
}

// between is whether the client is between two heads, and what the table has is known.
func (d *told) between() bool { return !d.block.open && d.table.whole() }

// settling is what a net/http that has come says at first, and the client is not to hear.
type settling struct {
	resets int    // that are still to come
	stream uint32 // which they are of
}

// comes has net/http be there again. What it reads first is queued, before anything that the client says. mu is held, and nobody reads.
func (c *Conn) comes(v *Visit) {
	c.visit, c.parked = v, false
	first := c.told.append([]byte(Preface))
	first = head{0, frameSettings, flagAck, 0}.append(first)
	c.granted = max(c.avail, firstWindow)
	c.owed = c.granted - c.avail
	if more := c.granted - firstWindow; more > 0 {
		first = binary.BigEndian.AppendUint32(head{4, frameWindowUpdate, 0, 0}.append(first), uint32(more))
	}
	// The table's fields are a head that is none, as it has a name in capitals: their stream gets an error. That of the second, after which net/http
	// takes every stream so far for an ended one, is for depending on itself (see refuse).
	block := append(c.told.table.appendBlock(nil), 0x00, 1, 'X', 0)
	first = append(head{len(block), frameHeaders, flagEndStream | flagEndHeaders, c.newest}.append(first), block...)
	last := binary.BigEndian.AppendUint32(nil, c.newest)
	last = append(last, 0)
	last = append(last, selfRoot...)
	first = append(head{len(last), frameHeaders, flagEndStream | flagEndHeaders | flagPriority, c.newest}.append(first), last...)
	c.queued, c.settling = first, settling{2, c.newest}
	c.stir()
}

// settled waits until net/http, where it has just come, has said what the client is not to hear.
func (c *Conn) settled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.settling.resets > 0 && !c.closed {
		c.room.Wait()
	}
}

// settles takes in a frame of a net/http that has just come, and returns whether the client is to hear it. With makeUp it is to hear that instead.
// mu is held.
func (c *Conn) settles(f head, payload []byte) (passes bool, makeUp []byte) {
	switch {
	case f.kind == frameSettings:
		return false, nil
	case f.kind == frameWindowUpdate && f.stream == 0 && len(payload) == 4:
		// The last one had granted as much, some of which the client has used, and it has not granted again.
		more := firstWindow + int64(binary.BigEndian.Uint32(payload)) - c.told.credit
		if more <= 0 {
			return false, nil
		}
		c.told.credit += more
		return false, binary.BigEndian.AppendUint32(head{4, frameWindowUpdate, 0, 0}.append(nil), uint32(more))
	case f.kind == frameReset && f.stream == c.settling.stream:
		if c.settling.resets--; c.settling.resets == 0 {
			c.room.Broadcast()
		}
		return false, nil
	}
	return true, nil
}
