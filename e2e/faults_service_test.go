//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/e2e/authority"
)

// spring is a source of numbered events, which go on whether anybody is connected or not. What has been said is known from its number alone.
type spring struct {
	key string

	mu    sync.Mutex // guards what follows
	n     int
	more  chan struct{} // closed when there is more
	dials int           // connections that were accepted
}

// said is the newest number, and tells of the next.
func (s *spring) said() (n int, more <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n, s.more
}

func (s *spring) say(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n += n
	close(s.more)
	s.more = make(chan struct{})
}

func (s *spring) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials
}

func (s *spring) dialled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials++
}

// springText is the nth event of a spring, the same whenever it is asked for. A few are large.
func springText(key string, n int) string {
	h := fnv.New64a()
	fmt.Fprint(h, key, n)
	sum := h.Sum64()
	size := int(sum % 200)
	if sum>>8%97 == 0 {
		size += 24 << 10
	}
	pad := strings.Repeat(strconv.FormatUint(sum, 36), size/8+1)[:size]
	return fmt.Sprintf(`{"of":%q,"n":%d,"pad":"%sé€😀"}`, key, n, pad)
}

// mood is how a service answers.
type mood int32

const (
	moodFine    mood = iota
	moodError        // with statuses that a retry cures
	moodGarbage      // with bytes that are no answer, or not one of its protocol
	moodSlow         // late, and piece by piece
	moodSilent       // not at all
)

// service is a legacy service: WebSockets at /shared and /private, a list with a cursor at /poll, and at /sse events that resume.
type service struct {
	addr  string
	ours  *authority.Authority // nil in clear
	pace  time.Duration        // between two events of a spring, about
	moody atomic.Int32
	cert  atomic.Pointer[tls.Certificate]

	running sync.WaitGroup
	mu      sync.Mutex // guards what follows
	springs map[string]*spring
	server  *http.Server
	conns   map[net.Conn]bool
	random  *rand.Rand
}

// startService runs one until the test ends. With ours it speaks TLS.
func startService(t *testing.T, ours *authority.Authority, pace time.Duration, random *rand.Rand) *service {
	t.Helper()
	s := &service{addr: freeAddr(t), ours: ours, pace: pace, springs: map[string]*spring{}, conns: map[net.Conn]bool{}, random: random}
	if ours != nil {
		s.certify(ours.Issue("legacy", "127.0.0.1"))
	}
	ctx, stop := context.WithCancel(context.Background())
	s.running.Go(func() { s.flow(ctx) }) // ends with stop
	s.start()
	t.Cleanup(func() { stop(); s.kill(); s.running.Wait() })
	return s
}

// flow has every spring go on.
func (s *service) flow(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		all := make([]*spring, 0, len(s.springs))
		for _, one := range s.springs {
			all = append(all, one)
		}
		s.mu.Unlock()
		for _, one := range all {
			one.say(rand.N(3))
		}
		pauseFor(ctx, s.pace/2+rand.N(s.pace))
	}
}

// spring is that of a key.
func (s *service) spring(key string) *spring {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.springs[key] == nil {
		s.springs[key] = &spring{key: key, more: make(chan struct{})}
	}
	return s.springs[key]
}

func (s *service) certify(pair authority.Pair) {
	c := pair.TLS()
	s.cert.Store(&c)
}

func (s *service) set(m mood) { s.moody.Store(int32(m)) }

// start listens, and serves until kill.
func (s *service) start() {
	l, err := net.Listen("tcp", s.addr)
	for end := time.Now().Add(patience); err != nil && time.Now().Before(end); l, err = net.Listen("tcp", s.addr) {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		panic(err)
	}
	server := &http.Server{Handler: s, ErrorLog: quietLog, ConnState: func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if state == http.StateClosed {
			delete(s.conns, c)
		} else {
			s.conns[c] = true
		}
	}}
	s.mu.Lock()
	s.server = server
	s.mu.Unlock()
	if s.ours != nil {
		l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.Load(), nil }})
	}
	s.running.Go(func() { server.Serve(l) }) // ends with kill
}

