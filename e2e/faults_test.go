//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sidestream/e2e/authority"
)

// This file is a sidecar with a legacy service and clients of every kind, over networks that fail, and all that may happen to any of them. Each client
// is an EventSource, and everything that it gets is held against what the service has said.

// world is one such sidecar.
type world struct {
	name    string
	long    bool
	service *service
	sidecar *sidecar
	up      *link // from the sidecar to its service
	down    *link // from the clients to the sidecar
	clients []*eventSource
	disk    string   // of the folder; "" where there is none
	mounted bool     // it is a disk of its own
	front   *process // nginx, where it is in front
	ours    *authority.Authority
	clock   string     // the file that says how far the sidecar's is off; "" where it cannot be set
	random  *rand.Rand // of the turn

	starts int    // of the sidecar in this turn
	before takes  // what the sidecar took before its first client
	stop   func() // ends the clients
}

// worldKind is how a world is made, and what happens to it.
type worldKind struct {
	name   string
	secret bool // TLS on both sides
	disk   bool
	nginx  bool
	clock  bool // can be set
	apart  bool // in a network namespace, which needs root
	env    []string
	faults []fault
	turns  int // that the tests take
}

// idle is after how long a silent upstream is given up.
const idle = 3 * time.Second

var worldKinds = []worldKind{
	{name: "clear", faults: join(linkFaults, processFaults, serviceFaults), turns: 8},
	{name: "TLS", secret: true, faults: join(linkFaults, processFaults, serviceFaults, certificateFaults, certificateFaults), turns: 6}, // so that an hour has it fifty times
	{name: "folder", disk: true, faults: join(processFaults, diskFaults, linkFaults[:2], serviceFaults[:1]), turns: 5},
	{name: "nginx", nginx: true, faults: join(nginxFaults, linkFaults[:2]), turns: 3},
	{name: "limits", env: []string{"GOMEMLIMIT=32MiB", "SSE_REPLAY_EVENTS=8000", "SSE_REPLAY_BYTES=2MiB"}, faults: join(limitFaults, linkFaults[:2]), turns: 4},
	{name: "small ring", env: []string{"SSE_REPLAY_EVENTS=30"}, faults: join(linkFaults, serviceFaults), turns: 4},
	{name: "clock", clock: true, disk: true, env: []string{"SSE_REPLAY_AGE=1m"}, faults: clockFaults},
	{name: "namespace", apart: true, faults: join(namespaceFaults, linkFaults[:2])},
}

func join(all ...[]fault) (joined []fault) {
	for _, some := range all {
		joined = append(joined, some...)
	}
	return joined
}

// seeded is random numbers that a seed and words decide.
func seeded(seed uint64, words ...any) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, words...)
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// TestFaults: whatever happens to the network, the service and the sidecar, a client gets each event once and in order, or is told, once, that something is
// missing; none is closed for good, and none gets what is another's. In the end the sidecar has what it had before. SSE_E2E_FAULTS is how long and with
// which seed, such as "1h 1234"; without a seed there is a new one. SSE_E2E_FAULT is a part of the name of a world or of the only faults.
func TestFaults(t *testing.T) {
	t.Parallel()
	length, seed, long := time.Duration(0), rand.Uint64(), false
	if text := os.Getenv("SSE_E2E_FAULTS"); text != "" {
		if n, err := fmt.Sscan(text, (*soakLength)(&length), &seed); n == 0 {
			t.Fatalf("SSE_E2E_FAULTS=%q is none; write 1h 1234: %v", text, err)
		}
		long = true
	}
	t.Logf("seed %d", seed)
	only := os.Getenv("SSE_E2E_FAULT")
	for _, kind := range worldKinds {
		kind.faults = wanted(kind, only)
		if len(kind.faults) == 0 || kind.turns == 0 && !long {
			continue
		}
		if kind.apart && os.Geteuid() != 0 {
			t.Logf("%s: not done, as it needs root", kind.name)
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			w := startWorld(t, kind, seed, long)
			order := seeded(seed, kind.name).Perm(len(kind.faults))
			for turn := 0; long && time.Since(began) < length || !long && turn < kind.turns; turn++ {
				if turn%len(order) == 0 && turn > 0 {
					order = seeded(seed, kind.name, turn).Perm(len(kind.faults))
				}
				f := kind.faults[order[turn%len(order)]]
				if f.can != nil && !f.can(w) {
					continue
				}
				w.turn(t, f, seeded(seed, kind.name, "turn", turn))
			}
			w.end(t)
		})
	}
}

// wanted are the faults of a world that only names, or all.
func wanted(kind worldKind, only string) (faults []fault) {
	for _, f := range kind.faults {
		if only == "" || only == kind.name || strings.Contains(f.name, only) {
			faults = append(faults, f)
		}
	}
	return faults
}

