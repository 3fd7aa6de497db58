//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"sidestream/e2e/authority"
	"sidestream/e2e/legacy"
)

// write writes files and returns their paths.
func write(t *testing.T, dir string, texts map[string][]byte) {
	t.Helper()
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// text is what GET answers, with its status.
func text(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

const upgrading = "proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; " +
	"proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"

const upgradeMap = "  map $http_upgrade $connection_upgrade {\n    default upgrade;\n    '' '';\n  }\n"

// The demo's service is reached through an nginx that requires client certificates; its own certificate and the clients' are signed by the same private
// authority. WebSocket and polled routes, and the pass-through, connect, and continue to work when the certificate is replaced while the sidecar runs.
func TestNginxWantsClientCertificates(t *testing.T) {
	t.Parallel()
	service := startLegacy(t, legacy.New())
	dir, secure := t.TempDir(), freeAddr(t)
	ours := authority.New("ours")
	server, client, next := ours.Issue("nginx", "legacy.internal"), ours.Issue("first"), ours.Issue("second")
	write(t, dir, map[string][]byte{"ca": ours.PEM, "cert": client.Cert, "key": client.Key, "server": server.Cert, "server.key": server.Key})
	at := func(name string) string { return filepath.Join(dir, name) }
	runNginx(t, upgradeMap+fmt.Sprintf("  server {\n    listen %s ssl;\n    ssl_certificate %s;\n    ssl_certificate_key %s;\n    ssl_client_certificate %s;\n    ssl_verify_client on;\n"+
		"    location / { proxy_pass http://%s; %s }\n    location = /whoami { return 200 $ssl_client_s_dn; }\n  }\n", secure, at("server"), at("server.key"), at("ca"), service, upgrading), "return 404;")
	var env []string
	for _, entry := range legacy.Env(secure) {
		entry = strings.Replace(strings.Replace(entry, "=http://"+secure, "=https://"+secure, 1), "=ws://"+secure, "=wss://"+secure, 1)
		env = append(env, entry)
	}
	keys := []string{"SSE_UPSTREAM_CA=" + at("ca"), "SSE_UPSTREAM_NAME=legacy.internal"}
	s := startSidecar(t, append(append(env, keys...), "SSE_UPSTREAM_CERT="+at("cert"), "SSE_UPSTREAM_KEY="+at("key"))...)
	for path, event := range map[string]string{"/prices": "event: price\n", "/weather": "event: weather\n"} {
		ask(t, s.addr, "HTTP/1.1", path, event)
	}
	prices := ask(t, s.addr, "HTTP/1.1", "/prices", "event: price\n")
	if code, who := text(t, plain, "http://"+s.addr+"/whoami"); code != 200 || who != "CN=first" {
		t.Errorf("passed through: %d %s", code, who)
	}
	ws, _, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://" + s.addr}}})
	if err != nil {
		t.Fatal(err)
	}
	ws.CloseNow()

	// Another certificate, then one that is none, which changes nothing.
	write(t, dir, map[string][]byte{"cert": next.Cert, "key": next.Key})
	eventually(t, "passed through with the new certificate", func() bool {
		_, who := text(t, plain, "http://"+s.addr+"/whoami")
		return who == "CN=second"
	})
	write(t, dir, map[string][]byte{"key": []byte("nonsense")})
	eventually(t, "the log to say so", func() bool {
		text(t, plain, "http://"+s.addr+"/whoami")
		return strings.Contains(s.stderr.String(), "certificates cannot be reread; the previous ones stay in use")
	})
	if _, who := text(t, plain, "http://"+s.addr+"/whoami"); who != "CN=second" {
		t.Errorf("passed through: %s", who)
	}
	prices.got.Reset()
	prices.until(t, "event: price\n") // the WebSocket of before goes on

	// Without a certificate nginx lets nobody in, and says so in HTTP; what it says is no event.
	stranger := startSidecar(t, append(env, keys...)...)
	if code, body := text(t, plain, "http://"+stranger.addr+"/whoami"); code != http.StatusBadRequest || !strings.Contains(body, "No required SSL certificate was sent") {
		t.Errorf("without a certificate: %d %s", code, body)
	}
	// And whom the system's authorities vouch for is none of ours.
	public := startSidecar(t, append(env, keys[1])...)
	if code, _ := text(t, plain, "http://"+public.addr+"/whoami"); code != http.StatusBadGateway {
		t.Errorf("without our authority: %d", code)
	}
	eventually(t, "the log to say why", func() bool { return strings.Contains(public.stderr.String(), "signed by an unknown authority") })
	status, stdout, stderr := run(t, append(append(env, keys...), "SSE_UPSTREAM_CERT="+at("cert"), "SSE_UPSTREAM_KEY="+at("key")), "check")
	if status != 2 || !strings.Contains(stderr, "SSE_UPSTREAM_KEY: the file it names holds no private key in PEM") {
		t.Errorf("check: %d %s %s", status, stdout, stderr)
	}
	write(t, dir, map[string][]byte{"key": next.Key})
	status, stdout, stderr = run(t, append(append(env, keys...), "SSE_UPSTREAM_CERT="+at("cert"), "SSE_UPSTREAM_KEY="+at("key")), "check")
	if status != 0 || !strings.Contains(stdout, "shows the certificate CN=second, issued by CN=ours, until ") || !strings.Contains(stdout, "the certificate has to be for legacy.internal") {
		t.Errorf("check: %d %s %s", status, stdout, stderr)
	}
}

// nginx, with the documentation's lines, in front of a sidecar on a Unix socket, in front of a service on another one. The sidecar is killed and
// started again in its own place.
func TestNginxBeforeAUnixSocket(t *testing.T) {
	t.Parallel()
	service := startLegacy(t, legacy.New())
	dir, err := os.MkdirTemp("", "unix") // whose name is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	public, behind := filepath.Join(dir, "sse.sock"), filepath.Join(dir, "app.sock")
	front := runNginx(t, upgradeMap+fmt.Sprintf("  server {\n    listen unix:%s;\n    location / { proxy_pass http://%s; %s }\n  }\n", behind, service, upgrading),
		"proxy_pass http://unix:"+public+":; "+upgrading)
	var env []string
	for _, entry := range legacy.Env(service) {
		entry = strings.Replace(strings.Replace(entry, "=http://"+service, "=http+unix://"+behind+":", 1), "=ws://"+service, "=ws+unix://"+behind+":", 1)
		env = append(env, entry)
	}
	s := &sidecar{addr: "unix:" + public, admin: freeAddr(t)}
	s.env = append([]string{"SSE_LISTEN=" + s.addr, "SSE_ADMIN_LISTEN=" + s.admin, "SSE_LOG_LEVEL=debug", "SSE_TRUSTED_PROXIES=unix", "SSE_MAX_CLIENTS_PER_IP=3", "GORACE=exitcode=66"}, env...)
	s.start(t)
	if info, err := os.Stat(public); err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("%v, %v", info, err)
	}
	visit := func() {
		t.Helper()
		var all []*stream
		for _, event := range []string{"event: price\n", "event: price\n", "event: price\n"} {
			all = append(all, ask(t, front, "HTTP/1.1", "/prices", event))
		}
		fourth := ask(t, front, "HTTP/1.1", "/prices", "event: stream.busy\n")
		fourth.conn.Close()
		for _, one := range all {
			one.conn.Close()
		}
		eventually(t, "room for others of the address", func() bool {
			c := ask(t, front, "HTTP/1.1", "/weather", "event: ")
			defer c.conn.Close()
			return strings.Contains(c.got.String(), "event: weather\n")
		})
		ws, _, err := websocket.Dial(t.Context(), "ws://"+front+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"http://" + front}}})
		if err != nil {
			t.Fatal(err)
		}
		ws.CloseNow()
		if code, body := text(t, plain, "http://"+front+"/api/weather"); code != 200 || !strings.HasPrefix(body, "{") {
			t.Errorf("passed through: %d %s", code, body)
		}
	}
	visit()
	if !strings.Contains(s.apiStatus(t), "ws+unix://"+behind) {
		t.Errorf("the status does not tell where events come from: %s", s.apiStatus(t))
	}
	if status, _, stderr := run(t, s.env); status != 1 || !strings.Contains(stderr, "SSE_LISTEN: another process listens on "+public) {
		t.Errorf("a second sidecar: %d %s", status, stderr)
	}
	s.Process.Kill()
	<-s.ended
	if _, err := os.Stat(public); err != nil {
		t.Errorf("a kill leaves its socket: %v", err)
	}
	if status, _, _ := run(t, append(s.env, "SSE_ADMIN_LISTEN=off"), "healthcheck"); status != 1 {
		t.Errorf("nothing listens, and the healthcheck is %d", status)
	}
	s.env = append(s.env[:1:1], s.env[2:]...)
	s.env = append(s.env, "SSE_ADMIN_LISTEN="+s.admin)
	s.start(t)
	visit()
	health := append([]string{"SSE_ADMIN_LISTEN=off"}, s.env[:len(s.env)-1]...)
	if status, _, stderr := run(t, health, "healthcheck"); status != 0 {
		t.Errorf("the healthcheck is %d: %s", status, stderr)
	}
	s.drain(t)
	if _, err := os.Stat(public); !os.IsNotExist(err) {
		t.Errorf("after the end: %v", err)
	}
}

// The healthcheck asks the sidecar, and no forward proxy that the environment names. Go asks none for loopback addresses and for localhost, but does for the same
// name in capitals.
func TestHealthcheckWithAForwardProxy(t *testing.T) {
	t.Parallel()
	_, port, _ := net.SplitHostPort(freeAddr(t))
	s := &sidecar{addr: freeAddr(t), admin: net.JoinHostPort("LOCALHOST", port)}
	s.env = []string{"SSE_LISTEN=" + s.addr, "SSE_ADMIN_LISTEN=" + s.admin, "SSE_UPSTREAM=http://127.0.0.1:9"}
	s.start(t)
	if status, _, stderr := run(t, append(s.env, "HTTP_PROXY=http://"+freeAddr(t)), "healthcheck"); status != 0 {
		t.Errorf("the healthcheck is %d: %s", status, stderr)
	}
}
