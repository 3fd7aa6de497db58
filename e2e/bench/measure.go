//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
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
	servers  []*server
	figures  figures
	baseline map[string]int // resident memory before the many came
	notes    []string
	progress io.Writer
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
	b.servers = nil
}

// measure takes all figures.
func (b *bench) measure() error {
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"clients that idle", b.idle},
		{"fan-out to many", b.fanOutMany},
		{"reconnects", b.reconnect},
		{"fan-out to few", b.fanOutFew},
		{"clients that are behind", b.behind},
		{"HTTP/2", b.http2},
		{"the most", b.most},
	} {
		begin := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		b.say("%s: %.0f s", step.name, time.Since(begin).Seconds())
	}
	return nil
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

// idle is what clients cost that connect and do nothing.
func (b *bench) idle() error {
	empty := map[string]int{}
	err := b.each(func(s *server) (err error) { // a few first: what is used once is not of a client
		if err := s.connect(warmClients, s.request); err != nil {
			return err
		}
		if err := s.fan(10, 100, nil); err != nil {
			return err
		}
		empty[s.name], err = resident(s.pid())
		return err
	})
	if err != nil {
		return err
	}
	if err := b.each(func(s *server) error { return b.join(s, b.size.many) }); err != nil {
		return err
	}
	return b.memory(idleRSS, empty)
}

