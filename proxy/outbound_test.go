package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/e2e/authority"
)

// visit is one request that a service has had.
type visit struct{ path, query, who, sni, host, from string }

// service is a legacy service that has everything that may be dialled, and tells who asks.
type service struct {
	*httptest.Server
	socket string // where it tells pages to go

	mu  sync.Mutex
	all []visit
}

// startService serves on l, with TLS where there is a config.
func startService(t *testing.T, l net.Listener, config *tls.Config) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if l != nil {
		s.Listener.Close()
		s.Listener = l
	}
	if config == nil {
		s.Start()
		s.socket = "ws://" + s.Listener.Addr().String()
	} else {
		s.TLS = config
		s.StartTLS()
		s.socket = "wss://" + s.Listener.Addr().String()
	}
	t.Cleanup(s.Close)
	return s
}

// requests are those so far that keep is true of.
func (s *service) requests(keep func(visit) bool) (some []visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.all {
		if keep(a) {
			some = append(some, a)
		}
	}
	return some
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := visit{path: r.URL.Path, query: r.URL.RawQuery, host: r.Host, from: r.RemoteAddr, who: "nobody"}
	if r.TLS != nil {
		a.sni = r.TLS.ServerName
		if len(r.TLS.PeerCertificates) > 0 {
			a.who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
	}
	s.mu.Lock()
	s.all = append(s.all, a)
	s.mu.Unlock()
	switch r.URL.Path {
	case "/ws":
		s.upgrade(w, r, "", a.who)
	case "/hub":
		s.upgrade(w, r, "{}\x1e"+`{"type":1,"target":"news","arguments":["`+a.who+`"]}`+"\x1e", "")
	case "/hub/negotiate":
		io.WriteString(w, `{"negotiateVersion":1,"connectionId":"a","connectionToken":"b","availableTransports":[{"transport":"WebSockets","transferFormats":["Text"]}]}`)
	case "/ticket":
		json.NewEncoder(w).Encode(map[string]string{"url": s.socket + "/ws"})
	case "/poll":
		json.NewEncoder(w).Encode(a.who)
	case "/stream":
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: %s\n\n", a.who)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case "/moved":
		http.Redirect(w, r, "http://"+r.Host+"/poll", http.StatusFound)
	case "/auth":
		w.WriteHeader(http.StatusNoContent)
	default:
		fmt.Fprintf(w, "%s for %s", r.RequestURI, a.who)
	}
}

// upgrade says something after the first message where there is an answer to that, else at once.
func (s *service) upgrade(w http.ResponseWriter, r *http.Request, answer, greeting string) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	if greeting != "" {
		ws.Write(context.Background(), websocket.MessageText, []byte(greeting))
	}
	for {
		if _, _, err := ws.Read(context.Background()); err != nil {
			return
		}
		if answer != "" {
			ws.Write(context.Background(), websocket.MessageText, []byte(answer))
			answer = ""
		}
	}
}

// dialsEnv is routes with every kind of dial, and pass-through, to a service at addresses that begin so.
func dialsEnv(web, socket, auth string, more ...string) []string {
	return append([]string{"SSE_UPSTREAM=" + web, "SSE_TUNNEL=/ws",
		"SSE_ROUTE_WS_PATH=/e/ws", "SSE_ROUTE_WS_FROM=" + socket + "/ws",
		"SSE_ROUTE_POLL_PATH=/e/poll", "SSE_ROUTE_POLL_FROM=" + web + "/poll",
		"SSE_ROUTE_STREAM_PATH=/e/stream", "SSE_ROUTE_STREAM_FROM=" + web + "/stream", "SSE_ROUTE_STREAM_MODE=stream",
		"SSE_ROUTE_TICKET_PATH=/e/ticket", "SSE_ROUTE_TICKET_FROM=" + socket + "/none", "SSE_ROUTE_TICKET_TICKET=" + web + "/ticket", "SSE_ROUTE_TICKET_DIAL=.url",
		"SSE_ROUTE_HUB_PATH=/e/hub", "SSE_ROUTE_HUB_FROM=" + socket + "/hub", "SSE_ROUTE_HUB_PROTOCOL=signalr",
		"SSE_ROUTE_AUTH_PATH=/e/auth", "SSE_ROUTE_AUTH_FROM=" + web + "/poll", "SSE_ROUTE_AUTH_AUTH=forward", "SSE_ROUTE_AUTH_AUTH_URL=" + auth + "/auth",
	}, more...)
}

