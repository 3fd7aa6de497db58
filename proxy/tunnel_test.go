package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/e2e/page"
)

// peers is a legacy service whose WebSockets a test answers by a function. Without one it echoes.
type peers struct {
	*httptest.Server
	talk     func(ws *websocket.Conn, r *http.Request)
	options  websocket.AcceptOptions
	open     atomic.Int64
	mu       sync.Mutex
	requests []*http.Request
	ends     []error // of echo's connections
	heard    string  // the last message that echo has heard
}

func newPeers(t *testing.T) *peers {
	p := new(peers)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests = append(p.requests, r)
		p.mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "/refused") || !upgrades(r) {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		options := p.options
		options.InsecureSkipVerify = true
		ws, err := websocket.Accept(w, r, &options)
		if err != nil {
			return
		}
		p.open.Add(1)
		defer p.open.Add(-1)
		defer ws.CloseNow()
		ws.SetReadLimit(-1)
		if p.talk != nil {
			p.talk(ws, r)
			return
		}
		p.echo(ws)
	}))
	t.Cleanup(func() { p.CloseClientConnections(); p.Server.Close() })
	return p
}

func (p *peers) echo(ws *websocket.Conn) {
	for {
		kind, data, err := ws.Read(context.Background())
		if err == nil {
			p.mu.Lock()
			p.heard = string(data)
			p.mu.Unlock()
			err = ws.Write(context.Background(), kind, data)
		}
		if err != nil {
			p.mu.Lock()
			p.ends = append(p.ends, err)
			p.mu.Unlock()
			return
		}
	}
}

func (p *peers) last() *http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[len(p.requests)-1]
}

// end waits for the nth connection's end, and returns the code it was closed with, or -1.
func (p *peers) end(t *testing.T, n int) websocket.CloseError {
	t.Helper()
	eventually(t, "the upstream connection to end", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.ends) > n })
	p.mu.Lock()
	defer p.mu.Unlock()
	e := websocket.CloseError{Code: -1}
	errors.As(p.ends[n], &e)
	return e
}

func tunnelEnv(p *peers, more ...string) []string {
	return append([]string{"SSE_UPSTREAM=" + p.URL, "SSE_TUNNEL=/socket"}, more...)
}

const pageID = "0123456789abcdefghij"

// begin opens a page, whose connections are its own.
func (s *sidecar) begin(t *testing.T, change func(*page.Page)) *page.Page {
	t.Helper()
	transport := &http.Transport{}
	p := &page.Page{Base: "http://" + s.addr, ID: pageID, Client: &http.Client{Transport: transport}}
	if change != nil {
		change(p)
	}
	if err := p.Begin(within(t)); err != nil {
		t.Fatalf("the page does not begin: %v", err)
	}
	t.Cleanup(func() { p.End(); transport.CloseIdleConnections() })
	return p
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func openTunnel(t *testing.T, p *page.Page, n int, target string, protocols ...string) *page.Socket {
	t.Helper()
	s, err := p.Dial(within(t), n, target, protocols...)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	return s
}

func receive(t *testing.T, s *page.Socket) page.Message {
	t.Helper()
	m, ok := s.Receive(within(t))
	if !ok {
		t.Fatalf("no message; the tunnel ended with %+v", s.Closed())
	}
	return m
}

func TestTunnelIsExact(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up)...)
	ws := openTunnel(t, s.begin(t, nil), 1, "/socket")
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	sent := []page.Message{
		{Data: ""}, {Data: "plain"}, {Data: "a\rb\nc\r\nd\r\n"}, {Data: "\x00\x01\x1f\x7f\"\\/<>&"}, {Data: "\u2028 \ufeff \u00e9 \U0001f600"},
		{Data: ": comment\n\ndata: x"}, {Binary: true, Data: ""}, {Binary: true, Data: string(all)}, {Data: strings.Repeat("€\n", 1<<20/4)},
		{Binary: true, Data: strings.Repeat(string(all), 4096)}, {Data: "last"},
	}
	for _, m := range sent {
		ws.Send(m)
	}
	for i, want := range sent {
		if got := receive(t, ws); got != want {
			t.Errorf("message %d: %d bytes, binary %v; sent %d, %v", i, len(got.Data), got.Binary, len(want.Data), want.Binary)
		}
	}
	if st := &s.Tunnel.Pages.Stats; st.Up.Load() != int64(len(sent)) || st.Down.Load() != int64(len(sent)) || st.Opened.Load() != 1 || st.UpBytes.Load() != st.DownBytes.Load() {
		t.Errorf("counted %d up and %d down", st.Up.Load(), st.Down.Load())
	}
}

