//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sidestream/e2e/redistest"
)

// replicas are sidecars that share a history, behind nginx, which gives each request to the next one.
type replicas struct {
	all   []*sidecar
	front string

	// The store is one of these.
	redis    *redistest.Server
	holes    []*link // to it, one of each replica
	sentinel *redistest.Sentinel
	cluster  *redistest.Cluster
}

// startReplicas starts n of them that share one Redis.
func startReplicas(t *testing.T, n int, env ...string) *replicas {
	t.Helper()
	r := &replicas{redis: redistest.Start(t)}
	var stores []string
	for i := range n {
		r.holes = append(r.holes, startHole(t, r.redis.Addr))
		stores = append(stores, "redis://"+r.holes[i].addr)
	}
	r.start(t, stores, env)
	return r
}

// start starts a replica for each address of the store.
func (r *replicas) start(t *testing.T, stores, env []string) {
	t.Helper()
	var addrs []string
	for _, store := range stores {
		s := startSidecar(t, append([]string{"SSE_HISTORY=" + store, "SSE_LOG_LEVEL=info", "SSE_DRAIN=0"}, env...)...)
		r.all, addrs = append(r.all, s), append(addrs, s.addr)
	}
	r.front = startRoundRobin(t, addrs...)
}

// crowd are clients of replicas that come back whenever they are cut, and leave now and then by themselves, so that they meet all of them.
type crowd struct {
	clients []*follower
	stop    context.CancelFunc
	running sync.WaitGroup
}

func startCrowd(t *testing.T, addr string, n int) *crowd {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	c := &crowd{stop: stop}
	for range n {
		f := &follower{addr: addr, gateway: true}
		c.clients = append(c.clients, f)
		c.running.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				one, cancel := context.WithTimeout(ctx, time.Duration(200+rand.IntN(4000))*time.Millisecond)
				f.connect(one)
				cancel()
				pauseFor(ctx, time.Duration(rand.IntN(60))*time.Millisecond)
			}
		})
	}
	t.Cleanup(func() { stop(); c.running.Wait() })
	return c
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// goesOn waits until every client gets events.
func (c *crowd) goesOn(t *testing.T) {
	t.Helper()
	for i, f := range c.clients {
		before := f.all.Load()
		eventually(t, fmt.Sprintf("client %d to go on", i), func() bool { return f.all.Load() > before })
	}
}

// end reports what clients should not have got.
func (c *crowd) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.running.Wait()
	for i, f := range c.clients {
		for n, wrong := range f.wrong {
			if n < 5 {
				t.Errorf("client %d: %s", i, wrong)
			}
		}
	}
	t.Logf("up to number %d", c.clients[0].last)
}

// numbersRoute is a route over numbers, whose source can go on anywhere.
func numbersRoute(t *testing.T) []string {
	return []string{"SSE_ROUTE_N_PATH=/numbers", "SSE_ROUTE_N_FROM=http://" + numbers(t) + "/?after={stream.cursor:0}", "SSE_ROUTE_N_EVERY=0",
		"SSE_ROUTE_N_CURSOR=.last", "SSE_ROUTE_N_SELECT=.numbers[]", "SSE_REPLAY_EVENTS=20000"}
}

// harm is what happens to replicas and their store. Each returns once it is over.
type harm struct {
	name string
	do   func(t *testing.T, r *replicas)
	told bool // clients may have been given what the one who takes over does not know of: they are told, and may get it again
}

// pick is one of the replicas, at random.
func (r *replicas) pick() *sidecar { return r.all[rand.IntN(len(r.all))] }

// holder is the one that runs the source; any, where none does.
func (r *replicas) holder() *sidecar {
	for _, s := range r.all {
		if strings.Contains(fetchText("http://"+s.admin+"/api/status"), `"leading":1`) {
			return s
		}
	}
	return r.pick()
}

// follower is one that does not.
func (r *replicas) follower() *sidecar {
	holder := r.holder()
	for {
		if s := r.pick(); s != holder {
			return s
		}
	}
}

func kill(t *testing.T, s *sidecar) {
	s.Process.Signal(syscall.SIGKILL)
	s.wait(t)
}

// long is how long a pause is that leases do not outlast.
const long = 15 * time.Second

