//go:build linux

// This file is what a history costs many private streams, and how long it takes to begin again and to hand over.

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"sidestream/e2e/ports"
)

// users are a service of many private streams: each says n messages once it is connected, and then one each period.
type users struct {
	listener net.Listener
	n        int
	period   time.Duration
}

func (b *bench) startUsers(n int, period time.Duration) (*users, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	u := &users{l, n, period}
	if err == nil {
		b.closers = append(b.closers, l)
		go u.accept() // ends with the listener
	}
	return u, err
}

func (u *users) accept() {
	for {
		conn, err := acceptWebSocket(u.listener)
		if err != nil {
			return
		}
		go u.talk(conn) // ends with conn
	}
}

func (u *users) talk(conn net.Conn) {
	defer conn.Close()
	var out, payload []byte
	say := func() {
		payload = appendPayload(payload[:0])
		out = frameWebSocket(out, payload)
	}
	for range u.n {
		say()
	}
	for {
		if _, err := conn.Write(out); err != nil {
			return
		}
		if u.period == 0 {
			io.Copy(io.Discard, conn)
			return
		}
		time.Sleep(u.period)
		out = out[:0]
		say()
	}
}

// userEnv is a route with a stream for each {query.u}.
func (u *users) env(more ...string) []string {
	return append([]string{"SSE_ADMIN_LISTEN=off", "SSE_LOG_LEVEL=error", "SSE_MAX_CLIENTS=0", "SSE_MAX_STREAMS=0", "SSE_IDLE=1h", "SSE_REPLAY_EVENTS=500", "SSE_HEARTBEAT=1m",
		"SSE_DRAIN=0", "SSE_LINGER=1h", "SSE_ROUTE_U_PATH=/u", "SSE_ROUTE_U_START=all", "SSE_ROUTE_U_FROM=ws://" + u.listener.Addr().String() + "/{query.u}"}, more...)
}

// sidecar starts one.
func (b *bench) sidecar(env []string) (s *server, err error) {
	s = &server{name: "sidecar"}
	if s.addr, err = ports.Address(); err != nil {
		return nil, err
	}
	if err := b.launch(s, env); err != nil {
		return nil, err
	}
	b.stores = append(b.stores, s)
	return s, await(s.addr)
}

// read connects as the user u and returns once so many events have come.
func read(addr string, u, events int) (net.Conn, error) {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err != nil && time.Now().Before(deadline) {
			continue
		} else if err != nil {
			return nil, err
		}
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		fmt.Fprintf(conn, "GET /u?u=%d HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n", u)
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("answered %v, %w", resp, errors.Join(err))
		}
		lines, n := bufio.NewScanner(resp.Body), 0
		for n < events && lines.Scan() {
			if strings.HasPrefix(lines.Text(), "data: {\"t\"") {
				n++
			}
		}
		if n < events {
			return nil, fmt.Errorf("user %d has got %d of %d events: %w", u, n, events, errors.Join(lines.Err()))
		}
		return conn, conn.SetDeadline(time.Time{})
	}
}

// populate connects n users, who stay; each returns once events have come.
func (b *bench) populate(addr string, n, events int) (close func(), err error) {
	conns := make([]net.Conn, n)
	errs := make(chan error, n)
	turn := make(chan struct{}, 64)
	for i := range n {
		turn <- struct{}{}
		go func() { // ends with its client
			defer func() { <-turn }()
			var err error
			conns[i], err = read(addr, i, events)
			errs <- err
		}()
	}
	for range n {
		err = errors.Join(err, <-errs)
	}
	return func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}, err
}

// privateStreams is the memory of one, with its client.
func (b *bench) privateStreams() error {
	for _, name := range keepers[:3] {
		u, err := b.startUsers(1, 0)
		if err != nil {
			return err
		}
		env, err := b.kept(name)
		if err != nil {
			return err
		}
		s, err := b.sidecar(u.env(env...))
		if err != nil {
			return err
		}
		before, _ := resident(s.pid())
		leave, err := b.populate(s.addr, b.size.private, 1)
		if err != nil {
			return err
		}
		if err := b.pause(b.size.settle); err != nil {
			return err
		}
		after, _ := resident(s.pid())
		b.figures.set(userRSS, name, float64(after-before)/float64(b.size.private))
		leave()
		s.stop()
	}
	return nil
}

