package outbound

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sidestream/e2e/authority"
	"sidestream/e2e/pipes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSplitSocket(t *testing.T) {
	for address, want := range map[string][2]string{
		"http+unix:///run/app.sock:/path":           {"/run/app.sock", "http://localhost/path"},
		"ws+unix:///run/app.sock:/a/{path.x}?b={q}": {"/run/app.sock", "ws://localhost/a/{path.x}?b={q}"},
		"ws+unix:///run/app.sock:/?x={query.x:0}":   {"/run/app.sock", "ws://localhost/?x={query.x:0}"},
		"ws+unix:///run/app.sock":                   {"/run/app.sock", "ws://localhost/"},
		"ws+unix:///run/app.sock:":                  {"/run/app.sock", "ws://localhost/"},
		"http+unix:///run/app.sock:?x":              {"/run/app.sock", "http://localhost/?x"},
		"http+unix:///run/a b%20:/c:d":              {"/run/a b%20", "http://localhost/c:d"},
		"http://host/a+unix://b":                    {"", "http://host/a+unix://b"},
	} {
		if socket, plain, err := SplitSocket(address); socket != want[0] || plain != want[1] || err != nil {
			t.Errorf("%s: %q, %q, %v", address, socket, plain, err)
		}
	}
	for address, problem := range map[string]string{
		"http+unix://run/app.sock:/path":                    "does not name a socket by its absolute path",
		"http+unix://:/path":                                "does not name a socket by its absolute path",
		"http+unix:///run/:/path":                           "does not name a socket by its absolute path",
		"http+unix://@:/path":                               "does not name a socket by its absolute path",
		"http+unix:///run/{path.x}:/path":                   "has a placeholder in the socket's path",
		"http+unix:///run/{path.x:0}.sock:/path":            "has a placeholder in the socket's path",
		"http+unix:///run/app.sock?x=1":                     "has no colon after the socket's path",
		"ws+unix:///run/app.sock:path":                      "does not begin with /",
		"ws+unix:///" + strings.Repeat("x", 107) + ":/path": "more than 107 bytes",
		"ws+unix:///run/app.sock\x00:/path":                 "has no colon",
	} {
		if socket, plain, err := SplitSocket(address); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %q, %q, %v", address, socket, plain, err)
		}
	}
	if socket, _, err := SplitSocket("ws+unix://@app:/x"); runtime.GOOS == "linux" && (socket != "@app" || err != nil) {
		t.Errorf("an abstract socket: %q, %v", socket, err)
	}
}

// TestProxyDialIsGivenUp: a dial that is given up while a proxy is spoken to, at whatever moment, is an error and nothing else.
func TestProxyDialIsGivenUp(t *testing.T) {
	var dial dialer = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() { // ends with the connection
			io.Copy(io.Discard, theirs)
			theirs.Close()
		}()
		return ours, nil
	}
	for _, via := range []string{"https://proxy", "http://proxy"} {
		for range 500 {
			ctx, cancel := context.WithCancel(t.Context())
			go cancel()
			u, _ := url.Parse(via)
			if c, err := dial.through(ctx, u, "legacy:80"); c != nil || err == nil {
				t.Fatalf("%v, %v", c, err)
			}
		}
	}
}