// wantDials goes by every way of dialsEnv, and wants the service to have seen who in all.
func wantDials(t *testing.T, s *sidecar, up *service, who string) {
	t.Helper()
	for _, path := range []string{"/e/ws", "/e/poll", "/e/stream", "/e/ticket", "/e/hub", "/e/auth"} {
		e := s.get(t, path).next(t)
		if strings.Trim(e.data, `"`) != who {
			t.Errorf("%s: %+v, want %s", path, e, who)
		}
	}
	wantPassed(t, s, who)
	m := receive(t, openTunnel(t, s.begin(t, nil), 1, "/ws"))
	if m.Data != who {
		t.Errorf("by the tunnel: %+v", m)
	}
	for _, path := range []string{"/ws", "/hub", "/hub/negotiate", "/ticket", "/poll", "/stream", "/auth"} {
		if len(up.requests(func(a visit) bool { return a.path == path && a.who == who })) == 0 {
			t.Errorf("%s was not asked by %s", path, who)
		}
	}
	if others := up.requests(func(a visit) bool { return a.who != who }); len(others) > 0 {
		t.Errorf("asked by others: %+v", others)
	}
}

// wantPassed passes requests and a WebSocket through.
func wantPassed(t *testing.T, s *sidecar, who string) {
	t.Helper()
	for _, target := range []string{"/plain?a|b", "//double", "/x%2Fy"} {
		resp := s.ask(t, "GET "+target+" HTTP/1.1")
		if body, _ := io.ReadAll(resp.Body); string(body) != target+" for "+who {
			t.Errorf("passed through: %s %q", resp.Status, body)
		}
	}
	ws, _, err := websocket.Dial(within(t), "ws://"+s.addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if _, data, err := ws.Read(within(t)); string(data) != who {
		t.Errorf("passed through a WebSocket: %q, %v", data, err)
	}
}

// files writes keys into files of a folder, and returns their paths.
func keyFiles(t *testing.T, a *authority.Authority, p authority.Pair) (ca, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	ca, cert, key = filepath.Join(dir, "ca"), filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	writeFiles(t, map[string][]byte{ca: a.PEM, cert: p.Cert, key: p.Key})
	return ca, cert, key
}

func writeFiles(t *testing.T, texts map[string][]byte) {
	t.Helper()
	for path, text := range texts { // at once: somebody may read it
		if err := os.WriteFile(path+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

// strict is the TLS of a server that wants clients of its authority.
func strict(a *authority.Authority, hosts ...string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.Issue("server", hosts...).TLS()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()}
}

func TestPrivateAuthority(t *testing.T) {
	ours := authority.New("ours")
	up := startService(t, nil, strict(ours, "127.0.0.1"))
	ca, cert, key := keyFiles(t, ours, ours.Issue("sidecar"))
	s := serve(t, dialsEnv(up.URL, up.socket, up.URL, "SSE_UPSTREAM_CA="+ca, "SSE_UPSTREAM_CERT="+cert, "SSE_UPSTREAM_KEY="+key)...)
	wantDials(t, s, up, "sidecar")
}

// The certificate is for another name than the host.
func TestPrivateAuthorityByName(t *testing.T) {
	ours := authority.New("ours")
	up := startService(t, nil, strict(ours, "legacy.internal"))
	ca, cert, key := keyFiles(t, ours, ours.Issue("sidecar"))
	keys := []string{"SSE_UPSTREAM_CA=" + ca, "SSE_UPSTREAM_CERT=" + cert, "SSE_UPSTREAM_KEY=" + key}
	s := serve(t, dialsEnv(up.URL, up.socket, up.URL, append(keys, "SSE_UPSTREAM_NAME=legacy.internal")...)...)
	wantDials(t, s, up, "sidecar")
	if others := up.requests(func(a visit) bool { return a.sni != "legacy.internal" }); len(others) > 0 {
		t.Errorf("asked for another name: %+v", others)
	}
	wantRefusal(t, up, "the upstream's certificate is for another name than 127.0.0.1", keys...)
}

// wantRefusal is a sidecar with env whose dials all fail, for a reason that is logged, without the service being asked for anything.
func wantRefusal(t *testing.T, up *service, reason string, env ...string) {
	t.Helper()
	var log lockedBuffer
	s := serveWith(t, configure(t, append(env, "SSE_UPSTREAM="+up.URL, "SSE_ROUTE_WS_PATH=/e/ws", "SSE_ROUTE_WS_FROM="+up.socket+"/ws?refused",
		"SSE_ROUTE_POLL_PATH=/e/poll", "SSE_ROUTE_POLL_FROM="+up.URL+"/poll?refused")...), slog.New(slog.NewTextHandler(&log, nil)))
	for _, path := range []string{"/e/ws", "/e/poll"} {
		s.get(t, path)
	}
	if resp := s.ask(t, "GET /plain?refused HTTP/1.1"); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("passed through: %s", resp.Status)
	}
	defer func() {
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	eventually(t, "three lines about it: "+reason, func() bool { return strings.Count(log.String(), reason) >= 3 })
	if through := up.requests(func(a visit) bool { return a.query == "refused" }); len(through) > 0 { // others may poll meanwhile
		t.Errorf("got through: %+v", through)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	ours, others := authority.New("ours"), authority.New("others")
	up := startService(t, nil, strict(ours, "127.0.0.1"))
	ca, cert, key := keyFiles(t, ours, others.Issue("stranger"))
	wantRefusal(t, up, "refuses the client's certificate, or that there is none", "SSE_UPSTREAM_CA="+ca)
	wantRefusal(t, up, "refuses the client's certificate, or that there is none", "SSE_UPSTREAM_CA="+ca, "SSE_UPSTREAM_CERT="+cert, "SSE_UPSTREAM_KEY="+key)
	wantRefusal(t, up, "signed by an unknown authority")
	otherCA, cert, key := keyFiles(t, others, ours.Issue("sidecar"))
	wantRefusal(t, up, "signed by an unknown authority", "SSE_UPSTREAM_CA="+otherCA, "SSE_UPSTREAM_CERT="+cert, "SSE_UPSTREAM_KEY="+key)
}

// Two routes with different certificates ask the same host at once, again and again, beside pass-through with a third one.
func TestCertificatesAreOfTheRoute(t *testing.T) {
	ours := authority.New("ours")
	up := startService(t, nil, strict(ours, "127.0.0.1"))
	env := []string{"SSE_UPSTREAM=" + up.URL, "SSE_EVERY=10ms", "SSE_START=all"}
	for _, name := range []string{"A", "B", ""} {
		ca, cert, key := keyFiles(t, ours, ours.Issue("client "+name))
		prefix := "SSE_ROUTE_" + name + "_"
		if name == "" {
			prefix = "SSE_"
		} else {
			env = append(env, prefix+"PATH=/e/"+name, prefix+"FROM="+up.URL+"/poll?"+name, prefix+"MODE=every")
		}
		env = append(env, prefix+"UPSTREAM_CA="+ca, prefix+"UPSTREAM_CERT="+cert, prefix+"UPSTREAM_KEY="+key)
	}
	s := serve(t, env...)
	for _, name := range []string{"A", "B"} {
		s.get(t, "/e/"+name)
	}
	many := func(query string) bool {
		return len(up.requests(func(a visit) bool { return a.query == query })) > 20
	}
	eventually(t, "many polls of both", func() bool {
		s.ask(t, "GET /passed?C HTTP/1.1").Body.Close()
		return many("A") && many("B") && many("C")
	})
	for query, who := range map[string]string{"A": "client A", "B": "client B", "C": "client "} {
		if wrong := up.requests(func(a visit) bool { return a.query == query && a.who != who }); len(wrong) > 0 {
			t.Errorf("%s was asked for by %q", query, wrong[0].who)
		}
	}
}

// Keys and authorities change while the sidecar runs, which is told once by the log.
func TestKeysAreReread(t *testing.T) {
	t.Parallel()
	first, second := authority.New("first"), authority.New("second")
	var mu sync.Mutex
	config := strict(first, "127.0.0.1")
	server := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		return config, nil
	}, Certificates: config.Certificates}
	up := startService(t, nil, server)
	ca, cert, key := keyFiles(t, first, first.Issue("one"))
	var log lockedBuffer
	s := serveWith(t, configure(t, "SSE_UPSTREAM="+up.URL, "SSE_ROUTE_POLL_PATH=/e/poll", "SSE_ROUTE_POLL_FROM="+up.URL+"/poll", "SSE_ROUTE_POLL_EVERY=100ms",
		"SSE_UPSTREAM_CA="+ca, "SSE_UPSTREAM_CERT="+cert, "SSE_UPSTREAM_KEY="+key), slog.New(slog.NewTextHandler(&log, nil)))
	events := s.get(t, "/e/poll")
	events.wantData(t, `"one"`)
	wantPassed := func(who string) {
		t.Helper()
		eventually(t, "passed through by "+who, func() bool {
			body, _ := io.ReadAll(s.ask(t, "GET /x HTTP/1.1").Body)
			return string(body) == "/x for "+who
		})
	}
	wantPassed("one")

	// Another certificate, of the same authority.
	two := first.Issue("two")
	writeFiles(t, map[string][]byte{cert: two.Cert, key: two.Key})
	events.wantData(t, `"two"`)
	wantPassed("two")

	// A file that is none changes nothing. A certificate that is reread before its key is there is another warning.
	warnings := func() (n int) {
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "certificates cannot be reread; the previous ones stay in use") && strings.Contains(line, "holds no certificate in PEM") {
				n++
			}
		}
		return n
	}
	writeFiles(t, map[string][]byte{cert: []byte("nonsense")})
	eventually(t, "a warning for the route and one for pass-through", func() bool {
		s.ask(t, "GET /x HTTP/1.1").Body.Close()
		return warnings() == 2
	})
	wantPassed("two")

	// Another authority, on both sides.
	three := second.Issue("three")
	writeFiles(t, map[string][]byte{ca: second.PEM, cert: three.Cert, key: three.Key})
	mu.Lock()
	config = strict(second, "127.0.0.1")
	mu.Unlock()
	events.wantData(t, `"three"`)
	wantPassed("three")
	last := map[string]string{} // no connection was used with two keys
	for _, a := range up.requests(func(visit) bool { return true }) {
		if who, known := last[a.from]; known && who != a.who {
			t.Errorf("a connection was used by %s and %s", who, a.who)
		}
		last[a.from] = a.who
	}
	if n := warnings(); n != 2 {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
}

func TestUnixSocket(t *testing.T) {
	for name, path := range map[string]string{"a file": filepath.Join(t.TempDir(), "app.sock"), "abstract": "@sidestream-" + filepath.Base(t.TempDir()) + fmt.Sprint(os.Getpid())} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			up := startService(t, l, nil)
			up.socket = "ws://localhost"
			s := serve(t, dialsEnv("http+unix://"+path+":", "ws+unix://"+path+":", "http://localhost")...)
			wantDials(t, s, up, "nobody")
			for _, a := range up.requests(func(a visit) bool {
				return a.path == "/poll" || a.path == "/hub" || a.path == "/ticket" || a.path == "/auth"
			}) {
				if a.host != "localhost" {
					t.Errorf("%s was asked of %s", a.path, a.host)
				}
			}
		})
	}
}

