//go:build linux && !portable

package deliver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sidestream/proxy/stream"
	"sidestream/translate"
)

// versions are those of TLS.
var versions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// overVersions runs f over each, with a harbour.
func overVersions(t *testing.T, f func(t *testing.T, h *harbour, version uint16)) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			f(t, newSecureHarbour(t, stream.Bounds{Start: stream.StartAll}, 0), version)
		})
	}
}

// wiretap keeps what is read of a connection, as long as it is told to, and has its end look like an error: crypto/tls takes one for a close_notify.
type wiretap struct {
	net.Conn
	read bytes.Buffer
}

var errCut = errors.New("the connection ended")

func (w *wiretap) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.read.Write(p[:n])
	if err == io.EOF {
		err = errCut
	}
	return n, err
}

// types are the types of the records in what was read, application data's as 'd', others' as their number.
func (w *wiretap) types() (all string) {
	for p := w.read.Bytes(); len(p) > 5; p = p[min(5+int(p[3])<<8+int(p[4]), len(p)):] {
		if p[0] == 23 {
			all += "d"
		} else {
			all += fmt.Sprint(p[0])
		}
	}
	return all
}

// call is a client's connection, whose request's head has more, with what goes after it.
func (h *harbour) call(t *testing.T, version uint16, proto, more, after string) (*tls.Conn, *wiretap) {
	t.Helper()
	raw, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(time.Minute))
	tap := &wiretap{Conn: raw}
	c := tls.Client(tap, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
	if _, err := fmt.Fprintf(c, "GET / HTTP/%s\r\nHost: x\r\n%s\r\n%s", proto, more, after); err != nil {
		t.Fatal(err)
	}
	return c, tap
}

// body is what c is answered with.
func body(t *testing.T, c net.Conn) *bufio.Reader {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(resp.Body)
}

// seals are looked at while their shards stand still.
func (h *harbour) seals(look func(*sealed)) {
	h.clients.engine.mu.Lock()
	shards := slices.Clone(h.clients.engine.shards)
	h.clients.engine.mu.Unlock()
	for _, s := range shards {
		s.ask(func() {
			for _, seal := range s.seals {
				if seal != nil {
					look(seal)
				}
			}
		})
	}
}

// sealed waits until a client is a shard's.
func (h *harbour) sealed(t *testing.T) {
	t.Helper()
	eventually(t, "it is a shard's", func() bool {
		n := 0
		h.seals(func(*sealed) { n++ })
		return n == 1 && h.clients.ByWriter()[ByShard] == 1
	})
}

// An idle client keeps nothing of its handshake, nor of what it has said: that is where crypto/tls has it in this release of Go.
func TestSealedKeepsNoBuffers(t *testing.T) {
	if len(kept) != 2 {
		t.Fatalf("crypto/tls has its buffers elsewhere: found %d", len(kept))
	}
	overVersions(t, func(t *testing.T, h *harbour, version uint16) {
		c, _ := h.call(t, version, "1.1", "", "")
		body(t, c).ReadString('\n')
		size := func() (n int) {
			h.seals(func(seal *sealed) {
				n += cap(seal.rest)
				for _, at := range kept {
					n += (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(seal.tls), at)).Cap()
				}
			})
			return n
		}
		h.sealed(t)
		eventually(t, "nothing is kept", func() bool { return size() == 0 })
		c.Write([]byte("what is not asked for"))
		eventually(t, "it is heard", func() bool {
			heard := int32(0)
			h.seals(func(seal *sealed) { heard = seal.heard })
			return heard > 0
		})
		if n := size(); n != 0 {
			t.Errorf("%d bytes are kept", n)
		}
	})
}