func startWorld(t *testing.T, kind worldKind, seed uint64, long bool) *world {
	t.Helper()
	w := &world{name: kind.name, long: long, random: seeded(seed, kind.name, "world")}
	dir, linger := t.TempDir(), "15s"
	if long {
		linger = "45s"
	}
	env := append([]string{"SSE_LOG_LEVEL=warn", "SSE_HEARTBEAT=500ms", "SSE_RETRY=200ms", "SSE_DRAIN=1s", "SSE_RESTART=1s", "SSE_COMPRESS=gzip",
		fmt.Sprint("SSE_IDLE=", idle), "SSE_MAX_REPLAY=0", "SSE_LINGER=" + linger}, kind.env...)
	if kind.secret {
		w.ours = authority.New("ours")
		pair := w.ours.Issue("sidecar", "127.0.0.1")
		write(t, dir, map[string][]byte{"cert": pair.Cert, "key": pair.Key, "ca": w.ours.PEM})
		env = append(env, "SSE_TLS_CERT="+filepath.Join(dir, "cert"), "SSE_TLS_KEY="+filepath.Join(dir, "key"), "SSE_UPSTREAM_CA="+filepath.Join(dir, "ca"))
	}
	if kind.disk {
		w.disk = filepath.Join(dir, "disk")
		w.mount(t)
		env = append(env, "SSE_HISTORY=file:"+filepath.Join(w.disk, "history"))
	}
	w.service = startService(t, w.ours, 150*time.Millisecond, seeded(seed, kind.name, "service"))
	w.sidecar = &sidecar{addr: freeAddr(t), admin: freeAddr(t)}
	host := "127.0.0.1"
	if kind.apart {
		name, upstream, itself := apart(t)
		host, w.sidecar = upstream, &sidecar{addr: itself + ":8080", admin: itself + ":9091", within: name}
	}
	if kind.clock {
		program, err := steppedBinary()
		if err != nil {
			t.Fatal(err)
		}
		w.sidecar.program, w.clock = program, filepath.Join(dir, "clock")
		env = append(env, "CLOCK_FILE="+w.clock)
	}
	w.up = linkOn(t, host, w.service.addr, seeded(seed, kind.name, "up"))
	w.sidecar.begin(t, append(env, w.routes()...)...)
	w.before = w.sidecar.atRest(t)
	target := w.sidecar.addr
	if kind.nginx {
		w.front, target = startMaster(t, target)
	}
	w.down = startLink(t, target, seeded(seed, kind.name, "down"))
	w.populate(t, kind.name == "small ring")
	t.Cleanup(func() {
		if t.Failed() {
			for _, c := range w.clients {
				w.report(t, c, "before that")
				t.Log(c.state())
			}
		}
	})
	w.goesOn(t)
	return w
}

// routes are of each kind of source, shared and private.
func (w *world) routes() (env []string) {
	secure := ""
	if w.ours != nil {
		secure = "s"
	}
	for _, r := range []string{"SHARED /shared ws START=live", "PRIVATE /private ws FORWARD=Cookie",
		"POLL /poll http ?after={stream.cursor:now} FORWARD=Cookie EVERY=200ms CURSOR=.next SELECT=.items[]", "SSE /sse http MODE=stream FORMAT=sse CURSOR=id START=live"} {
		words := strings.Fields(r)
		route, from := "SSE_ROUTE_"+words[0]+"_", words[2]+secure+"://"+w.up.addr+words[1]
		for _, word := range words[3:] {
			if strings.HasPrefix(word, "?") {
				from += word
			} else {
				env = append(env, route+word)
			}
		}
		env = append(env, route+"PATH="+words[1], route+"FROM="+from)
	}
	return env
}

// populate has clients of each route over each transport. Users have two clients, mostly over different ones.
func (w *world) populate(t *testing.T, small bool) {
	dial := (&net.Dialer{Timeout: patience}).DialContext
	plain := &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true, TLSHandshakeTimeout: patience}
	tab := &http.Transport{DialContext: dial, DisableCompression: true, TLSHandshakeTimeout: patience, Protocols: new(http.Protocols)}
	scheme := "http://"
	if w.ours != nil {
		scheme = "https://"
		plain.TLSClientConfig = &tls.Config{RootCAs: w.ours.Pool(), MinVersion: tls.VersionTLS12}
		tab.TLSClientConfig = plain.TLSClientConfig.Clone()
		tab.Protocols.SetHTTP2(true)
	} else {
		tab.Protocols.SetUnencryptedHTTP2(true)
	}
	kinds := []struct {
		name string
		by   *http.Transport
		zip  bool
	}{{"HTTP/1.1", plain, false}, {"HTTP/1.1, gzip", plain, true}, {"HTTP/2", tab, false}, {"HTTP/2, gzip", tab, true}}
	if w.front != nil {
		kinds = kinds[:2]
	}
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i, path := range []string{"/shared", "/private", "/poll", "/sse"} {
		for j, k := range kinds {
			c := &eventSource{user: fmt.Sprint("user", (i+j)/2), url: scheme + w.down.addr + path, zip: k.zip, transport: k.by, resumes: i >= 2, own: path == "/sse", short: small && path == "/sse", latest: path == "/poll", kept: w.disk != "", gaps: map[string]int{}}
			key := path
			if path == "/private" || path == "/poll" {
				key += " of " + c.user
			}
			c.name, c.spring = fmt.Sprintf("%s over %s", key, k.name), w.service.spring(key)
			w.clients = append(w.clients, c)
			all.Go(func() { c.run(ctx) }) // ends with stop
		}
	}
	w.stop = func() {
		stop()
		all.Wait()
		plain.CloseIdleConnections()
		tab.CloseIdleConnections()
	}
	t.Cleanup(w.stop)
}