// What a service calls itself leads back to its socket. A socket that an answer names is not dialled.
func TestUnixSocketOfAnAnswer(t *testing.T) {
	dir := t.TempDir()
	listen := func(name string) *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, name)})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	other := listen("other.sock")
	defer other.Close()
	up := startService(t, listen("app.sock"), nil)
	up.socket = "ws+unix://" + filepath.Join(dir, "other.sock") + ":"
	at := "+unix://" + filepath.Join(dir, "app.sock") + ":"
	var log lockedBuffer
	s := serveWith(t, configure(t, "SSE_ROUTE_MOVED_PATH=/e/moved", "SSE_ROUTE_MOVED_FROM=http"+at+"/moved", "SSE_ROUTE_TICKET_PATH=/e/ticket",
		"SSE_ROUTE_TICKET_FROM=ws"+at+"/none", "SSE_ROUTE_TICKET_TICKET=http"+at+"/ticket", "SSE_ROUTE_TICKET_DIAL=.url"), slog.New(slog.NewTextHandler(&log, nil)))
	s.get(t, "/e/moved").wantData(t, `"nobody"`)
	s.get(t, "/e/ticket")
	eventually(t, "the dial fails", func() bool { return strings.Contains(log.String(), "route=ticket") })
	other.SetDeadline(time.Now())
	if c, err := other.Accept(); err == nil {
		c.Close()
		t.Error("a socket that an answer named was dialled")
	}
}