// join connects n clients and adds to the figure of what one costs.
func (b *bench) join(s *server, n int) error {
	used, err := s.cpuOf(func() error { return s.connect(n, s.request) })
	if err != nil {
		return err
	}
	cost := float64(used) / float64(n)
	if earlier := b.figures[acceptCPU][s.name]; earlier > 0 {
		cost = (earlier + cost) / 2
	}
	b.figures.set(acceptCPU, s.name, cost)
	return nil
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

// memory notes what the many cost, when the servers have come to rest.
func (b *bench) memory(figure string, empty map[string]int) error {
	if empty != nil {
		b.baseline = empty
	}
	if err := b.pause(b.size.settle); err != nil {
		return err
	}
	return b.each(func(s *server) error {
		now, err := resident(s.pid())
		b.figures.set(figure, s.name, max(0, float64(now-b.baseline[s.name])/float64(b.size.many)))
		return err
	})
}

// rounds measures fan-out, each server in turn and as often as there are rounds, each time another one first, and keeps
// the medians. measured is called behind each window, for what else is of it.
func (b *bench) rounds(figure string, rate int, measured func(*server, count)) error {
	costs := map[string][]float64{}
	begin, others := time.Now(), b.others()
	defer func() {
		if share := (b.others() - others).Seconds() / time.Since(begin).Seconds(); share > 0.1 {
			b.note("Not to be trusted: something else used %.0f %% of a core while %q was measured.", share*100, figure)
		}
	}()
	for range b.size.rounds {
		b.servers = append(b.servers[1:], b.servers[0])
		err := b.each(func(s *server) error {
			cost, err := s.eventCost(int(b.size.window.Seconds()*float64(rate)), float64(rate))
			if err != nil {
				return err
			}
			costs[s.name] = append(costs[s.name], cost)
			c, err := s.load.tell(order{Op: "count"})
			measured(s, c)
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, name := range names {
		if c := costs[name]; c != nil {
			b.figures.set(figure, name, median(c))
			b.say("  %s, %s: %.2f to %.2f µs", figure, name, c[0]/1e3, c[len(c)-1]/1e3)
		}
	}
	return nil
}

// others is the CPU time of all that is not the bench's.
func (b *bench) others() time.Duration {
	sum := busy()
	own := []int{os.Getpid()}
	for _, s := range b.servers {
		own = append(own, s.pid(), s.load.process.Process.Pid)
	}
	for _, pid := range own {
		used, _ := cpu(pid)
		sum -= used
	}
	return sum
}

// median sorts v.
func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// eventCost is the CPU of an event delivered to one client, in ns.
func (s *server) eventCost(events int, rate float64) (float64, error) {
	if err := s.fan(max(3, events/20), rate, nil); err != nil { // awake
		return 0, err
	}
	if _, err := s.load.tell(order{Op: "reset"}); err != nil {
		return 0, err
	}
	var c count
	used, err := s.cpuOf(func() error { return s.fan(events, rate, &c) })
	return float64(used) / float64(max(c.Events, 1)), err
}

// fan publishes and waits until every client has everything, or for two seconds after the last. A server may drop some,
// if the machine is busy with something else; that hardly any come is an error. into is what has come.
func (s *server) fan(events int, rate float64, into *count) error {
	before, err := s.load.tell(order{Op: "count"})
	if err != nil {
		return err
	}
	if err := s.feed.publish(events, rate, time.Minute); err != nil {
		return err
	}
	wanted := int64(events) * int64(before.Open)
	c, _, err := s.arrive(before, wanted, 2*time.Second)
	if err != nil {
		return err
	}
	if into != nil {
		*into = c
	}
	if c.Events < wanted*99/100 {
		fmt.Fprintf(os.Stderr, "  %s dropped %d of %d events\n", s.name, wanted-c.Events, wanted)
	}
	if c.Events < wanted/10 {
		return fmt.Errorf("%d of %d events arrived", c.Events, wanted)
	}
	return nil
}

// arrive waits until wanted events more than before have come, at most so long. It returns what has come since, and when
// the last of it was there.
func (s *server) arrive(before count, wanted int64, most time.Duration) (c count, at time.Time, err error) {
	last := int64(-1)
	for deadline := time.Now().Add(most); ; time.Sleep(2 * time.Millisecond) {
		now, err := s.load.tell(order{Op: "count"})
		if err != nil {
			return c, at, err
		}
		c = now
		c.Events, c.Bytes, c.Reads = c.Events-before.Events, c.Bytes-before.Bytes, c.Reads-before.Reads
		if c.Events > last {
			last, at = c.Events, time.Now()
		}
		if c.Events >= wanted || time.Now().After(deadline) {
			return c, at, nil
		}
	}
}

func (b *bench) fanOutMany() error {
	if err := b.rounds(manyCPU, b.size.manyRate, func(*server, count) {}); err != nil {
		return err
	}
	return b.memory(fannedRSS, nil)
}

// reconnect has all clients leave and come again.
func (b *bench) reconnect() error {
	err := b.each(func(s *server) error {
		if err := s.disconnect(b.size.many); err != nil {
			return err
		}
		return b.pause(b.size.window / 2) // until it has noticed
	})
	if err != nil {
		return err
	}
	if err := b.each(func(s *server) error { return b.join(s, b.size.many) }); err != nil {
		return err
	}
	return b.memory(backRSS, nil)
}

func (b *bench) fanOutFew() error {
	err := b.each(func(s *server) error {
		if err := s.disconnect(b.size.many + warmClients - b.size.few); err != nil {
			return err
		}
		return b.pause(b.size.window / 2)
	})
	if err != nil {
		return err
	}
	half, most := map[string][]float64{}, map[string][]float64{}
	err = b.rounds(fewCPU, b.size.fewRate, func(s *server, c count) {
		half[s.name], most[s.name] = append(half[s.name], float64(c.P50)), append(most[s.name], float64(c.P99))
		b.figures.set(wire, s.name, float64(c.Bytes)/float64(max(c.Events, 1)))
		b.figures.set(reads, s.name, float64(c.Reads)/float64(max(c.Events, 1)))
	})
	for name := range half {
		b.figures.set(p50, name, median(half[name]))
		b.figures.set(p99, name, median(most[name]))
		b.say("  p99, %s: %.1f to %.1f ms", name, most[name][0]/1e6, most[name][len(most[name])-1]/1e6)
	}
	return err
}

// most raises the rate until a server loses events or delivers no more of them for it. Nothing may be lost in the step
// that the figure is of.
func (b *bench) most() error {
	return b.each(func(s *server) error {
		for rate := float64(b.size.firstStep); rate <= float64(b.size.lastStep); rate *= 1.5 {
			st, err := s.step(rate, b.size.step)
			if err != nil {
				return err
			}
			b.say("  %s at %.0f/s: %.0f events/s, %.2f µs, %.0f %% of a core, load client %.0f %%", s.name, rate, st.events, st.cost/1e3,
				st.events*st.cost/1e7, st.client*100)
			if st.events < 1.03*b.figures[mostEvents][s.name] {
				break
			}
			b.figures.set(mostEvents, s.name, st.events)
			b.figures.set(mostCPU, s.name, st.cost)
			b.figures.set(mostClient, s.name, st.client)
		}
		return b.pause(b.size.step / 5)
	})
}

// step is one rate that was tried.
type step struct {
	events float64 // delivered a second, until all had arrived; 0 when more than one in a hundred was lost
	cost   float64 // CPU of each, in ns
	client float64 // share of a core that the load client used
}

func (s *server) step(rate float64, d time.Duration) (st step, err error) {
	n := int(rate * d.Seconds())
	var c count
	var took, client time.Duration
	used, err := s.cpuOf(func() error {
		before, err := s.load.tell(order{Op: "count"})
		if err != nil {
			return err
		}
		idle, err := cpu(s.load.process.Process.Pid)
		if err != nil {
			return err
		}
		begin := time.Now()
		if s.feed.publish(n, rate, 3*d) != nil {
			return nil // it takes no more, and nothing has come of this step
		}
		var at time.Time
		c, at, err = s.arrive(before, int64(n*before.Open), 2*d)
		if err != nil {
			return err
		}
		took = at.Sub(begin)
		busy, err := cpu(s.load.process.Process.Pid)
		client = busy - idle
		return err
	})
	if err != nil || took == 0 || c.Events < int64(n*c.Open)*99/100 {
		return step{}, err
	}
	return step{float64(c.Events) / took.Seconds(), float64(used) / float64(c.Events), client.Seconds() / took.Seconds()}, nil
}

// behind compares a connect with one that has a hundred events to catch up on. Only ours: the others have no ids, or of
// another kind.
func (b *bench) behind() error {
	for _, s := range b.servers {
		if s.name != "ours" {
			continue
		}
		late, err := b.late(s)
		if err != nil {
			return err
		}
		var plain, behind []float64
		for range max(b.size.rounds, 2) {
			for _, round := range []struct {
				request string
				events  int
				costs   *[]float64
			}{{s.request, 0, &plain}, {late, eventsLate, &behind}} {
				cost, err := s.visit(b.size.behind, round.request, round.events)
				if err != nil {
					return err
				}
				*round.costs = append(*round.costs, cost)
				if err := b.pause(b.size.window / 4); err != nil {
					return err
				}
			}
		}
		b.figures.set(connectCPU, s.name, median(plain))
		b.figures.set(behindCPU, s.name, median(behind))
	}
	return nil
}

// visit has n clients come, get what they have missed, and go. It returns the CPU of one, in ns, its leaving not counted.
func (s *server) visit(n int, request string, events int) (float64, error) {
	before, err := s.load.tell(order{Op: "count"})
	if err != nil {
		return 0, err
	}
	used, err := s.cpuOf(func() error {
		if err := s.connect(n, request); err != nil {
			return err
		}
		c, _, err := s.arrive(before, int64(n*events), 2*time.Second)
		if err == nil && c.Events != int64(n*events) {
			err = fmt.Errorf("%d of %d events arrived", c.Events, n*events)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return float64(used) / float64(n), s.disconnect(n) // the oldest, who are as good as these
}

// late publishes some events and returns the request of a client that has missed the last eventsLate.
func (b *bench) late(s *server) (request string, err error) {
	req, _ := http.NewRequestWithContext(b.ctx, http.MethodGet, "http://"+s.addr+"/events", nil)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if err := s.feed.publish(eventsLate+1, 100, time.Minute); err != nil {
		return "", err
	}
	var ids []string
	place := false // the id is that of where the client stands, and not of an event
	for lines := bufio.NewScanner(resp.Body); len(ids) <= eventsLate && lines.Scan(); {
		if line := lines.Text(); line == "event: stream.open" {
			place = true
			continue
		} else if place && strings.HasPrefix(line, "id:") {
			place = false
			continue
		}
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			ids = append(ids, id)
		} else if id, ok := strings.CutPrefix(lines.Text(), "id:"); ok {
			ids = append(ids, id)
		}
	}
	if len(ids) <= eventsLate {
		return "", fmt.Errorf("%d of %d ids came", len(ids), eventsLate+1)
	}
	return strings.TrimSuffix(s.request, "\r\n") + "Last-Event-ID: " + ids[0] + "\r\n\r\n", b.pause(b.size.window / 4)
}

// http2 measures clients that share connections, in servers of their own.
func (b *bench) http2() error {
	for _, name := range []string{"ours", "plain"} {
		if !slices.ContainsFunc(b.servers, func(s *server) bool { return s.name == name }) {
			continue
		}
		s, err := b.startServer(name, "h2load")
		if err != nil {
			return err
		}
		err = b.http2Of(s)
		s.stop()
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) http2Of(s *server) error {
	open := func(conns int) error {
		_, err := s.load.tell(order{Op: "connect", N: conns, Addr: s.addr, Request: fmt.Sprint(b.size.h2Streams)})
		return err
	}
	if err := open(2); err != nil {
		return err
	}
	if err := s.fan(10, 100, nil); err != nil {
		return err
	}
	empty, err := resident(s.pid())
	if err != nil {
		return err
	}
	if err := open(b.size.h2Conns); err != nil {
		return err
	}
	if err := b.pause(b.size.settle / 2); err != nil {
		return err
	}
	now, err := resident(s.pid())
	if err != nil {
		return err
	}
	b.figures.set(h2RSS, s.name, max(0, float64(now-empty)/float64(b.size.h2Conns*b.size.h2Streams)))
	cost, err := s.eventCost(int(b.size.h2Window.Seconds()*float64(b.size.h2Rate)), float64(b.size.h2Rate))
	b.figures.set(h2CPU, s.name, cost)
	return err
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
