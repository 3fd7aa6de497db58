//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// The figures.
const (
	idleRSS     = "RSS per idle client"
	fannedRSS   = "RSS per client after fan-out"
	backRSS     = "RSS per client after reconnects"
	acceptCPU   = "CPU to accept a client"
	manyCPU     = "CPU per event, many clients"
	fewCPU      = "CPU per event, few clients"
	mostEvents  = "most events/s, few clients"
	mostCPU     = "CPU per event at the most"
	mostClient  = "load client's core at the most"
	p50         = "latency p50, few clients"
	p99         = "latency p99, few clients"
	wire        = "bytes per event"
	reads       = "reads per event, few clients"
	connectCPU  = "CPU of a connect"
	behindCPU   = "CPU of a connect 100 events behind"
	h2RSS       = "RSS per HTTP/2 client"
	h2CPU       = "CPU per event, HTTP/2"
	tabRSS      = "RSS per HTTP/2 connection with one client"
	tabCPU      = "CPU per event, HTTP/2, one client a connection"
	eventsLate  = 100 // events that a client behind has missed
	warmClients = 50
)

// figures are by figure and server. Memory is in bytes, CPU and latency in ns.
type figures map[string]map[string]float64

func (f figures) set(figure, server string, v float64) {
	if f[figure] == nil {
		f[figure] = map[string]float64{}
	}
	f[figure][server] = v
}

type bench struct {
	ctx      context.Context
	size     size
	dir      string
	binary   string
	beside   string // an earlier one; "" none
	rate     int    // messages/s, where that is to be chosen
	servers  []*server
	figures  figures
	baseline map[string]int // resident memory before the many came
	notes    []string
	progress io.Writer
	stores   []*server // of histories, and what is not measured with the others
	closers  []io.Closer
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

// note says what the reader of the table has to know as well.
func (b *bench) note(format string, args ...any) {
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
	b.say("note: "+format, args...)
}

// start starts the servers, which stop ends.
func (b *bench) start(only string) (err error) {
	b.say("building the sidecar")
	if b.binary, err = b.build(); err != nil {
		return err
	}
	wanted := names
	if only != "" {
		wanted = strings.Split(only, ",")
	}
	for _, name := range wanted {
		if _, _, ok := nchan(); name == "nchan" && !ok {
			b.note("nchan is not measured: nginx with its module is not installed (Debian: libnginx-mod-nchan)")
			continue
		}
		s, err := b.startServer(name, "load")
		if err != nil {
			return err
		}
		b.servers = append(b.servers, s)
	}
	return nil
}

func (b *bench) stop() {
	for _, s := range b.servers {
		s.stop()
	}
	for _, s := range b.stores {
		s.stop()
	}
	for _, c := range b.closers {
		c.Close()
	}
	b.servers, b.stores = nil, nil
}

// measure takes all figures.
func (b *bench) measure() error {
	return b.steps(
		measuring{"clients that idle", b.idle},
		measuring{"fan-out to many", b.fanOutMany},
		measuring{"reconnects", b.reconnect},
		measuring{"fan-out to few", b.fanOutFew},
		measuring{"clients with a replay", b.behind},
		measuring{"HTTP/2", b.http2},
		measuring{"the most", b.most},
	)
}

// each does something with one server after the other.
func (b *bench) each(do func(*server) error) error {
	for _, s := range b.servers {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		if err := do(s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// pause waits.
func (b *bench) pause(d time.Duration) error {
	select {
	case <-b.ctx.Done():
		return b.ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// cpuOf is what the server uses while do is done.
func (s *server) cpuOf(do func() error) (time.Duration, error) {
	before, err := cpu(s.pid())
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	after, err := cpu(s.pid())
	return after - before, err
}

// hold loads one server for a profiler.
func (b *bench) hold(what string) error {
	var rate, clients, seconds int
	if _, err := fmt.Sscanf(what, "%d,%d,%d", &rate, &clients, &seconds); err != nil {
		return fmt.Errorf("-hold RATE,CLIENTS,SECONDS: %w", err)
	}
	s := b.servers[0]
	b.say("%s is process %d at http://%s/events", s.name, s.pid(), s.addr)
	request, late, err := s.request, 0, error(nil)
	switch {
	case rate > 0:
		err = s.connect(clients, s.request)
	case rate < 0:
		late = eventsLate
		request, err = b.late(s)
	}
	for begin := time.Now(); err == nil && b.ctx.Err() == nil && time.Since(begin) < time.Duration(seconds)*time.Second; {
		var cost float64
		if rate > 0 {
			cost, err = s.eventCost(rate, float64(rate))
		} else {
			cost, err = s.visit(clients, request, late)
		}
		b.say("%.2f µs", cost/1e3)
		if rate <= 0 {
			time.Sleep(b.size.window / 4)
		}
	}
	return err
}
