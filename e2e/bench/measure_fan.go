// This file is what an event costs: fan-out to many and to few clients, and how many events there can be a second.

package main

import (
	"fmt"
	"os"
	"slices"
	"time"
)

// rounds measures fan-out, each server in turn and as often as there are rounds, each time another one first, and keeps
// the medians. measured is called after each window, for what else it tells.
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
	for name, c := range costs {
		if c != nil {
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
	for _, s := range b.stores {
		own = append(own, s.pid())
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
	return b.fewRounds()
}

// fewRounds measures what an event costs and how long it takes.
func (b *bench) fewRounds() error {
	half, most := map[string][]float64{}, map[string][]float64{}
	err := b.rounds(fewCPU, b.size.fewRate, func(s *server, c count) {
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
