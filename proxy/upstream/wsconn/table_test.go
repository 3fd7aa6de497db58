package wsconn

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// frame is one of a server's. flags are its FIN and RSV bits.
func frame(flags, op byte, payload string) string {
	b := []byte{flags | op}
	switch n := len(payload); {
	case n <= 125:
		b = append(b, byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return string(b) + payload
}

const (
	fin  = 0x80
	rsv1 = 0x40
)

// deflated is a message as a server compresses it that keeps its window.
type deflated struct {
	out bytes.Buffer
	w   *flate.Writer
}

func (d *deflated) message(text string) string {
	if d.w == nil {
		d.w, _ = flate.NewWriter(&d.out, flate.BestCompression)
	}
	d.out.Reset()
	io.WriteString(d.w, text)
	d.w.Flush()
	return strings.TrimSuffix(d.out.String(), "\x00\x00\xff\xff")
}

func alone(text string) string { return new(deflated).message(text) }

// server is the far end of a connection in memory, which says what it is given, and hears what it is sent.
type server struct {
	conn net.Conn
	mu   sync.Mutex
	sent bytes.Buffer // by the client
	done chan struct{}
}

// serve has a server say text in pieces of size bytes, 0: at once, and then nothing; cut: it ends the connection then.
func serve(text string, size int, cut bool, o Options) (*Conn, *server) {
	near, far := net.Pipe()
	s := &server{conn: far, done: make(chan struct{})}
	go func() { // ends with the connection
		defer close(s.done)
		io.Copy(lockedWriter{s}, far)
	}()
	go func() { // ends when all is read, or with the connection
		for at := 0; at < len(text); {
			end := len(text)
			if size > 0 {
				end = min(end, at+size)
			}
			if _, err := far.Write([]byte(text[at:end])); err != nil {
				return
			}
			at = end
		}
		if cut {
			far.Close()
		}
	}()
	return New(near, near, o), s
}

type lockedWriter struct{ s *server }

func (w lockedWriter) Write(p []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.sent.Write(p)
}

// heard are the frames that the client has sent, which must be whole, masked and final.
func (s *server) heard(t *testing.T) (all []string) {
	t.Helper()
	<-s.done
	b := s.sent.Bytes()
	for len(b) > 0 {
		if len(b) < 6 || b[0]&0xf0 != fin || b[1]&0x80 == 0 {
			t.Fatalf("the client has sent %x", b)
		}
		op, n := b[0]&0xf, int(b[1]&0x7f)
		b = b[2:]
		switch n {
		case 126:
			n = int(binary.BigEndian.Uint16(b))
			b = b[2:]
		case 127:
			n = int(binary.BigEndian.Uint64(b))
			b = b[8:]
		}
		mask, payload := b[:4], slices.Clone(b[4:4+n])
		for i := range payload {
			payload[i] ^= mask[i&3]
		}
		b = b[4+n:]
		name := map[byte]string{opText: "text", opBinary: "binary", opClose: "close", opPing: "ping", opPong: "pong"}[op]
		if op == opClose && n >= 2 {
			name, payload = fmt.Sprint("close ", binary.BigEndian.Uint16(payload)), nil
		}
		all = append(all, strings.TrimSpace(name+" "+string(payload)))
	}
	return all
}

// readAll are the messages until one cannot be read, with a t or b before each.
func readAll(c *Conn) (all []string, err error) {
	for {
		kind, r, err := c.Reader(context.Background())
		if err != nil {
			return all, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return all, err
		}
		all = append(all, map[websocket.MessageType]string{websocket.MessageText: "t", websocket.MessageBinary: "b"}[kind]+string(data))
	}
}

func closing(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

var big = strings.Repeat("0123456789abcdef", 70_000/16)

// cases are what a server says, and what becomes of it. After what is read it has closed with 1000, or is told why not.
var cases = []struct {
	name    string
	said    string
	want    []string // messages
	told    []string // to the server
	err     string   // "": the server's close of 1000
	deflate bool
}{
	{name: "text and binary", said: frame(fin, 1, "a") + frame(fin, 2, "\xff\x00") + frame(fin, 1, ""), want: []string{"ta", "b\xff\x00", "t"}},
	{name: "lengths", said: frame(fin, 1, big[:125]) + frame(fin, 1, big[:126]) + frame(fin, 1, big[:0xffff]) + frame(fin, 1, big),
		want: []string{"t" + big[:125], "t" + big[:126], "t" + big[:0xffff], "t" + big}},
	{name: "fragments", said: frame(0, 1, "a") + frame(0, 0, "") + frame(0, 0, "b") + frame(fin, 0, "c") + frame(0, 2, "") + frame(fin, 0, ""), want: []string{"tabc", "b"}},
	{name: "controls between fragments", said: frame(0, 1, "a") + frame(fin, 9, "1") + frame(fin, 10, "never asked for") + frame(fin, 0, "b") + frame(fin, 9, ""),
		want: []string{"tab"}, told: []string{"pong 1", "pong"}},
	{name: "a ping of 125 bytes", said: frame(fin, 9, big[:125]), told: []string{"pong " + big[:125]}},
	{name: "a ping of 126 bytes", said: frame(fin, 9, big[:126]), told: []string{"close 1002"}, err: "too long"},
	{name: "a ping in parts", said: frame(0, 9, "1") + frame(fin, 0, "2"), told: []string{"close 1002"}, err: "in parts"},
	{name: "a close in parts", said: frame(0, 8, closing(1000, "")), told: []string{"close 1002"}, err: "in parts"},
	{name: "a continuation of nothing", said: frame(fin, 0, "a"), told: []string{"close 1002"}, err: "continues no message"},
	{name: "a continuation after a message", said: frame(fin, 1, "a") + frame(0, 0, "b"), want: []string{"ta"}, told: []string{"close 1002"}, err: "continues no message"},
	{name: "a message within another", said: frame(0, 1, "a") + frame(fin, 1, "b"), told: []string{"close 1002"}, err: "within another"},
	{name: "a masked frame", said: "\x81\x81\x01\x02\x03\x04\x60", told: []string{"close 1002"}, err: "masked"},
	{name: "rsv1 without deflate", said: frame(fin|rsv1, 1, alone("a")), told: []string{"close 1002"}, err: "rsv bits"},
	{name: "rsv2", said: frame(fin|0x20, 1, "a"), told: []string{"close 1002"}, err: "rsv bits"},
	{name: "rsv3", said: frame(fin|0x10, 1, "a"), told: []string{"close 1002"}, err: "rsv bits"},
	{name: "rsv1 of a control frame", said: frame(fin|rsv1, 9, "a"), told: []string{"close 1002"}, err: "rsv bits", deflate: true},
	{name: "rsv1 of a continuation", said: frame(rsv1, 1, alone("a")) + frame(fin|rsv1, 0, ""), told: []string{"close 1002"}, err: "rsv bits", deflate: true},
	{name: "opcode 3", said: frame(fin, 3, "a"), told: []string{"close 1002"}, err: "opcode 3"},
	{name: "opcode 7", said: frame(0, 7, ""), told: []string{"close 1002"}, err: "opcode 7"},
	{name: "opcode 11", said: frame(fin, 11, ""), told: []string{"close 1002"}, err: "opcode 11"},
	{name: "opcode 15", said: frame(fin, 15, "a"), told: []string{"close 1002"}, err: "opcode 15"},
	{name: "a length with the top bit", said: "\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x01a", told: []string{"close 1002"}, err: "length"},
	{name: "the same, of a large one", said: "\x82\x7f\x80\x00\x00\x00\x00\x01\x00\x00" + big[:1<<16], told: []string{"close 1002"}, err: "length"},
	{name: "125 in two bytes", said: "\x81\x7e\x00\x7d" + big[:125], told: []string{"close 1002"}, err: "length"},
	{name: "65535 in eight bytes", said: "\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff" + big[:0xffff], told: []string{"close 1002"}, err: "length"},
	{name: "UTF-8", said: frame(fin, 1, "häß€𝄞"), want: []string{"thäß€𝄞"}},
	{name: "UTF-8 across fragments", said: frame(0, 1, "h\xc3") + frame(0, 0, "\xa4\xf0\x9d") + frame(0, 0, "\x84") + frame(fin, 0, "\x9e"), want: []string{"thä𝄞"}},
	{name: "text that is not UTF-8", said: frame(fin, 1, "a\xffb"), told: []string{"close 1007"}, err: "not UTF-8"},
	{name: "text that ends in a character", said: frame(fin, 1, "a\xe2\x82"), told: []string{"close 1007"}, err: "not UTF-8"},
	{name: "the same in fragments", said: frame(0, 1, "a\xe2") + frame(fin, 0, "\x82"), told: []string{"close 1007"}, err: "not UTF-8"},
	{name: "a character that a fragment spoils", said: frame(0, 1, "\xe2\x82") + frame(fin, 0, "a"), told: []string{"close 1007"}, err: "not UTF-8"},
	{name: "a surrogate", said: frame(0, 1, "\xed") + frame(0, 0, "\xa0") + frame(fin, 0, "\x80"), told: []string{"close 1007"}, err: "not UTF-8"},
	{name: "an overlong character", said: frame(fin, 1, "\xc0\xaf"), told: []string{"close 1007"}, err: "not UTF-8"},
	{name: "over U+10FFFF", said: frame(fin, 1, "\xf4\x90\x80\x80"), told: []string{"close 1007"}, err: "not UTF-8"},
	{name: "a close without a code", said: frame(fin, 8, ""), told: []string{"close"}, err: "StatusNoStatusRcvd"},
	{name: "a close with a reason", said: frame(fin, 8, closing(4001, "gehen Süß")), told: []string{"close 4001"}, err: "StatusCode(4001) and reason = \"gehen Süß\""},
	{name: "after a close nothing is read", said: frame(fin, 8, closing(1001, "")) + frame(fin, 1, "a"), told: []string{"close 1001"}, err: "StatusGoingAway"},
	{name: "a close of one byte", said: frame(fin, 8, "\x03"), told: []string{"close 1002"}, err: "one byte"},
	{name: "a reason that is not UTF-8", said: frame(fin, 8, closing(1000, "\xff")), told: []string{"close 1007"}, err: "not UTF-8"},
	{name: "a close within a message", said: frame(0, 1, "a") + frame(fin, 8, closing(1000, ""))},
	{name: "compressed", deflate: true, said: frame(fin|rsv1, 1, alone("hello")) + frame(fin, 1, "plain") + frame(fin|rsv1, 2, alone("")), want: []string{"thello", "tplain", "b"}},
	{name: "compressed, in the RFC's words", deflate: true, want: []string{"tHello", "tHello", "tHello", "tHello", "tHello"}, said: frame(fin|rsv1, 1, "\xf2\x48\xcd\xc9\xc9\x07\x00") + // section 7.2.3.1
		frame(rsv1, 1, "\xf2\x48\xcd") + frame(fin, 0, "\xc9\xc9\x07\x00") + // the same in fragments
		frame(fin|rsv1, 1, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00") + // 7.2.3.3, not compressed
		frame(fin|rsv1, 1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00") + // 7.2.3.4, a block that says it is the last one
		frame(fin|rsv1, 1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00")}, // 7.2.3.5, two blocks
	{name: "compressed, with the tail that is to be left away", deflate: true, said: frame(fin|rsv1, 1, alone("hello")+"\x00\x00\xff\xff"), want: []string{"thello"}},
	{name: "compressed, controls and empty fragments between", deflate: true, want: []string{"t" + big}, told: []string{"pong x"},
		said: frame(rsv1, 1, "") + frame(0, 0, alone(big)[:5]) + frame(fin, 9, "x") + frame(0, 0, "") + frame(0, 0, alone(big)[5:]) + frame(fin, 0, "")},
	{name: "compressed data that is corrupt", deflate: true, said: frame(fin|rsv1, 1, "\xff\xff\xff\xff"), told: []string{"close 1007"}, err: "flate: corrupt"},
	{name: "compressed data without its end", deflate: true, said: frame(fin|rsv1, 1, alone(big)[:20]), told: []string{"close 1007"}, err: "flate: corrupt"},
	{name: "compressed text that is not UTF-8", deflate: true, said: frame(fin|rsv1, 1, alone("a\xff")), told: []string{"close 1007"}, err: "not UTF-8"},
	{name: "what refers to another message without takeover", deflate: true, said: func() string {
		var d deflated
		return frame(fin|rsv1, 1, d.message(big[:200])) + frame(fin|rsv1, 1, d.message(big[:200]))
	}(), want: []string{"t" + big[:200]}, told: []string{"close 1007"}, err: "flate: corrupt"},
}

// TestRules holds the client's side against a server that misbehaves in each way, whatever pieces it sends things in.
func TestRules(t *testing.T) {
	for _, test := range cases {
		for _, size := range []int{0, 1, 3} {
			synctest.Test(t, func(t *testing.T) {
				said := test.said
				told := slices.Clone(test.told)
				if test.err == "" {
					said += frame(fin, 8, closing(1000, ""))
					told = append(told, "close 1000")
				}
				c, s := serve(said, size, false, Options{Deflate: test.deflate})
				got, err := readAll(c)
				c.CloseNow()
				if !slices.Equal(got, test.want) {
					t.Errorf("%s, in pieces of %d: read %.200q", test.name, size, got)
				}
				var closed websocket.CloseError
				if test.err == "" && (!errors.As(err, &closed) || closed.Code != websocket.StatusNormalClosure) || !strings.Contains(fmt.Sprint(err), test.err) {
					t.Errorf("%s, in pieces of %d: ended with %v", test.name, size, err)
				}
				if heard := s.heard(t); !slices.Equal(heard, told) && test.name != "a close within a message" {
					t.Errorf("%s, in pieces of %d: the server has heard %.200q", test.name, size, heard)
				}
			})
		}
	}
}

// Every close code there is, and what is answered.
func TestCloseCodes(t *testing.T) {
	for _, code := range []uint16{0, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1014, 1015, 1016, 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65535} {
		synctest.Test(t, func(t *testing.T) {
			c, s := serve(frame(fin, 8, closing(code, "")), 0, false, Options{})
			_, err := readAll(c)
			valid := code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
			answer := fmt.Sprint("close ", code)
			if !valid {
				answer = "close 1002"
			}
			if got := websocket.CloseStatus(err); (got == websocket.StatusCode(code)) != valid {
				t.Errorf("code %d: %v", code, err)
			}
			if heard := s.heard(t); !slices.Equal(heard, []string{answer}) {
				t.Errorf("code %d: the server has heard %q", code, heard)
			}
		})
	}
}

// What is cut at any byte is never taken for whole.
func TestCut(t *testing.T) {
	var d deflated
	parts := []string{frame(fin, 1, "one"), frame(0, 2, "t") + frame(fin, 9, "p") + frame(fin, 0, "wo"), frame(fin|rsv1, 1, d.message("three")), frame(rsv1, 1, d.message("three")[:2]), frame(fin, 0, "\x00")}
	want := []string{"tone", "btwo", "tthree"}
	whole, ends := "", []int{}
	for _, part := range parts {
		whole += part
		ends = append(ends, len(whole))
	}
	for at := range len(whole) - len(parts[4]) {
		synctest.Test(t, func(t *testing.T) {
			c, s := serve(whole[:at], 0, true, Options{Deflate: true, Takeover: true})
			got, err := readAll(c)
			c.CloseNow()
			s.heard(t)
			n := 0
			for n < len(want) && ends[n] <= at {
				n++
			}
			if !slices.Equal(got, want[:n]) {
				t.Errorf("cut at %d: read %q", at, got)
			}
			between := at == 0 || slices.Contains(ends[:3], at)
			if clean := err == io.EOF; clean != between || !clean && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("cut at %d: %v", at, err)
			}
		})
	}
}

// With takeover a message may refer to all of the last 32 KiB.
func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d deflated
		var said strings.Builder
		var want []string
		for i := range 60 {
			text := strings.Repeat(fmt.Sprintf("%d and %s;", i, big[i:i+16]), 1+i*i)
			said.WriteString(frame(fin|rsv1, 1, d.message(text)))
			want = append(want, "t"+text)
		}
		c, s := serve(said.String(), 0, true, Options{Deflate: true, Takeover: true})
		got, err := readAll(c)
		if !slices.Equal(got, want) || err != io.EOF {
			t.Errorf("read %d messages, %v", len(got), err)
		}
		if cap(c.history) > 2*windowSize {
			t.Errorf("a window of %d bytes", cap(c.history))
		}
		c.CloseNow()
		s.heard(t)
	})
}

// A bomb is inflated only as far as it is read.
func TestBomb(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := serve(frame(fin|rsv1, 1, alone(strings.Repeat("x", 16<<20))), 0, false, Options{Deflate: true, Takeover: true})
		_, r, err := c.Reader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(r, make([]byte, 1<<20)); err != nil || c.left == 0 {
			t.Errorf("%d bytes, %v; %d left", n, err, c.left)
		}
		c.CloseNow()
		s.heard(t)
	})
}

// The closing handshake that we begin: what is on its way is thrown away, and a server that says nothing is given five seconds.
func TestClose(t *testing.T) {
	for name, test := range map[string]struct {
		said string
		took time.Duration
	}{
		"answered":                  {frame(fin, 1, "a") + frame(0, 1, "b") + frame(fin, 0, big) + frame(fin, 8, closing(1001, "")), 0},
		"answered with another one": {frame(fin, 8, closing(4000, "")), 0},
		"not answered":              {frame(fin, 1, "a"), closeTime},
	} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			c, s := serve(test.said, 0, false, Options{})
			c.Close(websocket.StatusGoingAway, "")
			if took := time.Since(begun); took != test.took {
				t.Errorf("%s: took %v", name, took)
			}
			if heard := s.heard(t); !slices.Equal(heard, []string{"close 1001"}) {
				t.Errorf("%s: the server has heard %q", name, heard)
			}
			if err := c.Write(t.Context(), websocket.MessageText, nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: then %v", name, err)
			}
			if _, _, err := c.Reader(t.Context()); err == nil {
				t.Errorf("%s: then something is read", name)
			}
		})
	}
}

