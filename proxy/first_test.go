//go:build linux && !portable

package proxy

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sidestream/proxy/deliver"
)

// refusing is an upstream that answers the upgrade at /STATUS with that.
func refusing(t *testing.T) (address string, asked *atomic.Int64) {
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		status, err := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return "ws" + strings.TrimPrefix(s.URL, "http"), asked
}

// epoch is what the ids of one stream have in common.
var epoch = regexp.MustCompile(`id: [0-9]+`)

// TestFirstClientsEitherWay: a first client is told the same by net/http and past it, is counted the same, and the upstream is asked as often.
func TestFirstClientsEitherWay(t *testing.T) {
	const request = "GET /a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
	f := newFeed(t)
	for name, c := range map[string]struct {
		from    string // the upstream; a status of one that refuses, or "" for a feed
		request string
		env     []string
	}{
		"refused":               {"403", request, nil},
		"unauthorized":          {"401", request, nil},
		"missing":               {"404", request, nil},
		"redirected":            {"302", request, nil},
		"no upgrade":            {"200", request, nil},
		"broken":                {"500", request, nil},
		"busy":                  {"503", request, nil},
		"cut":                   {"x", request, nil},
		"a stream":              {"", request, nil},
		"HTTP/1.0":              {"", strings.Replace(request, "1.1", "1.0", 1), nil},
		"refused over HTTP/1.0": {"403", strings.Replace(request, "1.1", "1.0", 1), nil},
		"closing":               {"403", strings.Replace(request, "Host", "Connection: close\r\nHost", 1), nil},
		"two at once":           {"403", request + request, nil},
		"an id":                 {"", strings.Replace(request, "Host", "Last-Event-ID: 1-1\r\nHost", 1), nil},
		"of no use":             {"", strings.Replace(request, "/a", "/a?ticket=x", 1), nil},
		"another origin":        {"", strings.Replace(request, "Host", "Origin: http://evil.test\r\nHost", 1), nil},
		"an origin":             {"", strings.Replace(request, "Host", "Origin: http://good.test\r\nHost", 1), []string{"SSE_CORS_ORIGINS=http://good.test"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var said, counted [2]string
			for quiet := 1500 * time.Millisecond; quiet < 30*time.Second; quiet *= 4 { // a busy machine may say it later
				for i := range said {
					from, asked := refusing(t)
					if from += "/" + c.from; c.from == "" {
						from = f.ws() + "/ws"
					}
					l, err := deliver.Listen("127.0.0.1:0")
					if i == 1 {
						l, err = net.Listen("tcp", "127.0.0.1:0") // of which deliver knows nothing
					}
					if err != nil {
						t.Fatal(err)
					}
					s := serveOn(t, l, configure(t, append(c.env, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+from)...), slog.New(slog.DiscardHandler))
					said[i] = epoch.ReplaceAllString(say(t, s.addr, c.request, quiet), "id: ")
					s.settle(t, 0)
					counted[i] = s.counted()
					if strings.HasPrefix(c.from, "4") { // after another answer it is asked again
						counted[i] += fmt.Sprint(" asked ", asked.Load())
					}
				}
				if said[0] == said[1] && counted[0] == counted[1] && said[0] != "open" {
					return
				}
			}
			t.Errorf("past net/http %q, %s\nby it %q, %s", said[0], counted[0], said[1], counted[1])
		})
	}
}

// TestAStormOfFirstClients: whatever they do while the upstream says nothing, they give back all that they had.
func TestAStormOfFirstClients(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := serve(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://"+silent.Addr().String(), "SSE_ROUTE_A_FORWARD=Cookie")
	const many = 90
	descriptors := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	before := descriptors()
	var conns []*net.TCPConn
	for i := range many {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nCookie: sid=%d\r\n\r\n", i)
		conns = append(conns, c.(*net.TCPConn))
	}
	eventually(t, "they wait", func() bool { return s.all.Used() == many })
	for i, c := range conns {
		switch i % 4 {
		case 0:
			c.CloseWrite()
			go func() { io.Copy(io.Discard, c); c.Close() }() // ends with the answer
		case 1:
			c.SetLinger(0)
		case 2:
			io.WriteString(c, "GET /b HTTP/1.1\r\n")
		}
		if i%4 > 0 {
			c.Close()
		}
	}
	eventually(t, "they have left", func() bool { return s.all.Used() == 0 && s.Routes()[0].own.Used() == 0 })
	silent.Close() // and with it the connections to it
	eventually(t, "their connections are closed", func() bool { return descriptors() <= before+3 })
}

// TestReleaseOfWhoWaits: a client that waits for the verdict when the sidecar is stopped is told when to come back, either way.
func TestReleaseOfWhoWaits(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var said [2]string
	for i := range said {
		l, err := deliver.Listen("127.0.0.1:0")
		if i == 1 {
			l, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			t.Fatal(err)
		}
		s := serveOn(t, l, configure(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://"+silent.Addr().String()), slog.New(slog.DiscardHandler))
		answers := make(chan string)
		go func() { // ends with the answer
			answers <- say(t, s.addr, "GET /a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n", 20*time.Second)
		}()
		eventually(t, "it waits", func() bool { return s.all.Used() == 1 })
		s.server.Release(time.Millisecond, 20*time.Second)
		said[i] = strings.Replace(<-answers, "Connection: close\r\n", "", 1) // which depends on when the server is shut down
	}
	if said[0] != said[1] || !strings.Contains(said[0], "200 OK") {
		t.Errorf("past net/http %q\nby it %q", said[0], said[1])
	}
}
