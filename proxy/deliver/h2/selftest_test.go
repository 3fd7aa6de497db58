package h2

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

// TestCheck: this is the net/http that it builds on.
func TestCheck(t *testing.T) {
	if err := Check(); err != nil {
		t.Fatal(err)
	}
}

// altered is what net/http would have below it if it wrote or read something else.
type altered struct {
	net.Conn
	write, read func([]byte) []byte
	rest        []byte
}

func (a *altered) Write(p []byte) (int, error) {
	if a.write == nil {
		return a.Conn.Write(p)
	}
	_, err := a.Conn.Write(a.write(p))
	return len(p), err
}

func (a *altered) Read(p []byte) (int, error) {
	if a.read == nil {
		return a.Conn.Read(p)
	}
	if len(a.rest) == 0 {
		b := make([]byte, 4096)
		n, err := a.Conn.Read(b)
		if a.rest = a.read(b[:n]); err != nil {
			return 0, err
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// writing is a net/http whose frames of one stream, by their heads, are something else.
func writing(stream uint32, alter func(f *head, payload *[]byte) (drop bool)) func(net.Conn) net.Conn {
	return func(c net.Conn) net.Conn {
		var rest []byte
		return &altered{Conn: c, write: func(p []byte) (out []byte) {
			rest = append(rest, p...)
			for {
				if len(rest) < headSize {
					return out
				}
				f := readHead(rest)
				if len(rest) < headSize+f.size {
					return out
				}
				payload := rest[headSize : headSize+f.size]
				rest = rest[headSize+f.size:]
				if f.stream == stream && alter(&f, &payload) {
					continue
				}
				f.size = len(payload)
				out = append(f.append(out), payload...)
			}
		}}
	}
}

// TestCheckNoticesChanges: whatever of net/http is not as it was is named, and nothing is left behind.
func TestCheckNoticesChanges(t *testing.T) {
	asIs := func(c net.Conn) net.Conn { return c }
	for name, c := range map[string]struct {
		id      func(http.ResponseWriter) uint32
		between func(net.Conn) net.Conn
		want    string
	}{
		"no stream":      {func(http.ResponseWriter) uint32 { return 0 }, asIs, "the head of an answer that goes on"},
		"another stream": {func(w http.ResponseWriter) uint32 { return StreamID(w) + 2 }, asIs, "the head of an answer that goes on"},
		"the end in the head": {StreamID, writing(1, func(f *head, _ *[]byte) bool {
			f.flags |= flagEndStream
			return f.kind == frameData
		}), "the head of an answer that goes on"},
		"no end": {StreamID, writing(1, func(f *head, _ *[]byte) bool { return f.kind == frameData }), "what is written to an adopted stream: nothing"},
		"a reset instead": {StreamID, writing(1, func(f *head, payload *[]byte) bool {
			if f.kind == frameData {
				f.kind, f.flags, *payload = frameReset, 0, []byte{0, 0, 0, 8}
			}
			return false
		}), "what is written to an adopted stream"},
		"more streams": {StreamID, writing(0, func(f *head, payload *[]byte) bool {
			for p := *payload; f.kind == frameSettings && len(p) >= 6; p = p[6:] {
				if p[1] == settingStreams {
					p[5]++
				}
			}
			return false
		}), "the number of streams"},
		"no stream error": {StreamID, writing(5, func(f *head, _ *[]byte) bool { return f.kind == frameReset }), "a stream error"},
		"any window":      {StreamID, writing(0, func(f *head, _ *[]byte) bool { return f.kind == frameGoAway }), "whose window is too large: nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := check(c.id, c.between)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v; want %s", err, c.want)
				}
			})
		})
	}
}

// TestCheckParking: this is the net/http that parking builds on.
func TestCheckParking(t *testing.T) {
	if err := CheckParking(); err != nil {
		t.Fatal(err)
	}
}
