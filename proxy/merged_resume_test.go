package proxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

type reader struct {
	s      *sidecar
	paths  []string
	places bool // it tells its place in each part; else it has one id
	route  bool // paths is one, of a merged route

	id   string
	last map[string]string // of each path, the id in its part
	saw  map[string][]int
	odd  []string // what it has seen beside events
	skip map[string]uint64
}

func newReader(s *sidecar, places bool, paths ...string) *reader {
	return &reader{s: s, places: places, paths: paths, last: map[string]string{}, saw: map[string][]int{}}
}

func (c *reader) target() string {
	if c.route {
		return c.paths[0]
	}
	q := url.Values{}
	for _, path := range c.paths {
		if id := c.last[path]; id != "" && c.places {
			path += "?lastEventId=" + id
		}
		q.Add("from", path)
	}
	if c.places {
		q.Set("places", "1")
	}
	return setPath + "?" + q.Encode()
}

// read is one connection. It ends when enough is true, or after so many bytes.
func (c *reader) read(t *testing.T, bytes int, enough func() bool) {
	t.Helper()
	conn, err := net.Dial("tcp", c.s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := ""
	if c.id != "" && !c.places {
		head = "Last-Event-ID: " + c.id + "\r\n"
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: %s\r\nAccept: text/event-stream\r\n%s\r\n", c.target(), c.s.addr, head)
	c.skip = map[string]uint64{}
	var mark, name, data, id string
	in := bufio.NewReader(conn)
	for size := 0; !enough(); {
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		line, err := in.ReadString('\n')
		if size += len(line); size > bytes {
			return
		}
		if err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() && line == "" {
				continue
			}
			return
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "":
			if value != "" {
				mark = value
			} else if name != "" {
				c.take(mark, name, data, id)
				mark, name, data, id = "", "", "", ""
			}
		case "event":
			name = value
		case "data":
			data = value
		case "id":
			id = value
		}
	}
}

func (c *reader) take(mark, name, data, id string) {
	if id != "" {
		c.id = id
	}
	if name == "stream.open" {
		var said struct {
			At   map[string]string
			Skip map[string]uint64
		}
		json.Unmarshal([]byte(data), &said)
		for i, id := range said.At {
			if path := c.path(i); c.last[path] == "" {
				c.last[path] = id
			}
		}
		c.skip = said.Skip
		return
	}
	label, place, _ := strings.Cut(mark, " ")
	if c.places && c.skip[label] > 0 && place != "" {
		c.skip[label]--
		return
	}
	if strings.HasPrefix(name, "stream.") {
		c.odd = append(c.odd, name+" "+data)
		return
	}
	if !c.route {
		label, _, _ = strings.Cut(name, ":")
	} else {
		label = name
	}
	var said struct{ N int }
	json.Unmarshal([]byte(data), &said)
	path := label
	if !c.route {
		path = c.path(label)
	}
	c.saw[path] = append(c.saw[path], said.N)
	if place != "" {
		c.last[path] = place
	}
}

func (c *reader) path(label string) string {
	i, _ := strconv.Atoi(label)
	return c.paths[i]
}

// parts is the newest number of each part that it listens to, by what it calls them.
func (c *reader) parts(said map[string]int) map[string]int {
	if c.route {
		return map[string]int{"a": said["/a"], "b": said["/b/1"], "c": said["/c"]}
	}
	newest := map[string]int{}
	for _, path := range c.paths {
		newest[path] = said[path]
	}
	return newest
}

// upTo is whether it has seen all of what was said, of the parts of which it has seen anything.
func (c *reader) upTo(said map[string]int) bool {
	for path, n := range c.parts(said) {
		if saw := c.saw[path]; len(saw) > 0 && saw[len(saw)-1] < n {
			return false
		}
	}
	return true
}

// check holds that of each path the events from its first one on were seen, once, in order.
func (c *reader) check(t *testing.T, who string, newest map[string]int) {
	t.Helper()
	for path, saw := range c.saw {
		for i := range saw {
			if i > 0 && saw[i] != saw[i-1]+1 {
				t.Errorf("%s: of %s: %v", who, path, saw[max(0, i-3):min(len(saw), i+3)])
				break
			}
		}
		if n := saw[len(saw)-1]; n != newest[path] {
			t.Errorf("%s: of %s the last is %d, want %d", who, path, n, newest[path])
		}
	}
	if len(c.odd) > 0 {
		t.Errorf("%s: %v", who, c.odd)
	}
}

// what it listens to may change.
func TestMergedResumesExactly(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s := serve(t, "SSE_RETRY=100ms", "SSE_LINGER=30s",
		"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws?a", "SSE_ROUTE_B_PATH=/b/{id}", "SSE_ROUTE_B_FROM="+f.ws()+"/ws?b{path.id}",
		"SSE_ROUTE_C_PATH=/c", "SSE_ROUTE_C_FROM="+f.ws()+"/ws?c", "SSE_ROUTE_C_ID=.n", "SSE_ROUTE_ALL_PATH=/all/{id}", "SSE_ROUTE_ALL_FROM=routes:a,b,c")
	queries := map[string]string{"/a": "a", "/b/1": "b1", "/c": "c", "/b/2": "b2"}
	var mu sync.Mutex
	said := map[string]int{}
	say := func(path string) {
		mu.Lock()
		defer mu.Unlock()
		said[path]++
		f.publish(t, queries[path], fmt.Sprintf(`{"n":%d}`, said[path]))
	}
	all := []string{"/a", "/b/1", "/c"}
	native, aware, moving := newReader(s, false, all...), newReader(s, true, all...), newReader(s, true, all...)
	whole := newReader(s, false, "/all/1")
	whole.route = true
	clients := map[string]*reader{"with one id": native, "with places": aware, "of a set that changes": moving, "of a route": whole}
	random := rand.New(rand.NewPCG(1, 2))
	var keep []*response // the streams are there before anything is said
	for _, path := range []string{"/a", "/b/1", "/b/2", "/c", "/all/1", native.target(), aware.target()} {
		keep = append(keep, s.get(t, path))
	}
	defer func() {
		for _, one := range keep {
			one.conn.Close()
		}
	}()
	eventually(t, "all WebSockets", func() bool { return f.dials.Load() == 4 })
	paths := []string{"/a", "/b/1", "/c", "/b/2"}
	var begun sync.WaitGroup // each has its place in every part before it is cut: whatever is said from then on, it must see
	for who, c := range clients {
		begun.Go(func() {
			end := time.Now().Add(time.Minute)
			c.read(t, 1<<30, func() bool { return len(c.saw) == len(all) || time.Now().After(end) })
			if len(c.saw) < len(all) {
				t.Errorf("%s: it has seen events of %d parts in a minute", who, len(c.saw))
			}
		})
	}
	ready := make(chan struct{})
	go func() { begun.Wait(); close(ready) }()
	for waiting := true; waiting; {
		select {
		case <-ready:
			waiting = false
		case <-time.After(20 * time.Millisecond):
			for _, path := range paths {
				say(path)
			}
		}
	}
	if t.Failed() {
		return
	}
	for round := range 40 {
		before := maps.Clone(said)
		var reading sync.WaitGroup
		for _, c := range clients {
			size := 300 + random.IntN(4000)
			end := time.Now().Add(time.Duration(random.IntN(40)) * time.Millisecond)
			hasty := random.IntN(4) == 0 // cut by the clock alone, wherever that is; the others read what was said before, so that they stay within the replay buffer
			reading.Go(func() {
				c.read(t, size, func() bool { return time.Now().After(end) && (hasty || c.upTo(before)) })
			})
		}
		for range random.IntN(60) {
			say(paths[random.IntN(4)])
		}
		reading.Wait()
		if round%3 == 2 { // its paths come and go, and change their order
			moving.paths = [][]string{{"/c", "/b/1", "/a"}, {"/b/2", "/a", "/c", "/b/1"}, {"/a", "/b/1", "/c"}, {"/b/1", "/c", "/a", "/b/2"}}[round/3%4]
		}
	}
	for who, c := range clients {
		newest := c.parts(said)
		end := time.Now().Add(time.Minute)
		c.read(t, 1<<30, func() bool { return c.upTo(said) || time.Now().After(end) })
		for path := range c.saw {
			if _, wanted := newest[path]; !wanted {
				delete(c.saw, path) // it was let go of before the end
			}
		}
		c.check(t, who, newest)
		total := 0
		for _, saw := range c.saw {
			total += len(saw)
		}
		if total < 300 {
			t.Errorf("%s: it has seen %d events", who, total)
		}
	}
}
