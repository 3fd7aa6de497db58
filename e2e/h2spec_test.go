//go:build e2e

package e2e

import (
	"crypto/tls"
	"encoding/xml"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// conformance is what h2spec reports, in JUnit's form.
type conformance struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		Cases   []struct {
			Class   string    `xml:"classname,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// h2spec runs the suite, or a section of it, against a path, and returns how many cases there were and which have failed.
func h2spec(t *testing.T, addr, path string, secure bool, section ...string) (cases int, failed map[string]string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	report := filepath.Join(t.TempDir(), "report.xml")
	args := append([]string{"-h", host, "-p", port, "-P", path, "-o", "3", "-j", report}, section...)
	if secure {
		args = append(args, "-t", "-k")
	}
	out, _ := exec.Command(goServer(t, "h2spec"), args...).CombinedOutput() // which fails where a case does
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var c conformance
	if err := xml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	failed = map[string]string{}
	for _, s := range c.Suites {
		for _, one := range s.Cases {
			if cases++; one.Failure != nil || one.Error != nil {
				failed[s.Package+" "+one.Class] = s.Package
			}
		}
	}
	return cases, failed
}

// TestH2Spec runs h2spec, which nobody here wrote, against a route and against what is passed through, in clear and with TLS, beside net/http alone: nothing fails that does
// not fail there, which is at most six of 145 (Go 1.26).
func TestH2Spec(t *testing.T) {
	t.Parallel()
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	service := httptest.NewServer(answer)
	t.Cleanup(service.Close)
	for name, secure := range map[string]bool{"clear": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain := httptest.NewUnstartedServer(answer)
			plain.Config.Protocols = new(http.Protocols)
			plain.Config.Protocols.SetHTTP1(true)
			if secure {
				plain.Config.Protocols.SetHTTP2(true)
				plain.TLS = &tls.Config{NextProtos: []string{"h2"}}
				plain.EnableHTTP2 = true
				plain.StartTLS()
			} else {
				plain.Config.Protocols.SetUnencryptedHTTP2(true)
				plain.Start()
			}
			t.Cleanup(plain.Close)
			env := []string{"SSE_UPSTREAM=" + service.URL, "SSE_ROUTE_A_PATH=/events", "SSE_ROUTE_A_FROM=" + service.URL + "/state"}
			if secure {
				env = append(env, keyPair(t)...)
			}
			s := startSidecar(t, env...)
			known := map[string]bool{}
			cases, failed := h2spec(t, plain.Listener.Addr().String(), "/", secure)
			if cases < 140 || len(failed) > 6 {
				t.Fatalf("net/http fails %d of %d: has it changed?", len(failed), cases)
			}
			for one := range failed {
				known[one] = true
			}
			var both sync.WaitGroup
			for _, path := range []string{"/events", "/other"} {
				both.Go(func() {
					known := maps.Clone(known)
					ran, failed := h2spec(t, s.addr, path, secure)
					if ran != cases {
						t.Errorf("%s: %d cases, want %d", path, ran, cases)
					}
					for one, section := range failed {
						for range 3 { // alone, on a machine that is busy with other tests
							if known[one] {
								break
							}
							if _, again := h2spec(t, s.addr, path, secure, section); again[one] == "" {
								known[one] = true
							}
						}
						if !known[one] {
							t.Errorf("%s fails: %s", path, strings.TrimSpace(one))
						}
					}
				})
			}
			both.Wait()
		})
	}
}
