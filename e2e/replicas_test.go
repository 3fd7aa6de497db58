//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
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
	redis *redistest.Server
}

func startReplicas(t *testing.T, n int, env ...string) *replicas {
	t.Helper()
	r := &replicas{redis: redistest.Start(t)}
	env = append([]string{"SSE_HISTORY=redis://" + r.redis.Addr, "SSE_LOG_LEVEL=info", "SSE_DRAIN=0"}, env...)
	var addrs []string
	for range n {
		s := startSidecar(t, env...)
		r.all, addrs = append(r.all, s), append(addrs, s.addr)
	}
	r.front = startBalancer(t, addrs)
	return r
}

// startBalancer starts nginx in front of addrs, one after the other, without sticky sessions.
func startBalancer(t *testing.T, addrs []string) string {
	t.Helper()
	dir, front := t.TempDir(), freeAddr(t)
	var servers, temp strings.Builder
	for _, addr := range addrs {
		fmt.Fprintf(&servers, "    server %s max_fails=0;\n", addr)
	}
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "  %s_temp_path %s;\n", name, filepath.Join(dir, name))
	}
	text := fmt.Sprintf("daemon off;\nmaster_process off;\npid %s;\nerror_log stderr;\nevents {}\nhttp {\n  access_log off;\n%s  upstream replicas {\n%s  }\n"+
		"  server {\n    listen %s;\n    location / {\n      proxy_pass http://replicas;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_set_header Host $http_host;\n    }\n  }\n}\n",
		filepath.Join(dir, "pid"), temp.String(), servers.String(), front)
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := launch(t, nil, nginx(), "-p", dir, "-c", conf, "-e", "stderr")
	eventually(t, "nginx to listen", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("nginx ended: %s", &p.stderr)
		default:
		}
		return status("http://"+front+"/") != 0
	})
	return front
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
	{name: "connections to the store are cut", do: func(_ *testing.T, r *replicas) { r.redis.Do("CLIENT", "KILL", "TYPE", "normal") }},
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
// in order; a gap only where what was kept is lost together with the one who had it. HARMS is how many things happen, 6 unless it is set; HARM
// the only one.
func TestReplicas(t *testing.T) {
	t.Parallel()
	turns := 6
	if text := os.Getenv("HARMS"); text != "" {
		var err error
		if turns, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	r := startReplicas(t, 3, numbersRoute(t)...)
	c := startCrowd(t, r.front, 12)
	c.goesOn(t)
	order := rand.Perm(len(harms))
	for turn := range turns {
		h := harms[order[turn%len(order)]]
		if only := os.Getenv("HARM"); only != "" && !strings.Contains(h.name, only) {
			continue
		}
		pauseFor(t.Context(), rand.N(time.Second))
		begun, before := time.Now(), c.wrongs()
		h.do(t, r)
		over := time.Now()
		c.goesOn(t)
		t.Logf("%s: %v, went on after %v, wrong %d", h.name, over.Sub(begun).Round(time.Millisecond), time.Since(over).Round(time.Millisecond), c.wrongs()-before)
	}
	c.end(t)
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