// The events of one batch are one record, unless they are too many.
func TestSealedBatchIsOneRecord(t *testing.T) {
	overVersions(t, func(t *testing.T, h *harbour, version uint16) {
		c, tap := h.call(t, version, "1.1", "", "")
		in := body(t, c)
		in.ReadString('\n')
		h.sealed(t)
		before := len(tap.types())
		var batch []translate.Message
		for i := range 30 {
			batch = append(batch, say(fmt.Sprint(i, strings.Repeat("x", 200))))
		}
		h.append(batch...)
		for text := ""; !strings.HasPrefix(text, "data: 29x"); {
			var err error
			if text, err = in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if got := tap.types()[before:]; got != "d" {
			t.Errorf("records %s", got)
		}
	})
}

// What a client sends unasked is read up to a bound and has no effect. That it disconnects is noticed.
func TestSealedHearsLittle(t *testing.T) {
	overVersions(t, func(t *testing.T, h *harbour, version uint16) {
		c, _ := h.call(t, version, "1.1", "", "GET /more HTTP/1.1\r\nHost: x\r\n\r\n") // with the head
		in := body(t, c)
		in.ReadString('\n')
		h.sealed(t)
		said := make(chan struct{})
		go func() { // more than is read, but no more than the kernel buffers: a FIN would wait behind it
			defer close(said)
			for range 8 {
				if _, err := c.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}()
		heard := func() (n int32) {
			h.seals(func(seal *sealed) { n = seal.heard })
			return n
		}
		eventually(t, "it is heard", func() bool { return heard() == heardMost })
		<-said
		r := reference{in: in, next: 1}
		h.publish(10)
		for range 10 {
			if _, err := r.event(); err != nil {
				t.Fatal(err)
			}
		}
		if n := heard(); n != heardMost {
			t.Errorf("%d bytes were heard", n)
		}
		c.NetConn().Close()
		eventually(t, "that it leaves is noticed", func() bool { return h.route.Stats.Disconnected[Left].Load() == 1 })
	})
}

// trickle writes what it is given byte by byte, each once the one before has been read.
type trickle struct {
	net.Conn
	wrote func(n int)
}

func (w trickle) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := w.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
		w.wrote(1)
	}
	return len(p), nil
}

// A record that comes in pieces is one, and the client's close_notify is its end as a FIN would be: it is answered with another.
func TestSealedCloseNotify(t *testing.T) {
	overVersions(t, func(t *testing.T, h *harbour, version uint16) {
		raw, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(time.Minute))
		slowly, total := false, int32(0)
		c := tls.Client(trickle{&wiretap{Conn: raw}, func(int) {
			if !slowly {
				return
			}
			total++
			eventually(t, "a byte is heard, or the client gone", func() bool {
				heard := int32(-1)
				h.seals(func(seal *sealed) { heard = seal.heard })
				return heard == total || heard == -1
			})
		}}, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		in := body(t, c)
		in.ReadString('\n')
		h.sealed(t)
		slowly = true
		c.Write([]byte("x"))
		h.publish(3)
		r := reference{in: in, next: 1}
		for range 3 {
			if _, err := r.event(); err != nil {
				t.Fatal(err)
			}
		}
		if n := h.route.Stats.Clients.Load(); n != 1 {
			t.Errorf("%d clients", n)
		}
		c.CloseWrite()
		if _, err := io.ReadAll(in); !errors.Is(err, io.ErrUnexpectedEOF) { // of the chunks: that of TLS is EOF
			t.Errorf("ended with %v", err)
		}
		eventually(t, "it has left", func() bool { return h.route.Stats.Disconnected[Left].Load() == 1 })
	})
}

// A client that closes with its request is gone, whoever has its connection by then.
func TestSealedClosedAtOnce(t *testing.T) {
	overVersions(t, func(t *testing.T, h *harbour, version uint16) {
		for i := range 20 {
			c, _ := h.call(t, version, "1.1", "", "")
			c.CloseWrite()
			eventually(t, "it came, and left", func() bool { return h.left.Load() == int64(i+1) })
		}
	})
}

