package learn_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/proxy"
	"sidestream/proxy/migrate/learn"
)

const (
	benchSockets = 32 // at two paths, so that all of them are listened to
	benchRounds  = 8
	benchRound   = 1200 * time.Millisecond
	benchEvery   = 10 * time.Millisecond // one message to each socket
)

// TestMain is also the service and the clients of the benchmark: processes of their own, whose CPU is not the sidecar's.
func TestMain(m *testing.M) {
	switch mode := os.Getenv("LEARN_BENCH"); {
	case mode == "service":
		benchService()
	case mode != "":
		benchClients(mode)
	default:
		os.Exit(m.Run())
	}
}

// benchService is a feed: each line on stdin has it send one message to each WebSocket of that host's, for a while.
func benchService() {
	conns := map[string][]*websocket.Conn{}
	var waiting = make(chan func(), 1)
	mode := websocket.CompressionDisabled
	if os.Getenv("LEARN_BENCH_DEFLATE") != "" {
		mode = websocket.CompressionContextTakeover
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // ends with the process
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: mode, CompressionThreshold: 1})
		if err != nil {
			return
		}
		done := make(chan struct{})
		waiting <- func() { conns[r.URL.Query().Get("of")] = append(conns[r.URL.Query().Get("of")], ws); close(done) }
		<-done
		_, _, _ = ws.Read(context.Background())
	}))
	fmt.Println(l.Addr())
	lines := make(chan string)
	go func() { // ends with stdin
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
		close(lines)
	}()
	for {
		select {
		case add := <-waiting:
			add()
		case of, ok := <-lines:
			if !ok {
				return
			}
			fmt.Println(benchSend(conns[of]))
		}
	}
}

// benchSend sends messages for a round, and returns how many.
func benchSend(conns []*websocket.Conn) (n int) {
	tick := time.NewTicker(benchEvery)
	defer tick.Stop()
	for end := time.Now().Add(benchRound); time.Now().Before(end); <-tick.C {
		for _, ws := range conns {
			n++
			text := fmt.Sprintf(`{"type":"price","symbol":"ACME","price":%d.25,"change":-0.4,"seq":%d,"note":"%s"}`, n%1000, n, strings.Repeat("x", 110))
			if ws.Write(context.Background(), websocket.MessageText, []byte(text)) != nil {
				return n
			}
		}
	}
	return n
}

// benchClients are the WebSockets' clients, through the sidecar at front.
func benchClients(front string) {
	front, of, _ := strings.Cut(front, " ")
	for i := range benchSockets {
		ws, _, err := websocket.Dial(context.Background(), fmt.Sprintf("%s/feed%c?of=%s", front, 'a'+i%2, of), &websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			panic(err)
		}
		go func() { // ends with the process
			for {
				if _, r, err := ws.Reader(context.Background()); err != nil {
					return
				} else if _, err := io.Copy(io.Discard, r); err != nil {
					return
				}
			}
		}()
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// child starts this program as something else, and returns what it is told by and what it says.
func child(b *testing.B, env ...string) (in io.Writer, out *bufio.Scanner) {
	b.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), env...)
	c.Stderr = os.Stderr
	stdin, err := c.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stdin.Close(); _ = c.Process.Kill(); _ = c.Wait() })
	out = bufio.NewScanner(stdout)
	if !out.Scan() {
		b.Fatal("it says nothing")
	}
	return stdin, out
}

// BenchmarkPassThrough prints what a WebSocket message costs a sidecar that passes it through, in CPU of this process, without and with a learner, both in
// one run, turn by turn; and the ratio of both.
func BenchmarkPassThrough(b *testing.B) {
	for name, deflate := range map[string]string{"plain": "", "deflate": "LEARN_BENCH_DEFLATE=1"} {
		b.Run(name, func(b *testing.B) {
			in, out := child(b, "LEARN_BENCH=service", deflate)
			base := &url.URL{Scheme: "http", Host: out.Text()}
			for _, of := range []string{"without", "with"} {
				s := proxy.Settings{Upstream: base, MaxHeader: 64 << 10}
				if of == "with" {
					s.Learner = learn.New(base, "")
				}
				p := proxy.New(s, discard)
				front := httptest.NewServer(p)
				b.Cleanup(func() { p.Close(); front.CloseClientConnections(); front.Close() })
				child(b, "LEARN_BENCH="+front.URL+" "+of, deflate)
			}
			cost := map[string]time.Duration{}
			count := map[string]int{}
			for range benchRounds * max(b.N, 1) {
				for _, of := range []string{"without", "with"} {
					before := cpu()
					fmt.Fprintln(in, of)
					if !out.Scan() {
						b.Fatal("the service has ended")
					}
					var n int
					fmt.Sscan(out.Text(), &n)
					cost[of] += cpu() - before
					count[of] += n
				}
			}
			per := func(of string) float64 { return float64(cost[of].Nanoseconds()) / float64(count[of]) }
			b.ReportMetric(per("without"), "ns-without/msg")
			b.ReportMetric(per("with"), "ns-with/msg")
			b.ReportMetric(per("with")/per("without"), "with/without")
		})
	}
}

// cpu is what this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReport concludes from as much as is kept at most: 16 conversations of 512 messages at each of 40 paths, and as many polls.
func BenchmarkReport(b *testing.B) {
	o := &learn.Observation{Base: &url.URL{Scheme: "http", Host: "localhost:3000"}}
	for p := range 40 {
		for range 16 {
			c := &learn.Conversation{Request: learn.Request{At: begin, Path: fmt.Sprintf("/w%c%c/feed", 'a'+p%26, 'a'+p/26)}}
			for i := range 512 {
				c.Frames = append(c.Frames, learn.Frame{At: begin.Add(time.Duration(i) * 50 * time.Millisecond), FromClient: i%40 == 0, Data: fmt.Appendf(nil, `{"type":"t%d","n":%d}`, i%7, i)})
			}
			o.Conversations = append(o.Conversations, c)
		}
	}
	for b.Loop() {
		if r := learn.Conclude(o, nil); len(r.Routes) != 40 {
			b.Fatal(len(r.Routes))
		}
	}
}
