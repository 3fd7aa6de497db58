package deliver

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/stream"
)

// texts are lines without their times.
func texts(lines []line) string {
	var all []string
	for _, l := range lines {
		all = append(all, l.text)
	}
	return strings.Join(all, " ")
}

// TestRevokedClientsAreCut: at once, without an event more, and nobody else.
func TestRevokedClientsAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		joe, ann := access.NewPass(time.Time{}), access.NewPass(time.Time{})
		var readers []*reader
		for _, p := range []*access.Pass{joe, joe, ann, nil} {
			b.pass = p
			r := b.connect()
			r.take()
			readers = append(readers, r)
		}
		b.ring.Append(say("1"))
		has := b.ring.LastID()
		pass(7 * time.Second)
		if cut := joe.End(403); cut != 2 {
			t.Errorf("%d were cut", cut)
		}
		b.ring.Append(say("2"))
		pass(moment)
		for i, r := range readers {
			got, id := texts(r.take()), b.ring.LastID()
			refused := strings.TrimSuffix(got, " id: "+has) // it has the id where it is cut before there is a newer event
			switch {
			case i < 2 && (!strings.HasSuffix(refused, `event: stream.refused data: {"status":403}`) || strings.Contains(got, "data: 2") || r.ended != 7*time.Second+moment):
				t.Errorf("%d: %q, ended after %v", i, got, r.ended)
			case i >= 2 && (!strings.HasSuffix(got, "data: 2 id: "+id) || r.err != nil):
				t.Errorf("%d: %q %v", i, got, r.err)
			}
		}
		if n := b.route.Stats.Disconnected[Revoked].Load(); n != 2 {
			t.Errorf("%d counted as revoked", n)
		}
		if cut := joe.End(401); cut != 0 || joe.Standing() != 403 {
			t.Error("it ended twice")
		}
		b.pass = joe // who comes in just then
		late := b.connect()
		pass(moment)
		if got := texts(late.take()); !strings.Contains(got, "retry: ") || !strings.HasSuffix(got, `data: {"status":403}`) || strings.Contains(got, "data: 1") || late.err == nil {
			t.Errorf("%q %v", got, late.err)
		}
		readers[2].Close()
		readers[3].Close()
		synctest.Wait()
		if cut := ann.End(401); cut != 0 {
			t.Errorf("%d are there that have left", cut)
		}
		b.close()
	})
}

// TestExpiredClientsComeBack: between the end of their credentials and 30 s later, spread, with all that there is until then.
func TestExpiredClientsComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.pass = access.NewPass(time.Now().Add(time.Minute))
		var all []*reader
		for range 100 {
			all = append(all, b.connect())
		}
		b.pass = access.NewPass(time.Now().Add(-25 * time.Second)) // which still counts, for clocks that are behind
		late := b.connect()
		b.pass = access.NewPass(time.Now().Add(24 * time.Hour))
		stays := b.connect()
		for range 90 {
			pass(time.Second)
			b.ring.Append(say("x"))
			synctest.Wait()
		}
		first, last := time.Hour, time.Duration(0)
		for _, r := range all {
			<-r.done
			got := r.take()
			told := got[len(got)-1]
			retryOf(t, told)
			first, last = min(first, told.at), max(last, told.at)
			if n := strings.Count(texts(got), "data: x"); n != int(told.at/time.Second) && n != int(told.at/time.Second)-1 {
				t.Errorf("%d events until %v", n, told.at)
			}
			if r.ended-told.at != moment {
				t.Errorf("told after %v, cut after %v", told.at, r.ended)
			}
		}
		if first < time.Minute || last > 90*time.Second || last-first < 10*time.Second {
			t.Errorf("told from %v to %v", first, last)
		}
		if n := b.route.Stats.Disconnected[Expired].Load(); n != 101 || late.ended > 5*time.Second || stays.err != nil {
			t.Errorf("%d counted as expired; one that was late ended after %v, one that is not due: %v", n, late.ended, stays.err)
		}
		stays.Close()
		b.close()
	})
}

// TestDrainBeforeExpiry: a drain does not wait for the credentials to run out.
func TestDrainBeforeExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.pass = access.NewPass(time.Now().Add(time.Hour))
		r := b.connect()
		begun := time.Now()
		b.clients.Drain(5 * time.Second)
		if <-r.done; time.Since(begun) > 6*time.Second || b.route.Stats.Disconnected[Drained].Load() != 1 {
			t.Error(time.Since(begun))
		}
		b.close()
	})
}

// answered reads an answer to its end.
func answered(in *bufio.Reader) string {
	var b strings.Builder
	in.WriteTo(&b) // an answer that is cut ends with an error
	return b.String()
}

// The same over sockets, with as few goroutines as there can be.
func TestRealPasses(t *testing.T) { overEach(t, realPasses) }

