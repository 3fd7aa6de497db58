//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sidestream/e2e/redistest"
)

// TestRedisStreamOverKills kills the sidecar at random moments while a stream grows: clients that come back get each entry once and in order, and are
// told of no gap. Once entries are trimmed that it has not read, they are told.
func TestRedisStreamOverKills(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	var n atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { // ends with ctx
		for ctx.Err() == nil {
			redis.Do("XADD", "numbers", "*", "n", fmt.Sprint(n.Add(1)))
		}
	})
	s := startSidecar(t, "SSE_HISTORY=file:"+filepath.Join(t.TempDir(), "history"), "SSE_LOG_LEVEL=warn", "SSE_ROUTE_N_PATH=/numbers", "SSE_REPLAY_EVENTS=1000000", "SSE_REPLAY_BYTES=1GiB",
		"SSE_ROUTE_N_FROM=redis://"+redis.Addr+"?stream=numbers", "SSE_ROUTE_N_DATA=.n", "SSE_DRAIN=0")
	clients := make([]*follower, 3)
	for i := range clients {
		clients[i] = &follower{addr: s.addr}
		running.Go(func() { clients[i].run(ctx) })
	}
	t.Cleanup(func() { stop(); running.Wait() })
	goOn := func() {
		t.Helper()
		for _, c := range clients {
			before := c.all.Load()
			eventually(t, "every client to go on", func() bool { return c.all.Load() > before })
		}
	}
	for range 4 {
		goOn()
		<-time.After(time.Duration(rand.IntN(200)) * time.Millisecond)
		s.Process.Signal(syscall.SIGKILL)
		s.wait(t)
		s.start(t)
	}
	goOn()
	s.Process.Signal(syscall.SIGKILL)
	s.wait(t)
	for _, c := range clients {
		c.mayGap.Store(true) // without which what follows is wrong
	}
	known := n.Load()
	eventually(t, "the stream to grow", func() bool { return n.Load() > known+100 })
	redis.Do("XTRIM", "numbers", "MAXLEN", "10")
	s.start(t)
	goOn()
	stop()
	running.Wait()
	for i, c := range clients {
		if len(c.wrong) > 0 {
			t.Errorf("client %d: %.300q", i, c.wrong)
		}
	}
}

// TestRedisStreamOverTakeovers has two replicas with a shared history take turns at reading a stream: nobody misses an entry, and none is told twice.
func TestRedisStreamOverTakeovers(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	var n atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	env := []string{"SSE_HISTORY=redis://" + redis.Addr + "/1", "SSE_LOG_LEVEL=warn", "SSE_ROUTE_N_PATH=/numbers", "SSE_REPLAY_EVENTS=100000",
		"SSE_ROUTE_N_FROM=redis://" + redis.Addr + "?stream=numbers", "SSE_ROUTE_N_DATA=.n", "SSE_DRAIN=0"}
	replicas := []*sidecar{startSidecar(t, env...), startSidecar(t, env...)}
	clients := make([]*follower, 2)
	for i := range clients {
		clients[i] = &follower{addr: replicas[i].addr}
		running.Go(func() { clients[i].run(ctx) }) // ends with ctx
	}
	running.Go(func() { // ends with ctx
		for ctx.Err() == nil {
			redis.Do("XADD", "numbers", "*", "n", fmt.Sprint(n.Add(1)))
			<-time.After(time.Millisecond)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	for turn := range 3 {
		for _, c := range clients {
			before := c.all.Load()
			eventually(t, "every client to go on", func() bool { return c.all.Load() > before+20 })
		}
		s := replicas[turn%2]
		s.drain(t)
		s.start(t)
	}
	stop()
	running.Wait()
	for i, c := range clients {
		if len(c.wrong) > 0 {
			t.Errorf("client %d: %.500q", i, c.wrong)
		}
	}
}

// TestRecipeRedis runs a Redis with the user that the recipe tells of.
func TestRecipeRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	redis.Do("ACL", "SETUSER", "sidestream", "on", ">SECRET", "resetchannels", "&prices.*", "&rooms.*", "~orders", "+subscribe", "+psubscribe", "+xread", "+xinfo")
	f := &feedServer{recipe: findRecipe(t, "redis"), addr: "sidestream:SECRET@" + redis.Addr}
	s := f.sidecar(t)
	prices, a, b := f.events(t, s), ask(t, s.addr, "HTTP/1.0", "/events/redis/rooms/a", "retry: "), ask(t, s.addr, "HTTP/1.0", "/events/redis/rooms/*", "retry: ")
	orders := ask(t, s.addr, "HTTP/1.0", "/events/redis/orders", "retry: ")
	eventually(t, "four connections", func() bool {
		return strings.Count(redis.Do("CLIENT", "LIST"), "user=sidestream") == 4 && strings.Contains(redis.Do("CLIENT", "LIST"), "cmd=xread")
	})
	redis.Do("PUBLISH", "prices.EURUSD", `{"bid":1.1}`)
	prices.next(t, "EURUSD", `{"bid":1.1}`)
	redis.Do("PUBLISH", "rooms.a", "for a")
	redis.Do("PUBLISH", "rooms.*", "for the other")
	a.whole(t, "", "for a")
	b.whole(t, "", "for the other")
	if strings.Contains(b.got.String(), "for a") {
		t.Errorf("%q", b.got.String())
	}
	id := redis.Do("XADD", "orders", "*", "json", `{"n":1}`, "other", "x")
	orders.next(t, "", `{"n":1}`)
	orders.until(t, "id: "+id+"\n")
	redis.Do("CLIENT", "KILL", "USER", "sidestream")
	redis.Do("XADD", "orders", "*", "json", `{"n":2}`)
	orders.whole(t, "", `{"n":2}`)
	prices.gap(t)
	redis.Do("ACL", "SETUSER", "sidestream", ">other", "<SECRET") // what rotates is seen by those who come anew
	f.path = "/events/redis/rooms/new"
	if got := status("http://" + s.addr + f.path); got != 401 {
		t.Errorf("with a wrong password %d, want 401", got)
	}
	var shown any
	resp, err := plain.Get("http://" + s.admin + "/api/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&shown); err != nil || strings.Contains(fmt.Sprint(shown), "SECRET") || strings.Contains(s.stderr.String(), "SECRET") {
		t.Errorf("the password is shown, or nothing is: %v", err)
	}
}