var harms = []harm{
	{name: "the holder is killed", do: func(t *testing.T, r *replicas) {
		s := r.holder()
		kill(t, s)
		pauseFor(t.Context(), rand.N(long))
		s.start(t)
	}},
	{name: "a follower is killed", do: func(t *testing.T, r *replicas) { s := r.follower(); kill(t, s); s.start(t) }},
	{name: "the holder is restarted", do: func(t *testing.T, r *replicas) { s := r.holder(); s.drain(t); s.start(t) }},
	{name: "all are restarted, one after the other", do: func(t *testing.T, r *replicas) {
		for _, s := range r.all {
			s.drain(t)
			s.start(t)
		}
	}},
	{name: "the holder stands still", do: func(t *testing.T, r *replicas) {
		s := r.holder()
		s.Process.Signal(syscall.SIGSTOP)
		pauseFor(t.Context(), long+rand.N(3*time.Second))
		s.Process.Signal(syscall.SIGCONT)
	}},
	{name: "the store stands still", do: func(t *testing.T, r *replicas) {
		r.redis.Freeze()
		pauseFor(t.Context(), rand.N(long))
		r.redis.Thaw()
	}},
	{name: "the store is killed, and comes back empty", do: func(t *testing.T, r *replicas) {
		r.redis.Kill()
		pauseFor(t.Context(), rand.N(3*time.Second))
		r.redis.Run()
	}},
	{name: "the store is emptied", do: func(_ *testing.T, r *replicas) { r.redis.Do("FLUSHALL") }},
	{name: "scripts are forgotten", do: func(_ *testing.T, r *replicas) { r.redis.Do("SCRIPT", "FLUSH") }},
	{name: "keys are evicted", do: func(_ *testing.T, r *replicas) {
		for _, key := range strings.Fields(r.redis.Do("KEYS", "*")) {
			if rand.IntN(2) == 0 {
				r.redis.Do("DEL", key)
			}
		}
	}},
	{name: "the store has no memory left", do: func(t *testing.T, r *replicas) {
		r.redis.Do("CONFIG", "SET", "maxmemory", "1")
		pauseFor(t.Context(), rand.N(long))
		r.redis.Do("CONFIG", "SET", "maxmemory", "0")
	}},
	{name: "the store pauses its clients", do: func(t *testing.T, r *replicas) {
		r.redis.Do("CLIENT", "PAUSE", "4000")
		pauseFor(t.Context(), 4*time.Second)
	}},
	{name: "the holder cannot reach the store for a moment", do: func(t *testing.T, r *replicas) { r.part(t, r.holder(), rand.N(7*time.Second)) }},
	{name: "a follower cannot reach the store", do: func(t *testing.T, r *replicas) { r.part(t, r.follower(), rand.N(long)) }},
	{name: "the holder cannot reach the store, and is replaced", told: true, do: func(t *testing.T, r *replicas) { r.part(t, r.holder(), long+rand.N(3*time.Second)) }},
	{name: "connections to the store are cut", do: func(_ *testing.T, r *replicas) { r.redis.Do("CLIENT", "KILL", "TYPE", "normal") }},
}

// part keeps s from its store for a while, without a word.
func (r *replicas) part(t *testing.T, s *sidecar, d time.Duration) {
	for i, one := range r.all {
		if one == s {
			r.holes[i].silence(true)
			pauseFor(t.Context(), d)
			r.holes[i].silence(false)
		}
	}
}

// ofSentinel are what happens to a store that sentinels watch.
var ofSentinel = []harm{
	{name: "a failover of a healthy master", do: func(t *testing.T, r *replicas) { r.sentinel.Failover(t) }},
	{name: "the master is killed, and comes back empty", do: func(t *testing.T, r *replicas) {
		was := r.sentinel.Master()
		was.Kill()
		eventually(t, "another master", func() bool { return r.sentinel.Master() != was })
		was.Run()
	}},
	{name: "the master stands still", do: func(t *testing.T, r *replicas) {
		was := r.sentinel.Master()
		was.Freeze()
		pauseFor(t.Context(), rand.N(long))
		was.Thaw()
	}},
	{name: "the holder is killed", do: func(t *testing.T, r *replicas) { s := r.holder(); kill(t, s); s.start(t) }},
}

// ofCluster are what happens to one of several nodes.
var ofCluster = []harm{
	{name: "a slot moves", do: func(t *testing.T, r *replicas) { r.cluster.Move(t, r.streamKey(t)) }},
	{name: "the node is killed, and comes back empty", do: func(t *testing.T, r *replicas) {
		n := r.cluster.Owner(r.streamKey(t))
		n.Kill()
		pauseFor(t.Context(), rand.N(2*time.Second))
		n.Run()
	}},
	{name: "the node stands still", do: func(t *testing.T, r *replicas) {
		n := r.cluster.Owner(r.streamKey(t))
		n.Freeze()
		pauseFor(t.Context(), rand.N(2500*time.Millisecond)) // less than the cluster's own patience
		n.Thaw()
	}},
	{name: "the holder is restarted", do: func(t *testing.T, r *replicas) { s := r.holder(); s.drain(t); s.start(t) }},
}

// streamKey is the key of the only stream.
func (r *replicas) streamKey(t *testing.T) (key string) {
	t.Helper()
	eventually(t, "the stream's key", func() bool {
		for _, n := range r.cluster.Nodes {
			if keys := strings.Fields(n.Do("KEYS", "*:s")); len(keys) > 0 {
				key = keys[0]
			}
		}
		return key != ""
	})
	return key
}