func TestParseKeys(t *testing.T) {
	a := authority.New("ours")
	one, two := a.Issue("one"), a.Issue("two")
	join := func(texts ...[]byte) []byte { return bytes.Join(texts, []byte("\n")) }
	encrypted := []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	legacy := []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n")
	broken := []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	for _, c := range []struct {
		name      string
		cert, key []byte
		certWrong string
		keyWrong  string
	}{
		{"right", one.Cert, one.Key, "", ""},
		{"one file for both", join(one.Key, one.Cert), join(one.Cert, one.Key), "", ""},
		{"with intermediate", join(one.Cert, a.PEM), one.Key, "", ""},
		{"another key", one.Cert, two.Key, "", "is not the key of the certificate"},
		{"the authority first", join(a.PEM, one.Cert), one.Key, "", "is not the key of the certificate"},
		{"no certificate", []byte("x"), one.Key, "holds no certificate in PEM", ""},
		{"key as certificate", one.Key, one.Key, "holds no certificate in PEM", ""},
		{"broken certificate", broken, one.Key, "cannot be read", ""},
		{"no key", one.Cert, one.Cert, "", "holds no private key in PEM"},
		{"encrypted", one.Cert, encrypted, "", "is encrypted"},
		{"encrypted as OpenSSL once did", one.Cert, legacy, "", "is encrypted"},
		{"broken key", one.Cert, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "", "cannot be used together"},
	} {
		pair, err := ParsePair(c.cert, c.key)
		cert, certWrong := errors.AsType[CertError](err)
		key, keyWrong := errors.AsType[KeyError](err)
		switch {
		case certWrong != (c.certWrong != "") || certWrong && !strings.Contains(cert.Error(), c.certWrong):
			t.Errorf("%s: %v", c.name, err)
		case keyWrong != (c.keyWrong != "") || keyWrong && !strings.Contains(key.Error(), c.keyWrong):
			t.Errorf("%s: %v", c.name, err)
		case err == nil && (pair == nil || pair.Leaf == nil || pair.Leaf.Subject.CommonName != "one"):
			t.Errorf("%s: %+v", c.name, pair)
		}
	}
	if roots, err := ParseRoots(join([]byte("# ours"), a.PEM, authority.New("others").PEM)); len(roots) != 2 || err != nil {
		t.Errorf("%d authorities, %v", len(roots), err)
	}
	for problem, text := range map[string][]byte{"holds no certificate": nil, "holds a private key": join(a.PEM, one.Key), "cannot be read (number 2)": join(a.PEM, broken)} {
		if _, err := ParseRoots(text); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v", problem, err)
		}
	}
}

// bench is a server in memory whose certificate and clients are of an authority, and a transport to it.
type bench struct {
	*Transport
	t      *testing.T
	log    logged
	server *http.Server
	served chan struct{}
	tls    func() *tls.Config
	keys   *Keys // that the files hold; nil: they cannot be read
	holds  chan struct{}

	mu     sync.Mutex
	closed int // connections
}

type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func keysOf(a *authority.Authority, p authority.Pair) *Keys {
	pair := p.TLS()
	return &Keys{Roots: []*x509.Certificate{a.Certificate}, Client: &pair}
}

// startBench begins with the keys of a client called one. It belongs to a bubble.
func startBench(t *testing.T, a *authority.Authority, http2 bool) *bench {
	t.Helper()
	l := pipes.Listen()
	b := &bench{t: t, served: make(chan struct{}), keys: keysOf(a, a.Issue("one")), holds: make(chan struct{})}
	config := &tls.Config{Certificates: []tls.Certificate{a.Issue("server", "legacy").TLS()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()}
	if http2 {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	b.tls = func() *tls.Config { return config }
	b.server = &http.Server{Handler: b, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), ConnState: func(_ net.Conn, state http.ConnState) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if state == http.StateClosed {
			b.closed++
		}
	}, TLSConfig: &tls.Config{NextProtos: config.NextProtos, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil },
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return b.tls(), nil }}}
	go func() { defer close(b.served); b.server.ServeTLS(l, "", "") }() // ends with end
	was := b.keys
	trust := NewTrust(*b.keys, "legacy", "", func() (*Keys, error) {
		switch {
		case b.keys == nil:
			return nil, errors.New("no such file")
		case b.keys == was:
			return nil, nil
		}
		was = b.keys
		return b.keys, nil
	})
	trust.LogTo(slog.New(slog.NewTextHandler(&b.log, nil)))
	b.Transport = &Transport{Settings: Settings{Trust: trust}, HTTP2: http2, Base: l.Dial, Tune: func(tr *http.Transport) { tr.IdleConnTimeout = time.Hour }}
	return b
}

func (b *bench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/held" {
		<-b.holds
	}
	if r.ProtoAtLeast(2, 0) != b.HTTP2 {
		fmt.Fprint(w, r.Proto, " ")
	}
	fmt.Fprint(w, r.TLS.PeerCertificates[0].Subject.CommonName)
}

