//go:build e2e

package redistest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sidestream/config"
	"sidestream/e2e/authority"
	"sidestream/e2e/redistest"
	"sidestream/proxy"
	"sidestream/proxy/upstream"
)

// events are what the first client of a route gets.
type events struct {
	t *testing.T

	mu  sync.Mutex // guards what follows
	buf bytes.Buffer
	err error // why it ended
	end chan struct{}
}

func (e *events) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.buf.Write(p)
}

// tap reads the only route that env makes, as the client that words describe.
func tap(t *testing.T, words []string, env ...string) *events {
	t.Helper()
	c, err := config.Load(append([]string{"SSE_ROUTE_R_PATH=/r", "SSE_HEARTBEAT=0"}, env...), os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	e := &events{t: t, end: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	go func() { // ends with stop, or when the upstream refuses
		defer close(e.end)
		err := proxy.Tap(ctx, c.Routes[0], words, e, slog.New(slog.DiscardHandler))
		e.mu.Lock()
		defer e.mu.Unlock()
		e.err = err
	}()
	t.Cleanup(func() { stop(); <-e.end })
	return e
}

// seen are the data of all events so far, and "gap" for each gap.
func (e *events) seen() (all []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for block := range strings.SplitSeq(e.buf.String(), "\n\n") {
		for line := range strings.Lines(block) {
			if data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: "); ok && !strings.Contains(block, "event: stream.") {
				all = append(all, data)
			}
		}
		if strings.Contains(block, "event: stream.gap") {
			all = append(all, "gap")
		}
	}
	return all
}

// until waits until exactly this was seen.
func (e *events) until(want ...string) {
	e.t.Helper()
	redistest.Until(e.t, fmt.Sprintf("%q", want), func() bool {
		got := e.seen()
		if len(got) > len(want) || len(got) == len(want) && !slices.Equal(got, want) {
			e.t.Fatalf("%q, want %q", got, want)
		}
		return len(got) == len(want)
	})
}

// ready waits until the server has so many connections of ours.
func ready(t *testing.T, s *redistest.Server, n int, reads string) {
	t.Helper()
	redistest.Until(t, "a connection", func() bool {
		here, reading := 0, false
		for line := range strings.Lines(s.Do("CLIENT", "LIST")) {
			if strings.Contains(line, "name=sidestream") {
				here++
				// What it looks at first does not block.
				reading = reading || strings.Contains(line, "cmd="+reads) && (reads != "xread" || strings.Contains(line, " flags=b "))
			}
		}
		return here == n && reading
	})
}

// cutter passes connections on to a server, and cuts them.
type cutter struct {
	l    net.Listener
	to   string
	mu   sync.Mutex // guards what follows
	all  []net.Conn
	left int  // bytes until the next cut; 0: none is due
	away bool // nobody gets through
	cuts int
}

func cutting(t *testing.T, to string) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{l: l, to: to}
	var running sync.WaitGroup
	running.Go(func() { // ends with l
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { c.pass(near) }) // ends with near
		}
	})
	t.Cleanup(func() { l.Close(); c.cut(); running.Wait() })
	return c
}

func (c *cutter) pass(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer far.Close()
	c.mu.Lock()
	away := c.away
	c.all = append(c.all, near, far)
	c.mu.Unlock()
	if away {
		return
	}
	up := make(chan struct{})
	go func() { // ends with both
		defer close(up)
		io.Copy(far, near)
		far.Close()
	}()
	io.Copy(midway{near, c}, far)
	near.Close()
	<-up
}

// midway writes to a client until a cut is due, in the middle of whatever it is.
type midway struct {
	io.Writer
	c *cutter
}

func (w midway) Write(p []byte) (int, error) {
	w.c.mu.Lock()
	due := w.c.left > 0 && w.c.left <= len(p)
	if due {
		p, w.c.left = p[:w.c.left-1], 0
		w.c.cuts++
	} else if w.c.left > 0 {
		w.c.left -= len(p)
	}
	w.c.mu.Unlock()
	n, err := w.Writer.Write(p)
	if due {
		err = io.ErrClosedPipe
	}
	return n, err
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.all {
		conn.Close()
	}
	c.all = nil
}

// gone has nobody get through, or all again.
func (c *cutter) gone(yes bool) {
	c.mu.Lock()
	c.away = yes
	c.mu.Unlock()
	c.cut()
}

func (c *cutter) address() string { return c.l.Addr().String() }