// forwarder is a forward proxy that wants a user and a password, and sends everything to a service, whatever its name.
type forwarder struct {
	net.Listener
	plain, secure string // addresses of services

	mu  sync.Mutex
	all []string // methods and targets of what it was asked for
}

const proxyUser, proxyPassword = "user", "pa55-w0rd"

func startForwarder(t *testing.T, plain, secure string) *forwarder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{Listener: l, plain: plain, secure: secure}
	server := &http.Server{Handler: f, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(l) }() // ends with the test
	t.Cleanup(func() { server.Close(); <-served })
	return f
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.all = append(f.all, r.Method+" "+r.RequestURI)
	f.mu.Unlock()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(proxyUser+":"+proxyPassword))
	if r.Header.Get("Proxy-Authorization") != want {
		w.Header().Set("Proxy-Authenticate", "Basic")
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
		return
	}
	if r.Method == http.MethodConnect {
		f.tunnel(w, r)
		return
	}
	if r.Header.Get("Upgrade") != "" || !r.URL.IsAbs() {
		http.Error(w, "not for a proxy", http.StatusBadRequest)
		return
	}
	conn, err := net.Dial("tcp", f.plain)
	if err != nil {
		http.Error(w, "no", http.StatusBadGateway)
		return
	}
	defer conn.Close()
	_, rest, _ := strings.Cut(r.RequestURI, "://")
	_, path, _ := strings.Cut(rest, "/")
	fmt.Fprintf(conn, "%s /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", r.Method, path, r.Host)
	stop := context.AfterFunc(r.Context(), func() { conn.Close() })
	defer stop()
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		return
	}
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	buf := make([]byte, 1024)
	for {
		n, err := resp.Body.Read(buf)
		w.Write(buf[:n])
		w.(http.Flusher).Flush()
		if err != nil {
			return
		}
	}
}