// ask returns who the server says has asked.
func (b *bench) ask(path string) string {
	b.t.Helper()
	req, _ := http.NewRequest("GET", "https://legacy"+path, nil)
	resp, err := b.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

func (b *bench) want(path, who string) {
	b.t.Helper()
	if got := b.ask(path); got != who {
		b.t.Errorf("%s: %q, want %q", path, got, who)
	}
}

func (b *bench) wantClosed(n int) {
	b.t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != n {
		b.t.Errorf("%d connections are closed, want %d", b.closed, n)
	}
}

func (b *bench) end() {
	b.CloseIdleConnections()
	b.server.Close()
	<-b.served
	time.Sleep(2 * time.Hour)
}

// Keys count a second after they have changed at the latest, connections of before are closed once they are idle, and none is used again: also not
// one that was in use then.
func TestKeysChange(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a := authority.New("ours")
			b := startBench(t, a, http2)
			defer b.end()
			b.want("/", "one")
			held := make(chan string)
			go func() { held <- b.ask("/held") }() // ends below
			synctest.Wait()
			if !http2 {
				b.want("/", "one") // on a connection beside it
			}
			time.Sleep(lookAgain)
			b.keys = keysOf(a, a.Issue("two"))
			b.want("/", "two")
			if idle := map[bool]int{false: 1, true: 0}[http2]; idle > 0 {
				b.wantClosed(idle) // the idle one
			}
			close(b.holds)
			if who := <-held; who != "one" {
				t.Errorf("held: %q", who)
			}
			b.want("/", "two")
			if !http2 { // there, what was in use is closed when it becomes idle
				b.wantClosed(2)
			}
			if n := b.log.count("certificates have changed"); n != 1 {
				t.Errorf("told %d times", n)
			}
		})
	}
}

// muted is a connection that leads nowhere once it is mute: nothing arrives any more, and nobody is told.
type muted struct {
	net.Conn
	mute *atomic.Bool
}

func (m muted) Write(p []byte) (int, error) {
	if m.mute.Load() {
		return len(p), nil
	}
	return m.Conn.Write(p)
}

// A connection of HTTP/2 that leads nowhere any more is given up, and what is asked then goes over another one.
func TestDeadConnection(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := startBench(t, authority.New("ours"), http2)
			defer b.end()
			dial, mute := b.Base, new(atomic.Bool)
			b.Base = func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := dial(ctx, network, address)
				return muted{c, mute}, err
			}
			b.want("/", "one")
			mute.Store(true)
			b.Base = dial // those that are made from now on lead there
			begun := time.Now()
			for answer := ""; answer != "one"; {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				req, _ := http.NewRequestWithContext(ctx, "GET", "https://legacy/", nil)
				if resp, err := b.RoundTrip(req); err == nil {
					body, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					answer = string(body)
				}
				cancel()
				if took := time.Since(begun); took > 2*silentTime+10*time.Second {
					t.Fatalf("HTTP/2 %v: no answer within %v", http2, took)
				}
			}
		})
	}
}

// What cannot be read changes nothing, and is told once; when it can be read again that counts.
func TestKeysThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authority.New("ours")
		b := startBench(t, a, false)
		defer b.end()
		b.want("/", "one")
		b.keys = nil
		for range 10 {
			time.Sleep(lookAgain)
			b.want("/", "one")
		}
		if n := b.log.count("certificates cannot be reread"); n != 1 {
			t.Errorf("warned %d times", n)
		}
		b.wantClosed(0)
		b.keys = keysOf(a, a.Issue("two"))
		b.want("/", "one") // not looked at yet
		time.Sleep(lookAgain)
		b.want("/", "two")
	})
}

