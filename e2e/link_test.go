//go:build e2e

package e2e

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// weather is what a network does to the segments of a connection, which arrive in order nevertheless, as TCP sees to it.
type weather struct {
	delay  time.Duration // each takes so long
	jitter time.Duration // and up to so much longer, so that what was written together arrives apart and what was written apart arrives together
	loss   float64       // so many are lost, and are there after the sender's time-out, which all that follow wait for
	rate   int           // bytes a second; 0 for any
	torn   bool          // segments are of any size, a byte at the least
}

// cutHow is how a connection ends.
type cutHow int

const (
	cutReset   cutHow = iota // both sides get an RST
	cutFin                   // both sides get a FIN
	cutSilent                // nothing passes any more and neither side is told, as when a NAT has forgotten the connection
	cutOnlyTo                // the target gets an RST, and whoever has dialled hears nothing
	cutOnlyBy                // whoever has dialled gets an RST, and the target hears nothing
	cutHalf                  // whoever has dialled gets a FIN, and may go on to send
	cutHowMany = int(cutHalf) + 1
)

// silences reports whether somebody is not told.
func (h cutHow) silences() bool { return h == cutSilent || h == cutOnlyTo || h == cutOnlyBy }

// link is a TCP relay whose network fails as it is told.
type link struct {
	addr, target string
	open         sync.WaitGroup

	mu       sync.Mutex // guards what follows
	listener net.Listener
	sky      weather
	turned   chan struct{} // closed when the weather changes
	swallow  bool          // connections that are made now are swallowed at once
	pairs    map[*pair]bool
	random   *rand.Rand
	closed   bool
}

// pair is a connection over a link.
type pair struct {
	link     *link
	by, to   *net.TCPConn
	silenced bool     // guarded by link.mu, as the next ones
	left     [2]int64 // bytes until the cut: towards the target, and back; less than 0: there is none
	how      cutHow
}

// startLink relays to target until the test ends.
func startLink(t *testing.T, target string, random *rand.Rand) *link {
	t.Helper()
	return linkOn(t, "127.0.0.1", target, random)
}

// linkOn is startLink at an address of this host.
func linkOn(t *testing.T, host, target string, random *rand.Rand) *link {
	t.Helper()
	l := &link{target: target, pairs: map[*pair]bool{}, random: random, turned: make(chan struct{})}
	for range 5 { // another process may take a port first
		_, port, _ := net.SplitHostPort(freeAddr(t))
		l.addr = net.JoinHostPort(host, port)
		if l.refuse(false); l.listener != nil {
			break
		}
	}
	if l.listener == nil {
		t.Fatalf("cannot listen on %s", l.addr)
	}
	t.Cleanup(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		l.refuse(true)
		l.cut(cutReset)
		l.open.Wait()
	})
	return l
}

// refuse has connections be refused by the system, or not any more.
func (l *link) refuse(refuse bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if refuse && l.listener != nil {
		l.listener.Close()
		l.listener = nil
	}
	if !refuse && l.listener == nil && !l.closed {
		listener, err := net.Listen("tcp", l.addr)
		if err != nil {
			return
		}
		l.listener = listener
		l.open.Go(func() { l.accept(listener) }) // ends with listener
	}
}

// turn changes the weather for all connections.
func (l *link) turn(sky weather) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sky = sky
	close(l.turned)
	l.turned = make(chan struct{})
}

// silence swallows what comes over the connections that there are, for ever, and over those that are made until it ends.
func (l *link) silence(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.swallow = on
	if on {
		for p := range l.pairs {
			p.silenced = true
		}
	}
}

// cut ends the connections that there are.
func (l *link) cut(how cutHow) {
	for _, p := range l.all() {
		p.end(how)
	}
}

// cutAfter ends each connection once up to most further bytes have passed on one of its ways.
func (l *link) cutAfter(how func() cutHow, most int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.pairs {
		p.how, p.left = how(), [2]int64{-1, -1}
		way := 1 // what clients and upstreams say is little, so mostly the way back
		if l.random.IntN(8) == 0 {
			way = 0
		}
		p.left[way] = l.random.Int64N(most)
	}
}

// heal ends whatever a fault has done: fair weather, and an end for connections that were swallowed, as the next segment over them would bring it.
func (l *link) heal() {
	l.turn(weather{})
	l.silence(false)
	l.refuse(false)
	for _, p := range l.all() {
		l.mu.Lock()
		dead := p.silenced
		p.left = [2]int64{-1, -1}
		l.mu.Unlock()
		if dead {
			p.end(cutReset)
		}
	}
}

func (l *link) all() (all []*pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.pairs {
		all = append(all, p)
	}
	return all
}