// fetchText is what url answers, "" when it does not.
func fetchText(url string) string {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

// TestReplicas: whatever happens to three replicas and their store, to clients they look like one that never stopped. Each number once and
// in order; a gap only where what clients were given is lost together with the one who gave it. HARMS is how many things happen, 5 unless it is
// set; HARM is a part of the name of the only one.
func TestReplicas(t *testing.T) {
	t.Parallel()
	r := startReplicas(t, 3, numbersRoute(t)...)
	r.suffer(t, harms, 5)
}

// TestReplicasOfSentinel is the same with a store that fails over.
func TestReplicasOfSentinel(t *testing.T) {
	t.Parallel()
	r := &replicas{sentinel: redistest.StartSentinel(t, 2000)}
	store := "redis+sentinel://" + r.sentinel.Addrs() + "/main"
	r.start(t, []string{store, store}, numbersRoute(t))
	r.suffer(t, ofSentinel, 2)
}

// TestReplicasOfCluster is the same with a store of several nodes.
func TestReplicasOfCluster(t *testing.T) {
	t.Parallel()
	r := &replicas{cluster: redistest.StartCluster(t)}
	store := "redis+cluster://" + r.cluster.Addrs()
	r.start(t, []string{store, store}, numbersRoute(t))
	r.suffer(t, ofCluster, 3)
}

// suffer does turns of the harms, each as often as another, in any order, and looks what clients get.
func (r *replicas) suffer(t *testing.T, harms []harm, turns int) {
	t.Helper()
	if text := os.Getenv("HARMS"); text != "" {
		var err error
		if turns, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	c := startCrowd(t, r.front, 12)
	c.goesOn(t)
	order := rand.Perm(len(harms))
	for turn := range turns {
		h := harms[order[turn%len(order)]]
		if only := os.Getenv("HARM"); only != "" {
			if h = harms[turn%len(harms)]; !strings.Contains(h.name, only) {
				continue
			}
		}
		pauseFor(t.Context(), rand.N(time.Second))
		r.know(t)
		begun, before := time.Now(), c.wrongs()
		c.told(h.told)
		h.do(t, r)
		over := time.Now()
		c.goesOn(t)
		t.Logf("%s: %v, went on after %v, wrong %d", h.name, over.Sub(begun).Round(time.Millisecond), time.Since(over).Round(time.Millisecond), c.wrongs()-before)
		if h.told {
			pauseFor(t.Context(), 6*time.Second) // clients come round
			c.told(false)
		}
	}
	c.end(t)
}

// know waits until each replica has the stream: one that has to open it while the store is away can but run the source itself.
func (r *replicas) know(t *testing.T) {
	t.Helper()
	for i, s := range r.all {
		eventually(t, fmt.Sprintf("replica %d to know the stream", i), func() bool {
			status := fetchText("http://" + s.admin + "/api/status")
			return strings.Contains(status, `"leading":1`) || strings.Contains(status, `"following":1`)
		})
	}
}

// told is whether clients may be told of a gap.
func (c *crowd) told(may bool) {
	for _, f := range c.clients {
		f.mayGap.Store(may)
	}
}

// wrongs is how much clients got that they should not have.
func (c *crowd) wrongs() (n int) {
	for _, f := range c.clients {
		f.mu.Lock()
		n += len(f.wrong)
		f.mu.Unlock()
	}
	return n
}

// TestDemoReplicas: the demo's page shows which replica it is on, and goes on when that is killed.
func TestDemoReplicas(t *testing.T) {
	t.Parallel()
	b := startChromium(t)
	addr := freeAddr(t)
	p := launch(t, []string{"SSE_LISTEN=" + addr, "GORACE=atexit_sleep_ms=0"}, binary, "demo", "-replicas", "3")
	url := "http://" + addr + "/"
	eventually(t, "the page's address on stdout", func() bool { return strings.Contains(p.stdout.String(), url) })
	b.open(t, url)
	shown(t, b, "three replicas, and on which it is", `document.querySelectorAll("#replicas li").length === 3 && text("replicas").includes("weather") && text("replicas").includes("prices")`)
	shown(t, b, "prices and weather", `count("sse-count") >= 20 && count("weather-count") >= 2`)
	b.eval(t, `document.getElementById("ws-tunnel").click(), ""`)
	shown(t, b, "the old client on the tunnel", `text("ws-way") === "tunnelled" && text("ws-state") === "open" && oldSocket.readyState === 1 && oldSocket.constructor !== ownWebSocket`)
	b.eval(t, `[...document.querySelectorAll("#replicas li")].find(li => li.textContent.includes("weather")).querySelector("button").click(), ""`)
	shown(t, b, "that it is killed", `text("replicas").includes("killed")`)
	shown(t, b, "the weather from another one, without a gap", `text("weather-state") === "open" && count("weather-opens") === 2 && count("weather-gaps") === 0`)
	b.screenshot(t, "demo-replicas")
	shown(t, b, "the killed one again", `!text("replicas").includes("killed")`)
	p.Process.Signal(syscall.SIGTERM)
	if status := p.wait(t); status != 0 {
		t.Errorf("exit status %d: %s", status, &p.stderr)
	}
}
