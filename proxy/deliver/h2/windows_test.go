package h2

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"sidestream/proxy/deliver/h2/h2test"
)

// TestGrantsMakeUpForWhatIsOwed: net/http is told of what the client grants, but for what adopted streams have used.
func TestGrantsMakeUpForWhatIsOwed(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, f := wo.dial()
		p.Hold()
		p.Ask("GET", "/", nil)
		synctest.Wait()
		f.pour(strings.Repeat("x", 5000))
		synctest.Wait()
		for _, step := range []struct{ grant, told, owed int64 }{{2000, 0, 3000}, {2999, 0, 1}, {1, 0, 0}, {700, 700, 0}} {
			before := f.ledger.told()
			p.Grant(0, step.grant)
			synctest.Wait()
			f.conn.mu.Lock()
			owed := f.conn.owed
			f.conn.mu.Unlock()
			if told := f.ledger.told() - before; told != step.told || owed != step.owed {
				t.Errorf("of %d net/http is told %d, and %d are owed; want %d and %d", step.grant, told, owed, step.told, step.owed)
			}
		}
		f.pour(strings.Repeat("x", 5000))
		synctest.Wait()
		before := f.ledger.told()
		p.Grant(0, 5400)
		synctest.Wait()
		if told := f.ledger.told() - before; told != 400 {
			t.Errorf("net/http is told of %d, want 400", told)
		}
		p.Conn.Close()
	})
}

// told is what net/http was ever told of.
func (l *ledger) told() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.granted
}

// TestAWindowThatGrowsIsUsedAtOnce: whichever it is, and though nothing else happens.
func TestAWindowThatGrowsIsUsedAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		initial uint32
		grow    func(p *h2test.Peer, id uint32)
		want    int
	}{
		"the stream's":        {100, func(p *h2test.Peer, id uint32) { p.Grant(id, 50) }, 150},
		"all streams'":        {100, func(p *h2test.Peer, _ uint32) { p.Resize(130) }, 130},
		"the connection's":    {1 << 20, func(p *h2test.Peer, _ uint32) { p.Grant(0, 1000) }, firstWindow + 1000},
		"from nothing":        {0, func(p *h2test.Peer, id uint32) { p.Grant(id, 7) }, 7},
		"the one that is not": {100, func(p *h2test.Peer, _ uint32) { p.Grant(0, 1000) }, 100},
	} {
		inWorks(t, func(t *testing.T, wo *works) {
			p, f := wo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: c.initial})
			p.Hold()
			id := p.Ask("GET", "/", nil)
			synctest.Wait()
			f.pour(strings.Repeat("x", 1<<20))
			synctest.Wait()
			if n, want := p.Got(id).Body.Len(), min(int(c.initial), firstWindow); n != want {
				t.Errorf("%s: got %d bytes of a window of %d", name, n, want)
			}
			c.grow(p, id)
			synctest.Wait()
			if n := p.Got(id).Body.Len(); n != c.want {
				t.Errorf("%s: got %d bytes then, want %d", name, n, c.want)
			}
			p.Conn.Close()
		})
	}
}

// TestNothingBeforeTheHead: what is there for a stream waits until net/http has written the head of its answer, and its handler has returned.
func TestNothingBeforeTheHead(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, f := wo.dial()
		id := p.Ask("GET", "/late", nil)
		synctest.Wait()
		f.pour("early")
		synctest.Wait()
		if got := p.Got(id); got.Status != "" || got.Body.Len() > 0 {
			t.Errorf("got %q before the head, which is %q", got.Body.String(), got.Status)
		}
		pass(time.Second)
		if got := p.Got(id); got.Status != "200" || got.Body.String() != "early" {
			t.Errorf("got %q after the head, which is %q", got.Body.String(), got.Status)
		}
		p.Conn.Close()
	})
}

