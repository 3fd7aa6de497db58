//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// mergeEnv is a sidecar with three routes of one feed, and a page for each tab.
func mergeEnv(f *feed, more ...string) []string {
	env := []string{"SSE_UPSTREAM=http://" + f.addr(), "SSE_DRAIN=200ms", "SSE_HEARTBEAT=1s", "SSE_RETRY=200ms", "SSE_LINGER=5s"}
	for name, path := range map[string]string{"A": "/events/a", "B": "/events/b/{id}", "C": "/events/c"} {
		env = append(env, "SSE_ROUTE_"+name+"_PATH="+path, "SSE_ROUTE_"+name+"_FROM=ws://"+f.addr()+"/ws?"+name)
	}
	return append(append(env, `SSE_ROUTE_A_EVENT="tick"`, "SSE_ROUTE_ALL_PATH=/events/all/{id}", "SSE_ROUTE_ALL_FROM=routes:a,b,c"), more...)
}

// Frames of one page stand for tabs: each has locks and channels of its own, and removing one is its death.
const mergePages = `<!doctype html><link rel="icon" href="data:,"><title>tabs</title><body><script>
const tabs = {};
function add(name) {
  const frame = document.createElement("iframe");
  frame.src = "/tab.html";
  document.body.append(frame);
  tabs[name] = { frame, sources: {}, seen: {}, gaps: [], ids: {} };
  frame.onload = () => tabs[name].loaded = true;
  return "";
}
function listen(name, path, event) {
  const t = tabs[name], seen = t.seen[path] = [];
  const source = t.sources[path] = new t.frame.contentWindow.SidestreamEventSource(path, { gap: gap => t.gaps.push(gap) });
  const take = e => { seen.push(JSON.parse(e.data).n); t.ids[path] = e.lastEventId; };
  if (event) source.addEventListener(event, take);
  else source.onmessage = take;
  return "";
}
function close(name, path) {
  tabs[name].sources[path].close();
  delete tabs[name].sources[path];
  delete tabs[name].seen[path];
  return "";
}
function remove(name) {
  tabs[name].frame.remove();
  delete tabs[name];
  return "";
}
const each = f => Object.entries(tabs).flatMap(([name, t]) => Object.keys(t.sources).map(path => f(t, path, name)));
const opened = () => each((t, path) => t.sources[path].readyState).every(state => state === 1);
const latest = () => [...new Set(each((t, path) => t.seen[path].at(-1)))].join();
const wrong = () => each((t, path, name) => {
  const seen = t.seen[path], at = seen.findIndex((n, i) => i > 0 && n !== seen[i - 1] + 1);
  return at < 0 ? "" : name + path + " saw " + seen.slice(Math.max(0, at - 3), at + 3) + "; ";
}).join("") + Object.values(tabs).map(t => t.gaps.length ? JSON.stringify(t.gaps) : "").join("");
</script>`

var mergeFiles = map[string]string{"/tabs.html": mergePages, "/tab.html": `<!doctype html><script src="/_sidestream/events.js"></script>`}

// connected is how many connections with events there are.
func connected(t *testing.T, s *sidecar) (n float64) {
	t.Helper()
	for _, route := range []string{"a", "b", "c", "all", "_events"} {
		n += metric(t, s, `sidestream_clients{route="`+route+`",transport="sse"}`)
	}
	return n
}