// What is no TLS, what is not this connection's, an alert: it ends the one client, and no other.
func TestSealedRubbish(t *testing.T) {
	overVersions(t, func(t *testing.T, h *harbour, version uint16) {
		other, _ := h.call(t, version, "1.1", "", "")
		in := body(t, other)
		in.ReadString('\n')
		for name, rubbish := range map[string]string{
			"no record":               "GET / HTTP/1.1\r\n\r\n",
			"too long a record":       "\x17\x03\x03\xff\xff",
			"nothing that decrypts":   "\x17\x03\x03\x00\x20" + strings.Repeat("x", 32),
			"an alert in clear":       "\x15\x03\x03\x00\x02\x02\x28",
			"a handshake in clear":    "\x16\x03\x03\x00\x04\x01\x00\x00\x00",
			"another version":         "\x17\x03\x01\x00\x20" + strings.Repeat("x", 32),
			"changes of cipher specs": strings.Repeat("\x14\x03\x03\x00\x01\x01", 40),
		} {
			was := h.route.Stats.Disconnected[Left].Load()
			c, tap := h.call(t, version, "1.1", "", "")
			mine := body(t, c)
			mine.ReadString('\n')
			eventually(t, "both are there", func() bool { return h.clients.ByWriter()[ByShard] == 2 })
			if _, err := tap.Conn.Write([]byte(rubbish)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(mine); err == nil {
				t.Errorf("%s: the answer is complete", name)
			}
			eventually(t, name+" ends it", func() bool { return h.route.Stats.Disconnected[Left].Load() == was+1 })
		}
		h.append(translate.Message{Data: []byte(payload(1))})
		if _, err := (&reference{in: in, next: 1}).event(); err != nil {
			t.Error(err)
		}
	})
}

// A complete answer ends with a close_notify, as does one that is cut where chunks tell; with HTTP/1.0 that would be the end of a complete one.
func TestSealedEnds(t *testing.T) {
	overVersions(t, func(t *testing.T, _ *harbour, version uint16) {
		for _, c := range []struct {
			proto  string
			end    stream.End
			body   error // that the answer ends with
			record error // the same of TLS
		}{
			{"1.1", stream.End{Kind: stream.Finished}, nil, io.EOF},
			{"1.0", stream.End{Kind: stream.Finished}, nil, io.EOF},
			{"1.1", stream.End{Kind: stream.Retired}, io.ErrUnexpectedEOF, io.EOF},
			{"1.0", stream.End{Kind: stream.Retired}, unix.ECONNRESET, unix.ECONNRESET},
		} {
			h := newSecureHarbour(t, stream.Bounds{Start: stream.StartAll}, 0)
			client, _ := h.call(t, version, c.proto, "", "")
			in := body(t, client)
			in.ReadString('\n')
			h.sealed(t)
			h.publish(100)
			h.ring.Close(c.end)
			if _, err := io.ReadAll(in); !errors.Is(err, c.body) {
				t.Errorf("%s %v: the answer ended with %v", c.proto, c.end.Kind, err)
			}
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, c.record) {
				t.Errorf("%s %v: TLS ended with %v", c.proto, c.end.Kind, err)
			}
		}
	})
}

// A client that reads nothing has a part of one record waiting, whatever comes, and gets all that it is owed when it reads.
func TestSealedWaitsWithOneRecord(t *testing.T) {
	overVersions(t, func(t *testing.T, h *harbour, version uint16) {
		c, _ := h.call(t, version, "1.1", "", "")
		in := body(t, c)
		in.ReadString('\n')
		h.sealed(t)
		waiting := func() (n int) {
			h.seals(func(seal *sealed) { n = len(seal.rest) })
			return n
		}
		last, most := 0, 0
		for last < 200 || waiting() == 0 {
			last++
			h.append(say(fmt.Sprint(last, ":", strings.Repeat("x", 50000))))
			most = max(most, waiting())
		}
		if most > recordMost+256 {
			t.Errorf("%d bytes were waiting", most)
		}
		for n, gap := 1, false; n <= last; {
			text, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			gap = gap || text == "event: stream.gap\n"
			if rest, ok := strings.CutPrefix(text, fmt.Sprint("data: ", n, ":")); ok {
				if len(rest) != 50001 {
					t.Fatalf("event %d has %d bytes", n, len(rest))
				}
				n++
			} else if !gap && strings.HasPrefix(text, "data: ") && text != "data: {}\n" {
				t.Fatalf("%.40q where %d must come", text, n)
			} else if gap && strings.HasPrefix(text, `data: {"reason":"evicted","missed":`) {
				missed := 0
				fmt.Sscanf(text, `data: {"reason":"evicted","missed":%d`, &missed)
				n, gap = n+missed, false
			}
		}
		eventually(t, "nothing waits", func() bool { return waiting() == 0 })
	})
}

