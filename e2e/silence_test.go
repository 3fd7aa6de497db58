//go:build e2e

package e2e

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// hole is a TCP relay that can swallow: what comes over its connections then goes nowhere, and nobody is told, as behind a
// NAT that has forgotten them. Those it has swallowed stay so.
type hole struct {
	listener net.Listener
	target   string
	open     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	swallow bool
	lost    chan struct{} // closed when what is open now is swallowed
	all     []net.Conn
}

func startHole(t *testing.T, target string) *hole {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{listener: l, target: target, lost: make(chan struct{})}
	h.open.Go(h.accept) // ends with the listener
	t.Cleanup(func() {
		l.Close()
		h.mu.Lock()
		for _, conn := range h.all {
			conn.Close()
		}
		h.mu.Unlock()
		h.open.Wait()
	})
	return h
}

func (h *hole) addr() string { return h.listener.Addr().String() }

// set begins or ends the swallowing.
func (h *hole) set(swallow bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.swallow = swallow; swallow {
		close(h.lost)
	} else {
		h.lost = make(chan struct{})
	}
}

func (h *hole) accept() {
	for {
		client, err := h.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", h.target)
		if err != nil {
			client.Close()
			continue
		}
		h.mu.Lock()
		lost := h.lost
		h.all = append(h.all, client, server)
		h.mu.Unlock()
		h.open.Go(func() { relay(server, client, lost) }) // both end with either side
		h.open.Go(func() { relay(client, server, lost) })
	}
}

// relay passes on until lost, and then reads on without a word.
func relay(to, from net.Conn, lost chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-lost:
			if err != nil {
				return
			}
			continue
		default:
		}
		if n > 0 {
			to.Write(buf[:n])
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

// TestTunnelNoticesSilence: a connection that dies without a word is bridged when the network is back in time, both ways,
// and is a close with 1006 otherwise.
func TestTunnelNoticesSilence(t *testing.T) {
	t.Parallel()
	addr := startTunnelServer(t, "")
	s := startSidecar(t, "SSE_UPSTREAM=http://"+addr, "SSE_TUNNEL=/echo", "SSE_DRAIN=200ms", "SSE_LINGER=1m")
	inBrowsers(t, func(t *testing.T, b browser) {
		h := startHole(t, s.addr)
		b.open(t, "http://"+h.addr()+"/always.html")
		talk(t, b, "it", "/echo", "a")
		heard(t, b, "it", "open,a")
		h.set(true)
		b.eval(t, `talks.it.ws.send("b"), ""`)
		<-time.After(16 * time.Second) // it has noticed by now, and tries
		h.set(false)
		heard(t, b, "it", "open,a,b")
		b.eval(t, `talks.it.ws.send("c"), ""`)
		heard(t, b, "it", "open,a,b,c")

		h.set(true)
		begun := time.Now()
		eventually(t, "it to be given up", func() bool {
			return strings.HasSuffix(b.eval(t, "talks.it.log.join()"), "close 1006")
		})
		t.Logf("given up after %v", time.Since(begun))
	})
}

// TestEventsScriptNoticesSilence: so does the EventSource that tabs share, also on a stream that is never quiet.
func TestEventsScriptNoticesSilence(t *testing.T) {
	t.Parallel()
	f := startFeed(t, map[string]string{"/page.html": `<!doctype html><link rel="icon" href="data:,"><title>events</title>
<script src="/_sidestream/events.js"></script><script>
const saw = [], source = new SidestreamEventSource("/ticks");
source.addEventListener("tick", e => saw.push(JSON.parse(e.data).n));
source.addEventListener("stream.gap", e => saw.push("gap"));
</script>`})
	s := startSidecar(t, append(feedEnv(f), "SSE_ROUTE_TICKS_START=all")...)
	inBrowsers(t, func(t *testing.T, b browser) {
		h := startHole(t, s.addr)
		b.open(t, "http://"+h.addr()+"/page.html")
		last := f.tick(t)
		sees := func() string { return b.eval(t, "String(saw.at(-1))") }
		number := func(data string) string { return strings.TrimSuffix(strings.TrimPrefix(data, `{"n":`), "}") }
		eventually(t, "the first event", func() bool { return sees() == number(last) })
		<-time.After(2 * time.Second) // it has heard a heartbeat
		h.set(true)
		last = f.tick(t)
		<-time.After(8 * time.Second) // more than twice HEARTBEAT and 5 s
		h.set(false)
		eventually(t, "what came meanwhile", func() bool { return sees() == number(last) })
		if text := b.eval(t, `saw.join()`); strings.Contains(text, "gap") {
			t.Errorf("a gap where nothing is lost: %s", text)
		}
	})
}