func TestTunnelOverHTTP2(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up)...)
	p := s.begin(t, func(p *page.Page) {
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		p.Client.Transport.(*http.Transport).Protocols = protocols
		p.Header = http.Header{"Cookie": {"a=1; b=2"}}
	})
	const tunnels = 20 // more than a browser's connections over HTTP/1.1
	for n := range tunnels {
		ws := openTunnel(t, p, n+1, "/socket")
		ws.Send(page.Message{Data: fmt.Sprint(n)})
		if n == tunnels/2 {
			p.Cut()
		}
		if m := receive(t, ws); m.Data != fmt.Sprint(n) {
			t.Errorf("tunnel %d: %+v", n, m)
		}
	}
	if got := up.last().Header.Get("Cookie"); got != "a=1; b=2" {
		t.Errorf("cookies %q", got)
	}
}

// The upstream sees what it would have seen if the WebSocket had passed through.
func TestTunnelDialsAsThePassThrough(t *testing.T) {
	up := newPeers(t)
	up.options.Subprotocols = []string{"v2"}
	s := serve(t, "SSE_UPSTREAM="+up.URL+"/base", "SSE_TUNNEL=/")
	head := http.Header{"Cookie": {"u=1; v=2"}, "Authorization": {"Bearer x"}, "Origin": {"http://" + s.addr}, "X-Team": {"a"},
		"Referer": {"http://x/secret"}, "Content-Type": {"text/plain"}, "User-Agent": {"Browser"}, "X-Forwarded-For": {"10.0.0.1"}, "Sec-Fetch-Site": {"same-origin"}}
	p := s.begin(t, func(p *page.Page) { p.Header = head })
	if ws := openTunnel(t, p, 1, "/socket", "v1", "v2"); ws.Protocol != "v2" {
		t.Errorf("protocol %q", ws.Protocol)
	}
	var lines []string
	for name := range head {
		lines = append(lines, name+": "+head.Get(name))
	}
	for n, target := range []string{"/socket", "/a|b/%7e?x=1;y=2&&z", "//double?", "/"} {
		body := frames(fmt.Sprintf(`{"page":"%s","tunnel":%d,"open":["v1","v2"]}`, pageID, n+10))
		if status, _ := s.post(t, "/_sidestream/tunnel"+target, body, lines...); status != 202 {
			t.Errorf("%s: %d", target, status)
		}
		eventually(t, "the handshake", func() bool { up.mu.Lock(); defer up.mu.Unlock(); return len(up.requests) == n+2 })
		r := up.last()
		want := "/base" + target
		if r.RequestURI != want || r.Host != s.addr || r.Header.Get("Sec-Websocket-Protocol") != "v1, v2" || r.Method != "GET" {
			t.Errorf("%s: %s %s %s %v", target, r.Method, r.RequestURI, r.Host, r.Header)
		}
	}
	h := up.last().Header
	for name, want := range map[string]string{"Cookie": "u=1; v=2", "Authorization": "Bearer x", "Origin": "http://" + s.addr, "X-Team": "a", "User-Agent": "Browser",
		"Referer": "", "Content-Type": "", "Content-Length": "", "Sec-Fetch-Site": "", "X-Forwarded-For": "10.0.0.1, 127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": s.addr} {
		if got := h.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestTunnelsThatFail(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up)...)
	p := s.begin(t, nil)
	for n, c := range []struct {
		target string
		status int
		offer  []string
	}{{"/socket/refused", 403, nil}, {"/socket", 0, []string{"unknown"}}} {
		ws, err := p.Dial(within(t), n+1, c.target, c.offer...)
		if err == nil {
			t.Fatalf("%s is open", c.target)
		}
		if how := ws.Closed(); how != (page.Close{Code: 1006, Status: c.status}) {
			t.Errorf("%s: %+v", c.target, how)
		}
	}
	if n := s.Tunnel.Pages.Stats.Failed.Load(); n != 2 {
		t.Errorf("%d failed", n)
	}
	eventually(t, "the places to be given back", func() bool { return s.Streams.Used() == 0 }) // once the page knows
	gone := newPeers(t)
	gone.Close()
	lost := serve(t, tunnelEnv(gone)...)
	ws, err := lost.begin(t, nil).Dial(within(t), 1, "/socket")
	if how := ws.Closed(); err == nil || how != (page.Close{Code: 1006}) {
		t.Errorf("no service: %+v %v", how, err)
	}
}

