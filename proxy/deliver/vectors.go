//go:build linux && !portable

package deliver

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"sidestream/proxy/stream"
)

// vectored is a batch as writev(2) takes it.
type vectored struct {
	batch
	vectors []unix.Iovec // of pre, then of events, as few as hold them
	pre     []byte       // goes before the events, for one client
}

// vectoreds are those of clients on their way into their shard.
var vectoreds = sync.Pool{New: func() any { return new(vectored) }}

// load reads ring after cursor, in a form.
func (b *vectored) load(ring *stream.Ring, cursor uint64, as form) {
	b.batch.load(ring, cursor, as)
	b.point()
}

// zip is batch's.
func (b *vectored) zip() {
	if b.batch.zip() {
		b.point()
	}
}

// point sets the vectors.
func (b *vectored) point() {
	clear(b.vectors)
	b.vectors, b.pre = append(b.vectors[:0], unix.Iovec{}), nil // the first is for pre
	for _, e := range b.events {
		if len(e) == 0 {
			continue
		}
		v := vector(e)
		if last := &b.vectors[len(b.vectors)-1]; last.Base != nil && end(last) == uintptr(unsafe.Pointer(v.Base)) {
			last.SetLen(int(last.Len) + len(e)) // the ring puts one event after the other
			continue
		}
		b.vectors = append(b.vectors, v)
	}
}

// forget makes b hold nothing: the ring has grown.
func (b *vectored) forget() {
	if b.ring == nil {
		return
	}
	b.batch.forget()
	clear(b.vectors)
	b.vectors, b.pre = b.vectors[:0], nil
}

// prepend has pre written before the events.
func (b *vectored) prepend(pre []byte) {
	b.pre, b.vectors[0] = pre, vector(pre)
}

func vector(p []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(p)}
	v.SetLen(len(p))
	return v
}

// end is the address after v.
func end(v *unix.Iovec) uintptr { return uintptr(unsafe.Pointer(v.Base)) + uintptr(v.Len) }

// write writes b to where it does not block. It returns how many events were taken, and the rest of the one that
// a part was taken of; everything before that is written, or waits sealed. err is EAGAIN when nothing was taken. Where b leaps its first event is
// taken in any case.
func (b *vectored) write(to outlet) (took uint64, rest []byte, err error) {
	took, rest, err = b.put(to)
	if took == 0 && (err == nil || err == unix.EAGAIN) && b.leaps() {
		return 1, following(rest, b.events[0]), nil
	}
	return took, rest, err
}

// put writes what is taken of b.
func (b *vectored) put(to outlet) (took uint64, rest []byte, err error) {
	vectors := b.vectors
	if len(b.pre) == 0 {
		vectors = vectors[1:]
	}
	if len(vectors) == 0 {
		return 0, nil, nil
	}
	n, err := to.vectors(vectors)
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

// writeBytes is write(2) with the same rules as vectored.write.
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