// restarts is how long a client waits for its replay, from the start of a sidecar with 2,000 streams of 500 events.
func (b *bench) restarts() error {
	u, err := b.startUsers(500, 0)
	if err != nil {
		return err
	}
	for _, name := range []string{"file", "redis"} {
		env, err := b.kept(name)
		if err != nil {
			return err
		}
		s, err := b.sidecar(u.env(env...))
		if err != nil {
			return err
		}
		leave, err := b.populate(s.addr, b.size.many/5, 500)
		if err != nil {
			return err
		}
		s.stop()
		leave()
		begun := time.Now()
		again := &server{addr: s.addr, process: exec.Command(b.binary)}
		again.process.Env = s.process.Env
		if err := again.process.Start(); err != nil {
			return err
		}
		conn, err := read(s.addr, 7, 500)
		took := time.Since(begun)
		if err == nil {
			conn.Close()
		}
		again.stop()
		if err != nil {
			return err
		}
		b.figures.set(restart, name, float64(took))
	}
	return nil
}

// handovers is for how long a stream has no holder when its holder is ended.
func (b *bench) handovers() error {
	u, err := b.startUsers(1, 100*time.Millisecond)
	if err != nil {
		return err
	}
	var gaps []float64
	for range max(3, b.size.rounds) {
		env, err := b.kept("redis")
		if err != nil {
			return err
		}
		store := b.stores[len(b.stores)-1]
		var all [2]*server
		for i := range all {
			if all[i], err = b.sidecar(u.env(env...)); err != nil {
				return err
			}
			conn, err := read(all[i].addr, 1, 1)
			if err != nil {
				return err
			}
			defer conn.Close()
		}
		gone, err := b.withoutHolder(store, all[0])
		if err != nil {
			return err
		}
		gaps = append(gaps, float64(gone))
		all[1].stop()
		store.stop()
	}
	b.figures.set(handover, "redis", median(gaps))
	return nil
}

// withoutHolder ends the holder, and returns for how long its lease was nobody's.
func (b *bench) withoutHolder(store, holder *server) (gone time.Duration, err error) {
	conn, err := net.Dial("tcp", store.addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(conn)
	leases := func() (int, error) {
		fmt.Fprintf(conn, "EVAL \"return #redis.call('KEYS', '*:l')\" 0\r\n")
		line, err := r.ReadString('\n')
		var n int
		fmt.Sscanf(line, ":%d", &n)
		return n, err
	}
	holder.process.Process.Signal(os.Interrupt)
	defer func() {
		late := time.AfterFunc(20*time.Second, func() { holder.process.Process.Kill() })
		if holder.process.Wait(); !late.Stop() {
			err = errors.Join(err, errors.New("the holder did not end"))
		}
	}()
	var free time.Time
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		n, err := leases()
		switch {
		case err != nil:
			return 0, err
		case n == 0 && free.IsZero():
			free = time.Now()
		case n > 0 && !free.IsZero():
			return time.Since(free), nil
		}
		if holder.process.ProcessState == nil && free.IsZero() && time.Until(deadline) < 15*time.Second {
			return 0, nil // it was too short to be seen
		}
	}
	return 0, errors.New("nobody has taken over")
}

// storeWork is what Redis uses for an event that two replicas follow.
func (b *bench) storeWork() error {
	streams, period := b.size.many/10, time.Second
	u, err := b.startUsers(1, period)
	if err != nil {
		return err
	}
	env, err := b.kept("redis")
	if err != nil {
		return err
	}
	store := b.stores[len(b.stores)-1]
	for range 3 {
		s, err := b.sidecar(u.env(env...))
		if err != nil {
			return err
		}
		leave, err := b.populate(s.addr, streams, 1)
		if err != nil {
			return err
		}
		defer leave()
	}
	if err := b.pause(3 * time.Second); err != nil {
		return err
	}
	begun := time.Now()
	used, err := store.cpuOf(func() error { return b.pause(5 * b.size.window) })
	events := float64(streams) * time.Since(begun).Seconds() / period.Seconds()
	b.figures.set(storeCPU, "redis", float64(used)/events)
	return err
}