func TestTunnelCloses(t *testing.T) {
	up := newPeers(t)
	codes := map[string]page.Close{
		"normal": {Code: 1000, Clean: true}, "coded": {Code: 4001, Reason: "bye ✓ \"now\"", Clean: true}, "none": {Code: 1005, Clean: true},
		"cut": {Code: 1006}, "latin": {Code: 1006}, "large": {Code: 1009, Reason: "message over MAX_MESSAGE", Clean: true},
	}
	down := make(chan error, 1)
	up.talk = func(ws *websocket.Conn, r *http.Request) {
		ctx := context.Background()
		ws.Write(ctx, websocket.MessageText, []byte("before"))
		switch r.URL.RawQuery {
		case "normal":
			ws.Close(websocket.StatusNormalClosure, "")
		case "coded":
			ws.Close(4001, "bye ✓ \"now\"")
		case "none":
			ws.Close(websocket.StatusNoStatusRcvd, "")
		case "cut":
			ws.CloseNow()
		case "latin":
			ws.Write(ctx, websocket.MessageText, []byte("\xff"))
			_, _, err := ws.Read(ctx)
			down <- err
		case "large":
			ws.Write(ctx, websocket.MessageBinary, make([]byte, 101))
			_, _, err := ws.Read(ctx)
			down <- err
		default:
			up.echo(ws)
		}
	}
	s := serve(t, tunnelEnv(up, "SSE_MAX_MESSAGE=100")...)
	p := s.begin(t, nil)
	n := 0
	for how, want := range codes {
		n++
		ws := openTunnel(t, p, n, "/socket?"+how)
		receive(t, ws)
		if got := ws.Closed(); got != want {
			t.Errorf("%s: %+v, want %+v", how, got, want)
		}
		if how == "latin" || how == "large" {
			want := map[string]websocket.StatusCode{"latin": 1007, "large": 1009}[how]
			if code := websocket.CloseStatus(<-down); code != want {
				t.Errorf("%s: the upstream was closed with %d", how, code)
			}
		}
	}
	for i, c := range []struct {
		text string
		want websocket.CloseError
	}{{"", websocket.CloseError{Code: 1005}}, {"1000 ", websocket.CloseError{Code: 1000}}, {"4321 over and out ✓", websocket.CloseError{Code: 4321, Reason: "over and out ✓"}}} {
		n++
		ws := openTunnel(t, p, n, "/socket")
		receive(t, ws)
		ws.Send(page.Message{Data: c.text + "last"})
		ws.Close(c.text)
		if got := ws.Closed(); got.Code != int(c.want.Code) || !got.Clean {
			t.Errorf("close %q: the page is told %+v", c.text, got)
		}
		if got := up.end(t, i); got != c.want || up.heard != c.text+"last" {
			t.Errorf("close %q: the upstream was closed with %+v, behind %q", c.text, got, up.heard)
		}
	}
	// A message over MAX_MESSAGE upward.
	ws := openTunnel(t, p, n+1, "/socket")
	ws.Send(page.Message{Data: strings.Repeat("x", 101)})
	if got := ws.Closed(); got.Code != 1009 {
		t.Errorf("a message too large: %+v", got)
	}
	if got := up.end(t, 3); got.Code != 1001 {
		t.Errorf("the upstream was closed with %+v", got)
	}
	eventually(t, "all places to be given back", func() bool { return s.Streams.Used() == 0 })
}

// flaky loses requests and answers: one in three POSTs fails before, amid or after.
type flaky struct {
	http.RoundTripper
	on *atomic.Bool
}