// add appends numbered entries.
func add(s *redistest.Server, key string, from, to int) {
	for i := from; i <= to; i++ {
		s.Do("XADD", key, "*", "n", fmt.Sprint(i))
	}
}

func numbers(from, to int) (all []string) {
	for i := from; i <= to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// Connections are cut in the middle of whatever they carry: each entry arrives once and in order, without a gap.
func TestStreamOverCuts(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := cutting(t, s.Addr)
	e := tap(t, nil, "SSE_ROUTE_R_FROM=redis://"+c.address()+"?stream=orders", "SSE_ROUTE_R_DATA=.n", "SSE_REPLAY_EVENTS=100000")
	ready(t, s, 1, "xread")
	last := 0
	for cuts := 0; cuts < 4; {
		c.mu.Lock()
		if c.left == 0 {
			c.left = 200 + rand.IntN(4000)
		}
		cuts = c.cuts
		c.mu.Unlock()
		add(s, "orders", last+1, last+20)
		last += 20
	}
	c.mu.Lock()
	c.left = 0
	c.mu.Unlock()
	redistest.Until(t, "the last entry", func() bool { return slices.Contains(e.seen(), fmt.Sprint(last)) })
	if got := e.seen(); !slices.Equal(got, numbers(1, last)) {
		t.Errorf("%d events for %d entries: %.300q", len(got), last, got)
	}
}

func TestPubSubTellsOfEachReconnect(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("ACL", "SETUSER", "reader", "on", ">x", "resetchannels", "&prices", "&orders", "&p.*", "+subscribe", "+psubscribe", "+select") // and no +ping
	e := tap(t, nil, "SSE_ROUTE_R_FROM=redis://reader:x@"+s.Addr+"/3?channel=prices&channel=orders&pattern=p.*", "SSE_ROUTE_R_IDLE=500ms", `SSE_ROUTE_R_DATA=$topic+" "+tojson`)
	subscribed := func() {
		t.Helper()
		redistest.Until(t, "a subscription", func() bool { return s.Do("PUBSUB", "NUMPAT") == "1" })
	}
	subscribed()
	s.Do("PUBLISH", "prices", `{"n":1}`)
	s.Do("PUBLISH", "other", "no")
	s.Do("PUBLISH", "p.x", "text")
	want := []string{`prices {"n":1}`, `p.x "text"`}
	e.until(want...)
	for range 2 {
		s.Do("CLIENT", "KILL", "TYPE", "pubsub")
		want = append(want, "gap")
		e.until(want...)
		subscribed()
		s.Do("PUBLISH", "orders", "2")
		want = append(want, "orders 2")
		e.until(want...)
	}
}

// What was trimmed, deleted or flushed before it was read is a gap; what was read before it was trimmed is none.
func TestStreamsTellWhatIsGone(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := cutting(t, s.Addr)
	e := tap(t, nil, "SSE_ROUTE_R_FROM=redis://"+c.address()+"?stream=orders", "SSE_ROUTE_R_DATA=.n", "SSE_ROUTE_R_IDLE=1s")
	ready(t, s, 1, "xread")
	add(s, "orders", 1, 5)
	want := numbers(1, 5)
	e.until(want...)

	c.gone(true) // everything that it had was read
	s.Do("XTRIM", "orders", "MAXLEN", "0")
	add(s, "orders", 6, 7)
	c.gone(false)
	want = append(want, "6", "7")
	e.until(want...)

	c.gone(true)
	add(s, "orders", 8, 12)
	s.Do("XTRIM", "orders", "MAXLEN", "2")
	c.gone(false)
	want = append(want, "gap", "11", "12")
	e.until(want...)

	c.gone(true)
	s.Do("XADD", "orders", "9999999999999-1", "n", "13")
	s.Do("XADD", "orders", "9999999999999-2", "n", "14")
	s.Do("XDEL", "orders", "9999999999999-2")
	c.gone(false)
	redistest.Until(t, "a gap for what was deleted", func() bool { return len(e.seen()) >= len(want)+2 })
	if got := e.seen()[len(want):]; !slices.Contains(got, "13") || !slices.Contains(got, "gap") || len(got) != 2 {
		t.Errorf("%q", got)
	}
	want = e.seen()

	s.Do("FLUSHALL") // and another stream by that name, with ids before ours
	s.Do("XADD", "orders", "1-1", "n", "15")
	want = append(want, "gap", "15")
	e.until(want...)

	c.gone(true) // once more, with ids after ours, and as if nothing had been
	s.Do("DEL", "orders")
	add(s, "orders", 16, 17)
	s.Do("XADD", "orders", "*", "n", "18")
	c.gone(false)
	want = append(want, "gap", "16", "17", "18")
	e.until(want...)
}

// A user of the ACL reads what it may, and is refused what it may not.
func TestRedisRefuses(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("ACL", "SETUSER", "reader", "on", ">pa:ss@1", "resetchannels", "&prices", "~orders", "+subscribe", "+xread", "+xinfo")
	s.Do("ACL", "SETUSER", "nobody", "on", ">x")
	s.Do("SET", "text", "x")
	for from, want := range map[string]string{
		"reader:pa%3Ass%401@{}?channel=prices":     "",
		"reader:pa%3Ass%401@{}?stream=orders":      "",
		"reader:pa%3Ass%401@{}?channel=secrets":    "(403)",
		"reader:pa%3Ass%401@{}?pattern=p*":         "(403)",
		"reader:pa%3Ass%401@{}?stream=other":       "(403)",
		"nobody:x@{}?channel=prices":               "(403)",
		"reader:wrong@{}?channel=prices":           "(401)",
		":wrong@{}?channel=prices":                 "(401)",
		"{}?stream=text":                           "(404)",
		"{}/99?channel=prices":                     "(404)",
		"{}?stream=orders&stream=nothing-there-is": "",
	} {
		address := "redis://" + strings.ReplaceAll(from, "{}", s.Addr)
		c, err := config.Load([]string{"SSE_ROUTE_R_PATH=/r", "SSE_ROUTE_R_FROM=" + address}, os.ReadFile)
		if err != nil {
			t.Fatalf("%s: %v", from, err)
		}
		tried := proxy.Try(t.Context(), c.Routes[0], slog.New(slog.DiscardHandler))
		if want == "" && tried.Err != nil || want != "" && (tried.Err == nil || !strings.Contains(tried.Err.Error(), want) || strings.Contains(tried.Err.Error(), "wrong")) {
			t.Errorf("%s: %v, want %s", from, tried.Err, want)
		}
	}
	s.Do("CONFIG", "SET", "requirepass", "secret")
	c, err := config.Load([]string{"SSE_ROUTE_R_PATH=/r", "SSE_ROUTE_R_FROM=redis://" + s.Addr + "?channel=a"}, os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	if tried := proxy.Try(t.Context(), c.Routes[0], slog.New(slog.DiscardHandler)); tried.Err == nil || !strings.Contains(tried.Err.Error(), "(401)") {
		t.Errorf("without a password: %v", tried.Err)
	}
}

// Over TLS by a private authority, with a client's certificate, and with a password that stands in a file and is changed there.
func TestSourceOverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := authority.New("redis")
	pair, port := ca.Issue("app", "redis.internal"), strconv.Itoa(redistest.FreePort(t))
	s := redistest.Start(t, "--tls-port", port, "--tls-cert-file", write("cert.pem", pair.Cert), "--tls-key-file", write("key.pem", pair.Key), "--tls-ca-cert-file", write("ca.pem", ca.PEM),
		"--tls-auth-clients", "yes", "--user", "app", "on", ">first", "~*", "&*", "+@all")
	from := func(password string) string {
		return write("from", []byte("rediss://app:"+password+"@127.0.0.1:"+port+"?stream=orders\n"))
	}
	env := []string{"SSE_ROUTE_R_FROM_FILE=" + from("first"), "SSE_ROUTE_R_UPSTREAM_CA=" + filepath.Join(dir, "ca.pem"), "SSE_ROUTE_R_UPSTREAM_CERT=" + filepath.Join(dir, "cert.pem"),
		"SSE_ROUTE_R_UPSTREAM_KEY=" + filepath.Join(dir, "key.pem"), "SSE_ROUTE_R_DATA=.n"}
	other, err := config.Load(append([]string{"SSE_ROUTE_R_PATH=/r"}, env...), os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	if tried := proxy.Try(t.Context(), other.Routes[0], slog.New(slog.DiscardHandler)); tried.Err == nil || !strings.Contains(tried.Err.Error(), "for another name") {
		t.Errorf("a certificate for another name: %v", tried.Err)
	}
	if shown := other.Routes[0].Upstream.From(); shown != "rediss://127.0.0.1:"+port+"?…" {
		t.Errorf("shown is %s", shown)
	}
	e := tap(t, nil, append(env, "SSE_ROUTE_R_UPSTREAM_NAME=redis.internal")...)
	ready(t, s, 1, "xread")
	add(s, "orders", 1, 1)
	e.until("1")
	from("second")
	s.Do("ACL", "SETUSER", "app", ">second", "<first")
	time.Sleep(time.Second) // files are looked at once in a second
	s.Do("CLIENT", "KILL", "USER", "app")
	add(s, "orders", 2, 2)
	e.until("1", "2")
}

// Each client hears its own room, whatever it calls it.
func TestRoomsStayApart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	from := "SSE_ROUTE_R_FROM=redis://" + s.Addr + "?pattern=room.{query.room}.*"
	a := tap(t, []string{"query.room=a"}, from)
	greedy := tap(t, []string{"query.room=*"}, from)
	tricky := tap(t, []string{"query.room=[a]&pattern=*"}, from)
	redistest.Until(t, "three subscriptions", func() bool { return s.Do("PUBSUB", "NUMPAT") == "3" })
	s.Do("PUBLISH", "room.a.x", "for a")
	s.Do("PUBLISH", "room.*.x", "for greedy")
	s.Do("PUBLISH", "room.[a]&pattern=*.x", "for tricky")
	a.until("for a")
	greedy.until("for greedy")
	tricky.until("for tricky")
}

// The master that sentinels name is read, and the next one after a failover.
func TestSourceOverFailover(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t, 1000)
	at := "redis+sentinel://" + s.Addrs() + "/main"
	entries := tap(t, nil, "SSE_ROUTE_R_FROM="+at+"?stream=orders", "SSE_ROUTE_R_DATA=.n")
	messages := tap(t, nil, "SSE_ROUTE_R_FROM="+at+"?channel=prices")
	ready(t, s.Master(), 2, "xread")
	add(s.Master(), "orders", 1, 3)
	s.Master().Do("WAIT", "1", "5000")
	entries.until("1", "2", "3")
	s.Failover(t)
	ready(t, s.Master(), 2, "xread")
	add(s.Master(), "orders", 4, 5)
	s.Master().Do("PUBLISH", "prices", "1")
	entries.until("1", "2", "3", "4", "5")
	messages.until("gap", "1")
	wrong := tapErr(t, "redis+sentinel://"+s.Addrs()+"/other?channel=a")
	if !strings.Contains(wrong, "(404)") {
		t.Errorf("an unknown master: %s", wrong)
	}
}