// pairOf is a shard with a client over TLS, which is at the other end of a pair of sockets.
func pairOf(t *testing.T) (s *shard, index uint32, client *tls.Conn) {
	t.Helper()
	s, err := newShard(&Clients{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.poller.close)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 1) // the least: what is written is taken in parts
	ours, err := connection(int32(pair[0]))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := connection(int32(pair[1]))
	if err != nil {
		t.Fatal(err)
	}
	seal := &sealed{Conn: ours}
	server := tls.Server(seal, selfSigned())
	client = tls.Client(&wiretap{Conn: theirs}, &tls.Config{InsecureSkipVerify: true})
	t.Cleanup(func() { theirs.Close() })
	var shaking sync.WaitGroup
	shaking.Go(func() {
		if err := server.HandshakeContext(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	shaking.Wait()
	fd, err := duplicate(ours.(socket))
	if err != nil {
		t.Fatal(err)
	}
	seal.take(server, fd)
	ours.Close()
	s.slots = append(s.slots, slot{fd: int32(fd), group: 0, cursor: cursor{traits: isSealed}})
	s.seals = []*sealed{nil, seal}
	s.groups = []*group{{audience: audience{route: &Pacing{Stats: new(Stats), Log: slog.New(slog.DiscardHandler)}, leave: func() {}, stop: func() {}}, members: []uint32{1}}}
	return s, 1, client
}

// That an answer is complete waits for room in the socket like everything else.
func TestSealedGoodbyeWaits(t *testing.T) {
	s, index, client := pairOf(t)
	sent := 0
	for s.say(index, make([]byte, 1000)) {
		sent += 1000
	}
	sent += 1000 // what waits
	c := &s.slots[index]
	c.flags, c.why = c.flags|isOver, Finished
	if s.end(index, doFinish); len(s.dead) != 0 {
		t.Fatal("it is gone with its goodbye")
	}
	if s.complete(index) {
		t.Error("its answer is complete while its goodbye waits")
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		if rest, err := io.ReadAll(client); len(rest) != sent || err != nil { // a close_notify, as the wiretap tells
			t.Errorf("%d bytes of %d, %v", len(rest), sent, err)
		}
	})
	eventually(t, "it is gone", func() bool { s.resume(index); return len(s.dead) > 0 })
	if c.why != Finished || !s.complete(index) {
		t.Errorf("it is gone for %d", c.why)
	}
	hangUp(c.fd)
	reading.Wait()
}

// A client that has been given all, of which a part waits sealed, goes on when the socket takes more, whether or not there is an event: once
// it is given something, and when it comes.
func TestSealedRestIsNotForgotten(t *testing.T) {
	s, index, client := pairOf(t)
	ring := stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{Start: stream.StartAll}, new(stream.Stats), false)
	ring.Append(say(strings.Repeat("x", 15000))) // one record, which the socket takes a part of
	var b vectored
	b.load(ring, stream.Begin, 0)
	f := facts{ring: ringGrown}
	b.tell(&f)
	if whole := s.give(index, s.groups[0], &b, action{do: doWrite}, &f); whole || s.slots[index].at != 1 || s.slots[index].flags&isBlocked == 0 {
		t.Errorf("all has left: %v, the client stands at %d with %b", whole, s.slots[index].at, s.slots[index].flags)
	}
	come := joining{Client: Client{Ring: ring, Route: s.groups[0].route, Leave: func() {}}, seal: s.seals[index], slot: s.slots[index]}
	come.slot.flags &^= isBlocked
	s.enter(&come)
	if n := len(s.dead); n != 0 || s.slots[len(s.slots)-1].flags&isBlocked == 0 {
		t.Errorf("%d are gone, one that comes has %b", n, s.slots[len(s.slots)-1].flags)
	}
	var reading sync.WaitGroup
	got := make([]byte, b.size)
	reading.Go(func() {
		if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, b.events[0]) {
			t.Errorf("other bytes, %v", err)
		}
	})
	for s.outlet(index).waits() {
		s.seals[index].flush()
	}
	reading.Wait()
	ring.Close(stream.End{Kind: stream.Finished})
}