type cutBody struct {
	io.Reader
}

func (cutBody) Close() error { return nil }

func (c cutBody) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.EOF {
		err = errors.New("cut")
	}
	return n, err
}

func (f flaky) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPost && f.on.Load() {
		switch rand.IntN(9) {
		case 0:
			return nil, errors.New("lost on the way")
		case 1:
			r = r.Clone(r.Context())
			r.Body = cutBody{io.LimitReader(r.Body, rand.Int64N(r.ContentLength))}
		case 2:
			resp, err := f.RoundTripper.RoundTrip(r)
			if err == nil {
				resp.Body.Close()
			}
			return nil, errors.New("lost on the way back")
		}
	}
	return f.RoundTripper.RoundTrip(r)
}

// Whatever is cut, all messages arrive once and in order, both ways and on every tunnel of the page.
func TestTunnelsOverBadNetworks(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up, "SSE_REPLAY_BYTES=64KiB")...)
	var on atomic.Bool
	on.Store(true)
	p := s.begin(t, func(p *page.Page) { p.Client.Transport = flaky{p.Client.Transport, &on} })
	const tunnels, messages = 3, 1000
	cutting, stop := context.WithCancel(t.Context())
	var all, cutter sync.WaitGroup
	cuts := 0
	cutter.Go(func() {
		for cutting.Err() == nil {
			<-time.After(20 * time.Millisecond)
			cuts = p.Cut()
		}
	})
	for n := range tunnels {
		ws := openTunnel(t, p, n+1, fmt.Sprint("/socket?", n))
		all.Go(func() {
			for i := range messages {
				ws.Send(page.Message{Binary: i%3 == 0, Data: fmt.Sprintf("%d-%d\r\n%s", n, i, strings.Repeat("x", i%200))})
			}
		})
		all.Go(func() {
			for i := range messages {
				want := page.Message{Binary: i%3 == 0, Data: fmt.Sprintf("%d-%d\r\n%s", n, i, strings.Repeat("x", i%200))}
				ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
				got, ok := ws.Receive(ctx)
				cancel()
				if !ok || got != want {
					t.Errorf("message %d of tunnel %d: %v %.20q, want %.20q", i, n, ok, got.Data, want.Data)
					return
				}
			}
		})
	}
	all.Wait()
	stop()
	cutter.Wait()
	if cuts < 5 {
		t.Errorf("cut %d times only", cuts)
	}
	if up.open.Load() != tunnels {
		t.Errorf("%d upstream connections", up.open.Load())
	}
}

// Backpressure downward: what the page does not acknowledge is not read from the upstream.
func TestTunnelHoldsTheUpstreamBack(t *testing.T) {
	t.Parallel()
	up := newPeers(t)
	var written atomic.Int64
	up.talk = func(ws *websocket.Conn, r *http.Request) {
		if r.URL.RawQuery == "other" {
			up.echo(ws)
			return
		}
		for ws.Write(context.Background(), websocket.MessageBinary, make([]byte, 64<<10)) == nil {
			written.Add(1)
		}
	}
	s := serve(t, tunnelEnv(up, "SSE_REPLAY_BYTES=256KiB")...)
	p := s.begin(t, func(p *page.Page) { p.Deaf = true })
	ws := openTunnel(t, p, 1, "/socket")
	settled := func() int64 {
		before := int64(-1)
		for now := written.Load(); now != before; now = written.Load() {
			before = now
			<-time.After(300 * time.Millisecond)
		}
		return before
	}
	if n := settled(); n == 0 || s.Tunnel.Pages.Stats.Down.Load() > 4 {
		t.Errorf("the upstream wrote %d messages of 64 KiB, of which %d were read", n, s.Tunnel.Pages.Stats.Down.Load())
	}
	// Closing goes through all the same.
	ws.Close("4000 enough")
	if got := ws.Closed(); got.Code != 4000 && got.Code != 1006 {
		t.Errorf("%+v", got)
	}
	eventually(t, "the upstream to be gone", func() bool { return up.open.Load() == 0 })
}