// turn has one thing happen, and looks what becomes of it.
func (w *world) turn(t *testing.T, f fault, random *rand.Rand) {
	t.Helper()
	w.random, w.starts = random, 0
	wrong, accepted := 0, map[*eventSource]int{}
	for _, c := range w.clients {
		accepted[c] = c.spring.accepted()
	}
	w.goesOn(t) // so that nobody is told during this turn of what was lost before these
	for _, c := range w.clients {
		c.turn()
	}
	pauseFor(t.Context(), w.upTo(500*time.Millisecond))
	began := time.Now()
	f.do(t, w)
	w.up.heal()
	w.down.heal()
	over := time.Now()
	w.goesOn(t)
	for _, c := range w.clients {
		losses := map[string]int{"upstream": c.spring.accepted() - accepted[c], "restart": w.starts}
		if c.resumes && (w.disk != "" || w.starts == 0) { // what goes on where it stopped has lost nothing
			losses["upstream"] = 0
		}
		if w.disk != "" && !f.forgets && !(w.clock != "" && c.own) { // by a clock that is far off, all is older than REPLAY_AGE, and an id of the upstream's own says nothing by itself
			losses["restart"] = 0
		}
		if f.forgets {
			losses["history"] = w.starts
		}
		c.held(losses)
		wrong += w.report(t, c, f.name)
	}
	t.Logf("%s: %v, went on after %v, wrong %d", f.name, over.Sub(began).Round(time.Millisecond), time.Since(over).Round(time.Millisecond), wrong)
}

// report tells what c should not have got, and how often that was.
func (w *world) report(t *testing.T, c *eventSource, during string) (times int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, wrong := range c.wrong[:min(len(c.wrong), 3)] {
		t.Errorf("%s, %s: %s", during, c.name, wrong)
	}
	times, c.wrong = len(c.wrong), nil
	return times
}

// upTo is a random time.
func (w *world) upTo(most time.Duration) time.Duration {
	return time.Duration(w.random.Int64N(int64(most)))
}

// passes lets a random time pass, between some and most.
func (w *world) passes(t *testing.T, some, most time.Duration) {
	pauseFor(t.Context(), some+w.upTo(most-some))
}

// goesOn waits until each client has what is said from now on.
func (w *world) goesOn(t *testing.T) {
	t.Helper()
	next := make([]int, len(w.clients))
	for i, c := range w.clients {
		n, _ := c.spring.said()
		next[i] = n + 1
	}
	end := time.Now().Add(2 * patience)
	for i, c := range w.clients {
		for !c.reached(next[i]) {
			select {
			case <-w.sidecar.ended:
				t.Fatalf("the sidecar has ended: %s", &w.sidecar.stderr)
			case <-time.After(5 * time.Millisecond):
			}
			if time.Now().After(end) {
				t.Fatalf("%s does not get number %d", c.state(), next[i])
			}
		}
	}
}

// end has all clients go, and reports what they should not have got, and what the sidecar does not let go of.
func (w *world) end(t *testing.T) {
	t.Helper()
	w.stop()
	events := 0
	for _, c := range w.clients {
		events += c.events
		w.report(t, c, "at the end")
	}
	w.up.refuse(true) // nor does it keep a connection for another poll
	w.up.cut(cutReset)
	w.sidecar.letsGo(t, w.name, w.before, 10, 14) // shards, the lobby, the lookout, and those that run streams are there once there has been a client
	t.Logf("%d events", events)
	w.sidecar.drain(t)
}

// mount makes the folder's disk: a small one of its own where that may be made, else a directory, of which only the sidecar's own limits can make a full disk.
func (w *world) mount(t *testing.T) {
	t.Helper()
	if err := os.Mkdir(w.disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", w.disk, "tmpfs", 0, "size=80m"); err != nil {
		t.Logf("no disk that can be filled (%v): files may not grow instead", err)
		return
	}
	w.mounted = true
	t.Cleanup(func() {
		if err := unix.Unmount(w.disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
