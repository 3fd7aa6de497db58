//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"sidestream/e2e/page"
	"sidestream/e2e/redistest"
)

// startPeers starts n sidecars with env that share a history in Redis and know each other, and nginx, which gives each request, WebSockets
// too, to the next one.
func startPeers(t *testing.T, n int, env ...string) (all []*sidecar, front string) {
	t.Helper()
	redis := redistest.Start(t)
	env = append([]string{"SSE_HISTORY=redis://" + redis.Addr, "SSE_PEER_SECRET=a secret of the replicas", "SSE_DRAIN=0"}, env...)
	var addrs []string
	for range n {
		own := freeAddr(t)
		s := startSidecar(t, append(env[:len(env):len(env)], "SSE_PEER=http://"+own, "SSE_PEER_LISTEN="+own)...)
		all, addrs = append(all, s), append(addrs, s.addr)
	}
	return all, startRoundRobin(t, addrs...)
}

// forwarded is how many requests s has had answered by others.
func forwarded(s *sidecar, kind string) string {
	for line := range strings.Lines(fetchText("http://" + s.admin + "/metrics")) {
		if count, ok := strings.CutPrefix(line, `sidestream_peer_forwarded_total{kind="`+kind+`"} `); ok {
			return strings.TrimSpace(count)
		}
	}
	return "none"
}

// A page with tunnels is the same to a browser whose requests go to any of three replicas, each to the next one.
func TestTunnelConformsAcrossReplicas(t *testing.T) {
	t.Parallel()
	addr := startTunnelServer(t, "")
	all, front := startPeers(t, 3, "SSE_UPSTREAM=http://"+addr, "SSE_TUNNEL=/echo/,/nothing")
	conforms(t, startChromium(t), front)
	for i, s := range all {
		if n := forwarded(s, "tunnel"); n == "0" || n == "none" {
			t.Errorf("replica %d has forwarded %s", i, n)
		}
	}
}

// A message reaches the connection of its stream whichever replica gets it, once, and a key means the same at each.
func TestSendAcrossReplicas(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	all, front := startPeers(t, 3, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_SEND=true", "SSE_ROUTE_A_FROM=ws"+strings.TrimPrefix(e.URL, "http"))
	if got := post(t, "http://"+front+"/a", "", "early"); got != http.StatusNotFound {
		t.Errorf("a stream that nobody has: %d", got)
	}
	resp, err := http.Get("http://" + front + "/a")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewScanner(resp.Body)
	want := func(data string) {
		t.Helper()
		for events.Scan() {
			if got, ok := strings.CutPrefix(events.Text(), "data: "); ok && got != "{}" {
				if got != data {
					t.Errorf("got %s, want %s", got, data)
				}
				return
			}
		}
		t.Fatal(events.Err())
	}
	for i := range 12 {
		if got := post(t, "http://"+front+"/a", "", fmt.Sprint(i)); got != http.StatusAccepted {
			t.Errorf("message %d: %d", i, got)
		}
	}
	for range 6 {
		if got := post(t, "http://"+front+"/a", "k", "once"); got != http.StatusAccepted {
			t.Errorf("a key that is repeated: %d", got)
		}
		if got := post(t, "http://"+front+"/a", "k", "other"); got != http.StatusUnprocessableEntity {
			t.Errorf("a key for another message: %d", got)
		}
	}
	for i := range 12 {
		want(fmt.Sprint(i))
	}
	want("once")
	if n := e.heard.Load(); n != 13 {
		t.Errorf("the service heard %d", n)
	}
	var counts []string
	for _, s := range all {
		counts = append(counts, forwarded(s, "send"))
	}
	if strings.Count(strings.Join(counts, " ")+" ", "0 ") != 1 { // the holder
		t.Errorf("forwarded %v", counts)
	}
}

// Replicas that come and go do not matter to a page but for the one that has it, whose end is that of its tunnels.
func TestTunnelReplicasEnd(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	all, front := startPeers(t, 3, "SSE_UPSTREAM="+e.URL, "SSE_TUNNEL=/")
	p := beginPage(t, front, "0123456789abcdefghij")
	ws, err := p.Dial(patient(t), 1, "/socket")
	if err != nil {
		t.Fatal(err)
	}
	echoes := func(n int) {
		t.Helper()
		ws.Send(page.Message{Data: fmt.Sprint(n)})
		if m, ok := ws.Receive(patient(t)); !ok || m.Data != fmt.Sprint(n) {
			t.Fatalf("message %d: %+v, %v; the tunnel ended with %+v", n, m, ok, ws.Closed())
		}
	}
	var owner *sidecar
	for i, s := range all {
		if strings.Contains(s.apiStatus(t), `"tunnels":1`) {
			owner = s
			continue
		}
		for n := range 20 {
			if n == 5 {
				s.Process.Signal([]os.Signal{syscall.SIGTERM, syscall.SIGKILL}[i%2])
				<-s.ended
			}
			p.Cut()
			echoes(100*i + n)
		}
		s.start(t)
	}
	owner.Process.Kill()
	<-owner.ended
	if how := ws.Closed(); how.Code != 1006 {
		t.Errorf("closed with %+v", how)
	}
	next := beginPage(t, front, "abcdefghij0123456789")
	if ws, err = next.Dial(patient(t), 1, "/socket"); err != nil {
		t.Fatal(err)
	}
	echoes(1000)
}