// The authority changes, on both sides.
func TestAuthorityChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := authority.New("first"), authority.New("second")
		b := startBench(t, first, false)
		defer b.end()
		b.want("/", "one")
		config := &tls.Config{Certificates: []tls.Certificate{second.Issue("server", "legacy").TLS()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: second.Pool()}
		b.tls = func() *tls.Config { return config }
		b.want("/", "one") // over the connection that there is
		b.CloseIdleConnections()
		if got := b.ask("/"); got == "one" || got == "two" {
			t.Errorf("another authority: %q", got)
		}
		b.keys = keysOf(second, second.Issue("two"))
		time.Sleep(lookAgain)
		b.want("/", "two")
	})
}

// An expired certificate is told of once: at once, or when it expires.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authority.New("ours")
		pair := a.IssueUntil(time.Now().Add(time.Minute), "short").TLS()
		trust := NewTrust(Keys{Client: &pair}, "legacy", "", nil)
		var log logged
		trust.LogTo(slog.New(slog.NewTextHandler(&log, nil)))
		if n := log.count("UPSTREAM_CERT will be refused"); n != 0 {
			t.Errorf("warned %d times of a certificate that is valid", n)
		}
		time.Sleep(time.Hour)
		for range 3 {
			trust.current()
			time.Sleep(lookAgain)
		}
		if n := log.count("UPSTREAM_CERT will be refused"); n != 1 {
			t.Errorf("warned %d times", n)
		}
		late := NewTrust(Keys{Client: &pair, Roots: []*x509.Certificate{a.Certificate}}, "legacy", "", nil)
		late.LogTo(slog.New(slog.NewTextHandler(&log, nil)))
		if n := log.count("UPSTREAM_CERT will be refused"); n != 2 {
			t.Errorf("warned %d times in all", n)
		}
		time.Sleep(2 * 366 * 24 * time.Hour)
		if problems := late.Keys().Problems(time.Now()); len(problems) != 2 || !strings.Contains(problems[1], "CN=ours, issued by CN=ours, until ") {
			t.Errorf("%q", problems)
		}
	})
}

// A proxy that speaks in pieces, and whose tunnel's other end speaks first, loses nothing; one that says too much, or nothing, is given up.
func TestConnect(t *testing.T) {
	for _, c := range []struct {
		name, answer, want, err string
	}{
		{"at once", "HTTP/1.1 200 OK\r\n\r\nhello", "hello", ""},
		{"another 2xx, with fields", "HTTP/1.0 201 Fine\r\nA: b\r\nContent-Length: 3\r\n\r\nhello", "hello", ""},
		{"refused", "HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\nsecret", "", "the forward proxy http://proxy.test:3128 refused the connection (403)"},
		{"wants a password", "HTTP/1.1 407 No\r\n\r\n", "", "wants another user name and password (407)"},
		{"not HTTP", "SSH-2.0-secret\r\n\r\n", "", "the forward proxy http://proxy.test:3128 cannot be used"},
		{"too long", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", maxAnswer), "", "longer than"},
		{"nothing", "", "", "deadline exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := pipes.Listen()
				served := make(chan string, 1)
				go func() { // ends with the connection
					conn, err := l.Accept()
					if err != nil {
						return
					}
					defer conn.Close()
					in := bufio.NewReader(conn)
					var head strings.Builder
					for {
						line, err := in.ReadString('\n')
						if head.WriteString(line); err != nil || line == "\r\n" {
							break
						}
					}
					served <- head.String()
					for _, piece := range []byte(c.answer) {
						if _, err := conn.Write([]byte{piece}); err != nil {
							return
						}
					}
					io.Copy(io.Discard, in)
				}()
				via := &url.URL{Scheme: "http", Host: "proxy.test:3128", User: url.UserPassword("me", "pass")}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				conn, err := dialer(l.Dial).through(ctx, via, "legacy.test:80")
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "pass\"") {
						t.Errorf("%v", err)
					}
					if c.answer == "" && time.Since(began) != time.Minute {
						t.Errorf("given up after %v", time.Since(began))
					}
				} else if err != nil {
					t.Fatal(err)
				} else {
					got := make([]byte, len(c.want))
					if _, err := io.ReadFull(conn, got); string(got) != c.want || err != nil {
						t.Errorf("%q, %v", got, err)
					}
					conn.Close()
				}
				want := "CONNECT legacy.test:80 HTTP/1.1\r\nHost: legacy.test:80\r\nUser-Agent: sidestream\r\nProxy-Authorization: Basic bWU6cGFzcw==\r\n\r\n"
				if head := <-served; head != want {
					t.Errorf("asked with %q", head)
				}
				l.Close()
				synctest.Wait()
			})
		})
	}
}