// TestAQuarterOfTheWindowIsForAdoptedStreams: a download that takes all it gets does not keep them.
func TestAQuarterOfTheWindowIsForAdoptedStreams(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, f := wo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 25})
		p.Hold()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		big := p.Ask("GET", "/bulk?1000000", nil)
		synctest.Wait()
		f.pour("1")
		for turn := range 10 {
			p.Grant(0, firstWindow/2)
			synctest.Wait()
			f.pour(strings.Repeat("x", 1000))
			synctest.Wait()
			if n := p.Got(id).Body.Len(); n != 1+1000*(turn+1) {
				t.Fatalf("after %d grants: %d bytes", turn+1, n)
			}
		}
		if got := p.Got(big).Body.Len(); got < 200_000 {
			t.Errorf("the download has got %d bytes", got)
		}
		p.Conn.Close()
	})
}

// TestTheyTakeTurns: where the window is too small for what waits and for adopted streams, neither goes without.
func TestTheyTakeTurns(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, f := wo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		p.Hold()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		f.pour(strings.Repeat("x", 300_000))
		synctest.Wait()
		big := p.Ask("GET", "/bulk?100000", nil)
		synctest.Wait()
		for range 40 {
			p.Grant(0, 10_000)
			pass(time.Second)
		}
		if got := p.Got(id).Body.Len(); got != 300_000 {
			t.Errorf("the stream has got %d bytes", got)
		}
		if got := p.Got(big); !got.Ended || !bytes.Equal(got.Body.Bytes(), h2test.Bulk(100_000)) {
			t.Errorf("the download has got %d bytes", got.Body.Len())
		}
		first := p.Got(id).Body.Len()
		f.pour(strings.Repeat("x", 500_000))
		synctest.Wait()
		second := p.Ask("GET", "/bulk?100000", nil)
		synctest.Wait()
		for range 4 {
			p.Grant(0, 50_000)
			pass(time.Second)
		}
		if stream, download := p.Got(id).Body.Len()-first, p.Got(second).Body.Len(); stream < 30_000 || download < 30_000 {
			t.Errorf("of 200000 bytes the stream has got %d, the download %d", stream, download)
		}
		p.Conn.Close()
	})
}

// TestIdleConnections end with a GOAWAY, those with adopted streams do not, however long nothing else happens.
func TestIdleConnections(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		idle, _ := wo.dial()
		used, f := wo.dial()
		id := used.Ask("GET", "/", nil)
		pass(time.Minute)
		big := idle.Ask("GET", "/bulk?1000", nil)
		synctest.Wait()
		pass(idleTime - time.Second)
		if n, _ := idle.GoAways(); n > 0 || idle.Got(big).Body.Len() != 1000 {
			t.Fatal("closed before its time")
		}
		pass(time.Second)
		if n, _ := idle.GoAways(); n != 1 {
			t.Fatal("no GOAWAY")
		}
		late := idle.Ask("GET", "/bulk?1000", nil)
		pass(farewell)
		<-idle.Done
		if idle.Got(late).Status != "" {
			t.Error("a request after GOAWAY was answered, which its client asks again elsewhere")
		}
		pass(time.Hour)
		used.Write(func(f *http2.Framer) error { return f.WriteGoAway(0, 0, nil) }) // it will not push; we do not either
		pass(time.Hour)
		f.pour("there")
		synctest.Wait()
		if n, _ := used.GoAways(); n > 0 || used.Got(id).Body.String() != "there" {
			t.Errorf("%d GOAWAYs, and %q", n, used.Got(id).Body.String())
		}
		used.Cancel(id)
		synctest.Wait()
		if f.gone != 1 {
			t.Errorf("%d are gone", f.gone)
		}
		pass(idleTime + farewell)
		<-used.Done
	})
}

// TestWrapStartsNothing but a timer, and a connection that is closed wants none.
func TestWrapStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		f := &fountain{}
		f.conn = Wrap(theirs, f, false).Conn
		if f.timer == nil || f.at.Sub(f.conn.Start()) != idleTime || f.conn.fills.state.Load() != asleep {
			t.Errorf("the timer is at %v, and run in state %d", f.at, f.conn.fills.state.Load())
		}
		f.conn.Close()
		if f.timer.Stop() {
			t.Error("the timer is left")
		}
	})
}
