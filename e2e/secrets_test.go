//go:build e2e

package e2e

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// vault hands out secrets and finds them again.
type vault []string

// word is a secret without the looks of one, so that only the place where it stands can tell.
func (v *vault) word() string {
	*v = append(*v, fmt.Sprintf("hiddenword%c%c", 'a'+len(*v)/26, 'a'+len(*v)%26))
	return (*v)[len(*v)-1]
}

// token is one that looks like it.
func (v *vault) token() string {
	*v = append(*v, fmt.Sprintf("%02dAAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", len(*v)))
	return (*v)[len(*v)-1]
}

func (v vault) search(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range v {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%s holds a secret: …%s…", where, text[max(0, at-200):min(len(text), at+80)])
		}
	}
}

// hostile is a service that answers each path with the bytes given for it, in which KEY is what a WebSocket's handshake wants, and
// closes after it.
func hostile(t *testing.T, answers map[string]string) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go speak(c, answers) // ends with the connection
		}
	}()
	return l.Addr().String()
}

func speak(c net.Conn, answers map[string]string) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	io.Copy(io.Discard, r.Body)
	for path, answer := range answers {
		if strings.Contains(r.URL.Path, path) {
			sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
			io.WriteString(c, strings.ReplaceAll(answer, "KEY", base64.StdEncoding.EncodeToString(sum[:])))
			c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			io.Copy(io.Discard, c)
			return
		}
	}
}

// frame is a server's frame.
func frame(opcode byte, payload string) string {
	return string([]byte{0x80 | opcode, byte(len(payload))}) + payload
}

// secretPlaces are a service's answers with secrets in all that libraries quote, by path, each for a poll, a stream or a WebSocket.
func secretPlaces(v *vault) (polls, sockets map[string]string) {
	const ok, up = "HTTP/1.1 200 OK\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\n"
	polls = map[string]string{
		"/header":    ok + v.word() + " without a colon\r\n\r\n",
		"/fold":      ok + " " + v.word() + ": x\r\n\r\n",
		"/name":      ok + "a b" + v.word() + ": x\r\n\r\n",
		"/line":      v.word() + "\r\n\r\n",
		"/version":   "HTTP/" + v.word() + " 200 OK\r\n\r\n",
		"/status":    "HTTP/1.1 " + v.word() + " OK\r\n\r\n",
		"/phrase":    "HTTP/1.1 500 " + v.word() + "\r\n\r\n",
		"/length":    ok + "Content-Length: " + v.word() + "\r\n\r\n",
		"/lengths":   ok + "Content-Length: 1\r\nContent-Length: 2" + v.word() + "\r\n\r\n",
		"/transfer":  ok + "Transfer-Encoding: " + v.word() + "\r\n\r\n",
		"/chunk":     ok + "Transfer-Encoding: chunked\r\n\r\n" + v.word() + "\r\n",
		"/trailer":   ok + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\n{}\r\n0\r\n" + v.word() + "\r\n\r\n",
		"/untrailed": ok + "Trailer: Content-Length, " + v.word() + "\r\nTransfer-Encoding: chunked\r\n\r\n",
		"/coding":    ok + "Content-Encoding: " + v.token() + "\r\n\r\n",
		"/gzip":      ok + "Content-Encoding: gzip\r\n\r\n" + v.word(),
		"/json":      ok + "Content-Type: application/json\r\n\r\n{" + v.word(),
		"/moved":     "HTTP/1.1 302 Found\r\nLocation: http://other/" + v.token() + "?" + v.word() + "=" + v.word() + "\r\n\r\n",
		"/nowhere":   "HTTP/1.1 302 Found\r\nLocation: http://[" + v.word() + "\r\n\r\n",
		"/scheme":    "HTTP/1.1 302 Found\r\nLocation: " + v.word() + "://x/\r\n\r\n",
		"/page":      ok + "Content-Type: text/html\r\n\r\n<p>" + v.word(),
		"/raised":    ok + "Content-Type: application/json\r\n\r\n{\"a\":\"" + v.word() + "\"}",
	}
	sockets = map[string]string{
		"/connection": "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: " + v.word() + "\r\n\r\n",
		"/upgrade":    "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: " + v.word() + "\r\n\r\n",
		"/accept":     "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + v.word() + "\r\n\r\n",
		"/protocol":   up + "Sec-WebSocket-Protocol: " + v.word() + "\r\n\r\n",
		"/extension":  up + "Sec-WebSocket-Extensions: " + v.word() + "\r\n\r\n",
		"/parameter":  up + "Sec-WebSocket-Extensions: permessage-deflate; " + v.word() + "\r\n\r\n",
		"/closed":     up + "\r\n" + frame(8, "\x0f\xa1"+v.word()),
		"/closeless":  up + "\r\n" + frame(8, "\x00\x01"+v.word()),
		"/bits":       up + "\r\n\xf9" + v.word(),
		"/wsheader":   "HTTP/1.1 101 X\r\n" + v.word() + "\r\n\r\n",
		"/wsstatus":   "HTTP/1.1 403 " + v.word() + "\r\n\r\n" + v.word(),
		"/wsrefused":  "HTTP/1.1 302 X\r\nLocation: /" + v.token() + "\r\n\r\n",
	}
	return polls, sockets
}

