//go:build e2e

package e2e

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// startHole relays to target over a link that can swallow.
func startHole(t *testing.T, target string) *link {
	t.Helper()
	return startLink(t, target, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
}

// TestTunnelNoticesSilence: a connection that dies without a word is bridged when the network is back in time, both ways,
// and is a close with 1006 otherwise.
func TestTunnelNoticesSilence(t *testing.T) {
	t.Parallel()
	addr := startTunnelServer(t, "")
	s := startSidecar(t, "SSE_UPSTREAM=http://"+addr, "SSE_TUNNEL=/echo", "SSE_DRAIN=200ms", "SSE_LINGER=1m")
	inBrowsers(t, func(t *testing.T, b browser) {
		h := startHole(t, s.addr)
		b.open(t, "http://"+h.addr+"/always.html")
		talk(t, b, "it", "/echo", "a")
		heard(t, b, "it", "open,a")
		h.silence(true)
		b.eval(t, `talks.it.ws.send("b"), ""`)
		<-time.After(16 * time.Second) // it has noticed by now, and tries
		h.silence(false)
		heard(t, b, "it", "open,a,b")
		b.eval(t, `talks.it.ws.send("c"), ""`)
		heard(t, b, "it", "open,a,b,c")

		h.silence(true)
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
		b.open(t, "http://"+h.addr+"/page.html")
		last := f.tick(t)
		sees := func() string { return b.eval(t, "String(saw.at(-1))") }
		number := func(data string) string { return strings.TrimSuffix(strings.TrimPrefix(data, `{"n":`), "}") }
		eventually(t, "the first event", func() bool { return sees() == number(last) })
		<-time.After(2 * time.Second) // it has heard a heartbeat
		h.silence(true)
		last = f.tick(t)
		<-time.After(8 * time.Second) // more than twice HEARTBEAT and 5 s
		h.silence(false)
		eventually(t, "what came meanwhile", func() bool { return sees() == number(last) })
		if text := b.eval(t, `saw.join()`); strings.Contains(text, "gap") {
			t.Errorf("a gap where nothing is lost: %s", text)
		}
	})
}
