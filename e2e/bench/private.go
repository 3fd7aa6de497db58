//go:build linux

// This file is what private WebSocket streams cost (FORWARD=Cookie: each user has an upstream connection of its own), beside a shim of twenty lines.

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"sidestream/e2e/ports"
)

// privates are the servers of this part, in the order of the table's columns.
var privates = []string{"shim", "ours", "jq"}

// The figures, beside those of memory.
const (
	openCPU    = "CPU to open a private stream"
	privateCPU = "CPU per event of a private stream"
	pollRSS    = "RSS per private poll"

	privateEvents = 20   // that each user gets
	privateRate   = 4000 // events/s, to all of them
)

var privateRows = []row{
	{idleRSS, func(s size) string { return fmt.Sprintf("RSS per private stream with its client, %d", s.private) }, kib},
	{fannedRSS, named(fmt.Sprintf("the same after %d events each", privateEvents)), kib},
	{openCPU, named("CPU to open one"), micro},
	{privateCPU, named("CPU per event"), micro},
	{pollRSS, func(s size) string { return fmt.Sprintf("RSS per private poll with its client, %d", s.private) }, kib},
}

// serveShim is what one writes first: a handler that dials for each client, and remembers nothing. It never pings, nor answers what it has not read.
func serveShim(upstream string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() { // ends with the process
		io.Copy(io.Discard, os.Stdin)
		l.Close()
	}()
	err = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := websocket.Dial(r.Context(), upstream, &websocket.DialOptions{HTTPHeader: http.Header{"Cookie": r.Header["Cookie"]}})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer conn.CloseNow()
		w.Header().Set("Content-Type", "text/event-stream")
		flush := http.NewResponseController(w).Flush
		for err = flush(); err == nil; err = flush() {
			var message []byte
			if _, message, err = conn.Read(r.Context()); err == nil {
				_, err = fmt.Fprintf(w, "data: %s\n\n", message)
			}
			if err != nil {
				return
			}
		}
	}))
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// subscribers are the private upstream connections of one server.
type subscribers struct {
	listener net.Listener
	mu       sync.Mutex // guards conns
	conns    []net.Conn
}

func (b *bench) startSubscribers() (*subscribers, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &subscribers{listener: l}
	b.closers = append(b.closers, u)
	go func() { // ends with the listener
		for {
			conn, err := acceptWebSocket(l)
			if err != nil {
				return
			}
			u.mu.Lock()
			u.conns = append(u.conns, conn)
			u.mu.Unlock()
		}
	}()
	return u, nil
}

// Close closes all.
func (u *subscribers) Close() error {
	u.listener.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.conns {
		c.Close()
	}
	return nil
}