// All EventSources of a page and of its tabs share one connection, whatever they listen to. It may be cut at any moment, and so may the tab that has it; what is
// added or closed changes nothing for the others: each sees every event once, in order, and nothing is said to be missing.
func TestPageSharesOneConnection(t *testing.T) {
	t.Parallel()
	inBrowsers(t, func(t *testing.T, b browser) {
		f := startFeed(t, mergeFiles)
		s := startSidecar(t, mergeEnv(f)...)
		r := startRecorder(t, s.addr)
		b.open(t, "http://"+r.addr()+"/tabs.html")
		for _, name := range []string{"one", "two"} {
			b.eval(t, fmt.Sprintf("add(%q)", name))
			eventually(t, "the tab to be loaded", func() bool { return b.eval(t, fmt.Sprintf("String(tabs.%s.loaded)", name)) == "true" })
		}
		check := func(when string) {
			t.Helper()
			eventually(t, "everyone to be open "+when, func() bool { return b.eval(t, "String(opened())") == "true" })
			for range 5 {
				f.tick(t)
			}
			eventually(t, "everyone to see the last tick "+when, func() bool { return b.eval(t, "latest()") == fmt.Sprint(f.said) })
			if wrong := b.eval(t, "wrong()"); wrong != "" {
				t.Fatalf("%s: not each event once and in order, or a gap: %s", when, wrong)
			}
			eventually(t, "one connection "+when, func() bool { return connected(t, s) == 1 })
		}
		b.eval(t, `listen("one", "/events/a", "tick") + listen("one", "/events/b/7") + listen("two", "/events/c")`)
		eventually(t, "everyone to be open", func() bool { return b.eval(t, "String(opened())") == "true" && connected(t, s) == 1 })
		begun := f.said
		r.cut() // before anyone has had an event
		for range 3 {
			f.tick(t)
		}
		check("at first")
		if first := b.eval(t, "[...new Set(each((t, path) => t.seen[path][0]))].join()"); first != fmt.Sprint(begun+1) {
			t.Errorf("the first tick that was seen is %s, want %d", first, begun+1)
		}
		if n := metric(t, s, `sidestream_clients{route="_events",transport="sse"}`); n != 1 {
			t.Fatalf("%v connections are for several routes", n)
		}
		b.eval(t, `listen("two", "/events/b/8")`)
		check("with one more")
		b.eval(t, `listen("two", "/events/a", "tick")`)
		check("with one that another tab has")
		b.eval(t, `close("one", "/events/a")`)
		began := time.Now()
		check("with one closed that another tab has")
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v until the other tab had its events", took)
		}
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 12 {
			switch i % 4 {
			case 1:
				b.eval(t, `listen("one", "/events/b/9")`)
			case 3:
				b.eval(t, `close("one", "/events/b/9")`)
			}
			for range random.IntN(20) {
				f.tick(t)
			}
			r.cut()
			for range random.IntN(20) {
				f.tick(t)
			}
		}
		check("after cuts at random")
		b.eval(t, `remove("one")`)
		for range 10 {
			f.tick(t)
		}
		check("after the first tab has died")
		if id := b.eval(t, `tabs.two.ids["/events/c"]`); !strings.Contains(id, "-") || id == b.eval(t, `tabs.two.ids["/events/a"]`) {
			t.Errorf("the id of an event is %q: not that of its own route", id)
		}
	})
}

// Where the sidecar's address for sets is somebody else's, the browser lacks what tabs share by, or the page's policy leaves out the script for it, events come
// all the same.
func TestPageWithoutSets(t *testing.T) {
	t.Parallel()
	b := startChromium(t)
	f := startFeed(t, map[string]string{"/page.html": `<!doctype html><link rel="icon" href="data:,"><title>events</title><script>
const asked = window.fetch;
switch (location.hash) {
case "#alone":
  delete Navigator.prototype.locks;
  break;
case "#policy":
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = "script-src 'unsafe-inline' " + location.origin + "/_sidestream/events.js";
  document.head.append(policy);
  break;
default:
  window.fetch = (url, more) => asked(String(url).replace("/_sidestream/events?", "/nothing?"), more);
}
</script><script src="/_sidestream/events.js"></script><script>
const seen = { a: [], c: [] };
for (const name in seen) {
  const source = new SidestreamEventSource("/events/" + name);
  source.onmessage = e => seen[name].push(JSON.parse(e.data).n);
  source.addEventListener("tick", source.onmessage);
}
</script>`})
	s := startSidecar(t, mergeEnv(f)...)
	for hash, want := range map[string]float64{"#": 2, "#alone": 1, "#policy": 2} {
		b.open(t, "about:blank")
		b.open(t, "http://"+s.addr+"/page.html"+hash)
		eventually(t, "the connections with "+hash, func() bool {
			return connected(t, s) == want && metric(t, s, `sidestream_clients{route="_events",transport="sse"}`) == 2-want
		})
		eventually(t, "both to see an event with "+hash, func() bool {
			f.tick(t)
			return b.eval(t, "String(seen.a.length > 0 && seen.a.join() === seen.c.join())") == "true"
		})
	}
}

