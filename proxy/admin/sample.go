package admin

import (
	"sync"
	"time"

	"sidestream/proxy"
	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
)

// The dashboard looks back so far, in steps.
const (
	sampleEvery = 2 * time.Second
	lookBack    = 10 * time.Minute
	samplesKept = int(lookBack/sampleEvery) + 1
)

// counts are a route's counters at one moment.
type counts struct {
	Events, Delivered, Bytes, Messages int64
	Failures, Oversize, Undecoded, JQ  int64
	Gaps                               [len(stream.GapReasons)]int64
	Answers, AnswerTime                int64
	Refused, HeldBack                  int64
	AuthDown                           int64
}

// sample is what the counters were at one moment.
type sample struct {
	at           time.Time
	routes       map[string]counts
	rejected     [len(proxy.Rejections)]int64
	disconnected [len(deliver.Reasons)]int64
	linesLost    int64
	peerFailed   int64
}

// samples are those of the last ten minutes. The zero value has none. Safe for concurrent use.
type samples struct {
	mu   sync.Mutex // guards kept
	kept []sample   // oldest first
}

// run takes one sample after the other until done is closed.
func (s *samples) run(a *Port, done <-chan struct{}) {
	t := time.NewTicker(sampleEvery)
	defer t.Stop()
	for {
		s.add(a.sample())
		select {
		case <-done:
			return
		case <-t.C:
		}
	}
}

func (s *samples) add(one sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) == samplesKept {
		s.kept = append(s.kept[:0], s.kept[1:]...)
	}
	s.kept = append(s.kept, one)
}

// span is the sample of so long ago, or the oldest, and the newest; false before there are two.
func (s *samples) span(back time.Duration) (from, to sample, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.kept)
	if n < 2 {
		return from, to, false
	}
	return s.kept[max(0, n-1-int(back/sampleEvery))], s.kept[n-1], true
}

// past is the events per second that a route has had, oldest first, a figure for each step.
func (s *samples) past(route string) (rates []float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 1; i < len(s.kept); i++ {
		before, now := s.kept[i-1], s.kept[i]
		seconds := now.at.Sub(before.at).Seconds()
		rates = append(rates, round(float64(now.routes[route].Events-before.routes[route].Events)/seconds))
	}
	return rates
}

// round leaves out what nobody reads.
func round(rate float64) float64 {
	return float64(int64(max(rate, 0)*10+.5)) / 10
}

// sample reads all counters.
func (a *Port) sample() sample {
	p := a.Proxy
	s := sample{at: time.Now(), routes: map[string]counts{}}
	for _, rt := range p.Routes() {
		s.routes[rt.Name] = count(rt)
	}
	s.disconnected = p.Left()
	for i := range s.rejected {
		s.rejected[i] = p.Rejected[i].Load()
	}
	if a.Lines != nil {
		s.linesLost = a.Lines.Lost()
	}
	if p.Peers != nil {
		s.peerFailed = sum(p.Peers.Stats.Failed[:])
	}
	return s
}

// count reads the counters of one route.
func count(rt *proxy.Route) counts {
	source, ring := rt.Upstream.Stats, rt.Streams.Stats
	c := counts{
		Events: ring.Events.Load(), Delivered: rt.Clients.Events.Load(), Bytes: rt.Clients.Bytes.Load(), Messages: source.Received.Load(),
		Failures: rt.Streams.Health().Failures, Oversize: source.Oversize.Load(), Undecoded: source.Undecoded.Load(), JQ: source.JQFailed.Load() + source.JQTimeouts.Load(),
		Answers: source.Answers.Load(), AnswerTime: source.AnswerTime.Load(), Refused: ring.Refused.Load(), HeldBack: rt.HeldBack.Load(),
	}
	for i := range c.Gaps {
		c.Gaps[i] = ring.Gaps[i].Load()
	}
	if s := rt.AuthStats(); s != nil {
		c.AuthDown = s.Unavailable.Load()
	}
	return c
}
