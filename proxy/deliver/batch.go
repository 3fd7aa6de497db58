//go:build linux && !portable

package deliver

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"sidestream/proxy/stream"
	"sidestream/translate"
	"sidestream/translate/sse"
)

// mostVectors is how many events one write may take: IOV_MAX, but for what goes before them.
const mostVectors = 1023

// batch is what a ring has behind a cursor, ready to be written to any number of clients that stand there.
type batch struct {
	ring       *stream.Ring // nil: nothing is loaded
	asked      uint64       // the cursor that it was read behind
	from, next uint64
	missed     uint64
	end        stream.End
	more       bool // the ring has more behind next
	flags      uint16
	events     [][]byte
	size       int          // bytes of events
	vectors    []unix.Iovec // of pre, then of events, as few as hold them
	pre        []byte       // goes before the events, for one client
}

// load reads ring behind cursor, framed for clients with flags.
func (b *batch) load(ring *stream.Ring, cursor uint64, flags uint16) {
	b.ring, b.asked = ring, cursor
	read := ring.Chunks
	if flags&isOld != 0 {
		read = ring.After
	}
	clear(b.events) // what the ring lets go of is not to live on here
	b.events, b.next, b.missed, b.end = read(b.events[:0], cursor)
	b.flags, b.more = flags&isOld, false
	if n := len(b.events); n > mostVectors {
		b.events, b.next, b.end, b.more = b.events[:mostVectors], b.next-uint64(n-mostVectors), stream.End{}, true
	}
	b.from = b.next - uint64(len(b.events))
	if last, _ := ring.Last(); !stream.Pending(b.next) && b.next < last {
		b.more = true
	}
	b.vectors, b.size = append(b.vectors[:0], unix.Iovec{}), 0 // the first is for pre
	for _, e := range b.events {
		b.size += len(e)
		v := vector(e)
		if last := &b.vectors[len(b.vectors)-1]; last.Base != nil && end(last) == uintptr(unsafe.Pointer(v.Base)) {
			last.SetLen(int(last.Len) + len(e)) // the ring puts one event behind the other
			continue
		}
		b.vectors = append(b.vectors, v)
	}
	b.pre = nil
}

// fits says whether b is what a client that stands at cursor needs. It is only for those who stand where it was read
// from: what a beginner gets may be a piece that stands in for the past, which is not for who has that.
func (b *batch) fits(cursor uint64, flags uint16) bool {
	return b.missed == 0 && b.asked == cursor && b.flags == flags&isOld && !stream.Pending(b.next)
}

// forget makes b hold nothing: the ring has grown.
func (b *batch) forget() {
	clear(b.events)
	clear(b.vectors)
	*b = batch{events: b.events[:0], vectors: b.vectors[:0]}
}

// bytes is the size of the first so many events.
func (b *batch) bytes(events uint64) int {
	if events == uint64(len(b.events)) {
		return b.size
	}
	size := 0
	for _, e := range b.events[:events] {
		size += len(e)
	}
	return size
}

// preface is what a client with flags is told before b, framed; nil for nothing: what is missing, which is counted as
// said, or where it stands. It has been told then, see told.
func (b *batch) preface(ring *stream.Ring, flags uint16) []byte {
	reason, missed := translate.GapEvicted, int64(b.missed)
	switch {
	case stream.Pending(b.next):
		return nil // the history is awaited
	case flags&isLost != 0:
		reason, missed = translate.GapRestart, -1
	case missed == 0 && flags&isNew != 0 && len(b.events) == 0 && stays(b.end):
		return frame(nil, flags, sse.AppendOpen(nil, ring.Place(b.from)))
	case missed == 0:
		return nil
	}
	ring.CountGap(reason)
	return frame(nil, flags, sse.AppendGap(nil, ring.Position(b.from), reason, missed))
}

// told is what remains of flags once a client has been given b and its preface.
func (b *batch) told(flags uint16) uint16 {
	if stream.Pending(b.next) {
		return flags
	}
	return flags &^ (isLost | isNew)
}

// prepend has pre written before the events.
func (b *batch) prepend(pre []byte) {
	b.pre, b.vectors[0] = pre, vector(pre)
}

func vector(p []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(p)}
	v.SetLen(len(p))
	return v
}

// end is the address behind v.
func end(v *unix.Iovec) uintptr { return uintptr(unsafe.Pointer(v.Base)) + uintptr(v.Len) }

// leaps says that b does not go on at the place that it was read behind. Its first event may be a piece that stands in for
// the past, which nobody who is said to stand at b.from would get.
func (b *batch) leaps() bool { return b.asked != b.from && len(b.events) > 0 }

// write writes b to fd, which does not block. It returns how many events the socket took, and the rest of the one that
// it took a part of; everything before that has gone. err is EAGAIN when it took nothing. Where b leaps its first event is
// taken in any case.
func (b *batch) write(fd int) (took uint64, rest []byte, err error) {
	took, rest, err = b.put(fd)
	if took == 0 && (err == nil || err == unix.EAGAIN) && b.leaps() {
		return 1, following(rest, b.events[0]), nil
	}
	return took, rest, err
}

// following is p with e behind it.
func following(p, e []byte) []byte {
	if len(p) == 0 {
		return e
	}
	return append(p[:len(p):len(p)], e...)
}

// put writes what fd takes of b.
func (b *batch) put(fd int) (took uint64, rest []byte, err error) {
	vectors := b.vectors
	if len(b.pre) == 0 {
		vectors = vectors[1:]
	}
	if len(vectors) == 0 {
		return 0, nil, nil
	}
	n, err := writeVectors(fd, vectors)
	if err != nil {
		if err == unix.EAGAIN && len(b.pre) > 0 {
			return 0, b.pre, nil
		}
		return 0, nil, err
	}
	if len(b.pre) > 0 {
		if n < len(b.pre) {
			return 0, b.pre[n:], nil
		}
		n -= len(b.pre)
	}
	for _, e := range b.events {
		switch {
		case n == 0:
			return took, nil, nil
		case n < len(e):
			return took + 1, e[n:], nil
		}
		n -= len(e)
		took++
	}
	return took, nil, nil
}

// writeVectors is writev(2), or write(2) for one.
func writeVectors(fd int, v []unix.Iovec) (int, error) {
	if len(v) == 1 {
		return rawWrite(unix.SYS_WRITE, fd, unsafe.Pointer(v[0].Base), int(v[0].Len))
	}
	return rawWrite(unix.SYS_WRITEV, fd, unsafe.Pointer(unsafe.SliceData(v)), len(v))
}

// writeBytes is write(2) with the same rules as batch.write.
func writeBytes(fd int, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return rawWrite(unix.SYS_WRITE, fd, unsafe.Pointer(unsafe.SliceData(p)), len(p))
}

// rawWrite calls the kernel past the runtime: the descriptors are non-blocking, so it need not find another thread for
// the other goroutines meanwhile.
func rawWrite(call uintptr, fd int, from unsafe.Pointer, n int) (int, error) {
	for {
		wrote, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(from), uintptr(n))
		switch errno {
		case 0:
			return int(wrote), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