// Backpressure upward: a POST waits for the upstream, and nothing is queued but the frame being written.
func TestTunnelHoldsThePageBack(t *testing.T) {
	up := newPeers(t)
	read := make(chan struct{})
	var heard atomic.Int64
	up.talk = func(ws *websocket.Conn, r *http.Request) {
		<-read
		for {
			_, data, err := ws.Read(context.Background())
			if err != nil {
				return
			}
			heard.Add(int64(len(data)))
		}
	}
	s := serve(t, tunnelEnv(up)...)
	ws := openTunnel(t, s.begin(t, nil), 1, "/socket")
	const size, count = 256 << 10, 96
	for range count {
		ws.Send(page.Message{Binary: true, Data: string(make([]byte, size))})
	}
	last, same := -1, 0
	eventually(t, "the page to be held back", func() bool {
		if now := ws.Waiting(); now == last && now < count {
			same++
		} else {
			last, same = now, 0
		}
		return same > 50
	})
	if last < count/4 { // the kernel holds some
		t.Errorf("%d of %d MiB were taken for an upstream that reads nothing", (count-last)/4, count/4)
	}
	close(read)
	eventually(t, "the rest to be taken", func() bool { return ws.Waiting() == 0 && heard.Load() == size*count })
}

// frames is the body of a POST.
func frames(head string, all ...string) string {
	var b strings.Builder
	b.WriteString(head + "\n")
	for _, f := range all {
		fmt.Fprintf(&b, "%c%d\n%s", f[0], len(f)-1, f[1:])
	}
	return b.String()
}

