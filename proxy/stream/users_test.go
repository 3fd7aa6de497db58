package stream

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// crowd is a legacy service that has a WebSocket for each user and tells each what nobody else is told, in every way that RFC 6455 and 7692 know of.
type crowd struct {
	t     *testing.T
	on    atomic.Bool // it speaks; else it waits for what it is asked
	dials atomic.Int64
	mu    sync.Mutex
	users map[string]*hearing
}

// hearing is what one user was told, by all of its connections.
type hearing struct {
	mu   sync.Mutex
	conn int    // the newest one's number
	seq  int    // the newest message's of that
	live bool   // it goes on
	last string // said at the end
}

func (c *crowd) user(name string) *hearing {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.users[name]
	if u == nil {
		u = new(hearing)
		c.users[name] = u
	}
	return u
}

// said is the text of one message, which nobody can take for another's.
func said(user string, conn, seq int) string {
	h := rand.New(rand.NewPCG(uint64(len(user))<<32+uint64(conn), uint64(seq)*7919+uint64(user[len(user)-1])))
	n := 0
	switch h.IntN(20) {
	case 0:
		n = h.IntN(9000)
	case 1:
		n = 4096 - 40 + h.IntN(80)
	case 2:
		n = 0
	default:
		n = h.IntN(300)
	}
	head := fmt.Sprintf("%s/%d/%d/", user, conn, seq)
	b := append(make([]byte, 0, len(head)+n), head...)
	for i := range n {
		b = append(b, head[i%len(head)]^byte(h.IntN(2)))
	}
	for i := len(head); i < len(b); i++ {
		if b[i] < ' ' {
			b[i] = 'x'
		}
	}
	return string(b)
}

func rawFrame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

