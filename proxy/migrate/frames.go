// This file takes one direction of a WebSocket apart (RFC 6455, section 5; RFC 7692). A frame is
//
//	byte 0    FIN, RSV1 (compressed), RSV2, RSV3, opcode: 0 goes on, 1 text, 2 binary, 8 close, 9 ping, 10 pong
//	byte 1    MASK, length: 126 and 127 mean that 2 or 8 bytes of length follow
//	0, 2, 8   the length
//	0, 4      the mask, from clients
//	the rest  payload
//
// What is wrong in it is the peers' own to find: from there on nothing more is told.

package migrate

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	opContinue = 0
	opText     = 1
	opBinary   = 2
	opClose    = 8
	opLost     = 16 // none of the protocol's: what comes from here on cannot be read
)

// window is how far back deflate refers (RFC 1951, section 2).
const window = 32 << 10

// frames reads one direction. It is used by one goroutine.
type frames struct {
	most    int  // bytes of a message, before and after it is inflated
	deflate bool // permessage-deflate was agreed on
	keeps   bool // and each message may refer to those before it
	// tell is given each message, and the close frame's payload. data is valid during the call; nil and skipped: it was over most, or
	// could not be read.
	tell func(opcode byte, data []byte, skipped bool)

	deaf *atomic.Bool // nobody wants to be told of more than the end; nil: somebody does

	lost bool // nothing more can be told
	said bool // and tell was told so, by opLost

	head  [14]byte
	have  int    // bytes of head
	left  uint64 // bytes of the payload that are to come
	mask  [4]byte
	at    int // in mask
	masks bool
	op    byte // of this frame
	fin   bool

	message    byte // opcode of the message that is under way; 0: none
	compressed bool
	skips      bool // it is over most
	data       []byte
	control    []byte // payload of a close frame
	past       []byte // the end of what was inflated, where keeps
}

// write takes the next bytes.
func (f *frames) write(p []byte) {
	for len(p) > 0 && !f.lost {
		if f.left == 0 {
			p = f.begin(p)
			continue
		}
		n := min(uint64(len(p)), f.left)
		f.take(p[:n])
		p = p[n:]
		if f.left -= n; f.left == 0 {
			f.end()
		}
	}
	if f.lost && !f.said {
		f.said = true
		if f.op != opClose {
			f.tell(opLost, nil, true)
		}
	}
}

// begin reads the head of a frame, and returns what follows of it.
func (f *frames) begin(p []byte) []byte {
	want := f.headSize()
	n := copy(f.head[f.have:want], p)
	f.have += n
	if f.have < want || f.headSize() > want {
		return p[n:]
	}
	f.have = 0
	f.open()
	if f.left == 0 && !f.lost {
		f.end()
	}
	return p[n:]
}

