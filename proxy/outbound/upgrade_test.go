package outbound

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/e2e/pipes"
)

const agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

// asked has what upgrades and what net/http does be asked for an upgrade, each by a server that answers with answer and closes. It returns what the server has
// read and what the client has.
func asked(t testing.TB, upgrades bool, answer string, change ...func(*http.Request)) (request, outcome string) {
	t.Helper()
	read := make(chan string, 1)
	dialled := ""
	dial := func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = address
		near, far := net.Pipe()
		go func() { // ends with the connection
			defer far.Close()
			var head []byte
			for b := make([]byte, 512); !bytes.Contains(head, []byte("\r\n\r\n")); {
				n, err := far.Read(b)
				if head = append(head, b[:n]...); err != nil {
					break
				}
			}
			read <- string(head)
			io.WriteString(far, answer)
		}()
		return near, nil
	}
	tr := &Transport{Upgrades: upgrades, Base: dial}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://legacy.test/ws?a=b", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-WebSocket-Key": {"x"}, "Cookie": {"sid=1"}}
	for _, f := range change {
		f(req)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		select {
		case request = <-read:
		default:
		}
		return request, "error"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	_, writes := resp.Body.(io.Writer)
	return <-read, fmt.Sprintf("%d %v %d %q %v %v from %s", resp.StatusCode, resp.Header, resp.ContentLength, body, err != nil, writes, dialled)
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

var upgradeAnswers = []string{
	agreed,
	agreed + "\x81\x05hello",
	agreed + strings.Repeat("x", 5000), // more than is read ahead
	"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + agreed,
	strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", 20) + agreed,
	"HTTP/1.1 101 Switching Protocols\r\n\r\nnot agreed",
	"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
	"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	"HTTP/1.0 200 OK\r\n\r\nuntil the end",
	"HTTP/1.1 204 No Content\r\n\r\n",
	"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\nSet-Cookie: a=b\r\n\r\n",
	"HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + zipped("broken"),
	"HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\nbroken",
	"HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut",
	"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
	"HTTP/1.1 000 Odd\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b", "", "\r\n",
}

// TestUpgradesAsNetHTTP: what a server gets, and what is made of its answer, is what net/http sends and makes.
func TestUpgradesAsNetHTTP(t *testing.T) {
	for _, answer := range upgradeAnswers {
		wantRequest, want := asked(t, false, answer)
		if request, got := asked(t, true, answer); got != want || request != wantRequest {
			t.Errorf("%.100q:\n got %s after %q\nwant %s after %q", answer, got, request, want, wantRequest)
		}
	}
	for name, change := range map[string]func(*http.Request){
		"a name for the host": func(r *http.Request) { r.Host = "other.test" },
		"fields of its own": func(r *http.Request) {
			r.Header["x-Odd"], r.Header["User-Agent"], r.Header["Accept-Encoding"] = []string{"1", "2"}, []string{"browser"}, []string{"br"}
		},
		"no agent":          func(r *http.Request) { r.Header["User-Agent"] = []string{""} },
		"a port, a path":    func(r *http.Request) { r.URL.Host, r.URL.Path = "legacy.test:8080", "/a b" },
		"another alphabet":  func(r *http.Request) { r.URL.Host = "bücher.test" },
		"its capitals":      func(r *http.Request) { r.URL.Host = "BÜCHER.test" },
		"IPv6":              func(r *http.Request) { r.URL.Host = "[::1]:9" },
		"a line in a value": func(r *http.Request) { r.Header.Set("Cookie", "a\r\nEvil: b") },
		"a line in a name":  func(r *http.Request) { r.Header["a\r\nEvil"] = []string{"b"} },
		"another scheme":    func(r *http.Request) { r.URL.Scheme = "gopher" },
		"no host":           func(r *http.Request) { r.URL.Host = "" },
		"a line in a query": func(r *http.Request) { r.URL.RawQuery = "a\r\nEvil: b" },
		"an odd host":       func(r *http.Request) { r.Host = "a b" },
		"an odd method":     func(r *http.Request) { r.Method = "GET /\r\nEvil: b" },
		"a post":            func(r *http.Request) { r.Method = "POST" },
		"closing":           func(r *http.Request) { r.Close = true },
		"a user":            func(r *http.Request) { r.URL.User = url.UserPassword("u", "p") },
		"a zone":            func(r *http.Request) { r.URL.Host = "[fe80::1%25eth0]:9" },
		"a fragment":        func(r *http.Request) { r.URL.Fragment = "f" },
		"opaque":            func(r *http.Request) { r.URL.Opaque = "//legacy.test/x?y" },
		"a range":           func(r *http.Request) { r.Header.Set("Range", "bytes=0-") },
	} {
		wantRequest, want := asked(t, false, agreed, change)
		if request, got := asked(t, true, agreed, change); got != want || request != wantRequest {
			t.Errorf("%s:\n got %s after %q\nwant %s after %q", name, got, request, want, wantRequest)
		}
	}
}

// TestUpgradeHeadIsBounded: one that is too long is given up.
func TestUpgradeHeadIsBounded(t *testing.T) {
	for _, size := range []int{maxHead - 1000, maxHead} {
		_, got := asked(t, true, strings.Replace(agreed, "\r\n\r\n", "\r\nA: "+strings.Repeat("x", size)+"\r\n\r\n", 1))
		if (got == "error") != (size == maxHead) {
			t.Errorf("%d bytes: %.100s", size, got)
		}
	}
}

// TestUpgradeIsGivenUp: a context ends the wait for an answer and for its body, and not a connection that is upgraded.
func TestUpgradeIsGivenUp(t *testing.T) {
	for answer, wantHead := range map[string]bool{"": false, "HTTP/1.1 101 Swit": false, "HTTP/1.1 500 No\r\n\r\nbro": true, agreed: true} {
		synctest.Test(t, func(t *testing.T) {
			l := pipes.Listen()
			defer l.Close()
			go func() { // ends with the connection
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				io.ReadAtLeast(conn, make([]byte, 4096), 150)
				io.WriteString(conn, answer)
				io.Copy(conn, conn)
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://legacy.test/", nil)
			req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-WebSocket-Key": {strings.Repeat("x", 100)}}
			began := time.Now()
			resp, err := (&Transport{Upgrades: true, Base: l.Dial}).RoundTrip(req)
			switch {
			case !wantHead:
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
					t.Errorf("%q: %v after %v", answer, err, time.Since(began))
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if answer != agreed {
				if text, err := io.ReadAll(resp.Body); string(text) != "bro" || err == nil || time.Since(began) != time.Minute {
					t.Errorf("%q, %v after %v", text, err, time.Since(began))
				}
				return
			}
			time.Sleep(time.Hour)
			conn := resp.Body.(io.ReadWriter)
			got := make([]byte, 5)
			io.WriteString(conn, "hello")
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// FuzzUpgrade: whatever a server answers, it is what net/http makes of it.
func FuzzUpgrade(f *testing.F) {
	for _, answer := range upgradeAnswers {
		f.Add(answer)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		_, want := asked(t, false, answer)
		if _, got := asked(t, true, answer); got != want {
			t.Errorf("%q: got %s, want %s", answer, got, want)
		}
	})
}

// TestUpgradeIsGivenUpWhileDialling: the cause is the context's, as with net/http, whatever the dialler makes of it.
func TestUpgradeIsGivenUpWhileDialling(t *testing.T) {
	cause := errors.New("the stream is over")
	for _, upgrades := range []bool{false, true} {
		ctx, cancel := context.WithCancelCause(t.Context())
		dial := func(context.Context, string, string) (net.Conn, error) {
			cancel(cause)
			return nil, &ProxyError{Proxy: "http://proxy.test", Err: errors.New("operation was canceled")}
		}
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://legacy.test/", nil)
		req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
		if _, err := (&Transport{Upgrades: upgrades, Base: dial}).RoundTrip(req); err != cause {
			t.Errorf("upgrades %v: %v", upgrades, err)
		}
	}
}
