//go:build e2e

package e2e

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// The clients here have many event streams on one connection of HTTP/2, and downloads beside them.

const (
	manyStreams = 20
	bulkSize    = 3_000_000
)

// manyPage counts what comes in many streams at once.
var manyPage = fmt.Sprintf(`<!doctype html><link rel="icon" href="data:,"><title>many</title><script>
const sources = [], counts = [], problems = [], downloads = [];
let lost = 0;
for (let i = 0; i < %d; i++) {
  counts.push(0);
  const source = new EventSource("/ticks?" + i);
  source.addEventListener("tick", event => {
    const { n } = JSON.parse(event.data);
    if (n !== counts[i] + 1) problems.push(i + ": " + n + " after " + counts[i]);
    counts[i] = n;
  });
  sources.push(source);
  let opened = false;
  source.onopen = () => { opened = true; };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) problems.push(i + " is closed");
    if (opened) lost++;
    opened = false;
  };
}
let downloading = true;
(async () => {
  while (downloading) downloads.push((await (await fetch("/bulk?" + downloads.length)).text()).length);
})();
function protocols() {
  return [...new Set(performance.getEntriesByType("resource").filter(e => e.name.includes("/bulk")).map(e => e.nextHopProtocol))].join();
}
</script>`, manyStreams)

// startMany runs a feed, and a sidecar in front of it.
func startMany(t *testing.T, env ...string) (*feed, *sidecar) {
	t.Helper()
	f := startFeed(t, map[string]string{"/many.html": manyPage, "/bulk": strings.Repeat("b", bulkSize)})
	return f, startSidecar(t, append(feedEnv(f), env...)...)
}

// tickLarge sends a number with so much beside it that a few of them fill a small window.
func (f *feed) tickLarge(t *testing.T) {
	t.Helper()
	f.said++
	f.say(t, fmt.Sprintf(`{"n":%d,"pad":%q}`, f.said, strings.Repeat("p", f.said*7919%9000)))
}

// keyPair writes a certificate for 127.0.0.1 and its key to files, and returns the settings that name them.
func keyPair(t *testing.T) (env []string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"CERT": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, "KEY": {Type: "PRIVATE KEY", Bytes: key}} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		env = append(env, "SSE_TLS_"+name+"="+path)
	}
	return env
}

// TestHTTP2Browsers: a page has more event streams than HTTP/1.1 allows, and keeps them over a restart.
func TestHTTP2Browsers(t *testing.T) {
	t.Parallel()
	env := keyPair(t)
	inBrowsers(t, func(t *testing.T, b browser) {
		f, s := startMany(t, env...)
		b.open(t, "https://"+s.addr+"/many.html")
		reached := func(n int) {
			t.Helper()
			eventually(t, fmt.Sprint("all to have come to ", n), func() bool {
				return b.eval(t, fmt.Sprintf(`String(counts.every(n => n === %d))`, n)) == "true"
			})
			if problems := b.eval(t, "problems.join()"); problems != "" {
				t.Fatal(problems)
			}
		}
		open := func() {
			t.Helper()
			eventually(t, "all to be open", func() bool {
				return b.eval(t, `String(sources.every(s => s.readyState === EventSource.OPEN))`) == "true"
			})
		}
		open()
		f.tickLarge(t)
		reached(1)
		for range 60 {
			f.tickLarge(t)
		}
		reached(61)
		eventually(t, "a few downloads", func() bool { return b.eval(t, "String(downloads.length > 3)") == "true" })
		if sizes := b.eval(t, "[...new Set(downloads)].join()"); sizes != fmt.Sprint(bulkSize) {
			t.Errorf("downloads of %s bytes, want %d", sizes, bulkSize)
		}
		if got := b.eval(t, "protocols()"); got != "h2" {
			t.Errorf("the browser speaks %s", got)
		}
		b.eval(t, `downloading = false; asked = 0; ""`)
		for n := range 3 { // the page has been quiet, and asks for more
			eventually(t, "the connection to be parked", func() bool { return metric(t, s, "sidestream_http2_connections_parked") > 0 })
			f.tickLarge(t)
			reached(62 + n)
			b.eval(t, fmt.Sprintf(`document.cookie = "n=%d"; fetch("/bulk?again", { headers: { "X-N": "%d" } }).then(r => r.text()).then(text => { asked += text.length }); ""`, n, n))
			eventually(t, "an answer", func() bool { return b.eval(t, "String(asked)") == fmt.Sprint((n+1)*bulkSize) })
		}
		if lost := b.eval(t, "String(lost)"); lost != "0" {
			t.Errorf("%s streams are lost", lost)
		}
		s.drain(t)
		s.start(t)
		eventually(t, "the streams to be lost", func() bool { return b.eval(t, "String(lost)") == fmt.Sprint(manyStreams) })
		open()
		f.tickLarge(t)
		reached(65)
	})
}

