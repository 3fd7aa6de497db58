// This file is what it costs when a client connects: without a replay, with one, again, and over HTTP/2.

package main

import (
	"bufio"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

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

// behind measures a connect with a hundred events to replay. Only ours: the others have no ids, or ids of
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
		for _, of := range []tabs{{b.size.h2Conns, b.size.h2Streams, h2RSS, h2CPU}, {b.size.h2Conns * b.size.h2Streams / 2, 1, tabRSS, tabCPU}} {
			s, err := b.startServer(name, "h2load")
			if err != nil {
				return err
			}
			err = b.http2Of(s, of)
			s.stop()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// tabs are connections of HTTP/2 with so many clients each, and the figures that are of them.
type tabs struct {
	conns, streams int
	rss, cpu       string
}

func (b *bench) http2Of(s *server, of tabs) error {
	open := func(conns int) error {
		_, err := s.load.tell(order{Op: "connect", N: conns, Addr: s.addr, Request: fmt.Sprint(of.streams)})
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
	if err := open(of.conns); err != nil {
		return err
	}
	if err := b.pause(b.size.settle / 2); err != nil {
		return err
	}
	now, err := resident(s.pid())
	if err != nil {
		return err
	}
	b.figures.set(of.rss, s.name, max(0, float64(now-empty)/float64(of.conns*of.streams)))
	cost, err := s.eventCost(int(b.size.h2Window.Seconds()*float64(b.size.h2Rate)), float64(b.size.h2Rate))
	b.figures.set(of.cpu, s.name, cost)
	return err
}
