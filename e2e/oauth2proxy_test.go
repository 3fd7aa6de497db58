//go:build e2e && oauth2proxy

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestOAuth2Proxy: a real oauth2-proxy (its program is OAUTH2_PROXY) says who a client is. Each of two users gets what is theirs, nobody else
// anything, and who is revoked is out at once although that proxy's cookie still admits them. e2e/oauth2-proxy builds it, and runs this.
func TestOAuth2Proxy(t *testing.T) {
	app, addr := startSessions(t), freeAddr(t)
	users := filepath.Join(t.TempDir(), "users")
	const secret1 = "{SHA}AMr9EmGC6KnnwBuy8N/QBJa+ck8=" // as htpasswd -s writes secret1
	if err := os.WriteFile(users, []byte("joe:"+secret1+"\nann:"+secret1+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, nil, os.Getenv("OAUTH2_PROXY"), "--http-address="+addr, "--provider=github", "--client-id=x", "--client-secret=y", "--cookie-secret="+strings.Repeat("0123456789abcdef", 2),
		"--cookie-secure=false", "--email-domain=*", "--htpasswd-file="+users, "--set-xauthrequest", "--upstream=static://200")
	eventually(t, "oauth2-proxy", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	s := startSidecar(t, "SSE_UPSTREAM=http://"+app, "SSE_ROUTE_EVENTS_PATH=/events", "SSE_ROUTE_EVENTS_FROM=ws://"+app+"/feed?user={auth.X-Auth-Request-User}", "SSE_DRAIN=200ms",
		"SSE_ROUTE_EVENTS_AUTH=forward", "SSE_ROUTE_EVENTS_AUTH_URL=http://"+addr+"/oauth2/auth", "SSE_ROUTE_EVENTS_AUTH_CLAIMS=X-Auth-Request-User", "SSE_REVALIDATE=2s")
	visit := func(cookie string) *http.Response {
		req, _ := http.NewRequest("GET", "http://"+s.addr+"/events", nil)
		req.Header.Set("Accept", "text/event-stream")
		req.Header.Set("Cookie", cookie)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	for _, cookie := range []string{"", "_oauth2_proxy=forged|1|x"} {
		if got := visit(cookie); got.StatusCode != 401 {
			t.Errorf("%q: %d", cookie, got.StatusCode)
		}
	}
	for _, user := range []string{"joe", "ann"} {
		jar := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		resp, err := jar.PostForm("http://"+addr+"/oauth2/sign_in", url.Values{"username": {user}, "password": {"secret1"}, "rd": {"/"}})
		if err != nil || len(resp.Cookies()) == 0 {
			t.Fatal(resp, err)
		}
		cookie := resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
		in := bufio.NewReader(visit(cookie).Body)
		for begun := time.Now(); time.Since(begun) < 5*time.Second; { // over two times REVALIDATE
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v", user, err)
			}
			if strings.HasPrefix(line, "data: {\"user\"") && !strings.Contains(line, fmt.Sprintf("%q", user)) {
				t.Fatalf("%s got %s", user, line)
			}
		}
		body, _ := json.Marshal(map[string]any{"route": "events", "auth": map[string]string{"X-Auth-Request-User": user}})
		answer, err := plain.Post("http://"+s.admin+"/api/revoke", "application/json", strings.NewReader(string(body)))
		if err != nil || answer.StatusCode != 200 {
			t.Fatal(answer, err)
		}
		answer.Body.Close()
		text := ""
		for line := ""; err == nil; line, err = in.ReadString('\n') {
			text += line
		}
		if !strings.Contains(text, "event: stream.refused\ndata: {\"status\":401}") {
			t.Errorf("%s is not refused: %.300s", user, text)
		}
	}
	if log := s.stderr.String(); strings.Contains(log, "_oauth2_proxy=") {
		t.Error("the log has a cookie")
	}
}