// A proxy over TLS is verified by the system's authorities, by its own name, and sees no certificate of ours.
func TestProxyOverTLS(t *testing.T) {
	a := authority.New("ours")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan int, 10)
	config := &tls.Config{Certificates: []tls.Certificate{a.Issue("proxy", "127.0.0.1").TLS()}, ClientAuth: tls.RequestClientCert}
	config.VerifyConnection = func(s tls.ConnectionState) error { shown <- len(s.PeerCertificates); return nil }
	server := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(tls.NewListener(l, config)) }() // ends below
	defer func() { server.Close(); <-served }()
	pair := a.Issue("sidecar").TLS()
	tr := &Transport{Settings: Settings{Trust: NewTrust(Keys{Roots: []*x509.Certificate{a.Certificate}, Client: &pair}, "legacy.test", "", nil),
		Proxies: Proxies{HTTP: "https://" + l.Addr().String(), HTTPS: "https://" + l.Addr().String()}}}
	for _, address := range []string{"http://legacy.test/", "https://legacy.test/"} {
		req, _ := http.NewRequest("GET", address, nil)
		_, err := tr.RoundTrip(req)
		if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	for len(shown) > 0 {
		if n := <-shown; n > 0 {
			t.Error("the proxy was shown the certificate")
		}
	}
}

func TestSOCKS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan string, 1)
	go func() { // ends with the connection
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		read := func(n int) string { p := make([]byte, n); io.ReadFull(c, p); return string(p) }
		methods := read(2)
		read(int(methods[1]))
		c.Write([]byte{5, 2})
		head := read(2)
		user := read(int(head[1]))
		password := read(int(read(1)[0]))
		c.Write([]byte{1, 0})
		head = read(5)
		name := read(int(head[4]))
		port := read(2)
		asked <- fmt.Sprintf("%s:%s %s:%d", user, password, name, int(port[0])<<8|int(port[1]))
		c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err == nil {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(r.RequestURI), r.RequestURI)
		}
	}()
	tr := &Transport{Settings: Settings{Proxies: Proxies{HTTP: "socks5://me:pass@" + l.Addr().String()}}}
	req, _ := http.NewRequest("GET", "http://legacy.test/x", nil)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "/x" {
		t.Errorf("%q", body)
	}
	if got := <-asked; got != "me:pass legacy.test:80" {
		t.Errorf("asked for %s", got)
	}
}

func TestProxies(t *testing.T) {
	p := Proxies{HTTP: "plain:1", HTTPS: "http://u:p@secure:2", No: "no.test,.internal,10.0.0.0/8,named.test:81"}
	for address, want := range map[string]string{"http://a.test/x": "http://plain:1", "ws://a.test": "http://plain:1", "https://a.test": "http://secure:2", "wss://a.test:99/": "http://secure:2",
		"http://localhost/": "", "http://127.0.0.1:3000": "", "ws://[::1]/": "", "http://no.test": "", "http://x.internal": "", "wss://10.1.2.3": "", "http://named.test:81": "", "http://named.test": "http://plain:1"} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if via := p.For(u); via != nil {
			got = Shown(via)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
	for _, right := range []string{"proxy:3128", "proxy", "http://proxy/", "https://u:p@proxy", "socks5://proxy:1080", "[::1]:3128"} {
		if err := CheckProxy(right); err != nil {
			t.Errorf("%s: %v", right, err)
		}
	}
	for _, wrong := range []string{"http://", "ftp://proxy", "http://proxy:x", "http://u:hidden@pro xy", "http://proxy/path", "http://proxy?hidden"} {
		if err := CheckProxy(wrong); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