func TestTunnelAnswers(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up, "SSE_CORS_ORIGINS=https://app.example", "SSE_MAX_MESSAGE=1KiB")...)
	p := s.begin(t, func(p *page.Page) { p.Header = http.Header{"Cookie": {"u=1"}} })
	const at = "/_sidestream/tunnel/socket?x=1"
	cookie := "Cookie: u=1"
	head := func(rest string) string { return `{"page":"` + pageID + `","tunnel":1,` + rest + `}` }
	ws := openTunnel(t, p, 1, "/socket?x=1")
	post := func(path, body string, more ...string) int {
		t.Helper()
		status, _ := s.post(t, path, body, more...)
		return status
	}
	for i, c := range []struct {
		path, body string
		head       []string
		status     int
	}{
		{at, frames(head(`"seq":1`), "ta", "bb"), []string{cookie}, 204},
		{at, frames(head(`"seq":1`), "ta", "bb"), []string{cookie}, 204},                                     // repeated
		{at, frames(head(`"seq":1`), "tother", "botherwise"), []string{cookie}, 204},                         // with other content
		{at, frames(head(`"seq":2`), "bb", "tc"), []string{cookie, "Content-Type: text/plain"}, 204},         // in part
		{at, frames(head(`"seq":4`), "td"), []string{cookie, "Content-Type: application/octet-stream"}, 204}, // any type
		{at, frames(head(`"seq":4`)), []string{cookie}, 204},                                                 // nothing
		{at, frames(head(`"seq":6`), "tx"), []string{cookie}, 409},                                           // one left out
		{at, frames(head(`"seq":18446744073709551615`), "tx", "ty"), []string{cookie}, 409},                  // the last number there is
		{at, frames(head(`"open":[]`)), []string{cookie}, 202},                                               // repeated
		{"/_sidestream/tunnel/socket?x=2", frames(head(`"open":[]`)), []string{cookie}, 404},                 // for another target
		{"/_sidestream/tunnel/socket?x=2", frames(head(`"seq":5`), "tx"), []string{cookie}, 404},             //
		{"/_sidestream/tunnel/socket", frames(head(`"seq":5`), "tx"), []string{cookie}, 404},                 //
		{at, frames(head(`"seq":5`), "tx"), nil, 404},                                                        // without the cookie
		{at, frames(head(`"seq":5`), "tx"), []string{"Cookie: u=2"}, 404},                                    // another's
		{at, frames(head(`"seq":5`), "tx"), []string{cookie, "Authorization: Bearer x"}, 404},                //
		{at, frames(head(`"open":[]`)), []string{"Cookie: u=2"}, 404},                                        //
		{at, frames(strings.Replace(head(`"seq":5`), "0123", "3210", 1), "tx"), []string{cookie}, 404},       // another page
		{at, frames(strings.Replace(head(`"seq":1`), `"tunnel":1`, `"tunnel":2`, 1), "tx"), []string{cookie}, 404},
		{at, frames(head(`"seq":5`), "tx"), []string{cookie, "Origin: https://evil.example"}, 403},
		{at, frames(head(`"seq":5`), "tx"), []string{cookie, "Sec-Fetch-Site: cross-site"}, 403},
		{"/_sidestream/tunnel/other", frames(head(`"open":[]`)), []string{cookie}, 404}, // not under SSE_TUNNEL
		{"/_sidestream/tunnel/socketry", frames(head(`"open":[]`)), []string{cookie}, 404},
		{"/_sidestream/tunnel/socket/../admin", frames(head(`"open":[]`)), []string{cookie}, 404},
		{"/_sidestream/tunnel/socket/%2e%2e/admin", frames(head(`"open":[]`)), []string{cookie}, 404},
		{"/_sidestream/tunnel/socket/..;/admin", frames(head(`"open":[]`)), []string{cookie}, 404},
		{"/_sidestream/tunnel/socket%5c..%5cadmin", frames(head(`"open":[]`)), []string{cookie}, 404},
		{"/_sidestream/tunnel", frames(head(`"open":[]`)), []string{cookie}, 405},
		{at, "", []string{cookie}, 400},
		{at, head(`"seq":5`), []string{cookie}, 400}, // no newline
		{at, "{}\n", []string{cookie}, 400},
		{at, "[]\n", []string{cookie}, 400},
		{at, strings.Repeat("x", 20<<10), []string{cookie}, 400},
		{at, frames(head(`"seq":0`), "tx"), []string{cookie}, 400},
		{at, frames(head(`"seq":-1`), "tx"), []string{cookie}, 400},
		{at, frames(strings.Replace(head(`"open":[]`), `"tunnel":1`, `"tunnel":0`, 1)), []string{cookie}, 400},
		{at, frames(strings.Replace(head(`"open":[]`), `"tunnel":1`, `"tunnel":3000000000`, 1)), []string{cookie}, 400},
		{at, frames(head(`"open":["a","A"]`)), []string{cookie}, 400},
		{at, frames(head(`"open":["a b"]`)), []string{cookie}, 400},
		{at, frames(head(`"open":["a\r\nX: y"]`)), []string{cookie}, 400},
		{at, frames(head(`"seq":5`), "xx"), []string{cookie}, 400},
		{at, frames(head(`"seq":5`), "t\xff"), []string{cookie}, 400},
		{at, head(`"seq":5`) + "\nt5\nabc", []string{cookie}, 400}, // ends too early
		{at, head(`"seq":5`) + "\nt-1\nabc", []string{cookie}, 400},
		{at, head(`"seq":5`) + "\nt+1\na", []string{cookie}, 400},
		{at, head(`"seq":5`) + "\nt\na", []string{cookie}, 400},
		{at, head(`"seq":5`) + "\nt99999999999999\na", []string{cookie}, 400},
		{at, frames(head(`"seq":5`), "c1005 "), []string{cookie}, 400},
		{at, frames(head(`"seq":5`), "c1000"), []string{cookie}, 400},
		{at, frames(head(`"seq":5`), "c1000 "+strings.Repeat("x", 124)), []string{cookie}, 400},
		{at, frames(head(`"seq":5`), "te"), []string{cookie, "Origin: https://app.example"}, 204}, // the first Origin is the page's
		{at, frames(head(`"seq":6`), "tx"), []string{cookie, "Origin: http://" + s.addr}, 404},
		{at, frames(head(`"seq":6`), "tf"), []string{cookie}, 204},
	} {
		if status := post(c.path, c.body, c.head...); status != c.status {
			t.Errorf("%d: POST %s %.80q: %d, want %d", i, c.path, c.body, status, c.status)
		}
	}
	for _, want := range []page.Message{{Data: "a"}, {Binary: true, Data: "b"}, {Data: "c"}, {Data: "d"}, {Data: "e"}, {Data: "f"}} {
		if got := receive(t, ws); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if status := post(at, frames(head(`"seq":7`), "b"+strings.Repeat("x", 1<<10+1)), cookie); status != 413 {
		t.Errorf("a message over MAX_MESSAGE: %d", status)
	}
	if how := ws.Closed(); how.Code != 1009 {
		t.Errorf("%+v", how)
	}
	if status := post(at, frames(head(`"seq":7`), "tx"), cookie); status != 410 {
		t.Errorf("a tunnel that has ended: %d", status)
	}
	if status := post(at, frames(head(`"open":[]`)), cookie); status != 202 { // its answer was lost, and what came of it the page has been told
		t.Errorf("its opening, repeated: %d", status)
	}
	if r := s.get(t, "/_sidestream/tunnel?page="+pageID, cookie, "Origin: http://"+s.addr); r.StatusCode != 404 {
		t.Errorf("GET with another origin: %d", r.StatusCode)
	}
	for _, bad := range []string{"", "?page=short", "?page=" + strings.Repeat("a", 129), "?page=0123456789abcdef%00"} {
		if r := s.get(t, "/_sidestream/tunnel"+bad, cookie); r.StatusCode != 400 {
			t.Errorf("GET %q: %d", bad, r.StatusCode)
		}
	}
	if r := s.ask(t, "OPTIONS "+at+" HTTP/1.1", "Origin: https://app.example", "Access-Control-Request-Method: POST"); r.StatusCode != 204 {
		t.Errorf("preflight: %d", r.StatusCode)
	}
	if r := s.ask(t, "GET /_sidestream/tunnel?page="+pageID+" HTTP/1.1", "Sec-Fetch-Site: cross-site", "Origin: https://evil.example"); r.StatusCode != 403 {
		t.Errorf("GET across sites: %d", r.StatusCode)
	}
	if up.open.Load() > 1 {
		t.Errorf("%d upstream connections", up.open.Load())
	}
}

