//go:build e2e

package redis

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"sidestream/e2e/redistest"
	"sidestream/proxy/history"
)

func storeAt(t *testing.T, address string) *Store {
	t.Helper()
	settings, err := Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	settings.Prefix, settings.TTL = "test", time.Hour
	store := Open(settings, slog.New(slog.DiscardHandler))
	t.Cleanup(store.Stop)
	store.wait(t.Context())
	return store
}

// TestFailover: a failover of a healthy master, which may lose what it has acknowledged, and the death of one. The holder keeps again what is
// lost, and its followers miss nothing.
func TestFailover(t *testing.T) {
	s := redistest.StartSentinel(t, 1000)
	address := "redis+sentinel://" + s.Addrs() + "/main"
	holder, follower := opened(t, storeAt(t, address)).lead(), opened(t, storeAt(t, address))
	follower.follow()
	redistest.Until(t, "Follows", follower.isBeside)
	n := 0
	add := func(count int) {
		t.Helper()
		for range count {
			n++
			redistest.Until(t, "an append", func() bool { return holder.append(fmt.Sprint(n)) == nil })
		}
	}
	add(20)
	for range 2 {
		done := make(chan struct{})
		go func() { defer close(done); s.Failover(t) }() // ends with the failover
		for going := true; going; {
			select {
			case <-done:
				going = false
			default:
				add(1)
			}
		}
		add(20)
		follower.expect(holder.text())
	}
	s.Master().Kill()
	add(20)
	follower.expect(holder.text())
	if holder.isOver() {
		t.Error("another one has taken over")
	}
}

// TestCluster: streams are spread over the nodes, and their slots may move.
func TestCluster(t *testing.T) {
	c := redistest.StartCluster(t)
	address := "redis+cluster://" + c.Addrs()
	holder, follower := opened(t, storeAt(t, address)).lead(), opened(t, storeAt(t, address))
	led := follower.follow()
	redistest.Until(t, "Follows", follower.isBeside)
	holder.must("1", "2")
	follower.expect("1 2")
	c.Move(t, holder.log.(*log).key("s"))
	for n := 3; n < 30; n++ {
		redistest.Until(t, "an append", func() bool { return holder.append(fmt.Sprint(n)) == nil })
	}
	follower.expect(holder.text())
	holder.log.Close()
	<-led
	if !follower.term.Again || follower.term.Damaged || string(follower.term.State) != "after 29" {
		t.Errorf("%+v", follower.term)
	}
	follower.must("30")
}

// TestAway: while the store is away the holder is told so at once, and may go on where it was when it is back.
func TestAway(t *testing.T) {
	server := redistest.Start(t)
	a, b := replica(t, server), replica(t, server)
	holder, follower := opened(t, a).lead(), opened(t, b)
	follower.follow()
	holder.must("1")
	follower.expect("1")
	server.Freeze()
	if err := holder.append("2"); err == nil {
		t.Fatal("it was kept")
	}
	begun := time.Now()
	for range 100 {
		holder.append("2")
	}
	if took := time.Since(begun); took > commandTime {
		t.Errorf("a hundred appends took %v", took)
	}
	if r := a.Report(); r.Up || r.Failures < 100 || r.Leading != 1 {
		t.Errorf("%+v", r)
	}
	server.Thaw()
	redistest.Until(t, "Retry", func() bool { holder.mu.Lock(); defer holder.mu.Unlock(); return holder.tried > 0 })
	// The first try may have been kept after all, while its answer was late.
	redistest.Until(t, "an append", func() bool { return holder.append("2") == nil })
	holder.must("3")
	follower.expect("1 2 3")
	if !a.Report().Up {
		t.Error("it is not up")
	}
}

