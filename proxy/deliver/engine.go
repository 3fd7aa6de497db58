//go:build linux && !portable

// This file takes HTTP/1 clients out of net/http: the head of the answer is written, the connection's descriptor is
// kept, and everything else of the request, its goroutines and buffers can be collected. What a client then costs is
// one slot of a few dozen bytes without pointers (see shard.go). The rules:
//
//   - The first bytes - head, retry hint, what the ring has for it - leave in one write, made by the goroutine that
//     accepted the client: a burst of joins does not hold up the clients that are there.
//   - The descriptor is a duplicate: net's own closes with its poller entry, the socket lives on, non-blocking. A connection that
//     came past net/http (acceptor.go) has but one.
//   - With TLS what is kept besides is the library's connection, which seals what is written: see sealed.go.
//   - HTTP/2 has no descriptor of its own to write to: see carrier.go.

package deliver

import (
	"bytes"
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sidestream/proxy/deflate"
	"sidestream/proxy/stream"
)

// engine is the shards, started when the first client comes.
type engine struct {
	mu       sync.Mutex // guards what follows
	shards   []*shard
	closed   bool
	window   time.Duration
	drained  bool
	carriers map[*carrier]struct{} // connections of HTTP/2
	alive    context.Context       // until drain or close; nil: nobody has asked for it
	end      context.CancelFunc    // of alive
	turn     atomic.Uint32
	runners  runners
	lobby    lobby
}

// shard returns the one for the next client, nil when there is none to be had.
func (e *engine) shard(c *Clients) *shard {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	for len(e.shards) < runtime.GOMAXPROCS(0) {
		s, err := newShard(c)
		if err != nil {
			break
		}
		if e.drained {
			s.drain(e.window)
		}
		e.shards = append(e.shards, s)
		e.runners.start(s.run) // ends with close
	}
	if len(e.shards) == 0 {
		return nil
	}
	return e.shards[int(e.turn.Add(1))%len(e.shards)]
}

// undrained is done once clients are sent away.
func (e *engine) undrained() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.alive == nil {
		e.alive, e.end = context.WithCancel(context.Background())
		e.ends()
	}
	return e.alive
}

// ends ends alive where it is over. mu is held.
func (e *engine) ends() {
	if e.end != nil && (e.drained || e.closed) {
		e.end()
	}
}

func (e *engine) drain(window time.Duration) {
	e.mu.Lock()
	e.drained, e.window = true, window
	e.ends()
	for _, s := range e.shards {
		s.drain(window)
	}
	carriers := slices.Collect(maps.Keys(e.carriers))
	e.mu.Unlock()
	for _, m := range carriers {
		m.conn.Wake()
	}
}

func (e *engine) close() {
	e.mu.Lock()
	e.closed = true
	e.ends()
	for _, s := range e.shards {
		s.close()
	}
	carriers := slices.Collect(maps.Keys(e.carriers))
	e.mu.Unlock()
	e.lobby.close()
	for _, m := range carriers {
		m.conn.Close()
	}
	e.runners.wait()
}

// hold has m drained and closed with the others, until release.
func (e *engine) hold(m *carrier) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.carriers == nil {
		e.carriers = map[*carrier]struct{}{}
	}
	e.carriers[m] = struct{}{}
}

func (e *engine) release(m *carrier) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.carriers, m)
}

// connections is how many carriers there are, and how many of them wait in the lobby.
func (e *engine) connections() (open, parked int) {
	parked = e.lobby.count()
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.carriers), min(parked, len(e.carriers))
}

// kick wakes the shards that have new clients in their inbox.
func (e *engine) kick() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.shards {
		if s.expects() {
			s.kick()
		}
	}
}

// handOver takes a client over from net/http, or returns false and has done nothing.
func (c *Clients) handOver(w http.ResponseWriter, r *http.Request, cl Client) bool {
	switch {
	case c.Goroutines:
		return false
	case r.ProtoMajor > 1:
		return c.handOverStream(w, r, cl)
	}
	s, of, err := c.hijack(w, r)
	if s == nil {
		return false
	}
	c.byWriter[ByShard].Add(1)
	if err != nil {
		c.disconnected(ByShard, cl.Route, cl.hold(), cl.Leave, Left, r.RemoteAddr)
		return true
	}
	s.begin(cl, w.Header(), of, true)
	return true
}

// kind is what a connection is.
type kind struct {
	fd        int32
	seal      *sealed // nil: in clear
	unchunked bool    // HTTP/1.0
	local     bool    // a Unix socket's: the kernel does not cut it when its peer takes nothing
}

// begin writes the first bytes of cl's answer, with header, and has the shard go on with it. tell: see join.
func (s *shard) begin(cl Client, header http.Header, of kind, tell bool) {
	now := s.clock.now()
	j := joining{Client: cl, local: of.local, seal: of.seal, slot: slot{cursor: newCursor(&cl, now), fd: of.fd}}
	if of.seal != nil {
		j.slot.traits |= isSealed
	}
	if of.unchunked {
		j.slot.flags |= isUnchunked
	}
	j.joined, _ = cl.Ring.Last()
	j.begin(appendHead(make([]byte, 0, headSize), header, of.unchunked, &cl), s.clients, now)
	s.join(j, tell)
}