// kill is what the system does to the connections of a process that is killed.
func (s *service) kill() {
	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	server.Close()
	s.cut()
}

// cut ends all connections.
func (s *service) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
		delete(s.conns, c)
	}
}

func (s *service) chance(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, stop := context.WithTimeout(r.Context(), time.Hour)
	defer stop()
	switch mood(s.moody.Load()) {
	case moodError:
		w.WriteHeader([]int{500, 502, 503, 504, 429, 404, 408}[s.chance(7)])
		return
	case moodGarbage:
		s.garbage(w)
		return
	case moodSilent:
		<-ctx.Done()
		return
	case moodSlow:
		pauseFor(ctx, time.Duration(s.chance(2500))*time.Millisecond)
	}
	key := r.URL.Path
	if c, err := r.Cookie("user"); err == nil {
		key += " of " + c.Value
	}
	spring := s.spring(key)
	switch r.URL.Path {
	case "/poll":
		s.poll(w, r, spring)
	case "/sse":
		s.events(ctx, w, r, spring)
	default:
		s.socket(ctx, w, r, spring)
	}
}

// garbage answers with what no client of such a service has to expect.
func (s *service) garbage(w http.ResponseWriter) {
	noise := make([]byte, 1+s.chance(4000))
	for i := range noise {
		noise[i] = byte(s.chance(256))
	}
	switch s.chance(5) {
	case 0: // not even HTTP
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			c.Write(noise)
			c.Close()
		}
	case 1: // less than was promised
		w.Header().Set("Content-Length", "100000")
		w.Write([]byte(`{"next":1000000,"items":[{"of":"nobody"`))
		panic(http.ErrAbortHandler)
	case 2:
		w.Header().Set("Content-Type", "application/json")
		w.Write(noise)
	case 3: // a WebSocket, but not for this key
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: bm90aGluZyBvZiB0aGF0IGtpbmQ=\r\n\r\n"))
			c.Write(noise)
			c.Close()
		}
	default:
		w.WriteHeader(500)
		w.Write(noise)
	}
}

func (s *service) poll(w http.ResponseWriter, r *http.Request, spring *spring) {
	n, _ := spring.said()
	after, err := strconv.Atoi(r.FormValue("after"))
	if err != nil { // who has no place begins here
		after = n
	}
	var items []string
	for at := after + 1; at <= n && len(items) < 200; at++ {
		items = append(items, springText(spring.key, at))
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"next":%d,"items":[%s]}`, after+len(items), strings.Join(items, ","))
}

func (s *service) events(ctx context.Context, w http.ResponseWriter, r *http.Request, spring *spring) {
	n, more := spring.said()
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		n, _ = strconv.Atoi(id)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	flush()
	spring.dialled()
	for s.goesOn(ctx, more) {
		var last int
		last, more = spring.said()
		for ; n < last; n++ {
			fmt.Fprintf(w, "id: %d\ndata: %s\n\n", n+1, springText(spring.key, n+1))
		}
		if flush() != nil {
			return
		}
	}
}

func (s *service) socket(ctx context.Context, w http.ResponseWriter, r *http.Request, spring *spring) {
	n, more := spring.said()
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	spring.dialled()
	ctx = c.CloseRead(ctx)
	for s.goesOn(ctx, more) {
		var last int
		last, more = spring.said()
		for ; n < last; n++ {
			if c.Write(ctx, websocket.MessageText, []byte(springText(spring.key, n+1))) != nil {
				return
			}
		}
	}
}

// goesOn waits for more, and while the service is slow for longer. A heartbeat is nothing that this service knows.
func (s *service) goesOn(ctx context.Context, more <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-more:
	}
	if mood(s.moody.Load()) == moodSlow {
		pauseFor(ctx, time.Duration(s.chance(700))*time.Millisecond)
	}
	return ctx.Err() == nil
}
