//go:build linux

// This file is what a history costs: the folder and Redis beside the ring alone, in one run.

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
	"text/tabwriter"
	"time"
)

// keepers are the servers of this part: the ring alone, the folder, Redis at the replica that runs the source, and at one that follows it.
var keepers = []string{"ours", "file", "redis", "follower"}

// The figures, beside those of fan-out to few.
const (
	ownCPU   = "CPU per message, one client, 10,000 msg/s"
	userRSS  = "RSS per private stream"
	restart  = "from a start to a client's replay"
	handover = "without a holder at a planned end"
	storeCPU = "Redis CPU per event, three replicas"
)

// kept is how ours is started for each of them.
func (b *bench) kept(name string) (env []string, err error) {
	switch name {
	case "file":
		dir, err := os.MkdirTemp(b.dir, "history-")
		return []string{"SSE_HISTORY=file:" + dir}, err
	case "redis", "follower":
		s, err := b.startRedis()
		if err != nil {
			return nil, err
		}
		return []string{"SSE_HISTORY=redis://" + s.addr}, nil
	}
	return nil, nil
}

// startRedis starts a redis-server, which ends with the bench.
func (b *bench) startRedis() (*server, error) {
	s := &server{name: "redis-server"}
	var err error
	if s.addr, err = freeAddress(); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(s.addr)
	s.process = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", b.dir, "--loglevel", "warning")
	if err := s.process.Start(); err != nil {
		return nil, fmt.Errorf("%w; install Debian's package redis-server", err)
	}
	b.stores = append(b.stores, s)
	return s, await(s.addr)
}

// costOfHistory measures.
func (b *bench) costOfHistory() error {
	for _, name := range keepers {
		s, err := b.startServer(name, "load")
		if err != nil {
			return err
		}
		b.servers = append(b.servers, s)
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"fan-out", b.keptFanOut},
		{"own work", b.ownWork},
		{"private streams", b.privateStreams},
		{"a start", b.restarts},
		{"a planned end", b.handovers},
		{"Redis", b.storeWork},
	} {
		begin := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		b.say("%s: %.0f s", step.name, time.Since(begin).Seconds())
	}
	return nil
}

func (b *bench) keptFanOut() error {
	if err := b.each(func(s *server) error { return s.connect(b.size.few, s.request) }); err != nil {
		return err
	}
	return b.fewRounds()
}

// ownWork is the CPU of a message that goes to one client.
func (b *bench) ownWork() error {
	if err := b.each(func(s *server) error { return s.disconnect(b.size.few - 1) }); err != nil {
		return err
	}
	if err := b.pause(b.size.window / 2); err != nil {
		return err
	}
	return b.rounds(ownCPU, 10000, func(*server, count) {})
}

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
		if err != nil && conn == nil {
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
	if s.addr, err = freeAddress(); err != nil {
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
		fmt.Fprintf(conn, "GET /u?u=%d HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n", u)
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("answered %v, %w", resp, errors.Join(err))
		}
		lines := bufio.NewScanner(resp.Body)
		for n := 0; n < events && lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "data: {\"t\"") {
				n++
			}
		}
		return conn, lines.Err()
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
		leave, err := b.populate(s.addr, b.size.many, 1)
		if err != nil {
			return err
		}
		if err := b.pause(b.size.settle); err != nil {
			return err
		}
		after, _ := resident(s.pid())
		b.figures.set(userRSS, name, float64(after-before)/float64(b.size.many))
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
func (b *bench) withoutHolder(store, holder *server) (time.Duration, error) {
	conn, err := net.Dial("tcp", store.addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	leases := func() (int, error) {
		fmt.Fprintf(conn, "EVAL \"return #redis.call('KEYS', '*:l')\" 0\r\n")
		line, err := r.ReadString('\n')
		var n int
		fmt.Sscanf(line, ":%d", &n)
		return n, err
	}
	holder.process.Process.Signal(os.Interrupt)
	defer holder.process.Wait()
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

// historyRows are the table's.
var historyRows = []row{
	{fewCPU, rows[4].title, micro},
	{p50, named("latency p50, the same"), milli},
	{p99, named("latency p99, the same"), milli},
	{ownCPU, named(ownCPU), micro},
	{userRSS, func(s size) string { return fmt.Sprintf("RSS per private stream with its client, %d", s.many) }, kib},
	{restart, func(s size) string {
		return fmt.Sprintf("from the start with %d × 500 events to a client's replay", s.many/5)
	}, milli},
	{handover, named("time without a holder at a planned end"), milli},
	{storeCPU, func(s size) string {
		return fmt.Sprintf("Redis CPU per event, %d streams × 1/s, three replicas", s.many/10)
	}, micro},
}

// historyTable prints the figures, and beside each of the others how many times that of the ring alone it is.
func (b *bench) historyTable(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n\n", machine())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tring alone\tfolder\tRedis, holder\tRedis, follower")
	for _, r := range historyRows {
		fmt.Fprint(t, r.title(b.size))
		for _, name := range keepers {
			cell := ""
			if v, ok := b.figures[r.figure][name]; ok {
				cell = r.show(v)
				if alone, ok := b.figures[r.figure]["ours"]; ok && name != "ours" && alone > 0 {
					cell += fmt.Sprintf(" (%.2f×)", v/alone)
				}
			}
			fmt.Fprint(t, "\t", cell)
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	fmt.Fprintln(w, "\nIn brackets: divided by the ring alone. CPU is user and system time of the process.")
	for _, note := range b.notes {
		fmt.Fprintln(w, note)
	}
}