// A beacon closes even when messages before it were lost with the page.
func TestTunnelBeacon(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up)...)
	openTunnel(t, s.begin(t, nil), 1, "/socket")
	body := frames(`{"page":"`+pageID+`","tunnel":1,"seq":9}`, "c1001 ")
	if status, _ := s.post(t, "/_sidestream/tunnel/socket", body, "Content-Type: text/plain;charset=UTF-8"); status != 204 {
		t.Errorf("beacon: %d", status)
	}
	if got := up.end(t, 0); got.Code != 1001 {
		t.Errorf("closed with %+v", got)
	}
}

// A page that comes back too late, or to another sidecar, is told; so is one that asks for what it has acknowledged.
func TestTunnelSaysWhatCannotBeBridged(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up)...)
	const at = "/_sidestream/tunnel?page=" + pageID
	r := s.get(t, at)
	first := r.wantData(t, `[0,"page",524288,30000,"",1]`)
	if status, _ := s.post(t, "/_sidestream/tunnel/socket", frames(`{"page":"`+pageID+`","tunnel":1,"open":[]}`)); status != 202 {
		t.Fatal(status)
	}
	opened := r.wantData(t, `[1,"open",""]`)
	if status, _ := s.post(t, "/_sidestream/tunnel/socket", frames(`{"page":"`+pageID+`","tunnel":1,"seq":1,"ack":"`+opened.id+`"}`, "ta")); status != 204 {
		t.Fatal(status)
	}
	r.wantData(t, `[1,"text","a"]`)
	s.get(t, at, "Last-Event-ID: "+opened.id).wantData(t, `[1,"text","a"]`)
	s.get(t, at, "Last-Event-ID: "+first.id).wantGap(t, "evicted", "1")
	s.get(t, at).wantGap(t, "evicted", "2")
	s.get(t, at, "Last-Event-ID: 1-1").wantGap(t, "restart", "null")
	s.get(t, at, "Last-Event-ID: "+opened.id, "Cookie: other=1").wantGap(t, "restart", "null")
}

