//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sidestream/e2e/authority"
)

// diagnosis is what doctor prints with -json.
type diagnosis struct {
	Probe    string
	Products []string
	Findings []diagnosed
}

type diagnosed struct {
	Check, Level, Seen, Means string
	Fix                       []struct {
		Product string
		Lines   []string
	}
}

// of is the finding of a check: its level, and what was seen; of several, the gravest.
func (d *diagnosis) of(check string) (level, seen string, lines string) {
	for _, f := range d.Findings {
		if f.Check == check && (level == "" || level == "ok" || f.Level == "fix") {
			level, seen, lines = f.Level, f.Seen+"; "+f.Means, ""
			for _, c := range f.Fix {
				lines += c.Product + ": " + strings.Join(c.Lines, "\n") + "\n"
			}
		}
	}
	return level, seen, lines
}

// examine runs doctor, with this in its environment.
func examine(t *testing.T, env []string, words ...string) *diagnosis {
	t.Helper()
	status, stdout, stderr := run(t, env, append([]string{"doctor", "-json"}, words...)...)
	d := new(diagnosis)
	if err := json.Unmarshal([]byte(stdout), d); err != nil {
		t.Fatalf("status %d: %v: %s %s", status, err, stdout, stderr)
	}
	want := 0
	if slices.ContainsFunc(d.Findings, func(f diagnosed) bool { return f.Level == "fix" }) {
		want = 1
	}
	if status != want {
		t.Errorf("exit status %d, want %d", status, want)
	}
	return d
}

// TestDoctor: what doctor says of each proxy as it comes, with the settings of the documentation, and with faults.
func TestDoctor(t *testing.T) {
	t.Parallel()
	for name, c := range doctored {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFeed(t, nil)
			s := startSidecar(t, feedEnv(f)...)
			d := examine(t, nil, "-idle", "5s", "http://"+c.start(t, s.addr)+"/ticks")
			if got := strings.Join(d.Products, " "); got != c.product {
				t.Errorf("recognised %q, want %q", got, c.product)
			}
			want := map[string]string{"reach": "", "probe": "", "events": "ok", "compression": "ok", "silence": "note", "length": "", "cut": "ok", "headers": "ok", "host": "ok", "http": "note", "websocket": "ok",
				"post": "ok", "clock": "ok", "replicas": "ok", "route": "ok"}
			for check, level := range c.want {
				level, _, _ = strings.Cut(level, ":")
				want[check] = level
			}
			for check, level := range want {
				got, seen, lines := d.of(check)
				_, part, _ := strings.Cut(c.want[check], ":")
				if got != level || !strings.Contains(seen+"\n"+lines, part) {
					t.Errorf("%s: %s: %s\n%s\nwant %s: %s", check, got, seen, lines, level, part)
				}
			}
		})
	}
}