// TestSecretsAreShownNowhere runs the whole program before services that say secrets wherever a library may quote them, with secrets
// wherever a configuration and a client may have them, and searches all that an operator sees.
func TestSecretsAreShownNowhere(t *testing.T) {
	t.Parallel()
	v := new(vault)
	polls, sockets := secretPlaces(v)
	all := map[string]string{}
	env := []string{"SSE_LOG_LEVEL=debug", "SSE_LOG_FORMAT=json", "SSE_DRAIN=0", "SSE_TIMEOUT=1s", "SSE_TUNNEL=/"}
	var paths []string
	route := func(path, from string, more ...string) {
		name := fmt.Sprintf("SSE_ROUTE_R%d_", len(paths))
		env = append(env, name+"PATH=/r"+path, name+from)
		for _, m := range more {
			env = append(env, name+m)
		}
		paths = append(paths, "/r"+path)
	}
	for path, answer := range polls {
		all[path] = answer
	}
	for path, answer := range sockets {
		all[path] = answer
	}
	given := struct{ cookie, header, query, bearer string }{v.word(), v.word(), v.word(), v.word()}
	all["/echo"] = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\nSec-WebSocket-Accept: KEY\r\n\r\n" +
		frame(8, "\x11\x2fnot "+given.cookie+" nor "+given.bearer+" but "+v.token())
	service := hostile(t, all)
	for path := range polls {
		route(path, "FROM=http://"+service+path, "SELECT=.a.b")
		route("/stream"+path, "FROM=http://"+service+path, "MODE=stream", "SELECT=.a.b")
	}
	for path := range sockets {
		route(path, "FROM=ws://"+service+path, "SUBPROTOCOL=a")
		route("/bare"+path, "FROM=ws://"+service+path)
	}
	file := filepath.Join(t.TempDir(), "from")
	if err := os.WriteFile(file, []byte("http://user:"+v.word()+"@"+service+"/"+v.word()+"/phrase?"+v.word()+"="+v.word()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	route("/file", "FROM_FILE="+file)
	route("/telegram", "FROM=http://"+service+"/bot123456:"+v.word()+"/phrase?timeout=1")
	route("/token", "FROM=http://"+service+"/hooks/"+v.token()+"/header?a="+v.word())
	route("/named", "FROM=ws://"+service+"/token/"+v.word()+"/closed;jsessionid="+v.word())
	route("/client", "FROM=ws://"+service+"/{cookie.sid}/{header.X-Key}/{query.k}/closed", "HEADERS=X-Own: "+v.word())
	route("/echo", "FROM=ws://"+service+"/echo", "PROTOCOL=graphql-transport-ws", `CONNECT={"a":"{cookie.sid}"}`, "SUBSCRIBE=subscription { a }", "FORWARD=Authorization")
	env = append(env, "SSE_ROUTE_VALUE_PATH=/value/{id}/x", "SSE_ROUTE_VALUE_FROM=ws://"+service+"/{path.id}/closed")
	paths = append(paths, "/value/"+v.token()+"/x")
	upstreamFile := filepath.Join(t.TempDir(), "upstream")
	if err := os.WriteFile(upstreamFile, []byte("http://"+service+"/"+v.word()), 0o600); err != nil {
		t.Fatal(err)
	}
	env = append(env, "SSE_UPSTREAM_FILE="+upstreamFile)

	access, authPaths := guardedRoutes(v, service, given.cookie)
	env, paths = append(env, access...), append(paths, authPaths...)

	code, stdout, stderr := run(t, env, "check")
	if code != 0 {
		t.Fatal(stderr)
	}
	v.search(t, "check", stdout+stderr)
	s := startSidecar(t, env...)
	for path := range all {
		paths = append(paths, path) // passed through
	}
	header := http.Header{"Cookie": {"sid=" + given.cookie}, "X-Key": {given.header}, "Authorization": {"Bearer " + given.bearer}}
	visit := visitor{t: t, base: "http://" + s.addr, header: header, query: "k=" + given.query}
	page, leave := context.WithCancel(t.Context())
	defer leave()
	visit.stream(page)
	var asking sync.WaitGroup
	for i, path := range paths {
		asking.Go(func() {
			answer := visit.events(path)
			if strings.HasPrefix(path, "/r/") || strings.HasPrefix(path, "/value/") || strings.HasPrefix(path, "/auth/") { // what passes through is the service's own
				v.search(t, path, answer)
			}
			visit.upgrade(path)
			visit.tunnel(path, i+1)
		})
	}
	asking.Wait()
	visit.guarded(v, s.admin)
	leave()
	for _, path := range []string{"/api/status", "/metrics"} {
		resp, err := plain.Get("http://" + s.admin + path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		v.search(t, path, string(text))
	}
	s.drain(t)
	v.search(t, "the log", s.stderr.String())
	for _, said := range []string{"upstream lost", "upstream refused", "jq program failed", "pass-through fails", "tunnel not opened", "does not say who clients are", "cannot be fetched", "not admitted", "clients revoked"} {
		if !strings.Contains(s.stderr.String(), said) {
			t.Errorf("the log says nothing of %q", said)
		}
	}
}

// visitor is a client.
type visitor struct {
	t      *testing.T
	base   string
	header http.Header
	query  string
	waits  time.Duration // for an answer's end; 0: not for long, as streams have none
}

const pageID = "abcdefghijklmnop"

// ask makes one request with further header fields, name and value in turns, and returns the answer's body, as far as it goes.
func (c visitor) ask(ctx context.Context, method, target, body string, more ...string) string {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.waits, 1500*time.Millisecond))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, c.base+target, strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return ""
	}
	r.Header = c.header.Clone()
	for i := 0; i < len(more); i += 2 {
		r.Header.Set(more[i], more[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

func (c visitor) events(path string) string {
	return c.ask(c.t.Context(), "GET", path+"?"+c.query, "", "Accept", "text/event-stream")
}

func (c visitor) upgrade(path string) {
	c.ask(c.t.Context(), "GET", path+"?"+c.query, "", "Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
}

// tunnel opens the page's tunnel n.
func (c visitor) tunnel(path string, n int) {
	c.ask(c.t.Context(), "POST", "/_sidestream/tunnel"+path+"?"+c.query, fmt.Sprintf(`{"page":%q,"tunnel":%d,"open":["a"]}`+"\n", pageID, n))
}

// stream opens the page's events, which end with ctx.
func (c visitor) stream(ctx context.Context) {
	r, err := http.NewRequestWithContext(ctx, "GET", c.base+"/_sidestream/tunnel?page="+pageID, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header = c.header.Clone()
	r.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.StatusCode != 200 {
		c.t.Fatal("the page's stream: ", err)
	}
	context.AfterFunc(ctx, func() { resp.Body.Close() })
}

// guardedRoutes are routes with AUTH of all kinds, with secrets in what they ask, verify with and seal with, and their paths.
func guardedRoutes(v *vault, service, cookie string) (env, paths []string) {
	key := sha256.Sum256([]byte(v.word()))
	*v = append(*v, hex.EncodeToString(key[:]))
	env = append(env, "SSE_TICKET_KEY="+hex.EncodeToString(key[:]))
	secret := v.word()
	for i, settings := range [][]string{
		{"AUTH=forward", "AUTH_URL=http://" + service + "/phrase?key=" + v.word()},
		{"AUTH=forward", "AUTH_URL=http://" + service + "/moved?key=" + v.word(), "REVALIDATE=1s"},
		{"AUTH=forward", "AUTH_URL=http://" + service + "/header"},
		{"AUTH=forward", "AUTH_URL=http://" + service + "/page", "REVALIDATE=1s", "FORWARD=Cookie"}, // which admits
		{"AUTH=jwt", "JWT_KEYS=secret:" + secret, "JWT_FROM=header,query:k", "AUTH_CLAIMS=sub"},
		{"AUTH=jwt", "JWT_KEYS=secret:" + secret, "JWT_FROM=query:t,header", "AUTH_CLAIMS=sub", "HEADERS=X: {auth.sub}"}, // which admits token
		{"AUTH=jwt", "JWT_KEYS=http://" + service + "/json?key=" + v.word(), "JWT_FROM=query:t"},
		{"AUTH=jwt", "JWT_KEYS=http://" + service + "/gzip", "JWT_FROM=query:t"},
		{"AUTH=jwt", "JWT_KEYS=http://" + service + "/phrase", "JWT_FROM=query:t"},
	} {
		name := fmt.Sprintf("SSE_ROUTE_GUARDED%d_", i)
		env = append(env, fmt.Sprintf("%sPATH=/auth/%d", name, i), name+"FROM=http://"+service+"/phrase")
		for _, s := range settings {
			env = append(env, name+s)
		}
		paths = append(paths, fmt.Sprintf("/auth/%d", i))
	}
	token := signed(secret, map[string]any{"sub": v.word(), "exp": time.Now().Add(time.Hour).Unix()})
	unknown := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"`+v.word()+`"}`)) + token[strings.Index(token, "."):]
	*v = append(*v, token, unknown)
	for i := 6; i < 9; i++ {
		paths = append(paths, fmt.Sprintf("/auth/%d?t=%s&x=", i, unknown))
	}
	return env, append(paths, "/auth/5?t="+token+"&x=", "/auth/3?ticket="+v.token()+"&x=")
}

// guarded asks for a ticket, uses it, and revokes what the client came with.
func (c visitor) guarded(v *vault, admin string) {
	patient := c
	patient.waits = time.Minute
	answer := patient.ask(c.t.Context(), "POST", "/_sidestream/ticket", `{"paths":["/auth/3"]}`)
	var got struct{ Ticket string }
	if json.Unmarshal([]byte(answer), &got) != nil || got.Ticket == "" {
		c.t.Errorf("no ticket: %s", answer)
	}
	*v = append(*v, got.Ticket)
	v.search(c.t, "by ticket", c.ask(c.t.Context(), "GET", "/auth/3?ticket="+got.Ticket, "", "Accept", "text/event-stream"))
	v.search(c.t, "a ticket for others", c.ask(c.t.Context(), "POST", "/_sidestream/ticket", `{"paths":["/auth/0","/auth/4"]}`))
	_, value, _ := strings.Cut(c.header.Get("Cookie"), "=")
	for _, body := range []string{`{"cookie":{"sid":"` + value + `"}}`, `{"route":"guarded9","cookie":{"sid":"` + value + `"}}`, `{"header":{"X-Key":"` + value + `"}}`, `{"auth":{"` + value + `":"x"}}x`} {
		resp, err := plain.Post("http://"+admin+"/api/revoke", "application/json", strings.NewReader(body))
		if err != nil {
			c.t.Error(err)
			continue
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		v.search(c.t, "revoke", string(text))
	}
}