// TestHTTP2SmallWindows: Node's client, which takes 64 KiB at a time for all it does on a connection.
func TestHTTP2SmallWindows(t *testing.T) {
	t.Parallel()
	f, s := startMany(t)
	read, write := io.Pipe()
	type report struct {
		Open, Least, Bulks int
		Problems, Codes    []string
	}
	var mu sync.Mutex
	var last report
	go func() { // ends with the process
		for lines := bufio.NewScanner(read); lines.Scan(); {
			mu.Lock()
			if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
				t.Errorf("%q: %v", lines.Text(), err)
			}
			mu.Unlock()
		}
	}()
	reported := func() report { mu.Lock(); defer mu.Unlock(); return last }
	client := launchTo(t, write, nil, "node", "clients/http2.mjs", "http://"+s.addr, fmt.Sprint(manyStreams))
	eventually(t, "all to be open", func() bool { return reported().Open == manyStreams })
	for range 200 {
		f.tickLarge(t)
	}
	eventually(t, "all events and some downloads", func() bool { r := reported(); return r.Least == 200 && r.Bulks > 5 || len(r.Problems) > 0 })
	if r := reported(); len(r.Problems) > 0 {
		t.Fatal(r.Problems)
	}
	s.Process.Signal(syscall.SIGTERM)
	if code := client.wait(t); code != 0 {
		t.Errorf("the client ended with status %d", code)
	}
	if r := reported(); !slices.Equal(r.Codes, []string{"200 false 2"}) {
		t.Errorf("status, clean end, and code of the reset: %q, want resets alone", r.Codes)
	}
	if code := s.wait(t); code != 0 {
		t.Errorf("drained with exit status %d, want 0", code)
	}
}

// TestHTTP2WebKit: WebKit notices the end of an event stream over HTTP/2 by END_STREAM alone, and comes back after it with its id.
func TestHTTP2WebKit(t *testing.T) {
	t.Parallel()
	b := startWebKit(t)
	for _, compress := range []string{"off", "gzip"} {
		t.Run(compress, func(t *testing.T) { http2WebKit(t, b, "SSE_COMPRESS="+compress) })
	}
}

func http2WebKit(t *testing.T, b browser, env ...string) {
	f := startFeed(t, map[string]string{"/watch.html": watchPage})
	s := startSidecar(t, append(append(append(feedEnv(f), keyPair(t)...), "SSE_RESTART=1s"), env...)...)
	b.open(t, "https://"+s.addr+"/watch.html")
	v := &tab{browser: b}
	await(t, v, "open")
	last := message(t, v, "tick", f.tick(t))
	s.drain(t)
	await(t, v, "error")
	s.start(t)
	await(t, v, "open")
	message(t, v, "stream.gap", `{"reason":"restart","missed":null}`)
	if got := message(t, v, "tick", f.tick(t)); got.ID == last.ID {
		t.Errorf("the id is still %s", got.ID)
	}
}