func TestTunnelLimits(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up, "SSE_MAX_STREAMS=2", "SSE_MAX_CLIENTS=2")...)
	p := s.begin(t, nil)
	openTunnel(t, p, 1, "/socket")
	openTunnel(t, p, 2, "/socket")
	if status, _ := s.post(t, "/_sidestream/tunnel/socket", frames(`{"page":"`+pageID+`","tunnel":3,"open":[]}`)); status != 503 {
		t.Errorf("a third tunnel: %d", status)
	}
	other := s.get(t, "/_sidestream/tunnel?page=another-page-0001")
	other.wantData(t, `[0,"page",524288,30000,"",1]`)
	if e := s.get(t, "/_sidestream/tunnel?page=another-page-0002").next(t); e.name != "stream.busy" {
		t.Errorf("a third client: %+v", e)
	}
	other.conn.Close()
	eventually(t, "the client to be gone", func() bool { return s.Tunnel.Clients.Clients.Load() == 1 })
	if e := s.get(t, "/_sidestream/tunnel?page=another-page-0003").next(t); e.name != "stream.busy" {
		t.Errorf("a third page: %+v", e)
	}
	if pages, tunnels := s.Tunnel.Pages.Count(); pages != 2 || tunnels != 2 {
		t.Errorf("%d pages, %d tunnels", pages, tunnels)
	}
}

// One page cannot take every place, nor have its events grow without end by opening tunnels that are refused.
func TestTunnelsOfOnePageAreBounded(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up, "SSE_REPLAY_BYTES=16KiB", "SSE_MAX_MESSAGE=1KiB")...)
	s.get(t, "/_sidestream/tunnel?page="+pageID) // it reads nothing
	open := func(n int, path string) int {
		status, _ := s.post(t, "/_sidestream/tunnel"+path, frames(fmt.Sprintf(`{"page":"%s","tunnel":%d,"open":[]}`, pageID, n)))
		return status
	}
	refused := 0
	for n := 1; n <= 3000 && refused == 0; n++ {
		if status := open(n, "/socket/refused"); status == 503 {
			refused = n
		} else if status != 202 {
			t.Fatalf("tunnel %d: %d", n, status)
		}
		if n%50 == 0 {
			eventually(t, "the tunnels to end", func() bool { _, live := s.Tunnel.Pages.Count(); return live == 0 })
		}
	}
	if refused == 0 {
		t.Error("3,000 tunnels were opened and refused, and nothing of it read")
	}
	other := "another-page-0001"
	s.get(t, "/_sidestream/tunnel?page="+other).wantData(t, `[0,"page",2048,30000,"",1]`)
	opened := 0
	for n := 1; n <= 300; n++ {
		status, _ := s.post(t, "/_sidestream/tunnel/socket", frames(fmt.Sprintf(`{"page":"%s","tunnel":%d,"open":[]}`, other, n)))
		if status == 202 {
			opened++
		}
	}
	if opened == 0 || opened > 256 {
		t.Errorf("%d tunnels of one page at once", opened)
	}
}

func TestTunnelsEndWithTheSidecar(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up)...)
	p := s.begin(t, nil)
	ws := openTunnel(t, p, 1, "/socket")
	s.Drain(0)
	if status, _ := s.post(t, "/_sidestream/tunnel/socket", frames(`{"page":"`+pageID+`","tunnel":2,"open":[]}`)); status != 503 {
		t.Errorf("opened while it drains: %d", status)
	}
	s.Proxy.Close()
	if got := up.end(t, 0); got.Code != 1001 {
		t.Errorf("closed with %+v", got)
	}
	if got := ws.Closed(); got.Code != 1006 { // by stream.busy, or as the page is not known any more
		t.Errorf("%+v", got)
	}
	if pages, tunnels := s.Tunnel.Pages.Count(); pages != 0 || tunnels != 0 || s.Streams.Used() != 0 {
		t.Errorf("%d pages, %d tunnels, %d places", pages, tunnels, s.Streams.Used())
	}
}

func TestTunnelOff(t *testing.T) {
	h := newHearing(t)
	s := serve(t, "SSE_UPSTREAM="+h.URL)
	for _, line := range []string{"GET /_sidestream/tunnel?page=" + pageID, "POST /_sidestream/tunnel/socket"} {
		r := s.ask(t, line+" HTTP/1.1", "Content-Length: 0")
		if body, _ := r.rest(); r.StatusCode != 404 || bytes.HasPrefix([]byte(body), []byte("legacy ")) {
			t.Errorf("%s: %d %q, want nothing of the service's", line, r.StatusCode, body)
		}
	}
}