func (c *crowd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.dials.Add(1)
	name := r.URL.Query().Get("u")
	u := c.user(name)
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	deflate := strings.Contains(r.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") && rand.IntN(2) == 0
	takeover := rand.IntN(2) == 0
	if deflate {
		head += "Sec-WebSocket-Extensions: permessage-deflate"
		if !takeover {
			head += "; server_no_context_takeover"
		}
		head += "\r\n"
	}
	head += "\r\n"
	u.mu.Lock()
	u.conn++
	u.seq, u.live, u.last = 0, true, ""
	number := u.conn
	u.mu.Unlock()
	s := &speaker{crowd: c, u: u, name: name, conn: conn, number: number, deflate: deflate, takeover: takeover, echo: make(chan []byte, 64), gone: make(chan struct{})}
	s.out.WriteString(head)
	go s.listen(rw.Reader) // ends with the connection
	s.talk()
	u.mu.Lock()
	if u.conn == number {
		u.live = false
	}
	u.mu.Unlock()
}

type speaker struct {
	*crowd
	u                 *hearing
	name              string
	conn              net.Conn
	number            int
	deflate, takeover bool
	out               bytes.Buffer
	packed            bytes.Buffer
	writer            *flate.Writer
	echo              chan []byte
	gone              chan struct{}
}

// listen answers pings, and has what is asked said again.
func (s *speaker) listen(r *bufio.Reader) {
	defer close(s.gone)
	for {
		var h [2]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return
		}
		n := int(h[1] & 0x7f)
		switch n {
		case 126:
			var l [2]byte
			io.ReadFull(r, l[:])
			n = int(binary.BigEndian.Uint16(l[:]))
		case 127:
			var l [8]byte
			io.ReadFull(r, l[:])
			n = int(binary.BigEndian.Uint64(l[:]))
		}
		b := make([]byte, 4+n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		for i := range n {
			b[4+i] ^= b[i%4]
		}
		switch h[0] {
		case 0x81, 0x82:
			if !strings.HasPrefix(string(b[4:]), "ask "+s.name+" ") {
				s.t.Errorf("%s's upstream has heard %.80q", s.name, b[4:])
			}
			select {
			case s.echo <- nil:
			default:
			}
		case 0x8a:
			if !strings.HasPrefix(string(b[4:]), s.name) {
				s.t.Errorf("%s's upstream has a pong %.80q", s.name, b[4:])
			}
		case 0x89:
			select {
			case s.echo <- rawFrame(0x8a, b[4:]):
			default:
			}
		case 0x88:
			select {
			case s.echo <- rawFrame(0x88, b[4:]):
			default:
			}
		default:
			s.t.Errorf("%s's upstream has heard a frame %x", s.name, h)
		}
	}
}

// say puts one message into out. u.mu is held.
func (s *speaker) say() {
	s.u.seq++
	text := said(s.name, s.number, s.u.seq)
	s.u.last = text
	payload, first := []byte(text), byte(1)
	if s.deflate && rand.IntN(4) > 0 {
		if s.writer == nil || !s.takeover {
			s.packed.Reset()
			s.writer, _ = flate.NewWriter(&s.packed, 1+rand.IntN(9))
		}
		s.packed.Reset()
		io.WriteString(s.writer, text)
		s.writer.Flush()
		payload = bytes.TrimSuffix(bytes.Clone(s.packed.Bytes()), []byte("\x00\x00\xff\xff"))
		first |= 0x40
	}
	for rand.IntN(3) == 0 {
		n := rand.IntN(len(payload) + 1)
		s.out.Write(rawFrame(first, payload[:n]))
		first, payload = 0, payload[n:]
		if rand.IntN(2) == 0 {
			s.out.Write(rawFrame(0x89, []byte(s.name+" within")))
		}
	}
	s.out.Write(rawFrame(first|0x80, payload))
}

// flush writes what is in out, cut anywhere, and in the end maybe cut off.
func (s *speaker) flush() bool {
	b := s.out.Bytes()
	for len(b) > 0 {
		n := len(b)
		switch rand.IntN(6) {
		case 0:
			n = rand.IntN(n) + 1
		case 1:
			n = min(n, 4096)
		}
		if _, err := s.conn.Write(b[:n]); err != nil {
			return false
		}
		if b = b[n:]; len(b) > 0 && rand.IntN(3) == 0 {
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
		}
	}
	s.out.Reset()
	return true
}

func (s *speaker) talk() {
	for {
		if s.on.Load() {
			s.u.mu.Lock()
			for range rand.IntN(4) {
				s.say()
			}
			s.u.mu.Unlock()
			if rand.IntN(5) == 0 {
				s.out.Write(rawFrame(0x89, []byte(s.name)))
			}
			switch rand.IntN(120) {
			case 0: // cut anywhere
				s.out.Truncate(rand.IntN(s.out.Len() + 1))
				s.flush()
				if rand.IntN(2) == 0 {
					s.conn.(*net.TCPConn).SetLinger(0)
				}
				return
			case 1:
				s.out.Write(rawFrame(0x88, []byte{3, 0xe9}))
				s.flush()
				return
			}
		}
		if !s.flush() {
			return
		}
		pause := time.NewTimer(time.Duration(rand.ExpFloat64() * float64(300*time.Millisecond)))
		select {
		case <-s.gone:
			pause.Stop()
			return
		case frame := <-s.echo:
			if frame == nil {
				s.u.mu.Lock()
				s.say()
				s.u.mu.Unlock()
			} else {
				s.out.Write(frame)
			}
		case <-pause.C:
		}
		pause.Stop()
	}
}

// follower checks what one user's ring has.
type follower struct {
	seat *Seat
	done chan struct{}
	mu   sync.Mutex
	last string
	n    int
}

func (f *follower) newest() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *follower) follow(t *testing.T, name string, stop context.Context) {
	defer close(f.done)
	wake := make(chan struct{}, 1)
	unwatch := f.seat.Ring.Watch(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	defer unwatch()
	cursor := f.seat.Start()
	conn, seq, gap := 0, 0, true
	for {
		events, next, missed, end := f.seat.Ring.After(nil, cursor)
		cursor = next
		if missed > 0 {
			gap = true
		}
		for _, e := range events {
			if bytes.Contains(e, []byte("event: stream.gap")) {
				gap = true
				continue
			}
			_, data, ok := strings.Cut(string(e), "data: ")
			if !ok {
				continue
			}
			data, _, _ = strings.Cut(data, "\n")
			part := strings.SplitN(data, "/", 4)
			if len(part) != 4 || part[0] != name {
				t.Errorf("%s was told %.200q", name, data)
				continue
			}
			k, _ := strconv.Atoi(part[1])
			n, _ := strconv.Atoi(part[2])
			if want := said(name, k, n); want != data {
				t.Errorf("%s was told %.200q, not %.200q", name, data, want)
			}
			switch {
			case k == conn && n == seq+1:
			case k > conn && gap:
			default:
				t.Errorf("%s: %d/%d after %d/%d, gap: %v", name, k, n, conn, seq, gap)
			}
			conn, seq, gap = k, n, false
			f.mu.Lock()
			f.last = data
			f.n++
			f.mu.Unlock()
		}
		if end.Kind != Open {
			return
		}
		if len(events) == 0 {
			select {
			case <-wake:
			case <-stop.Done():
				return
			}
		}
	}
}

// Each user has what was said to it, all of it and nothing of anybody else's, whatever its connections do: in parts, compressed, cut off anywhere, one after the
// other. Nobody sleeps with something to be read.
func TestUsers(t *testing.T) {
	const users, d = 100, 2 * time.Second
	c := &crowd{t: t, users: map[string]*hearing{}}
	c.on.Store(true)
	server := httptest.NewServer(c)
	defer server.Close()
	rt, err := upstream.Compile(upstream.SourceSettings{From: "ws" + strings.TrimPrefix(server.URL, "http") + "/?u={query.u}", MaxMessage: 1 << 20, Idle: 15 * time.Second, Send: true})
	if err != nil {
		t.Fatal(err)
	}
	s := NewStreams(Policy{Bounds: Bounds{Events: 2000}, Linger: 50 * time.Millisecond, MaxAge: 0, Log: slog.New(slog.DiscardHandler), All: NewLimit(1 << 20), Own: NewLimit(1 << 20)})
	defer s.Close()
	over := time.Now().Add(d)
	var all sync.WaitGroup
	var events, sent, failed atomic.Int64
	for i := range users {
		all.Go(func() {
			for round := 0; ; round++ {
				name := fmt.Sprintf("u%dr%d", i, round)
				req, err := rt.Expand(httptest.NewRequest("GET", "/?u="+name, nil), func(string) string { return "" })
				if err != nil {
					t.Error(err)
					return
				}
				asked := time.Now()
				seat, err := s.Join(context.Background(), req)
				if err != nil {
					t.Errorf("%s: %v after %v", name, err, time.Since(asked))
					return
				}
				f := &follower{seat: seat, done: make(chan struct{})}
				ctx, stop := context.WithCancel(context.Background())
				go f.follow(t, name, ctx)
				leave := time.Now().Add(time.Duration(rand.ExpFloat64() * float64(d/4)))
				for time.Now().Before(leave) && time.Now().Before(over) {
					time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
					if rand.IntN(3) == 0 {
						sent.Add(1)
						if seat.Send(ctx, translate.Message{Data: []byte("ask " + name + " " + strings.Repeat("z", rand.IntN(300)))}) != nil {
							failed.Add(1)
						}
					}
				}
				last := !time.Now().Before(over)
				if last {
					c.on.Store(false)
					u := c.user(name)
					for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
						u.mu.Lock()
						want, live := u.last, u.live
						u.mu.Unlock()
						if live && (want == "" || f.newest() == want) {
							// Now out of its sleep, once more.
							before := f.newest()
							if err := seat.Send(ctx, translate.Message{Data: []byte("ask " + name + " ")}); err == nil {
								for again := time.Now().Add(10 * time.Second); time.Now().Before(again) && f.newest() == before; {
									time.Sleep(5 * time.Millisecond)
								}
								if f.newest() != before {
									break
								}
							}
						}
						if time.Now().After(deadline) {
							t.Errorf("%s sleeps: told %.60q, has %.60q, live: %v", name, want, f.newest(), live)
							break
						}
					}
				}
				stop()
				<-f.done
				events.Add(int64(f.n))
				seat.Leave()
				if last {
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d dials, %d events, %d sent, %d of them failed", c.dials.Load(), events.Load(), sent.Load(), failed.Load())
}