// doctored are ways to a sidecar, with what doctor finds that differs from what it finds where nothing is wrong: a check's level, and a part of what it says.
var doctored = map[string]struct {
	start   func(t *testing.T, target string) string
	product string
	want    map[string]string
}{
	"nothing between": {func(_ *testing.T, target string) string { return target }, "", map[string]string{"address": ""}},

	"nginx as it comes": {startNginx, "nginx", map[string]string{"host": "fix:proxy_set_header Host $http_host", "http": "note:proxy_http_version 1.1",
		"websocket": "note:$connection_upgrade", "post": "note:client_max_body_size", "address": "note:$proxy_add_x_forwarded_for"}},
	"nginx as documented": {startDocumentedNginx, "nginx", map[string]string{"post": "note:some 1.0 MiB"}},
	"nginx that holds back": {func(t *testing.T, target string) string { // over HTTP/1.0 only: what comes in chunks it passes on at once
		return runNginx(t, "", "proxy_ignore_headers X-Accel-Buffering; client_max_body_size 100k; proxy_set_header Host $http_host; proxy_pass http://"+target+";")
	}, "nginx", map[string]string{"events": "fix:proxy_buffering off", "route": "fix:proxy_buffering off", "post": "fix:client_max_body_size", "cut": "note", "http": "note", "websocket": "note", "address": "note"}},
	"nginx that compresses":      {nginxWith("  gzip on; gzip_types *; gzip_proxied any;\n", ""), "nginx", map[string]string{"compression": "note:gzip_types", "post": "note"}},
	"nginx with a short timeout": {nginxWith("", "proxy_read_timeout 3s; "), "nginx", map[string]string{"silence": "fix:cut after 3.", "post": "note"}},

	"HAProxy as it comes":   {haproxyWith(""), "HAProxy", map[string]string{"events": "fix:option http-no-delay", "address": "note:option forwardfor"}},
	"HAProxy as documented": {haproxyWith("  option http-no-delay\n  option forwardfor\n"), "HAProxy", nil},
	"HAProxy that compresses": {haproxyWith("  option http-no-delay\n  option forwardfor\n  compression algo gzip\n  compression type text/event-stream application/json\n"), "HAProxy",
		map[string]string{"compression": "ok"}}, // it obeys no-transform

	"Apache as it comes":   {startApache, "Apache", map[string]string{"host": "fix:ProxyPreserveHost On", "websocket": "note:upgrade=websocket"}},
	"Apache as documented": {apacheWith("ProxyPreserveHost On", "upgrade=websocket"), "Apache", nil},
	"Apache that compresses": {apacheWith("ProxyPreserveHost On\nLoadModule filter_module /usr/lib/apache2/modules/mod_filter.so\nLoadModule deflate_module /usr/lib/apache2/modules/mod_deflate.so\nSetOutputFilter DEFLATE", "upgrade=websocket"),
		"Apache", map[string]string{"compression": "note:no-gzip"}},

	"Caddy as it comes": {startCaddy, "Caddy", map[string]string{"cut": "fix:a newer Caddy"}},

	"Varnish as it comes":     {startVarnish, "Varnish", map[string]string{"websocket": "note:return (pipe)"}},
	"Varnish as documented":   {varnishWith("sub vcl_recv { if (req.http.upgrade ~ \"(?i)websocket\") { return (pipe); } }\nsub vcl_pipe { if (req.http.upgrade) { set bereq.http.upgrade = req.http.upgrade; set bereq.http.connection = req.http.connection; } }"), "Varnish", nil},
	"Varnish that compresses": {varnishWith("sub vcl_backend_response { set beresp.do_gzip = true; }"), "Varnish", map[string]string{"events": "fix:do_gzip = false", "compression": "fix:do_gzip = false", "route": "fix", "cut": "note", "websocket": "note"}},

	"lighttpd as it comes":   {startBufferingLighttpd, "lighttpd", map[string]string{"events": "fix:server.stream-response-body = 1", "cut": "fix:server.stream-response-body", "route": "fix", "websocket": "note:proxy.header"}},
	"lighttpd as documented": {lighttpdWith(`server.stream-response-body = 1` + "\n" + `proxy.header = ( "upgrade" => "enable" )`), "lighttpd", nil},

	"Squid as it comes":   {squidWith("", ""), "Squid", map[string]string{"websocket": "note:http_upgrade_request_protocols", "headers": "fix:login=PASSTHRU"}},
	"Squid as documented": {squidWith("login=PASSTHRU", "http_upgrade_request_protocols websocket allow all"), "Squid", nil},

	"one that keeps all":                         {startHoarder, "", map[string]string{"events": "fix:text/event-stream", "route": "fix", "cut": "ok:answered 502"}},
	"one that compresses":                        {startMeddler(meddling{zips: true}), "", map[string]string{"compression": "fix:all events at the end"}},
	"one that cuts what is silent":               {startMeddler(meddling{idle: 3 * time.Second}), "", map[string]string{"silence": "fix:cut after 3."}},
	"one that forgets what is silent":            {startMeddler(meddling{forgets: 3 * time.Second}), "", map[string]string{"silence": "fix:without a word after"}},
	"one that ends what is long":                 {startMeddler(meddling{longest: 4 * time.Second}), "", map[string]string{"length": "fix", "silence": "fix"}},
	"one that strips Last-Event-ID":              {startMeddler(meddling{strips: []string{"Last-Event-Id"}}), "", map[string]string{"headers": "fix:Last-Event-ID does not arrive"}},
	"one that strips credentials":                {startMeddler(meddling{strips: []string{"Cookie", "Authorization"}}), "", map[string]string{"headers": "fix"}},
	"one that ends a cut as if it were complete": {startMeddler(meddling{heals: true}), "", map[string]string{"cut": "fix:looks like one that is complete"}},
	"one that passes on other paths":             {startMeddler(meddling{only: "/ticks"}), "", map[string]string{"probe": "fix:SSE_DOCTOR", "http": "", "events": "", "compression": "", "silence": "", "cut": "", "headers": "", "host": "", "websocket": "", "post": "", "clock": "", "replicas": ""}},
}

// TestDoctorOverTLS: over HTTPS and HTTP/2, to the sidecar itself and through nginx, with a certificate that is verified.
func TestDoctorOverTLS(t *testing.T) {
	t.Parallel()
	dir, ours := t.TempDir(), authority.New("ours")
	issued := ours.Issue("localhost", "localhost", "127.0.0.1")
	write(t, dir, map[string][]byte{"ca": ours.PEM, "cert": issued.Cert, "key": issued.Key})
	at := func(name string) string { return filepath.Join(dir, name) }
	f, secure := startFeed(t, nil), freeAddr(t)
	clear := startSidecar(t, feedEnv(f)...)
	s := startSidecar(t, append(feedEnv(f), "SSE_TLS_CERT="+at("cert"), "SSE_TLS_KEY="+at("key"))...)
	runNginx(t, upgradeMap+fmt.Sprintf("  server {\n    listen %s ssl http2;\n    ssl_certificate %s;\n    ssl_certificate_key %s;\n    location / { client_max_body_size 5m; proxy_pass http://%s; %s }\n  }\n",
		secure, at("cert"), at("key"), clear.addr, documentedNginx), "return 404;")
	port := func(addr string) string {
		return "https://localhost:" + addr[strings.LastIndex(addr, ":")+1:] + "/ticks"
	}
	for name, url := range map[string]string{"the sidecar": port(s.addr), "nginx": port(secure)} {
		d := examine(t, []string{"SSL_CERT_FILE=" + at("ca")}, "-idle", "2s", url)
		for _, f := range d.Findings {
			if f.Level != "ok" && f.Check != "silence" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if _, seen, _ := d.of("http"); !strings.HasPrefix(seen, "HTTP/2.0 to the client") {
			t.Errorf("%s: %s", name, seen)
		}
		d = examine(t, nil, "-idle", "2s", url)
		if level, seen, _ := d.of("reach"); level != "fix" || !strings.Contains(seen, "certificate") {
			t.Errorf("%s: unknown authority: %+v", name, d)
		}
	}
}