func (f *forwarder) tunnel(w http.ResponseWriter, r *http.Request) {
	to := f.plain
	if strings.HasSuffix(r.Host, ":443") {
		to = f.secure
	}
	there, err := net.Dial("tcp", to)
	if err != nil {
		http.Error(w, "no", http.StatusBadGateway)
		return
	}
	here, in, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	fmt.Fprint(here, "HTTP/1.1 200 Connection established\r\nX-Proxy: test\r\n\r\n")
	var both sync.WaitGroup
	both.Go(func() { io.Copy(there, in); there.Close() })
	both.Go(func() { io.Copy(here, there); here.Close() })
	both.Wait()
}

// asked are the targets of a method.
func (f *forwarder) asked(method string) (targets []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range f.all {
		if target, ok := strings.CutPrefix(line, method+" "); ok && !slices.Contains(targets, target) {
			targets = append(targets, target)
		}
	}
	slices.Sort(targets)
	return targets
}

// Everything goes by a forward proxy: WebSockets and TLS through tunnels, plain requests by asking it for them.
func TestForwardProxy(t *testing.T) {
	ours := authority.New("ours")
	plain := startService(t, nil, nil)
	plain.socket = "ws://legacy.test"
	secure := startService(t, nil, strict(ours, "legacy.test"))
	secure.socket = "wss://legacy.test"
	ca, cert, key := keyFiles(t, ours, ours.Issue("sidecar"))
	for _, c := range []struct {
		name, scheme string
		up           *service
		who          string
		env          []string
		connects     []string
	}{
		{"plain", "", plain, "nobody", []string{"SSE_ROUTE_HOST_PATH=/e/host", "SSE_ROUTE_HOST_FROM=http://10.9.8.7:81/poll", "SSE_ROUTE_HOST_HEADERS=Host: named.test"},
			[]string{"10.9.8.7:81", "legacy.test:80"}},
		{"TLS", "s", secure, "sidecar", []string{"SSE_UPSTREAM_CA=" + ca, "SSE_UPSTREAM_CERT=" + cert, "SSE_UPSTREAM_KEY=" + key}, []string{"legacy.test:443"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := startForwarder(t, plain.Listener.Addr().String(), secure.Listener.Addr().String())
			address := "http://" + proxyUser + ":" + proxyPassword + "@" + f.Addr().String()
			web := "http" + c.scheme + "://legacy.test"
			var log lockedBuffer
			s := serveWith(t, configure(t, dialsEnv(web, "ws"+c.scheme+"://legacy.test", web,
				append(c.env, "HTTP_PROXY="+address, "https_proxy="+address, "NO_PROXY=other.test")...)...), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
			wantDials(t, s, c.up, c.who)
			if body, _ := io.ReadAll(s.ask(t, "GET http://legacy.test//double HTTP/1.1").Body); string(body) != "//double for "+c.who {
				t.Errorf("passed through with the service's own Host: %q", body)
			}
			if c.scheme == "" {
				s.get(t, "/e/host").wantData(t, `"nobody"`)
				if len(c.up.requests(func(a visit) bool { return a.host == "named.test" })) == 0 {
					t.Error("the service does not see the Host of HEADERS")
				}
			}
			if got := f.asked("CONNECT"); !slices.Equal(got, c.connects) {
				t.Errorf("tunnels to %q, want %q", got, c.connects)
			}
			gets := f.asked("GET")
			if want := []string{"http://legacy.test/auth", "http://legacy.test/poll", "http://legacy.test/stream"}; c.scheme == "" && !slices.Equal(gets, want) ||
				c.scheme != "" && len(gets) > 0 {
				t.Errorf("asked for %q", gets)
			}
			if strings.Contains(log.String(), proxyPassword) {
				t.Errorf("the log holds the password:\n%s", log.String())
			}
		})
	}
}

// A proxy that refuses, or is not there, is named, and its password is not.
func TestForwardProxyRefuses(t *testing.T) {
	f := startForwarder(t, "", "")
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for at, reason := range map[string]string{
		"u:wr0ng-w0rd@" + f.Addr().String():                       "the forward proxy http://" + f.Addr().String() + " wants another user name and password (407)",
		proxyUser + ":" + proxyPassword + "@" + f.Addr().String(): "the forward proxy http://" + f.Addr().String() + " refused the connection (502)",
		proxyUser + ":wr0ng-w0rd@" + gone.Addr().String():         "connection refused",
	} {
		var log lockedBuffer
		s := serveWith(t, configure(t, "SSE_UPSTREAM=https://legacy.test", "HTTP_PROXY=http://"+at, "HTTPS_PROXY=http://"+at, "SSE_ROUTE_WS_PATH=/e/ws",
			"SSE_ROUTE_WS_FROM=ws://legacy.test/ws", "SSE_ROUTE_POLL_PATH=/e/poll", "SSE_ROUTE_POLL_FROM=https://legacy.test/poll"), slog.New(slog.NewTextHandler(&log, nil)))
		resp := s.ask(t, "GET /x HTTP/1.1")
		if resp.StatusCode != http.StatusBadGateway {
			t.Errorf("passed through: %s", resp.Status)
		}
		for _, path := range []string{"/e/ws", "/e/poll"} {
			if got := s.get(t, path); got.StatusCode != http.StatusOK {
				t.Errorf("%s: %s, which ends an EventSource", path, got.Status)
			}
		}
		eventually(t, "three lines with "+reason, func() bool { return strings.Count(log.String(), reason) >= 3 })
		if strings.Contains(log.String(), "w0rd") {
			t.Errorf("the log holds the password:\n%s", log.String())
		}
	}
}

// A proxy that is asked itself and wants another password is no upstream that refuses: no client is told so.
func TestForwardProxyWantsAPassword(t *testing.T) {
	f := startForwarder(t, "", "")
	var log lockedBuffer
	s := serveWith(t, configure(t, "SSE_UPSTREAM=http://legacy.test", "HTTP_PROXY=http://u:wr0ng@"+f.Addr().String(), "SSE_ROUTE_POLL_PATH=/e/poll",
		"SSE_ROUTE_POLL_FROM=http://legacy.test/poll", "SSE_ROUTE_POLL_REFUSE_AFTER=0"), slog.New(slog.NewTextHandler(&log, nil)))
	if resp := s.ask(t, "GET /x HTTP/1.1"); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("passed through: %s", resp.Status)
	}
	if got := s.get(t, "/e/poll"); got.StatusCode != http.StatusOK {
		t.Errorf("%s, which ends an EventSource", got.Status)
	}
	eventually(t, "two lines about it", func() bool { return strings.Count(log.String(), "wants another user name and password (407)") >= 2 })
}

// Loopback is never proxied, and NO_PROXY is obeyed.
func TestNoProxy(t *testing.T) {
	up := startService(t, nil, nil)
	f := startForwarder(t, up.Listener.Addr().String(), "")
	s := serve(t, dialsEnv(up.URL, up.socket, up.URL, "HTTP_PROXY="+f.Addr().String(), "HTTPS_PROXY="+f.Addr().String())...)
	wantDials(t, s, up, "nobody")
	if len(f.all) > 0 {
		t.Errorf("the proxy was asked for %q", f.all)
	}
}