// hijack takes the connection of a request from net/http, for the shard that it returns; nil: it is still there. err is
// that the connection was lost on the way.
func (c *Clients) hijack(w http.ResponseWriter, r *http.Request) (s *shard, of kind, err error) {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	secure, _ := conn.(*tls.Conn)
	if secure != nil {
		if of.seal, _ = secure.NetConn().(*sealed); of.seal == nil {
			return nil, of, nil
		}
		conn = of.seal.Conn
	}
	under, ok := conn.(socket)
	if !ok || r.ProtoMajor != 1 {
		return nil, of, nil
	}
	if s = c.engine.shard(c); s == nil {
		return nil, of, nil
	}
	whole, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, of, nil
	}
	if over, ok := whole.(*arriving); ok {
		over.arrive()
	}
	defer conn.Close()
	fd, err := duplicate(under)
	if err == nil && secure != nil {
		of.seal.take(secure, fd)
	}
	_, of.local = conn.(*localConn)
	of.fd, of.unchunked = int32(fd), r.ProtoMinor == 0
	return s, of, err
}

// socket is a connection with a descriptor that can be written to past net: a *net.TCPConn or *localConn.
type socket interface {
	syscall.Conn
	CloseWrite() error
	Close() error
}

// joining is a client on its way into its shard.
type joining struct {
	Client
	slot   slot
	local  bool        // see kind
	seal   *sealed     // the same
	sum    deflate.Sum // of what it has got, where it takes gzip
	rest   []byte      // of what was begun, for a socket that took no more
	joined uint64      // the newest event when it came
	err    error
}

// begin writes head, and what its answer begins with.
func (j *joining) begin(head []byte, c *Clients, now tick) {
	b := vectoreds.Get().(*vectored)
	defer vectoreds.Put(b)
	defer b.forget()
	f := facts{now: now, ring: ringGrown, stands: j.Pass.Standing()}
	var a action
	turn := 0 // bytes that it has its turn for
	for a = j.slot.next(&f); a.do == doRead || a.do == doTurn; a = j.slot.next(&f) {
		if a.do == doTurn {
			if j.slot.queue(now, c.replays.take(b.size, time.Now())) {
				turn = b.size
			}
			continue
		}
		b.load(j.Ring, j.slot.at, j.slot.form())
		b.tell(&f)
	}
	pre := frame(head, j.slot.flags, j.slot.tell(j.opening(), &j.sum, true, false))
	if text := (speech{j.Ring, j.Route, c}).append(nil, a.say, j.slot.cursor, &f); len(text) > 0 {
		pre = frame(pre, j.slot.flags, j.slot.tell(text, &j.sum, false, a.do == doLast && j.slot.completes(a.say)))
	}
	if a.do != doLast && !stream.Pending(b.next) {
		j.Route.Stats.Replayed.Add(int64(max(j.joined, b.from) - b.from)) // also what the shard writes of them
	}
	if a.do != doWrite { // its pass has ended on the way, or it waits for its turn
		j.say(pre)
		return
	}
	b.zip()
	b.prepend(pre)
	var took uint64
	took, j.rest, j.err = b.write(outlet{int(j.slot.fd), j.seal})
	j.slot.took(&f, took)
	b.gave(&j.slot.cursor, took, &j.sum)
	c.replays.back(turn - b.bytes(took) - b.saved)
	if took > 0 {
		j.Route.Stats.Events.Add(int64(took))
		j.Route.Stats.Bytes.Add(int64(b.bytes(took)))
	}
}

// say writes p, which is all that there is.
func (j *joining) say(p []byte) {
	n, err := outlet{int(j.slot.fd), j.seal}.bytes(p)
	if j.err = err; n < len(p) {
		j.rest = p[n:]
	}
}

// headSize is what most heads and what follows at once fit in.
const headSize = 512

// appendHead is the head of the answer (RFC 9112, section 4). The connection ends with it, but HTTP/1.1 clients are not
// told so: undici, which is Node's fetch, takes any end of an announced close for a complete body, chunked or not.
func appendHead(dst []byte, h http.Header, unchunked bool, cl *Client) []byte {
	if unchunked {
		dst = append(dst, "HTTP/1.0 200 OK\r\n"...)
	} else {
		dst = append(dst, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"...)
	}
	dst = append(append(append(dst, "Date: "...), date()...), "\r\n"...)
	if cl.Route.Gzip {
		dst = append(dst, "Vary: Accept-Encoding\r\n"...)
	}
	if cl.Gzip {
		dst = append(dst, "Content-Encoding: gzip\r\n"...)
	}
	b := bytes.NewBuffer(append(dst, streamHead...))
	h.Write(b) // what the proxy has set; to memory, which does not fail
	b.WriteString("\r\n")
	return b.Bytes()
}

// streamHead is setHeader's, written.
var streamHead = func() []byte {
	h := http.Header{}
	setHeader(h)
	var b bytes.Buffer
	h.Write(&b)
	return b.Bytes()
}()

// dated is the Date of one second.
type dated struct {
	second int64
	text   string
}

var lastDate atomic.Pointer[dated]

// date is now as HTTP writes it, made once a second.
func date() string {
	now := time.Now()
	d := lastDate.Load()
	if d == nil || d.second != now.Unix() {
		d = &dated{now.Unix(), now.UTC().Format(http.TimeFormat)}
		lastDate.Store(d)
	}
	return d.text
}

// frame appends data as a client with these flags gets it.
func frame(dst []byte, flags flags, data []byte) []byte {
	if flags&isUnchunked != 0 {
		return append(dst, data...)
	}
	return stream.AppendChunk(dst, func(b []byte) []byte { return append(b, data...) })
}

// duplicate returns another descriptor of c's socket.
func duplicate(c syscall.Conn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	if failed := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) }); failed != nil {
		return 0, failed
	}
	return fd, err
}