func (l *link) accept(listener net.Listener) {
	for {
		by, err := listener.Accept()
		if err != nil {
			return
		}
		l.open.Go(func() { l.relay(by.(*net.TCPConn)) }) // ends when either side does, or with cut
	}
}

func (l *link) relay(by *net.TCPConn) {
	to, err := net.DialTimeout("tcp", l.target, patience/2)
	if err != nil {
		reset(by)
		return
	}
	p := &pair{link: l, by: by, to: to.(*net.TCPConn), left: [2]int64{-1, -1}}
	l.mu.Lock()
	p.silenced = l.swallow
	l.pairs[p] = true
	closed := l.closed
	l.mu.Unlock()
	if closed {
		p.end(cutReset)
	}
	var both sync.WaitGroup
	both.Go(func() { p.carry(p.to, p.by, 0) })
	p.carry(p.by, p.to, 1)
	both.Wait()
	by.Close()
	to.Close()
	l.mu.Lock()
	delete(l.pairs, p)
	l.mu.Unlock()
}

// segment is on its way.
type segment struct {
	bytes []byte
	due   time.Time
	err   error // instead of bytes: how the sender has ended
}

// carry moves what from sends to to, until from ends or the pair is cut.
func (p *pair) carry(to, from *net.TCPConn, way int) {
	under := make(chan segment, 64) // a sender waits for room
	done := make(chan struct{})
	go func() { defer close(done); p.arrive(to, from, way, under) }() // ends with under
	var last time.Time
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		last = p.send(under, buf[:n], last)
		if err != nil {
			under <- segment{err: err, due: last}
			break
		}
	}
	close(under)
	<-done
}

// send puts b under way in segments, after what is due last.
func (p *pair) send(under chan<- segment, b []byte, last time.Time) time.Time {
	for len(b) > 0 {
		p.link.mu.Lock()
		sky, n, wait := p.link.sky, len(b), time.Duration(0)
		if p.silenced {
			p.link.mu.Unlock()
			return last
		}
		if sky.torn {
			n = 1 + p.link.random.IntN(min(n, 600))
		} else if sky != (weather{}) {
			n = min(n, 1448)
		}
		if sky.jitter > 0 {
			wait += time.Duration(p.link.random.Int64N(int64(sky.jitter)))
		}
		for again := 200 * time.Millisecond; sky.loss > 0 && p.link.random.Float64() < sky.loss && again < 2*time.Second; again *= 2 {
			wait += again
		}
		p.link.mu.Unlock()
		due := time.Now().Add(sky.delay + wait)
		if due.Before(last) {
			due = last
		}
		if sky.rate > 0 {
			due = due.Add(time.Duration(n) * time.Second / time.Duration(sky.rate))
		}
		under <- segment{bytes: append([]byte(nil), b[:n]...), due: due}
		b, last = b[n:], due
	}
	return last
}

// arrive gives to what is due, or all that is under way once the weather is another.
func (p *pair) arrive(to, from *net.TCPConn, way int, under <-chan segment) {
	for s := range under {
		p.link.mu.Lock()
		turned, stormy := p.link.turned, p.link.sky != weather{}
		p.link.mu.Unlock()
		if stormy {
			select {
			case <-time.After(time.Until(s.due)):
			case <-turned:
			}
		}
		silenced, cut, how, bytes := p.takes(s, way)
		switch {
		case silenced:
		case s.err == io.EOF:
			to.CloseWrite()
		case s.err != nil:
			reset(to)
			reset(from)
		default:
			to.Write(bytes)
			if cut {
				p.end(how)
			}
		}
	}
}

// takes returns what arrives of a segment, and whether, and how, the pair is cut after it. One that is silenced then is so from here on: heal may come before the bytes
// have arrived, and has to find it.
func (p *pair) takes(s segment, way int) (silenced, cut bool, how cutHow, bytes []byte) {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	left := p.left[way]
	silenced, bytes = p.silenced, s.bytes
	switch {
	case left < 0 || s.err != nil:
	case int64(len(bytes)) < left:
		p.left[way] -= int64(len(bytes))
	default:
		cut, bytes, p.left = true, bytes[:left], [2]int64{-1, -1}
		p.silenced = p.silenced || p.how.silences()
	}
	return silenced, cut, p.how, bytes
}

// end ends the pair.
func (p *pair) end(how cutHow) {
	p.link.mu.Lock()
	p.silenced = p.silenced || how.silences()
	p.link.mu.Unlock()
	switch how {
	case cutReset:
		reset(p.by)
		reset(p.to)
	case cutFin:
		p.by.Close()
		p.to.Close()
	case cutOnlyTo:
		reset(p.to)
	case cutOnlyBy:
		reset(p.by)
	case cutHalf:
		p.by.CloseWrite()
	}
}
