//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sidestream/e2e/authority"
	"sidestream/e2e/redistest"
)

// Replicas over TLS, with a private authority that the system's list has, and a user of the ACL that may do what the documentation says and
// no more; the password is in a file. A certificate that is for another name, or of nobody known, is told, and the sidecar goes on without the store.
func TestReplicasOverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := authority.New("redis")
	pair, port := ca.Issue("redis", "localhost"), strconv.Itoa(redistest.FreePort(t))
	server := redistest.Start(t, "--tls-port", port, "--tls-cert-file", write("cert.pem", pair.Cert), "--tls-key-file", write("key.pem", pair.Key), "--tls-ca-cert-file", write("ca.pem", ca.PEM),
		"--tls-auth-clients", "no", "--user", "app", "on", ">hunter2hunter2", "~sidestream:*", "+@all", "-@dangerous", "+info")
	url := write("url", []byte("rediss://app:hunter2hunter2@localhost:"+port+"\n"))
	env := append(numbersRoute(t), "SSE_HISTORY_FILE="+url, "SSE_LOG_LEVEL=info", "SSE_DRAIN=0")
	trusted := append(env[:len(env):len(env)], "SSL_CERT_FILE="+filepath.Join(dir, "ca.pem"))

	stranger := startSidecar(t, append(env[:len(env):len(env)], "SSL_CERT_FILE="+write("other.pem", authority.New("other").PEM))...)
	eventually(t, "the authority to be told", func() bool {
		return strings.Contains(stranger.stderr.String(), "certificate signed by unknown authority")
	})
	follow := startCrowd(t, stranger.addr, 1)
	follow.goesOn(t)
	follow.end(t)

	r := &replicas{redis: server}
	var addrs []string
	for range 3 {
		s := startSidecar(t, trusted...)
		r.all, addrs = append(r.all, s), append(addrs, s.addr)
	}
	r.front = startRoundRobin(t, addrs...)
	c := startCrowd(t, r.front, 6)
	c.goesOn(t)
	for range 3 {
		s := r.holder()
		kill(t, s)
		c.goesOn(t)
		s.start(t)
		c.goesOn(t)
	}
	c.end(t)
	for _, s := range r.all {
		status := fetchText("http://" + s.admin + "/api/status")
		if !strings.Contains(status, `"kind":"redis","up":true`) {
			t.Errorf("the store: %s", status)
		}
		if said := s.stderr.String(); strings.Contains(said, "hunter2") || strings.Contains(status, "hunter2") || strings.Contains(said, "NOPERM") {
			t.Errorf("it says %s", said)
		}
	}
	if clients := server.Do("CLIENT", "LIST"); strings.Count(clients, "user=app") < 3 {
		t.Errorf("connected as app: %s", clients)
	}
}