func realPasses(t *testing.T, newHarbour wire) {
	h := newHarbour(t, stream.Bounds{Start: stream.StartAll}, 0)
	h.append(say("1"))
	joe, ann := access.NewPass(time.Time{}), access.NewPass(time.Now().Add(time.Hour))
	type client struct {
		net.Conn
		in *bufio.Reader
	}
	open := func(p *access.Pass, proto string) client {
		h.pass.Store(p)
		c, in := h.open(proto, "")
		return client{c, in}
	}
	var cut, stay []client
	for range 10 {
		cut, stay = append(cut, open(joe, "1.1"), open(joe, "1.0")), append(stay, open(ann, "1.1"), open(nil, "1.0"))
	}
	blocked := open(joe, "1.1") // reads nothing
	eventually(t, "all are there", func() bool { return h.route.Stats.Clients.Load() == 41 })
	if n := joe.End(401); n != 21 {
		t.Errorf("%d were cut", n)
	}
	h.append(say("2"))
	for i, c := range cut {
		if got := answered(c.in); !strings.Contains(got, "data: 1\n") || !strings.HasSuffix(got, "event: stream.refused\ndata: {\"status\":401}\n\n") && !strings.Contains(got, "stream.refused\ndata: {\"status\":401}\nid: ") || strings.Contains(got, "data: 2") {
			t.Errorf("%d: %q", i, got)
		}
	}
	for i, c := range stay {
		r := bufio.NewReader(c.in)
		for line := ""; line != "data: 2\n"; {
			var err error
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		c.Close()
	}
	eventually(t, "the revoked are gone", func() bool { return h.route.Stats.Disconnected[Revoked].Load() == 21 })
	blocked.Close()
	late := open(joe, "1.1")
	if got := answered(late.in); strings.Contains(got, "data: 1") || !strings.Contains(got, "stream.refused") {
		t.Errorf("one that came in just then: %q", got)
	}
	over := access.NewPass(time.Now().Add(-expireTime))
	for _, proto := range []string{"1.1", "1.0"} {
		if got := answered(open(over, proto).in); !strings.Contains(got, "data: 1\n") || strings.Count(got, "retry: ") != 2 {
			t.Errorf("expired: %q", got)
		}
	}
	eventually(t, "nobody has a pass", func() bool { return joe.End(401)+ann.End(401)+over.End(401) == 0 && h.route.Stats.Clients.Load() == 0 })
}

// TestExpiryWithoutHeartbeats: it does not depend on them that somebody looks.
func TestExpiryWithoutHeartbeats(t *testing.T) {
	h := newHarbour(t, stream.Bounds{}, 0)
	h.pass.Store(access.NewPass(time.Now().Add(time.Second - expireTime))) // a twentieth of them has something left, a second at most
	var all []net.Conn
	for range 200 {
		c, _ := h.open("1.1", "")
		all = append(all, c)
	}
	eventually(t, "all are told", func() bool { return h.route.Stats.Disconnected[Expired].Load() == 200 })
	for _, c := range all {
		c.Close()
	}
}

// TestRevokedWithAFullSocket: one that reads nothing is cut as well, with what it has.
func TestRevokedWithAFullSocket(t *testing.T) { overEach(t, revokedWithAFullSocket) }

func revokedWithAFullSocket(t *testing.T, newHarbour wire) {
	h := newHarbour(t, stream.Bounds{Events: 10}, 0)
	p := access.NewPass(time.Time{})
	h.pass.Store(p)
	c, _ := h.open("1.1", "")
	defer c.Close()
	large := strings.Repeat("x", 4<<20)
	for range 8 {
		h.append(say(large))
	}
	p.End(401)
	eventually(t, "it is gone", func() bool { return h.route.Stats.Clients.Load() == 0 })
	if h.route.Stats.Disconnected[Revoked].Load() != 1 {
		t.Error("not counted as revoked")
	}
}

// A client whose credentials run out does not stay longer because it is sent away for another reason, in a window that may be an hour.
func TestExpiryCountsInAWindow(t *testing.T) {
	for _, why := range []uint8{Reloaded, Drained, Aged} {
		c := newCursor(&Client{Route: new(Pacing), Pass: access.NewPass(time.Now().Add(time.Second))}, 0)
		due := c.due
		if !c.mayLeave(why) {
			t.Fatal("it is not asked to")
		}
		if c.leaves(why, due+ticks(time.Hour)); c.due != due || c.why != why {
			t.Errorf("%s: it is due %d ms later, for %s", Reasons[why], c.due-due, Reasons[c.why])
		}
		if c.leaves(why, due-500); c.due != due-500 {
			t.Errorf("%s: it stays though it is to leave sooner", Reasons[why])
		}
	}
}