// TestAwayAtTheStart: a stream begins alone, and joins the others once the store is there.
func TestAwayAtTheStart(t *testing.T) {
	port := redistest.FreePort(t)
	settings, _ := Parse(fmt.Sprintf("redis://127.0.0.1:%d", port))
	settings.Prefix, settings.TTL = "test", time.Hour
	var streams []*stream
	for range 2 {
		store := Open(settings, slog.New(slog.DiscardHandler))
		t.Cleanup(store.Stop)
		s := opened(t, store).lead()
		if s.term.Epoch != 0 {
			t.Fatalf("%+v", s.term)
		}
		streams = append(streams, s)
	}
	redistest.StartAt(t, port)
	leads := func(s *stream) bool { s.mu.Lock(); defer s.mu.Unlock(); return s.epoch != 0 }
	redistest.Until(t, "one to lead and one to follow", func() bool {
		a, b := streams[0], streams[1]
		return leads(a) && b.isOver() || leads(b) && a.isOver()
	})
	one, other := streams[0], streams[1]
	if !leads(one) {
		one, other = other, one
	}
	one.term.Epoch = one.epoch
	one.must("1")
	other.follow()
	other.expect("1!") // what the two had for themselves is told
}

// TestAllThatIsKept: keys, a past, ends, what is let go of.
func TestAllThatIsKept(t *testing.T) {
	server := redistest.Start(t)
	a, b := replica(t, server), replica(t, server)
	holder, follower := opened(t, a).lead(), opened(t, b)
	led := follower.follow()
	redistest.Until(t, "Follows", follower.isBeside)
	a.trimTime = time.Second
	at := func(seq uint64) history.Position { return history.Position{Epoch: holder.term.Epoch, Seq: seq} }
	event := func(seq uint64, key, text string) history.Event {
		return history.Event{Position: at(seq), At: time.UnixMilli(1e12 + int64(seq)), ID: "id " + text, Key: key, Data: []byte("data: " + text + "\r\x00\n")}
	}
	for _, batch := range []history.Batch{
		{Events: []history.Event{event(1, "k1", "a"), event(2, "k2", "b")}, Past: []byte("past 2"), Oldest: at(1)},
		{Events: []history.Event{event(3, "k1", "c"), event(4, "k3", "d")}, Past: []byte("past 4"), Oldest: at(3)},
		{Events: []history.Event{event(5, "k4", "e")}, Oldest: at(4), Gone: []string{"k3"}, State: []byte("state")},
		{End: 401, Oldest: at(4)},
		{},
	} {
		<-time.After(600 * time.Millisecond)
		batch.Epoch = holder.term.Epoch
		if err := holder.log.Append(batch); err != nil {
			t.Fatal(err)
		}
	}
	follower.expect("data: a\r\x00\n data: b\r\x00\n data: c\r\x00\n data: d\r\x00\n data: e\r\x00\n end 401")
	if follower.past != "past 4" || follower.events[2].ID != "id c" || follower.events[2].Key != "k1" || !follower.events[2].At.Equal(time.UnixMilli(1e12+3)) {
		t.Errorf("%q, %+v", follower.past, follower.events[2])
	}
	select {
	case <-led:
		t.Error("an ended stream has a term")
	case <-time.After(100 * time.Millisecond):
	}
	log, loaded, err := replica(t, server).Open(t.Context(), "r", identity(1), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var got []string
	for _, e := range loaded.Events {
		got = append(got, e.Key+strings.TrimSpace(e.ID[2:]))
	}
	if loaded.Older != 2 || strings.Join(got, " ") != "k2b k1c k3d k4e" || string(loaded.Past) != "past 4" || string(loaded.State) != "state" || loaded.Epoch != holder.term.Epoch {
		t.Errorf("%v, %d older, %+v", got, loaded.Older, loaded)
	}
	// Nobody's data or identity is in a key's name.
	for _, key := range strings.Fields(server.Do("KEYS", "*")) {
		if !strings.HasPrefix(key, "test:{") || server.Do("PTTL", key) == "-1" {
			t.Errorf("%s, TTL %s", key, server.Do("PTTL", key))
		}
	}
}

// TestWords: what one replica tells, the others hear, once, also one that could not reach the store meanwhile.
func TestWords(t *testing.T) {
	server := redistest.Start(t)
	stores := []*Store{replica(t, server), replica(t, server), replica(t, server)}
	var mu sync.Mutex
	heard := map[*Store]string{}
	for _, s := range stores {
		s.Hear(func(words []byte) {
			mu.Lock()
			defer mu.Unlock()
			heard[s] += string(words)
		})
	}
	redistest.Until(t, "the tails", func() bool { return strings.Contains(server.Do("CLIENT", "LIST"), "cmd=xread") })
	is := func(a, b, c string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return heard[stores[0]] == a && heard[stores[1]] == b && heard[stores[2]] == c
		}
	}
	<-time.After(500 * time.Millisecond) // until all three read
	if err := stores[0].Tell(t.Context(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	redistest.Until(t, "the others to hear", is("", "a", "a"))
	server.Do("CLIENT", "KILL", "TYPE", "normal")
	redistest.Until(t, "words to be told", func() bool { return stores[1].Tell(t.Context(), []byte("b")) == nil })
	redistest.Until(t, "the others to hear", is("b", "a", "ab"))
	server.Do("FLUSHALL")
	redistest.Until(t, "words to be told", func() bool { return stores[2].Tell(t.Context(), []byte("c")) == nil })
	redistest.Until(t, "the others to hear", is("bc", "ac", "ab"))
	server.Kill()
	if err := stores[0].Tell(t.Context(), []byte("d")); err == nil {
		t.Error("nobody was told")
	}
}

// TestManyAtOnce: the numbers of all streams get to all followers, though hints are read in lumps.
func TestManyAtOnce(t *testing.T) {
	server := redistest.Start(t)
	a, b := replica(t, server), replica(t, server)
	var holders, followers []*stream
	for i := range 60 {
		for _, at := range []*Store{a, b} {
			log, _, err := at.Open(t.Context(), "many", identity(i), 0)
			if err != nil {
				t.Fatal(err)
			}
			s := &stream{t: t, log: log}
			t.Cleanup(log.Close)
			if at == a {
				holders = append(holders, s.lead())
			} else {
				s.follow()
				followers = append(followers, s)
			}
		}
	}
	for n := range 30 {
		for _, h := range holders {
			h.must(fmt.Sprint(n))
		}
	}
	for i, f := range followers {
		f.expect(holders[i].text())
	}
	if n := strings.Count(server.Do("KEYS", "*:s"), "\n") + 1; n != 60 {
		t.Errorf("%d streams", n)
	}
}

// TestCredentials: a user of the ACL.
func TestCredentials(t *testing.T) {
	server := redistest.Start(t, "--user", "side", "on", ">secret%word", "~test:*", "&*", "+@all", "--user", "default", "off")
	holder := opened(t, storeAt(t, "redis://side:secret%25word@"+server.Addr)).lead()
	holder.must("1")
	if holder.term.Epoch == 0 {
		t.Error("it is alone")
	}
	settings, _ := Parse("redis://side:wrong@" + server.Addr)
	if _, err := settings.client(); err == nil || strings.Contains(err.Error(), "wrong") && strings.Contains(err.Error(), "side:wrong") {
		t.Errorf("%v", err)
	}
}

// TestClaims: what was sent with a key is known to the next holder.
func TestClaims(t *testing.T) {
	server := redistest.Start(t)
	a, b := opened(t, replica(t, server)).log.(history.Claims), opened(t, replica(t, server)).log.(history.Claims)
	one, other := sha256.Sum256([]byte("one")), sha256.Sum256([]byte("other"))
	expect := func(at history.Claims, key string, digest [32]byte, want history.Claim) {
		t.Helper()
		if got, err := at.Claim(t.Context(), key, digest); got != want || err != nil {
			t.Errorf("%s: %v, %v, want %v", key, got, err, want)
		}
	}
	expect(a, "k", one, history.ClaimNew)
	expect(b, "k", one, history.ClaimPending)
	expect(b, "k", other, history.ClaimOther)
	expect(b, "l", other, history.ClaimNew)
	a.Settle(t.Context(), "k", one, true)
	expect(b, "k", one, history.ClaimSent)
	expect(b, "k", other, history.ClaimOther)
	b.Settle(t.Context(), "l", other, false)
	expect(a, "l", one, history.ClaimNew)
	for _, key := range strings.Fields(server.Do("KEYS", "*:i:*")) {
		if ttl := server.Do("PTTL", key); ttl == "-1" {
			t.Errorf("%s stays", key)
		}
	}
	server.Kill()
	if _, err := a.Claim(t.Context(), "m", one); err == nil {
		t.Error("it is claimed nowhere")
	}
}

// TestReadsAndDoesNotWrite: where the store can be read and takes no writes, a stream that nobody runs is run all the same.
func TestReadsAndDoesNotWrite(t *testing.T) {
	server := redistest.Start(t)
	s := replica(t, server)
	opened(t, s).lead().must("1") // so that scripts are known
	server.Do("CONFIG", "SET", "maxmemory", "1")
	log, _, err := s.Open(t.Context(), "other", identity(2), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	one := (&stream{t: t, log: log}).lead()
	if one.term.Epoch != 0 {
		t.Errorf("%+v", one.term)
	}
	server.Do("CONFIG", "SET", "maxmemory", "0")
	redistest.Until(t, "an epoch", func() bool { one.mu.Lock(); defer one.mu.Unlock(); return one.epoch != 0 })
}

// TestReadsAndFollows: where the store can be read and takes no writes, a stream that another replica runs is not run twice, also by a replica
// that has known for a while that the store takes none.
func TestReadsAndFollows(t *testing.T) {
	server := redistest.Start(t)
	holder, beside := opened(t, replica(t, server)).lead(), replica(t, server)
	holder.must("1", "2")
	server.Do("CONFIG", "SET", "maxmemory", "1")
	var followers []*stream
	for range 2 {
		f := opened(t, beside)
		f.follow()
		redistest.Until(t, "Follows", f.isBeside)
		f.expect("1 2")
		followers = append(followers, f)
	}
	server.Do("CONFIG", "SET", "maxmemory", "0")
	redistest.Until(t, "an append", func() bool { return holder.append("3") == nil })
	for _, f := range followers {
		f.expect("1 2 3")
	}
}

// TestStoodStill: a holder that stood still for longer than its lease, and was replaced, gives its clients nothing more that is its own, though what it
// waited for meanwhile came too late and the store seems to be away.
func TestStoodStill(t *testing.T) {
	for _, how := range []string{"before", "meanwhile"} {
		t.Run(how, func(t *testing.T) {
			server := redistest.Start(t)
			holder := opened(t, replica(t, server)).lead()
			holder.must("1", "2")
			l := holder.log.(*log)
			other := opened(t, replica(t, server))
			server.Do("SET", l.key("l"), "another")
			late := leaseTime
			if how == "meanwhile" {
				late = leaseTime - 3*time.Second/2
			}
			l.mu.Lock()
			l.renewed = l.store.since() - late
			l.mu.Unlock()
			if how == "before" {
				l.bucket.away.Store(true)
			} else {
				server.Do("CLIENT", "PAUSE", "1400", "ALL")
			}
			if err := holder.append("3"); !errors.Is(err, history.ErrClosed) || !holder.isOver() {
				t.Errorf("%v; the term is over: %v", err, holder.isOver())
			}
			other.expect("1 2")
		})
	}
}

// TestPatience: a lease that is missing just after the store was away is its holder's to renew, which may be slower to find it again.
func TestPatience(t *testing.T) {
	server := redistest.Start(t)
	s := replica(t, server)
	l := opened(t, s).log.(*log)
	wake := make(chan struct{}, 1)
	l.mu.Lock()
	l.wake = wake
	l.mu.Unlock()
	roused := func() bool {
		select {
		case <-wake:
			return true
		default:
			return false
		}
	}
	l.bucket.since.Store(int64(s.since()))
	l.wants.Store(true)
	defer l.wants.Store(false)
	time.Sleep((looks + 2) * lookTime)
	if roused() {
		t.Error("it does not wait for the holder")
	}
	l.bucket.since.Store(int64(s.since() - leaseTime))
	redistest.Until(t, "the lease to be asked for", roused)
}

// TestDoubt: a holder that is asked for an id that it does not know, and was replaced without knowing, has what its successor has appended.
func TestDoubt(t *testing.T) {
	for _, how := range []string{"replaced", "replaced long ago"} {
		t.Run(how, func(t *testing.T) {
			server := redistest.Start(t)
			holder := opened(t, replica(t, server)).lead()
			holder.must("1", "2")
			l := holder.log.(*log)
			other := opened(t, replica(t, server))
			server.Do("DEL", l.key("l"))
			other.lead().must("3")
			if how != "replaced" {
				l.mu.Lock()
				l.renewed = l.store.since() - leaseTime
				l.mu.Unlock()
				l.bucket.away.Store(true)
			}
			done := make(chan struct{})
			go func() { // ends with the term
				defer close(done)
				for !holder.isOver() {
					time.Sleep(time.Millisecond)
				}
				holder.follow()
			}()
			holder.log.Refresh(t.Context())
			holder.mu.Lock()
			n := len(holder.events)
			holder.mu.Unlock()
			if n != 3 {
				t.Errorf("it has %d events", n)
			}
			<-done
			holder.expect("1 2 3")
			l.bucket.away.Store(true) // a command came back too late, say
			other.must("4")
			holder.log.Refresh(t.Context())
			holder.mu.Lock()
			n = len(holder.events)
			holder.mu.Unlock()
			if n != 4 {
				t.Errorf("then it has %d events", n)
			}
		})
	}
}

// TestGivenUp: that somebody does not wait for an answer any more does not say that the store is away.
func TestGivenUp(t *testing.T) {
	server := redistest.Start(t)
	s := replica(t, server)
	l := opened(t, s).log.(*log)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.exec(ctx, l.bucket, commandTime, renewing, []string{l.key("l")}, []string{"1", "x"}); !errors.Is(err, context.Canceled) || l.bucket.away.Load() {
		t.Errorf("%v, away: %v", err, l.bucket.away.Load())
	}
}

// TestReallyAway: where the store does not answer, what comes late is asked for once, and clients are given events.
func TestReallyAway(t *testing.T) {
	server := redistest.Start(t)
	holder := opened(t, replica(t, server)).lead()
	holder.must("1")
	l := holder.log.(*log)
	server.Freeze()
	l.mu.Lock()
	l.renewed = l.store.since() - leaseTime
	l.mu.Unlock()
	for _, text := range []string{"2", "3", "4"} {
		began := time.Now()
		if err := holder.append(text); !errors.Is(err, history.ErrAway) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", text, err)
		}
		if took := time.Since(began); text != "2" && took >= commandTime {
			t.Errorf("%s took %v", text, took)
		}
	}
	server.Thaw()
	redistest.Until(t, "an append", func() bool { return holder.append("5") == nil })
}

// TestStoreGoesAsItIsOpened: a stream that another replica runs is not run twice either where the store goes between telling that and being asked
// for the lease.
func TestStoreGoesAsItIsOpened(t *testing.T) {
	server := redistest.Start(t)
	holder := opened(t, replica(t, server)).lead()
	holder.must("1", "2")
	f := opened(t, replica(t, server))
	server.Kill()
	led := f.follow()
	redistest.Until(t, "Follows", f.isBeside)
	server.Run()
	redistest.Until(t, "an append", func() bool { return holder.append("3") == nil })
	f.expect("1 2 3")
	select {
	case <-led:
		t.Error("it runs the source too")
	default:
	}
}

// TestOwedIsTriedAgain: what could not be kept is tried again, also where the store was never away: a lease that was renewed late, an answer
// that never agreed. Somebody may wait for it with an acknowledgement.
func TestOwedIsTriedAgain(t *testing.T) {
	server := redistest.Start(t)
	holder := opened(t, replica(t, server)).lead()
	holder.must("1")
	l := holder.log.(*log)
	l.missed(history.Batch{})
	redistest.Until(t, "Retry", func() bool { holder.mu.Lock(); defer holder.mu.Unlock(); return holder.tried > 0 })
	if l.bucket.away.Load() {
		t.Error("the store was away")
	}
}