// The same while somebody else reads: the close ends that.
func TestCloseWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := serve("", 0, false, Options{})
		ended := make(chan error)
		go func() { // ends with the connection
			_, err := readAll(c)
			ended <- err
		}()
		go func() { // ends with what is read
			time.Sleep(time.Second)
			s.conn.Write([]byte(frame(fin, 8, closing(1000, ""))))
		}()
		begun := time.Now()
		c.Close(websocket.StatusNormalClosure, "")
		if err := <-ended; websocket.CloseStatus(err) != websocket.StatusNormalClosure || time.Since(begun) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		s.heard(t)
	})
}

// The ctx of a reader ends the connection, in a message as before it; once it is read no more.
func TestReaderContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := serve(frame(fin, 1, "a")+frame(0, 1, "b"), 0, false, Options{})
		for _, whole := range []bool{true, false} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, r, err := c.Reader(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if data, err := io.ReadAll(r); (err == nil) != whole {
				t.Errorf("%q, %v", data, err)
			}
			time.Sleep(2 * time.Second)
			cancel()
		}
		s.heard(t)
	})
}

// Writes go out whole; one that is not taken in its time ends the connection.
func TestWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := serve("", 0, false, Options{})
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if err := c.Write(t.Context(), websocket.MessageBinary, bytes.Repeat([]byte{byte('a' + i)}, i*5000)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		c.CloseNow()
		heard := s.heard(t)
		for i := range 20 {
			if want := strings.TrimSpace("binary " + strings.Repeat(string(rune('a'+i)), i*5000)); !slices.Contains(heard, want) {
				t.Errorf("message %d was not heard", i)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe() // which nobody reads
		c := New(near, near, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Write(ctx, websocket.MessageText, []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := c.SendPing(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		far.Close()
	})
}

// A ping waits for its own pong, and not longer than the connection lives.
func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := serve("", 0, false, Options{})
		var heard int
		c.options.Heard = func() { heard++ }
		go readAll(c) // ends with the connection
		go func() {   // ends with what is read
			time.Sleep(time.Second)
			s.conn.Write([]byte(frame(fin, 10, "7") + frame(fin, 10, "")))
			time.Sleep(time.Second)
			s.conn.Write([]byte(frame(fin, 10, "1")))
		}()
		begun := time.Now()
		if err := c.Ping(t.Context()); err != nil || time.Since(begun) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.AfterFunc(time.Second, func() { c.CloseNow() })
		if err := c.Ping(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := c.Ping(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if got := s.heard(t); !slices.Equal(got, []string{"ping 1", "ping 2", "ping 3"}) || heard != 3 {
			t.Errorf("the server has heard %q, we have %d times", got, heard)
		}
	})
}

// Pongs are bounded, and the newest are those that are sent. None waits until a large message is read.
func TestPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := New(near, near, Options{})
		ended := make(chan error)
		go func() { // ends with the connection
			_, err := readAll(c)
			ended <- err
		}()
		for i := range 1000 { // one write after the other: the first pong waits for its reader all the while
			far.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := far.Write([]byte(frame(0, []byte{1, 0}[min(i, 1)], big[:1000]) + frame(fin, 9, fmt.Sprint(i)))); err != nil {
				if i == 0 {
					t.Error("nothing is read")
				}
				break
			}
		}
		if err := <-ended; err == nil {
			t.Error("a server that takes no pongs goes on")
		}
		far.Close()
	})
	var said strings.Builder
	for i := range 2000 {
		said.WriteString(frame(fin, 9, fmt.Sprintf("%0100d", i)))
	}
	synctest.Test(t, func(t *testing.T) {
		c, s := serve(said.String(), 0, true, Options{})
		readAll(c)
		c.mu.Lock()
		if cap(c.pongs) > 2*maxPongs {
			t.Errorf("%d bytes of pongs", cap(c.pongs))
		}
		c.mu.Unlock()
		c.CloseNow()
		if heard := s.heard(t); len(heard) == 0 || len(heard) > 2000 || heard[0] != "pong "+fmt.Sprintf("%0100d", 0) {
			t.Errorf("%d pongs", len(heard))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := New(near, near, Options{})
		go c.Write(context.Background(), websocket.MessageText, []byte("x")) // which nobody takes; ends with the connection
		synctest.Wait()
		go readAll(c) // ends with the connection
		for i := range 2000 {
			io.WriteString(far, frame(fin, 9, fmt.Sprintf("%0100d", i)))
		}
		synctest.Wait()
		c.mu.Lock()
		if n := len(c.pongs); n == 0 || n > maxPongs || !strings.HasSuffix(string(c.pongs), "1999") {
			t.Errorf("%d bytes of pongs wait", n)
		}
		c.mu.Unlock()
		c.CloseNow()
		far.Close()
	})
	for _, part := range []string{frame(fin, 0, big)[:5000], "\x00"} {
		synctest.Test(t, func(t *testing.T) {
			c, s := serve(frame(0, 1, "a")+frame(fin, 9, "x")+part, 0, false, Options{})
			go func() { // ends with the connection
				_, r, err := c.Reader(context.Background())
				for p := make([]byte, 64<<10); err == nil; {
					_, err = r.Read(p)
				}
			}()
			synctest.Wait()
			c.CloseNow()
			if heard := s.heard(t); !slices.Equal(heard, []string{"pong x"}) {
				t.Errorf("in the midst of a message the server has heard %q", heard)
			}
		})
	}
}

// Where the protocol inside is one of bytes, text may be any.
func TestBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := serve(frame(fin, 1, "a\x00\xff"), 0, true, Options{Bytes: true})
		if got, err := readAll(c); !slices.Equal(got, []string{"ta\x00\xff"}) || err != io.EOF {
			t.Errorf("%q, %v", got, err)
		}
		c.CloseNow()
		s.heard(t)
	})
}