// What comes after something that waits waits too, also where the socket has room by then: an answer to a change of keys, a goodbye.
func TestSealedKeepsTheOrder(t *testing.T) {
	s, index, client := pairOf(t)
	sent := 0
	for s.say(index, make([]byte, 1000)) {
		sent += 1000
	}
	sent += 1000              // what waits
	got := make([]byte, 1000) // of what the socket has
	if _, err := io.ReadFull(client, got); err != nil {
		t.Fatal(err)
	}
	sent -= len(got)
	s.slots[index].flags &^= isBlocked
	if !s.hear(index) || s.slots[index].flags&isBlocked == 0 {
		t.Error("something waits, and the client is not blocked")
	}
	s.seals[index].bye()
	var reading sync.WaitGroup
	reading.Go(func() {
		if rest, err := io.ReadAll(client); len(rest) != sent || err != nil {
			t.Errorf("%d bytes of %d, %v", len(rest), sent, err)
		}
	})
	for s.outlet(index).waits() {
		if err := s.empty(index); err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
	}
	hangUp(s.slots[index].fd)
	reading.Wait()
}

// Whatever is written, in whatever pieces, is what the client reads, in records of the size that there is.
func TestSealedPieces(t *testing.T) {
	s, index, client := pairOf(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var v []unix.Iovec
		var want []byte
		for range rng.IntN(6) {
			piece := make([]byte, []int{1, 100, 5000, recordMost - 1, recordMost, recordMost + 1, 40000}[rng.IntN(7)]/(1+rng.IntN(2)))
			for i := range piece {
				piece[i] = byte(rng.Uint32())
			}
			if want = append(want, piece...); len(piece) > 0 {
				v = append(v, vector(piece))
			}
		}
		n, err := s.outlet(index).vectors(v)
		if err != nil || n > len(want) || n < len(want) && !s.outlet(index).waits() {
			t.Fatalf("%d of %d, %v", n, len(want), err)
		}
		got := make([]byte, n)
		var reading sync.WaitGroup
		reading.Go(func() {
			if _, err := io.ReadFull(client, got); err != nil {
				t.Error(err)
			}
		})
		for s.outlet(index).waits() {
			if err := s.seals[index].flush(); err != nil && err != unix.EAGAIN {
				t.Fatal(err)
			}
		}
		reading.Wait()
		if !bytes.Equal(got, want[:n]) {
			t.Fatal("other bytes")
		}
	}
}

// With HTTP/1.0 the end of the connection is that of the answer: whatever ends one that is not complete, it must not look so.
func TestOldAnswersThatAreCutAreReset(t *testing.T) {
	overEach(t, func(t *testing.T, newHarbour wire) {
		for name, cut := range map[string]func(h *harbour, c net.Conn){
			"the client has nothing more to say": func(_ *harbour, c net.Conn) { c.(interface{ CloseWrite() error }).CloseWrite() },
			"the sidecar ends":                   func(h *harbour, _ net.Conn) { h.clients.Close() },
		} {
			h := newHarbour(t, stream.Bounds{Start: stream.StartAll}, 0)
			c, in := h.open("1.0", "")
			if c == nil {
				t.FailNow()
			}
			defer c.Close()
			in.ReadString('\n')
			eventually(t, "it is a shard's", func() bool { return h.clients.ByWriter()[ByShard] == 1 })
			cut(h, c)
			if _, err := io.ReadAll(in); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("%s: the answer ended with %v", name, err)
			}
			eventually(t, "it has left", func() bool { return h.left.Load() == 1 })
		}
	})
}
