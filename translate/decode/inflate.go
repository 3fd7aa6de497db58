package decode

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"sync"
)

var (
	errShort    = errors.New("it is cut short")
	errTrailing = errors.New("something follows it")
)

// readers are what can be used again, as each has tables and a window of some 40 KiB.
var readers = map[Step]*sync.Pool{Gzip: {}, Zlib: {}, Deflate: {}}

// inflated is data without its compression.
func inflated(step Step, data []byte, bound int) (out []byte, err error) {
	from := bytes.NewReader(data) // which has ReadByte, so that nothing is read ahead of the end
	defer from.Reset(nil)         // a reader that is kept shall keep no message
	r, err := reader(step, from)
	if err == nil {
		out, err = readAll(r, len(data), bound)
		readers[step].Put(r)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errShort
	case err != nil:
		return nil, plain(err)
	case from.Len() > 0:
		return nil, errTrailing
	}
	return out, nil
}

// reader is one that has read the head of what from holds.
func reader(step Step, from io.Reader) (io.Reader, error) {
	used := readers[step].Get()
	switch step {
	case Gzip:
		if used != nil {
			return used.(io.Reader), used.(*gzip.Reader).Reset(from)
		}
		return gzip.NewReader(from)
	case Zlib:
		if used != nil {
			return used.(io.Reader), used.(zlib.Resetter).Reset(from, nil)
		}
		return zlib.NewReader(from)
	}
	if used != nil {
		return used.(io.Reader), used.(flate.Resetter).Reset(from, nil)
	}
	return flate.NewReader(from), nil
}

// plain makes a library's error one for logs.
func plain(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, ErrTooLarge):
		return err
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, zlib.ErrHeader):
		return errors.New("it, or what follows it, does not begin as that does")
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, zlib.ErrChecksum):
		return errors.New("its checksum is wrong")
	case errors.Is(err, zlib.ErrDictionary):
		return errors.New("it needs a dictionary, which nobody has")
	case errors.As(err, &corrupt):
		return errors.New("it is damaged")
	}
	return err
}

// readAll reads up to bound bytes of what size bytes were compressed from.
func readAll(r io.Reader, size, bound int) ([]byte, error) {
	out := make([]byte, 0, min(4*size+64, bound+1))
	for {
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case len(out) > bound:
			return nil, ErrTooLarge
		case err == io.EOF:
			return out, nil
		case err != nil:
			return nil, err
		case len(out) == cap(out):
			out = append(make([]byte, 0, min(2*cap(out), bound+1)), out...)
		}
	}
}