// mergeReader reads several routes over one connection as a native client does, by one id, and is cut at random.
type mergeReader struct {
	url  string
	id   string
	last map[string]int // by the name of the part
	odd  []string
}

// read is one connection, which is cut after so many bytes, or a while without any.
func (c *mergeReader) read(t *testing.T, bytes int, idle time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if c.id != "" {
		req.Header.Set("Last-Event-ID", c.id)
	}
	resp, err := plain.Do(req)
	if err != nil {
		return // it is restarting
	}
	defer resp.Body.Close()
	stop := time.AfterFunc(idle, cancel)
	defer stop.Stop()
	var name, data, id string
	in := bufio.NewReader(io.LimitReader(resp.Body, int64(bytes)))
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		stop.Reset(idle)
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case line == "\n":
			c.take(name, data)
			if id != "" {
				c.id = id
			}
			name, data, id = "", "", ""
		case field == "event":
			name = value
		case field == "data":
			data = value
		case field == "id":
			id = value
		}
	}
}

func (c *mergeReader) take(name, data string) {
	var said struct{ N int }
	switch {
	case name == "stream.open":
	case strings.HasPrefix(name, "stream.") || json.Unmarshal([]byte(data), &said) != nil:
		c.odd = append(c.odd, name+" "+data)
	default:
		if last := c.last[name]; last > 0 && said.N != last+1 {
			c.odd = append(c.odd, fmt.Sprintf("%s: %d after %d", name, said.N, last))
		}
		c.last[name] = said.N
	}
}

// A client that is cut at any moment, and comes back with its one id, has of each of three parts each event once. So it is after a kill of the sidecar, with a
// history, of a merged route; a gap says whose it is.
func TestMergedResume(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := startSidecar(t, mergeEnv(f, "SSE_HISTORY=file:"+t.TempDir(), "SSE_REPLAY_EVENTS=20000")...)
	clients := map[string]*mergeReader{
		"a route": {url: "http://" + s.addr + "/events/all/7", last: map[string]int{}},
		"a set":   {url: "http://" + s.addr + "/_sidestream/events?from=/events/a&from=/events/b/7&from=/events/c", last: map[string]int{}},
	}
	random := rand.New(rand.NewPCG(3, 4))
	all := func(size func() int, idle time.Duration) {
		t.Helper()
		var reading sync.WaitGroup
		for _, c := range clients {
			n := size()
			reading.Go(func() { c.read(t, n, idle) })
		}
		for range random.IntN(40) {
			f.tick(t)
		}
		reading.Wait()
	}
	all(func() int { return 1 << 20 }, 300*time.Millisecond) // it begins
	for range 40 {
		all(func() int { return 100 + random.IntN(3000) }, 30*time.Millisecond)
	}
	all(func() int { return 1 << 20 }, 500*time.Millisecond)
	for who, c := range clients {
		if len(c.odd) > 0 || len(c.last) != 3 {
			t.Errorf("%s: %v, %v", who, c.odd, c.last)
		}
		for name, last := range c.last {
			if last != f.said {
				t.Errorf("%s: the last of %s is %d, want %d", who, name, last, f.said)
			}
		}
	}
	c := clients["a route"]
	emitted := metric(t, s, `sidestream_events_total{route="all"}`)
	for range 5 {
		f.tick(t)
	}
	eventually(t, "all of it to be there", func() bool {
		return metric(t, s, `sidestream_events_total{route="all"}`) == emitted+15
	})
	s.Process.Kill()
	s.wait(t)
	s.start(t)
	before := f.said
	c.read(t, 1<<20, time.Second)
	for _, name := range []string{"tick", "b", "c"} {
		if c.last[name] != before {
			t.Errorf("after the kill the last of %s is %d, want %d", name, c.last[name], before)
		}
	}
	gaps := map[string]int{}
	for _, odd := range c.odd {
		gaps[odd]++
	}
	for _, route := range []string{"a", "b", "c"} { // a feed that cannot say what it sent meanwhile
		if gaps[`stream.gap {"reason":"upstream","missed":null,"route":"`+route+`"}`] != 1 || len(gaps) != 3 {
			t.Errorf("after the kill: %v", gaps)
			break
		}
	}
}
