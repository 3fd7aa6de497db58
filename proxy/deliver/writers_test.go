//go:build linux && !portable

package deliver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/e2e/pipes"
	"sidestream/proxy/deliver/h2/h2test"
	"sidestream/proxy/stream"
)

// ask gets the event stream of h, over HTTP/1 or 2 and TLS or not, and returns its first line and what closes it.
func (h *harbour) ask(t *testing.T, major int, config *tls.Config) (line string, end func()) {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	scheme := "http"
	if tr.Protocols.SetHTTP1(major == 1); config != nil {
		scheme = "https"
		tr.Protocols.SetHTTP2(major == 2)
	} else {
		tr.Protocols.SetUnencryptedHTTP2(major == 2)
	}
	resp, err := tr.RoundTrip(httptest.NewRequest("GET", scheme+"://"+h.addr+"/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if resp.ProtoMajor != major {
		t.Errorf("answered over %s", resp.Proto)
	}
	line, err = bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil {
		t.Error(err)
	}
	return line, func() { resp.Body.Close(); tr.CloseIdleConnections() }
}

// TestByWriter: what writes to a client is counted, whichever it is, and with SSE_WRITERS=goroutine, or where net/http is
// another one, that is a goroutine.
func TestByWriter(t *testing.T) {
	known := checkH2
	defer func() { checkH2 = known }()
	for name, c := range map[string]struct {
		goroutines bool
		changed    error
		want       map[string]int // the writer, by HTTP and TLS
	}{
		"as few goroutines as can be":  {false, nil, map[string]int{"1": ByShard, "2": ByH2, "1 TLS": ByShard, "2 TLS": ByH2}},
		"goroutines":                   {true, nil, map[string]int{}},
		"goroutines, net/http changed": {true, errors.New("other frames"), map[string]int{}},
		"net/http changed":             {false, errors.New("other frames"), map[string]int{"1": ByShard, "1 TLS": ByShard}},
	} {
		checkH2 = func() error { return c.changed }
		for _, config := range []*tls.Config{nil, selfSigned()} {
			h := &harbour{t: t, retire: make(chan struct{}), ring: stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{}, new(stream.Stats), false),
				route: Pacing{Retry: time.Second, Stats: new(Stats), Log: slog.New(slog.DiscardHandler)}}
			var logged bytes.Buffer
			h.clients.Goroutines, h.clients.Log = c.goroutines, slog.New(slog.NewTextHandler(&logged, nil))
			l, err := Listen("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			h.addr = l.Addr().String()
			stop := serving(&h.clients, l, h, h, config)
			for major := 1; major <= 2; major++ {
				which := fmt.Sprint(major)
				if config != nil {
					which += " TLS"
				}
				line, end := h.ask(t, major, config)
				var want [writers]int64
				want[c.want[which]] = 1
				if got := h.clients.ByWriter(); got != want || !hint.MatchString(strings.TrimSuffix(line, "\n")) {
					t.Errorf("%s, HTTP/%s: %v is written to by %v, got %q", name, which, got, Writers, line)
				}
				end()
				eventually(t, "the client has left", func() bool { return h.clients.ByWriter() == [writers]int64{} })
			}
			stop()
			if warned := strings.Contains(logged.String(), "level=WARN") && strings.Contains(logged.String(), "other frames"); warned != (c.changed != nil && !c.goroutines) {
				t.Errorf("%s: logged %q", name, logged.String())
			}
		}
	}
}

// TestHandshakesAreBounded: clients that say nothing take what there is of handshakes, but for three seconds; what Close ends
// is waited for.
func TestHandshakesAreBounded(t *testing.T) {
	config := selfSigned()
	synctest.Test(t, func(t *testing.T) {
		l := pipes.Listen()
		var c Clients
		s := c.secured(l, config, nil)
		s.handshakes.most = 2
		go s.Accept() // ends with Close
		began := time.Now()
		var silent []net.Conn
		for range 2 {
			ours, theirs := net.Pipe()
			l.Offer(theirs)
			silent = append(silent, ours)
			pass(time.Second)
		}
		ours, theirs := net.Pipe()
		l.Offer(theirs)
		speaks := tls.Client(ours, &tls.Config{InsecureSkipVerify: true})
		if err := speaks.HandshakeContext(t.Context()); err != nil || time.Since(began) != handshakeLeast {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if _, err := silent[0].Read(make([]byte, 1)); err == nil {
			t.Error("the oldest that says nothing was not cut")
		}
		if silent[1].SetReadDeadline(time.Now()); !timedOut(silent[1]) {
			t.Error("the other one was cut as well")
		}
		pass(handshakeTime)
		silent[1].SetReadDeadline(time.Time{})
		if _, err := silent[1].Read(make([]byte, 1)); err == nil {
			t.Error("what says nothing for ten seconds was not cut")
		}
		last, theirs := net.Pipe()
		l.Offer(slow{theirs})
		synctest.Wait()
		s.Close()
		if s.handshakes.open != 0 {
			t.Errorf("%d handshakes are going on", s.handshakes.open)
		}
		if _, err := last.Read(make([]byte, 1)); err == nil {
			t.Error("a handshake outlives its listener")
		}
		speaks.Close()
	})
}

func timedOut(c net.Conn) bool {
	_, err := c.Read(make([]byte, 1))
	var late net.Error
	return errors.As(err, &late) && late.Timeout()
}

// TestManyHandshakesWaitForRoom: those that are not silent are not cut for being many.
func TestManyHandshakesWaitForRoom(t *testing.T) {
	config := selfSigned()
	synctest.Test(t, func(t *testing.T) {
		l := pipes.Listen()
		var c Clients
		s := c.secured(l, config, nil)
		s.handshakes.most = 2
		var accepting, running sync.WaitGroup
		accepting.Go(func() { // ends with Close
			for {
				conn, err := s.Accept()
				if err != nil {
					return
				}
				running.Go(func() { io.Copy(io.Discard, conn); conn.Close() }) // ends with its client
			}
		})
		var clients sync.WaitGroup
		for range 10 {
			clients.Go(func() {
				ours, theirs := net.Pipe()
				l.Offer(theirs)
				conn := tls.Client(slow{ours}, &tls.Config{InsecureSkipVerify: true})
				if err := conn.HandshakeContext(context.Background()); err != nil {
					t.Error(err)
				}
				conn.Close()
			})
		}
		clients.Wait()
		s.Close()
		accepting.Wait()
		running.Wait()
	})
}

// slow takes half a second for each write, and to notice that nothing will come.
type slow struct{ net.Conn }

func (s slow) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err != nil {
		time.Sleep(500 * time.Millisecond)
	}
	return n, err
}

func (s slow) Write(p []byte) (int, error) {
	time.Sleep(500 * time.Millisecond)
	return s.Conn.Write(p)
}

// TestConstructorsStartNothing: a bubble does not end while a goroutine of it is left.
func TestConstructorsStartNothing(t *testing.T) {
	config := selfSigned()
	synctest.Test(t, func(t *testing.T) {
		var c Clients
		c.secured(pipes.Listen(), config, newArrivals(&net.TCPAddr{}))
		ours, _ := net.Pipe()
		newCarrier(ours, &c, nil)
	})
}

// dawdling is a connection whose writes end a second after it is closed.
type dawdling struct {
	net.Conn
	writing chan struct{} // full while one is written
}

func (d dawdling) Write(p []byte) (int, error) {
	d.writing <- struct{}{}
	defer func() { <-d.writing }()
	n, err := d.Conn.Write(p)
	if err != nil {
		time.Sleep(time.Second)
	}
	return n, err
}

// TestCloseWaitsForWriters: also of a connection of HTTP/2.
func TestCloseWaitsForWriters(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		ours, theirs := net.Pipe()
		conn := dawdling{theirs, make(chan struct{}, 1)}
		lo.l.Offer(newCarrier(conn, &lo.clients, nil))
		p := h2test.New(t, ours)
		reads := make(chan struct{})
		defer close(reads)
		p.Came = func(uint32) { <-reads } // it reads no more than the first bytes
		p.Ask("GET", "/", nil)
		synctest.Wait()
		lo.ring.Append(say("1"))
		synctest.Wait()
		if len(conn.writing) != 1 {
			t.Fatal("nothing is being written")
		}
		lo.clients.Close()
		if len(conn.writing) != 0 {
			t.Error("Close does not wait for what writes")
		}
	})
}