// headSize is how long the head is, as far as is known.
func (f *frames) headSize() int {
	if f.have < 2 {
		return 2
	}
	size := 2
	switch f.head[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if f.head[1]&0x80 != 0 {
		size += 4
	}
	return size
}

// open begins a frame whose head is whole.
func (f *frames) open() {
	f.op, f.fin, f.masks, f.at = f.head[0]&0x0f, f.head[0]&0x80 != 0, f.head[1]&0x80 != 0, 0
	rest := f.head[2:]
	switch n := f.head[1] & 0x7f; n {
	case 126:
		f.left, rest = uint64(binary.BigEndian.Uint16(rest)), rest[2:]
	case 127:
		f.left, rest = binary.BigEndian.Uint64(rest), rest[8:]
	default:
		f.left = uint64(n)
	}
	if f.masks {
		copy(f.mask[:], rest)
	}
	switch {
	case f.op >= opClose:
		f.control = f.control[:0]
		f.lost = f.left > 125 || !f.fin
	case f.op == opContinue:
		f.lost = f.message == 0
	default:
		f.lost = f.message != 0
		f.message, f.compressed, f.skips, f.data = f.op, f.head[0]&0x40 != 0, false, f.data[:0]
		f.lost = f.lost || f.compressed && !f.deflate
	}
	f.lost = f.lost || f.head[0]&0x30 != 0 || f.left > 1<<62
}

// take takes a part of a payload.
func (f *frames) take(p []byte) {
	to := &f.data
	switch {
	case f.op > opClose:
		return
	case f.op == opClose:
		to = &f.control
	case f.skips || f.isDeaf():
		return
	case len(f.data)+len(p) > f.room():
		f.skips = true
		return
	}
	from := len(*to)
	*to = append(*to, p...)
	if f.masks {
		for i := range p {
			(*to)[from+i] ^= f.mask[f.at&3]
			f.at++
		}
	}
}

// room is how many bytes a message may have as it is sent: what cannot be compressed is a little larger than it was (RFC 1951, section 3.2.4).
func (f *frames) room() int {
	if f.compressed {
		return f.most + f.most>>10 + 64
	}
	return f.most
}

// end is the end of a frame.
func (f *frames) end() {
	switch {
	case f.op == opClose:
		f.lost = true // nothing comes after it
		f.tell(opClose, f.control, false)
		return
	case f.op > opClose || !f.fin:
		return
	}
	op, data := f.message, f.data
	f.message = 0
	if f.isDeaf() {
		f.keeps, f.data, f.past = false, nil, nil
		return
	}
	if !f.skips && f.compressed {
		data, f.skips = f.inflated()
	}
	if f.skips {
		data = nil
		f.lost = f.lost || f.compressed && f.keeps // what comes refers to it
	}
	f.tell(op, data, f.skips)
	if cap(f.data) > 64<<10 { // one large message is not kept for the life of the connection
		f.data = nil
	}
}

func (f *frames) isDeaf() bool { return f.deaf != nil && f.deaf.Load() }

// tail ends what a message is compressed to: the four bytes that RFC 7692 (section 7.2.2) leaves out, and an empty last block.
var tail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// inflaters are what inflates one message, while it does. They are large.
var inflaters = sync.Pool{New: func() any { return &inflater{r: flate.NewReader(strings.NewReader(""))} }}

type inflater struct {
	r   io.ReadCloser
	out bytes.Buffer
}

// inflated is the message without its compression, valid until the next one; skipped where it is too large or damaged.
func (f *frames) inflated() (data []byte, skipped bool) {
	in := inflaters.Get().(*inflater)
	defer inflaters.Put(in)
	in.out.Reset()
	_ = in.r.(flate.Resetter).Reset(io.MultiReader(bytes.NewReader(f.data), strings.NewReader(tail)), f.past) // it never fails
	_, err := in.out.ReadFrom(io.LimitReader(in.r, int64(f.most)+1))
	if err != nil || in.out.Len() > f.most {
		in.out = bytes.Buffer{}
		return nil, true
	}
	if f.keeps {
		f.remember(in.out.Bytes())
	}
	f.data = append(f.data[:0], in.out.Bytes()...)
	return f.data, false
}

// remember keeps the end of what was inflated.
func (f *frames) remember(out []byte) {
	out = out[max(len(out)-window, 0):]
	if over := len(f.past) + len(out) - window; over > 0 {
		f.past = f.past[:copy(f.past, f.past[over:])]
	}
	f.past = append(f.past, out...)
}

// agreed is what an answer to an upgrade says of compression: whether there is any, and whether the messages of each side refer to those before.
func agreed(extensions []string) (deflate, server, client bool) {
	for _, one := range strings.Split(strings.Join(extensions, ","), ",") {
		parts := strings.Split(one, ";")
		if !strings.EqualFold(strings.TrimSpace(parts[0]), "permessage-deflate") {
			continue
		}
		deflate, server, client = true, true, true
		for _, p := range parts[1:] {
			switch strings.ToLower(strings.TrimSpace(p)) {
			case "server_no_context_takeover":
				server = false
			case "client_no_context_takeover":
				client = false
			}
		}
		return deflate, server, client
	}
	return false, false, false
}
