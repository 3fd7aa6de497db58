//go:build linux && !portable

// This file is TLS below a shard: crypto/tls is all of it, and here it is a codec. The rules:
//
//   - A connection's handshake and the head of its request are read as ever, by net/http in the end. What its [tls.Conn] has for a connection is
//     a sealed, which then is net's. Once a shard has the client, it is the descriptor: it neither waits nor has a deadline.
//   - What a client is told becomes records of 16 KiB at most, one at a time, and each goes to the socket as it is made. The
//     next one is made when the socket has taken all of that: a client that does not read has a part of one record waiting.
//   - A client has nothing to say any more but that it leaves, or that keys change. It is heard for so many bytes; whatever more there is
//     stays in the kernel, where all of it stays that a client in clear says.
//   - What the library has read into is let go of: for most that is all there is until the end.

package deliver

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	recordMost = 16 << 10 // bytes of a record (RFC 8446, section 5.1)
	heardMost  = 16 << 10 // bytes that a client is heard for
)

// sealed is the connection below a [tls.Conn]. One goroutine uses it, once it is taken.
type sealed struct {
	net.Conn           // parted once it is taken
	tls      *tls.Conn // nil: it is not taken
	fd       int32     // with tls
	heard    int32     // bytes that were read of fd
	rest     []byte    // of what was sealed, for a socket that took no more
}

// parted is what is left of a connection whose descriptor is a shard's.
var parted = func() net.Conn {
	c, _ := net.Pipe()
	c.Close()
	return c
}()

// take makes t, whose connection secure is, a shard's that writes to fd. What it was is for the caller to close.
func (t *sealed) take(secure *tls.Conn, fd int) { t.Conn, t.tls, t.fd = parted, secure, int32(fd) }

// NetConn is the connection below.
func (t *sealed) NetConn() net.Conn { return t.Conn }

// Read is net.Conn's. There is nothing more to read for now where the error is one of time: crypto/tls takes no other for passing.
func (t *sealed) Read(p []byte) (int, error) {
	if t.tls == nil {
		return t.Conn.Read(p)
	}
	p = p[:min(len(p), heardMost-int(t.heard))]
	if len(p) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n, errno := receive(t.fd, unsafe.Pointer(unsafe.SliceData(p)), len(p), 0)
	switch {
	case errno == unix.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	}
	t.heard += int32(n)
	return n, nil
}

// Write is net.Conn's. What the socket does not take waits in rest.
func (t *sealed) Write(p []byte) (int, error) {
	if t.tls == nil {
		return t.Conn.Write(p)
	}
	left := p
	if len(t.rest) == 0 {
		n, err := writeBytes(int(t.fd), p)
		if err != nil && err != unix.EAGAIN {
			return 0, err
		}
		left = p[n:]
	}
	if len(left) > 0 {
		t.rest = append(t.rest, left...)
	}
	return len(p), nil
}

// waits reports whether something waits for the socket.
func (t *sealed) waits() bool { return len(t.rest) > 0 }

// flush writes what waits. err is EAGAIN while not all of it has left.
func (t *sealed) flush() error {
	n, err := writeBytes(int(t.fd), t.rest)
	if err != nil {
		return err
	}
	if t.rest = t.rest[n:]; len(t.rest) > 0 {
		return unix.EAGAIN
	}
	t.rest = nil
	return nil
}

// write seals v and writes it. It returns how many of the bytes have left, or wait.
func (t *sealed) write(v []unix.Iovec) (n int, err error) {
	p := pieces{v: v}
	buffer := records.Get().(*[recordMost]byte)
	defer records.Put(buffer)
	for !t.waits() {
		record := p.next(buffer)
		if len(record) == 0 {
			break
		}
		if _, err := t.tls.Write(record); err != nil {
			return n, cause(err)
		}
		n += len(record)
	}
	return n, nil
}

// cause is what a socket has said, where it was a socket.
func cause(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// hear takes in what the client has said. An error is that it has left, or may as well have.
func (t *sealed) hear() error {
	buffer := records.Get().(*[recordMost]byte)
	defer records.Put(buffer)
	for {
		_, err := t.tls.Read(buffer[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			letGo(t.tls)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// bye sends close_notify (RFC 8446, section 6.1): nothing more comes. Called once. What the socket does not take of it waits, as what is sealed does.
func (t *sealed) bye() { t.tls.CloseWrite() }

// kept is where a [tls.Conn] (go 1.26.8) has what it has read, and had at the handshake: some 4 KiB. It is nowhere where a release of Go has
// something else there: then it stays.
var kept = func() (at []uintptr) {
	for _, name := range []string{"rawInput", "hand"} {
		if f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name); ok && f.Type == reflect.TypeFor[bytes.Buffer]() {
			at = append(at, f.Offset)
		}
	}
	return at
}()

// letGo lets go of the buffers of c that nothing is in. Nobody reads it meanwhile.
func letGo(c *tls.Conn) {
	for _, at := range kept {
		if b := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), at)); b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
}

// records are what is put together for a record, or read from one.
var records = sync.Pool{New: func() any { return new([recordMost]byte) }}

// pieces are bytes that are to be sealed.
type pieces struct {
	v  []unix.Iovec // which others have too
	at int          // in the first
}

// next takes the next record's: where they lie in one piece, as they are there, and else put together in buffer.
func (p *pieces) next(buffer *[recordMost]byte) []byte {
	first := p.take(recordMost)
	if len(first) == recordMost || len(p.v) == 0 {
		return first
	}
	n := copy(buffer[:], first)
	for n < recordMost && len(p.v) > 0 {
		n += copy(buffer[n:], p.take(recordMost-n))
	}
	return buffer[:n]
}

// take takes so many bytes, at most, off the first piece.
func (p *pieces) take(most int) []byte {
	if len(p.v) == 0 {
		return nil
	}
	b := unsafe.Slice(p.v[0].Base, p.v[0].Len)[p.at:]
	if len(b) > most {
		p.at += most
		return b[:most]
	}
	p.v, p.at = p.v[1:], 0
	return b
}

// outlet is where a client's bytes go.
type outlet struct {
	fd   int
	seal *sealed // nil: in clear
}

// vectors writes v. It returns how many bytes have left, or wait sealed; err is EAGAIN when the socket took nothing.
func (o outlet) vectors(v []unix.Iovec) (int, error) {
	if o.seal != nil {
		return o.seal.write(v)
	}
	return writeVectors(o.fd, v)
}

// bytes is vectors of one piece.
func (o outlet) bytes(p []byte) (int, error) {
	if o.seal == nil || len(p) == 0 {
		return writeBytes(o.fd, p)
	}
	return o.seal.write([]unix.Iovec{vector(p)})
}

// waits reports whether something waits sealed.
func (o outlet) waits() bool { return o.seal != nil && o.seal.waits() }