// publish sends n events to each, one after the other in turn, as they are due.
func (u *subscribers) publish(n int, rate float64) error {
	u.mu.Lock()
	conns := u.conns
	u.mu.Unlock()
	begin := time.Now()
	var out, payload []byte
	for sent := range n * len(conns) {
		if wait := time.Until(begin.Add(time.Duration(float64(sent) / rate * float64(time.Second)))); wait > time.Millisecond {
			time.Sleep(wait)
		}
		payload = appendPayload(payload[:0])
		out = frameWebSocket(out[:0], payload)
		if _, err := conns[sent%len(conns)].Write(out); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	return nil
}

// startPrivate starts a server of private streams, and its load client.
func (b *bench) startPrivate(name, from string, more ...string) (s *server, err error) {
	s = &server{name: name, request: "GET /u HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\nCookie: sid={n}\r\n\r\n"}
	b.servers = append(b.servers, s)
	if name == "shim" {
		err = b.startSelf(s, from)
	} else {
		env := []string{"SSE_ADMIN_LISTEN=off", "SSE_LOG_LEVEL=error", "SSE_MAX_CLIENTS=0", "SSE_MAX_STREAMS=0", "SSE_IDLE=1h", "SSE_HEARTBEAT=1h",
			"SSE_ROUTE_U_PATH=/u", "SSE_ROUTE_U_FORWARD=Cookie", "SSE_ROUTE_U_FROM=" + from}
		env = append(env, more...)
		if name == "jq" {
			env = append(env, `SSE_ROUTE_U_SELECT=select(.symbol=="BENCH")`)
		}
		if s.addr, err = ports.Address(); err == nil {
			err = b.launch(s, env)
		}
	}
	if err == nil {
		err = await(s.addr)
	}
	if err == nil {
		s.load, err = b.startLoad("load")
	}
	return s, err
}

// costOfPrivate measures one server after the other, which has the machine for itself. only may be "polls" as well: nothing but the memory of private polls.
func (b *bench) costOfPrivate(only string) error {
	for _, name := range privates {
		if only != "" && !slices.Contains(strings.Split(only, ","), name) {
			continue
		}
		begin := time.Now()
		if err := b.private(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		b.say("%s: %.0f s", name, time.Since(begin).Seconds())
	}
	if measured := strings.Split(only, ","); only != "" && !slices.Contains(measured, "ours") && !slices.Contains(measured, "polls") {
		return nil
	}
	return b.privatePolls()
}

// privatePolls is the memory of one at rest, each with its client. The shim has none.
func (b *bench) privatePolls() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.closers = append(b.closers, l)
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(appendPayload(nil)) })) // ends with l
	s, err := b.startPrivate("ours", "http://"+l.Addr().String()+"/", "SSE_ROUTE_U_EVERY=10s")
	if err != nil {
		return err
	}
	defer s.stop()
	empty, err := resident(s.pid())
	if err != nil {
		return err
	}
	if err := s.connect(b.size.private, s.request); err != nil {
		return err
	}
	if err := b.pause(b.size.privateSettle); err != nil {
		return err
	}
	now, err := resident(s.pid())
	b.figures.set(pollRSS, "ours", float64(now-empty)/float64(b.size.private))
	return err
}

func (b *bench) private(name string) error {
	u, err := b.startSubscribers()
	if err != nil {
		return err
	}
	defer u.Close()
	s, err := b.startPrivate(name, "ws://"+u.listener.Addr().String()+"/")
	if err != nil {
		return err
	}
	defer s.stop()
	n := b.size.private
	empty, err := resident(s.pid())
	if err != nil {
		return err
	}
	used, err := s.cpuOf(func() error { return s.connect(n, s.request) })
	if err != nil {
		return err
	}
	b.figures.set(openCPU, name, float64(used)/float64(n))
	memory := func(figure string) error {
		if err := b.pause(b.size.privateSettle); err != nil {
			return err
		}
		now, err := resident(s.pid())
		b.figures.set(figure, name, float64(now-empty)/float64(n))
		return err
	}
	if err := memory(idleRSS); err != nil {
		return err
	}
	used, err = s.cpuOf(func() error {
		if err := u.publish(privateEvents, privateRate); err != nil {
			return err
		}
		return s.settled(int64(n * privateEvents))
	})
	if err != nil {
		return err
	}
	b.figures.set(privateCPU, name, float64(used)/float64(n*privateEvents))
	return memory(fannedRSS)
}

// settled waits until the clients have got so many events.
func (s *server) settled(events int64) error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := s.load.tell(order{Op: "count"})
		switch {
		case err != nil || c.Events == events:
			return err
		case c.Events > events || c.Lost > 0 || time.Now().After(deadline):
			return fmt.Errorf("%d events were expected: %+v", events, c)
		}
	}
}

// privateTable prints the figures, and beside ours how many times the shim's they are.
func (b *bench) privateTable(w io.Writer) {
	comparison{"\tshim\tSidestream\tSidestream, jq", privates, "shim", over, privateRows,
		"divided by the shim, a handler of net/http that dials with coder/websocket for each client, without replay. CPU is user and system time of the process."}.print(b, w)
}
