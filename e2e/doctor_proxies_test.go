//go:build e2e

package e2e

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// documentedNginx is the location of e2e/deploy/README.md.
const documentedNginx = upgrading + " proxy_set_header X-Forwarded-Proto $scheme; "

func startDocumentedNginx(t *testing.T, target string) string {
	return nginxWith("", "")(t, target)
}

// nginxWith is nginx as documented, with this in its http block and its location besides.
func nginxWith(all, location string) func(t *testing.T, target string) string {
	return func(t *testing.T, target string) string {
		return runNginx(t, upgradeMap+all, documentedNginx+location+"proxy_pass http://"+target+";")
	}
}

// haproxyWith is HAProxy with these lines among its defaults.
func haproxyWith(lines string) func(t *testing.T, target string) string {
	return func(t *testing.T, target string) string {
		return front(t, target, "\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"+lines+
			"frontend front\n  bind %[1]s\n  default_backend sidecar\nbackend sidecar\n  server sidecar %[3]s\n", "haproxy", "-db", "-f", "%[6]s/conf")
	}
}

// apacheWith is Apache with these lines, and words for its ProxyPass.
func apacheWith(lines, words string) func(t *testing.T, target string) string {
	return func(t *testing.T, target string) string {
		return front(t, target, `
ServerRoot %[6]s
ServerName localhost
Listen %[1]s
PidFile %[6]s/pid
ErrorLog /dev/stderr
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
User www-data
Group www-data
DefaultRuntimeDir %[6]s
Mutex posixsem
`+lines+`
ProxyPass / http://%[3]s/ retry=0 `+words+"\n", "apache2", "-D", "FOREGROUND", "-f", "%[6]s/conf")
	}
}

func varnishWith(vcl string) func(t *testing.T, target string) string {
	return func(t *testing.T, target string) string {
		return front(t, target, `
vcl 4.1;
backend default { .host = "%[4]s"; .port = "%[5]s"; }
`+vcl+"\n", "varnishd", "-F", "-n", "%[6]s/n", "-a", "%[1]s", "-f", "%[6]s/conf", "-s", "malloc,32m")
	}
}

func lighttpdWith(lines string) func(t *testing.T, target string) string {
	return func(t *testing.T, target string) string {
		return front(t, target, `
server.document-root = "%[6]s"
server.bind = "127.0.0.1"
server.port = %[2]s
server.modules = ( "mod_proxy" )
proxy.server = ( "" => ( ( "host" => "%[4]s", "port" => "%[5]s" ) ) )
`+lines+"\n", "lighttpd", "-D", "-f", "%[6]s/conf")
	}
}

// squidWith is Squid as a reverse proxy, with words for its cache_peer and lines besides.
func squidWith(words, lines string) func(t *testing.T, target string) string {
	return func(t *testing.T, target string) string {
		return front(t, target, `
http_port %[1]s accel vhost
cache_peer %[4]s parent %[5]s 0 no-query originserver `+words+`
never_direct allow all
http_access allow all
cache deny all
pid_filename none
access_log none
cache_log /dev/null
coredump_dir none
shutdown_lifetime 0
`+lines+"\n", "squid", "-N", "-f", "%[6]s/conf")
	}
}

// meddling is what a proxy of the tests' own does to what passes.
type meddling struct {
	zips    bool          // compresses, and waits for what there is to compress
	idle    time.Duration // cuts an answer of which nothing came for so long
	forgets time.Duration // passes nothing on any more after that, and tells nobody
	longest time.Duration // cuts an answer after that
	strips  []string      // drops these headers of requests
	heals   bool          // ends an answer cleanly that was cut
	only    string        // passes on this path alone
}

func startMeddler(m meddling) func(t *testing.T, target string) string {
	return func(t *testing.T, target string) string {
		back := &url.URL{Scheme: "http", Host: target}
		p := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(back)
			r.Out.Host = r.In.Host
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
			r.SetXForwarded()
			for _, name := range m.strips {
				r.Out.Header.Del(name)
			}
		}, ModifyResponse: m.answer}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if m.only != "" && r.URL.Path != m.only {
				http.NotFound(w, r)
				return
			}
			p.ServeHTTP(w, r)
		}))
		s.Config.ErrorLog = nil
		t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
		return s.Listener.Addr().String()
	}
}

func (m meddling) answer(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return nil
	}
	body := &meddled{ReadCloser: resp.Body, meddling: m, begun: time.Now(), asked: resp.Request.Context()}
	resp.Body = body
	if m.zips && strings.Contains(resp.Request.Header.Get("Accept-Encoding"), "gzip") {
		resp.Header.Set("Content-Encoding", "gzip")
		resp.Header.Del("Content-Length")
		resp.ContentLength = -1
		read, write := io.Pipe()
		go func() { // ends with the body
			z := gzip.NewWriter(write)
			io.Copy(z, body)
			write.CloseWithError(z.Close())
		}()
		resp.Body = read
	}
	return nil
}

// meddled is a body that is meddled with.
type meddled struct {
	io.ReadCloser
	meddling
	begun time.Time
	asked context.Context // until its client goes
}

func (b *meddled) Read(p []byte) (int, error) {
	var timers []*time.Timer
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	after := func(d time.Duration, f func()) {
		if d > 0 {
			timers = append(timers, time.AfterFunc(d, f))
		}
	}
	after(b.idle, func() { b.ReadCloser.Close() })
	if b.longest > 0 {
		after(max(1, time.Until(b.begun.Add(b.longest))), func() { b.ReadCloser.Close() })
	}
	after(b.forgets, cancel)
	n, err := b.ReadCloser.Read(p)
	for _, t := range timers {
		t.Stop()
	}
	if ctx.Err() != nil { // it is forgotten; whoever waits for it waits until it goes
		<-b.asked.Done()
		return 0, os.ErrDeadlineExceeded
	}
	if b.heals && err != nil && err != io.EOF {
		err = io.EOF
	}
	return n, err
}
