package deliver

import (
	"context"
	"io"

	"sidestream/proxy/stream"
)

// Copy writes to w what ring has after at, gaps included, until the ring ends or ctx is done; it returns how it ended, Open
// with ctx. It is a client's answer without what is there for the sake of the connection. It fails when w does.
func Copy(ctx context.Context, ring *stream.Ring, at uint64, w io.Writer) (stream.End, error) {
	wake := make(chan struct{}, 1)
	defer ring.Watch(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})()
	c, f := cursor{at: at}, facts{ring: ringGrown}
	var a action
	var b batch
	for {
		switch a = c.next(&f); a.do {
		case doRead:
			b.load(ring, c.at, formPlain)
			b.tell(&f)
		case doWrite:
			if err := writeAll(w, speech{ring: ring}.append(nil, a.say, c, &f), b.events); err != nil {
				return stream.End{}, err
			}
			c.took(&f, uint64(len(b.events)))
			f.written()
		case doLast:
			return f.end, nil // a hint would be for a connection
		default:
			select {
			case <-wake:
				f = facts{ring: ringGrown}
			case <-ctx.Done():
				return stream.End{}, nil
			}
		}
	}
}

func writeAll(w io.Writer, words []byte, events [][]byte) error {
	if len(words) > 0 {
		if _, err := w.Write(words); err != nil {
			return err
		}
	}
	for _, e := range events {
		if _, err := w.Write(e); err != nil {
			return err
		}
	}
	return nil
}
