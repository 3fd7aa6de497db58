//go:build linux

// This file is what a history costs: the folder and Redis beside the ring alone, in one run.

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"

	"sidestream/e2e/ports"
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
	case "tls":
		return []string{"SSE_TLS_CERT=" + b.certFile(), "SSE_TLS_KEY=" + b.keyFile()}, nil
	}
	return nil, nil
}

// startRedis starts a redis-server, which ends with the bench.
func (b *bench) startRedis() (*server, error) {
	s := &server{name: "redis-server"}
	var err error
	if s.addr, err = ports.Address(); err != nil {
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
	return b.steps(
		measuring{"fan-out", b.keptFanOut},
		measuring{"own work", b.ownWork},
		measuring{"private streams", b.privateStreams},
		measuring{"a start", b.restarts},
		measuring{"a planned end", b.handovers},
		measuring{"Redis", b.storeWork},
	)
}

// keptFanOut is what an event costs. What a history adds is less than what one window differs from the next, so that there are more of them.
func (b *bench) keptFanOut() error {
	if err := b.each(func(s *server) error { return s.connect(b.size.few, s.request) }); err != nil {
		return err
	}
	defer func(rounds int) { b.size.rounds = rounds }(b.size.rounds)
	b.size.rounds *= 4
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

// historyRows are the table's.
var historyRows = []row{
	{fewCPU, rows[4].title, micro},
	{p50, named("latency p50, the same"), milli},
	{p99, named("latency p99, the same"), milli},
	{ownCPU, named(ownCPU), micro},
	{userRSS, func(s size) string { return fmt.Sprintf("RSS per private stream with its client, %d", s.private) }, kib},
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
	comparison{"\tring alone\tfolder\tRedis, holder\tRedis, follower", keepers, "ours", over, historyRows,
		"divided by the ring alone. CPU is user and system time of the process."}.print(b, w)
}
