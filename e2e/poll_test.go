//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// request makes one request of a test's own and returns the answer's body.
func request(t *testing.T, method, address, contentType, body string) string {
	t.Helper()
	req, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode > 299 {
		t.Fatalf("%s %s: %s, %v: %s", method, address, resp.Status, err, text)
	}
	return string(text)
}

// server is a program that serves HTTP on an address of its own.
type server struct {
	*process
	addr  string
	start func() *process
}

// up starts it and waits until path is answered.
func (s *server) up(t *testing.T, path string) {
	t.Helper()
	s.process = s.start()
	eventually(t, s.addr+path, func() bool { return status("http://"+s.addr+path) == http.StatusOK })
}

func (s *server) kill() {
	syscall.Kill(-s.Process.Pid, syscall.SIGKILL) // with its children
	<-s.ended
}

// etcd 2: one event a request, an index in a header, a history of 1,000 events, and headers long before the body.
func TestEtcd(t *testing.T) {
	t.Parallel()
	dir, peer := t.TempDir(), freeAddr(t)
	etcd := &server{addr: freeAddr(t)}
	etcd.start = func() *process {
		return launch(t, []string{"ETCD_UNSUPPORTED_ARCH=arm64"}, "/usr/bin/etcd", "--enable-v2=true", "--data-dir", dir, "--log-level", "error",
			"--listen-client-urls", "http://"+etcd.addr, "--advertise-client-urls", "http://"+etcd.addr, "--listen-peer-urls", "http://"+peer,
			"--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer)
	}
	etcd.up(t, "/health")
	keys := "http://" + etcd.addr + "/v2/keys/feed"
	set := func(n int) {
		t.Helper()
		request(t, "PUT", keys+"/price", "application/x-www-form-urlencoded", url.Values{"value": {fmt.Sprint("v", n)}}.Encode())
	}
	set(0)
	s := startSidecar(t, "SSE_ROUTE_KEYS_PATH=/keys", "SSE_ROUTE_KEYS_FIRST="+keys+"?recursive=true",
		"SSE_ROUTE_KEYS_FROM="+keys+"?recursive=true&wait=true&waitIndex={stream.cursor}", "SSE_ROUTE_KEYS_EVERY=0",
		`SSE_ROUTE_KEYS_CURSOR=(if .action=="get" then headers["x-etcd-index"]|tonumber else .node.modifiedIndex end)+1`,
		"SSE_ROUTE_KEYS_RESET=.errorCode?==401", `SSE_ROUTE_KEYS_EVENT=.action`, `SSE_ROUTE_KEYS_DATA=.node|(.value // .nodes[0].value)`)
	page := ask(t, s.addr, "HTTP/1.1", "/keys", "")
	page.until(t, "event: get\ndata: v0\n")
	for n := 1; n <= 20; n++ {
		set(n)
	}
	for n := 1; n <= 20; n++ {
		page.until(t, fmt.Sprintf("event: set\ndata: v%d\n", n))
	}
	// It goes away and comes back: nothing is lost, so nothing is said.
	etcd.kill()
	etcd.up(t, "/health")
	set(21)
	page.until(t, "event: set\ndata: v21\n")
	if strings.Contains(page.got.String(), "stream.gap") {
		t.Errorf("a gap was said although nothing was lost:\n%s", page.got.String())
	}
	// More than it remembers happens while it cannot be asked: that is a gap, and then the snapshot.
	s.Process.Signal(syscall.SIGSTOP)
	for n := 22; n <= 1200; n++ {
		set(n)
	}
	s.Process.Signal(syscall.SIGCONT)
	page.until(t, "event: stream.gap\n")
	page.until(t, "event: get\ndata: v1200\n")
	set(1201)
	page.until(t, "event: set\ndata: v1201\n")
}

// etcd 2 with an emptied store waits for a number that it gave long ago: RESET=status==null forgets the place when the
// connection is lost.
func TestEtcdEmptied(t *testing.T) {
	t.Parallel()
	dir, peer := t.TempDir(), freeAddr(t)
	etcd := &server{addr: freeAddr(t)}
	etcd.start = func() *process {
		return launch(t, []string{"ETCD_UNSUPPORTED_ARCH=arm64"}, "/usr/bin/etcd", "--enable-v2=true", "--data-dir", dir, "--log-level", "error",
			"--listen-client-urls", "http://"+etcd.addr, "--advertise-client-urls", "http://"+etcd.addr, "--listen-peer-urls", "http://"+peer,
			"--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer)
	}
	etcd.up(t, "/health")
	keys := "http://" + etcd.addr + "/v2/keys/feed"
	set := func(n int) {
		t.Helper()
		request(t, "PUT", keys+"/price", "application/x-www-form-urlencoded", url.Values{"value": {fmt.Sprint("v", n)}}.Encode())
	}
	for n := range 20 {
		set(n)
	}
	s := startSidecar(t, "SSE_ROUTE_KEYS_PATH=/keys", "SSE_ROUTE_KEYS_FIRST="+keys+"?recursive=true",
		"SSE_ROUTE_KEYS_FROM="+keys+"?recursive=true&wait=true&waitIndex={stream.cursor}", "SSE_ROUTE_KEYS_EVERY=0",
		`SSE_ROUTE_KEYS_CURSOR=(if .action=="get" then headers["x-etcd-index"]|tonumber else .node.modifiedIndex end)+1`,
		"SSE_ROUTE_KEYS_RESET=status==null or .errorCode?==401", `SSE_ROUTE_KEYS_EVENT=.action`, `SSE_ROUTE_KEYS_DATA=.node|(.value // .nodes[0].value)`)
	page := ask(t, s.addr, "HTTP/1.1", "/keys", "")
	page.until(t, "event: get\ndata: v19\n")
	etcd.kill()
	page.until(t, "event: stream.gap\n")
	dir = t.TempDir()
	etcd.up(t, "/health")
	set(100)
	page.until(t, "event: get\ndata: v100\n")
	set(101)
	page.until(t, "event: set\ndata: v101\n")
}

// etcd 3 says that a revision is compacted inside of an answer that stays open.
func TestEtcdCompacted(t *testing.T) {
	t.Parallel()
	dir, peer, reached := t.TempDir(), freeAddr(t), freeAddr(t)
	etcd := &server{addr: reached}
	etcd.start = func() *process {
		return launch(t, []string{"ETCD_UNSUPPORTED_ARCH=arm64"}, "/usr/bin/etcd", "--data-dir", dir, "--log-level", "error",
			"--listen-client-urls", "http://"+etcd.addr, "--advertise-client-urls", "http://"+etcd.addr, "--listen-peer-urls", "http://"+peer,
			"--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer)
	}
	etcd.up(t, "/health")
	put := func(n int) {
		t.Helper()
		body := fmt.Sprintf(`{"key":"Zm9v","value":%q}`, base64.StdEncoding.EncodeToString(fmt.Append(nil, "v", n)))
		request(t, "POST", "http://"+etcd.addr+"/v3/kv/put", "application/json", body)
	}
	s := startSidecar(t, "SSE_ROUTE_WATCH_PATH=/watch", "SSE_ROUTE_WATCH_FROM=http://"+reached+"/v3/watch", "SSE_ROUTE_WATCH_MODE=stream",
		`SSE_ROUTE_WATCH_BODY={"create_request":{"key":"AA==","range_end":"AA==","start_revision":{stream.cursor:0}}}`,
		`SSE_ROUTE_WATCH_EVENT=if .result.created then "created" else null end`, `SSE_ROUTE_WATCH_DATA=.result.events[0].kv.value // "" | @base64d`,
		"SSE_ROUTE_WATCH_CURSOR=.result|select(.events).events|last.kv.mod_revision|tonumber+1", "SSE_ROUTE_WATCH_RESET=.result.canceled")
	page := ask(t, s.addr, "HTTP/1.1", "/watch", "")
	page.until(t, "event: created\n")
	put(1)
	page.until(t, "data: v1\n")
	// It goes away and comes back: the watch goes on, so nothing is said.
	etcd.kill()
	etcd.up(t, "/health")
	put(2)
	page.until(t, "data: v2\n")
	if strings.Contains(page.got.String(), "stream.gap") {
		t.Errorf("a gap was said although nothing was lost:\n%s", page.got.String())
	}
	// While it is away for the sidecar, what would come next is compacted.
	etcd.kill()
	etcd.addr = freeAddr(t)
	etcd.up(t, "/health")
	for n := 3; n <= 9; n++ {
		put(n)
	}
	request(t, "POST", "http://"+etcd.addr+"/v3/kv/compaction", "application/json", `{"revision":"8","physical":true}`)
	etcd.kill()
	etcd.addr = reached
	etcd.up(t, "/health")
	page.until(t, "event: stream.gap\n")
	_, after, _ := strings.Cut(page.got.String(), "event: stream.gap\n")
	page.got.Reset()
	page.got.WriteString(after)
	page.until(t, "event: created\n")
	put(10)
	page.until(t, "data: v10\n")
}

// CouchDB's changes as long polls, and as the stream of lines that it has too.
func TestCouchDB(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	couch := &server{addr: freeAddr(t)}
	_, port, _ := strings.Cut(couch.addr, ":")
	config := fmt.Sprintf(`{"log":{"file":%q}}`, dir+"/log.txt") // else it writes one where it was started
	if err := os.WriteFile(dir+"/config.json", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	couch.start = func() *process {
		return launch(t, nil, "node", "servers/node_modules/pouchdb-server/bin/pouchdb-server", "--in-memory", "--no-stdout-logs",
			"--host", "127.0.0.1", "--port", port, "--dir", dir, "--config", dir+"/config.json")
	}
	couch.up(t, "/")
	db := "http://" + couch.addr + "/db"
	request(t, "PUT", db, "", "")
	put := func(n int) {
		t.Helper()
		request(t, "PUT", fmt.Sprintf("%s/doc%d", db, n), "application/json", fmt.Sprintf(`{"n":%d}`, n))
	}
	put(1)
	s := startSidecar(t,
		"SSE_ROUTE_POLL_PATH=/poll", "SSE_ROUTE_POLL_FROM="+db+"/_changes?feed=longpoll&include_docs=true&since={stream.cursor:0}",
		"SSE_ROUTE_POLL_EVERY=0", "SSE_ROUTE_POLL_CURSOR=.last_seq", "SSE_ROUTE_POLL_SELECT=.results[]", "SSE_ROUTE_POLL_DATA=.doc.n",
		"SSE_ROUTE_LINES_PATH=/lines", "SSE_ROUTE_LINES_FROM="+db+"/_changes?feed=continuous&heartbeat=1000&include_docs=true&since={stream.cursor:0}",
		"SSE_ROUTE_LINES_MODE=stream", "SSE_ROUTE_LINES_IDLE=10s", "SSE_ROUTE_LINES_CURSOR=.seq", "SSE_ROUTE_LINES_SELECT=select(.doc)",
		"SSE_ROUTE_LINES_DATA=.doc.n", "SSE_ROUTE_LINES_START=all")
	pages := []*stream{ask(t, s.addr, "HTTP/1.1", "/poll", ""), ask(t, s.addr, "HTTP/1.1", "/lines", "")}
	for n := 1; n <= 10; n++ {
		if n > 1 {
			put(n)
		}
		for _, page := range pages {
			page.until(t, fmt.Sprintf("data: %d\n", n))
		}
	}
	for _, page := range pages {
		got := strings.ReplaceAll(page.got.String(), "event: stream.open\ndata: {}\n", "")
		if strings.Contains(got, "stream.gap") || strings.Count(got, "data: ") != 10 {
			t.Errorf("%s", page.got.String())
		}
	}
}

// A board of prices: a page that joins gets the newest of each, whatever was evicted since.
func TestNewestOfEachKey(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := startSidecar(t, "SSE_ROUTE_BOARD_PATH=/board", "SSE_ROUTE_BOARD_FROM=ws://"+f.addr()+"/ws", "SSE_ROUTE_BOARD_KEY=.symbol",
		"SSE_ROUTE_BOARD_START=latest", "SSE_ROUTE_BOARD_REPLAY_EVENTS=3", "SSE_ROUTE_BOARD_REPLAY_BYTES=4KiB")
	first := ask(t, s.addr, "HTTP/1.1", "/board", "")
	first.until(t, "retry:")
	eventually(t, "the feed's connection", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.conns) == 1 })
	for n, symbol := range strings.Fields("A B B C C C B C") {
		text := fmt.Sprintf(`{"symbol":"%s","n":%d}`, symbol, n)
		f.say(t, text)
		first.until(t, "data: "+text+"\n")
	}
	for _, proto := range []string{"HTTP/1.1", "HTTP/1.0"} {
		page := ask(t, s.addr, proto, "/board", "")
		page.until(t, `"n":7}`+"\n")
		var got []string
		for line := range strings.Lines(page.got.String()) {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				got = append(got, strings.TrimSpace(data))
			}
		}
		if want := `{"symbol":"A","n":0} {"symbol":"B","n":6} {"symbol":"C","n":7}`; strings.Join(got, " ") != want {
			t.Errorf("%s: %q", proto, got)
		}
		page.got.Reset()
		f.say(t, `{"symbol":"A","n":100}`)
		page.until(t, "data: {\"symbol\":\"A\",\"n\":100}\n")
		f.say(t, `{"symbol":"A","n":0}`)
		page.until(t, "data: {\"symbol\":\"A\",\"n\":0}\n")
		for n, symbol := range strings.Fields("B C") {
			f.say(t, fmt.Sprintf(`{"symbol":"%s","n":%d}`, symbol, n+6))
			page.until(t, fmt.Sprintf(`{"symbol":"%s","n":%d}`, symbol, n+6)+"\n")
		}
	}
}

// Whatever becomes of a document, a page that patches its own has the same, also one that joins late or was cut.
func TestPatchedDocuments(t *testing.T) {
	t.Parallel()
	type element struct {
		ID   int    `json:"id"`
		Text string `json:"text"`
		N    int    `json:"n"`
	}
	var doc atomic.Value
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, doc.Load().(string)) }))
	defer legacy.Close()
	random := rand.New(rand.NewPCG(1, 2))
	var list []element
	change := func(version int) string {
		for range 1 + random.IntN(3) {
			at := random.IntN(len(list) + 1)
			switch kind := random.IntN(4); {
			case kind == 0 || len(list) < 5:
				list = slices.Insert(list, at, element{ID: version*10 + len(list), Text: "e/~\"" + strings.Repeat("x", random.IntN(30))})
			case at == len(list):
			case kind == 1:
				list = slices.Delete(list, at, at+1)
			case kind == 2:
				e := list[at]
				list = slices.Insert(slices.Delete(list, at, at+1), random.IntN(len(list)), e)
			default:
				list[at].N++
			}
		}
		text, err := json.Marshal(map[string]any{"version": version, "list": list})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	doc.Store(change(0))
	s := startSidecar(t, "SSE_ROUTE_DOC_PATH=/doc", "SSE_ROUTE_DOC_FROM="+legacy.URL, "SSE_ROUTE_DOC_EVERY=20ms", "SSE_ROUTE_DOC_MODE=patch",
		"SSE_ROUTE_DOC_KEY=.id", "SSE_ROUTE_DOC_RETRY=50ms", "SSE_ROUTE_DOC_REPLAY_EVENTS=8")
	r := startRecorder(t, s.addr)
	pages := []*client{startClient(t, "patched", "http://"+s.addr+"/doc"), startClient(t, "patched", "http://"+r.addr()+"/doc")}
	same := func(a, b string) bool {
		var x, y any
		if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
			return false
		}
		return fmt.Sprint(x) == fmt.Sprint(y)
	}
	patches := 0
	for version := 1; version <= 60; version++ {
		doc.Store(change(version))
		if version == 30 {
			pages = append(pages, startClient(t, "patched", "http://"+s.addr+"/doc"))
		}
		if version%7 == 0 {
			r.cut()
		}
		for _, page := range pages {
			for {
				seen := page.next(t)
				if seen.Saw != "message" {
					t.Fatalf("%+v", seen)
				}
				if seen.Event == "patch" {
					patches++
				}
				if same(seen.Data, doc.Load().(string)) {
					break
				}
			}
		}
	}
	if patches < 60 {
		t.Errorf("only %d patches", patches)
	}
}

// A container that is being replaced says 404 for a while. An EventSource that is connected, and one that comes back meanwhile, go on
// once it is there again; with a plain refusal both would be dead for good.
func TestReplacedContainer(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if now := n.Load(); now > 0 {
			fmt.Fprint(w, now)
			return
		}
		http.NotFound(w, r)
	}))
	defer legacy.Close()
	n.Store(1)
	s := startSidecar(t, "SSE_ROUTE_N_PATH=/n", "SSE_ROUTE_N_FROM="+legacy.URL, "SSE_ROUTE_N_EVERY=50ms", "SSE_ROUTE_N_RETRY=50ms")
	r := startRecorder(t, s.addr)
	stays, returns := startClient(t, "eventsource", "http://"+s.addr+"/n"), startClient(t, "eventsource", "http://"+r.addr()+"/n")
	for _, c := range []*client{stays, returns} {
		await(t, c, "open")
		message(t, c, "message", "1")
	}
	n.Store(0)
	eventually(t, "the refusal", func() bool {
		return strings.Contains(request(t, "GET", "http://"+s.admin+"/api/status", "", ""), "404")
	})
	r.cut()
	await(t, returns, "open")
	n.Store(2)
	message(t, stays, "message", "2")
	message(t, returns, "message", "2")
}