// In a cluster a stream is read where it is, and where it has moved to.
func TestSourceInCluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	at := "redis+cluster://" + c.Addrs()
	e := tap(t, nil, "SSE_ROUTE_R_FROM="+at+"?stream={shop}orders&stream={shop}bills", "SSE_ROUTE_R_DATA=.n")
	messages := tap(t, nil, "SSE_ROUTE_R_FROM="+at+"?channel=prices")
	owner := c.Owner("{shop}orders")
	redistest.Until(t, "a reader at the owner", func() bool { return strings.Contains(owner.Do("CLIENT", "LIST"), "cmd=xread") })
	add(owner, "{shop}orders", 1, 2)
	e.until("1", "2")
	c.Move(t, "{shop}orders")
	owner = c.Owner("{shop}orders")
	add(owner, "{shop}orders", 3, 4)
	e.until("1", "2", "3", "4")
	redistest.Until(t, "a subscription", func() bool {
		for _, n := range c.Nodes {
			if strings.Contains(n.Do("PUBSUB", "NUMSUB", "prices"), "1") {
				return true
			}
		}
		return false
	})
	c.Nodes[0].Do("PUBLISH", "prices", "1")
	messages.until("1")
	if got := tapErr(t, at+"?stream=a&stream=b"); !strings.Contains(got, "(404)") || !strings.Contains(got, "CROSSSLOT") {
		t.Errorf("two slots: %s", got)
	}
	plain := ""
	for _, n := range c.Nodes {
		if n != c.Owner("a") {
			plain = tapErr(t, "redis://"+n.Addr+"?stream=a")
		}
	}
	if !strings.Contains(plain, "redis+cluster://") {
		t.Errorf("without saying that it is a cluster: %s", plain)
	}
}

// tapErr is why a route does not connect.
func tapErr(t *testing.T, from string) string {
	t.Helper()
	rt, err := upstream.Compile(upstream.SourceSettings{From: from, MaxMessage: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(proxy.Try(t.Context(), &proxy.RouteSettings{Name: "r", Path: "/r", Upstream: rt, Retry: time.Second}, slog.New(slog.DiscardHandler)).Err)
}
