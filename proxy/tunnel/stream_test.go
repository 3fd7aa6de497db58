package tunnel

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"sidestream/proxy/deliver"
)

// streamed is a POST of a test whose body goes on.
type streamed struct {
	t        *testing.T
	out      chan string
	answered chan struct{}
	status   int // once it is answered
}

// answer lets a handler bound reading from the other end.
type answer struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (a answer) SetReadDeadline(at time.Time) error { return a.conn.SetReadDeadline(at) }

func (w *world) stream(target, head string) *streamed {
	w.t.Helper()
	ours, theirs := net.Pipe()
	s := &streamed{t: w.t, out: make(chan string, 1000), answered: make(chan struct{})}
	go func() { // ends with the test's last line, or when it is answered
		defer ours.Close()
		for {
			select {
			case text, more := <-s.out:
				if !more {
					return
				}
				ours.Write([]byte(text))
			case <-s.answered:
				return
			}
		}
	}()
	go func() { // ends when it is answered
		defer close(s.answered)
		a := answer{httptest.NewRecorder(), theirs}
		w.Post(a, httptest.NewRequest("POST", target, theirs), target, func() *http.Request { return nil }, false)
		theirs.Close()
		s.status = a.Code
	}()
	s.write(fmt.Sprintf(`{"page":%q,%s}`+"\n", id, head))
	return s
}

// write sends text; the rest of it is dropped when it is answered.
func (s *streamed) write(text string) {
	s.out <- text
	synctest.Wait()
}

func (s *streamed) close() {
	close(s.out)
	synctest.Wait()
}

func (s *streamed) send(frames ...string) {
	var all strings.Builder
	for _, f := range frames {
		fmt.Fprintf(&all, "%c%d\n%s", f[0], len(f)-1, f[1:])
	}
	s.write(all.String())
}

// expect wants it to be answered with status; 0: it goes on.
func (s *streamed) expect(status int) {
	s.t.Helper()
	synctest.Wait()
	select {
	case <-s.answered:
		if s.status != status {
			s.t.Errorf("answered with %d, want %d", s.status, status)
		}
	default:
		if status != 0 {
			s.t.Errorf("it goes on, want an answer of %d", status)
		}
	}
}

// toldOf is what c's ring says of what was sent, without what said has had.
func toldOf(c deliver.Client, said *int) string {
	var all []string
	for _, e := range strings.Split(told(c), " [")[1:] {
		if strings.Contains(e, `"ack"`) {
			all = append(all, "["+e)
		}
	}
	all, *said = all[*said:], len(all)
	return strings.Join(all, " ")
}

// began opens tunnel 1, and a POST whose body goes on.
func (w *world) began() (c deliver.Client, s *streamed) {
	w.t.Helper()
	c = w.enter()
	w.post("/a", `"tunnel":1,"open":[]`)
	synctest.Wait()
	s = w.stream("/a", `"tunnel":1,"seq":1,"stream":1`)
	s.expect(0)
	return c, s
}

// What comes is written as it comes, wherever it is split, and for as long as the page lives.
func TestStream(t *testing.T) {
	bubble(t, nil, (*world).listen, func(w *world) {
		c, s := w.began()
		said := 0
		if got := toldOf(c, &said); got != `[1,"ack",0,1]` {
			t.Errorf("told at once: %s", got)
		}
		for _, one := range "t3\none" + "b0\n" + "t5\nb9\nxx" {
			s.write(string(one))
		}
		w.expect("0s one", "0s ", "0s b9\nxx")
		if got := toldOf(c, &said); got != "" {
			t.Errorf("told of each: %s", got)
		}
		time.Sleep(ackTime)
		if synctest.Wait(); toldOf(c, &said) != `[1,"ack",3,1]` {
			t.Errorf("told: %s", told(c))
		}
		time.Sleep(time.Hour)
		s.send("tlate")
		w.expect("0s one", "0s ", "0s b9\nxx", "1h0m0.1s late")
		// What is begun must go on.
		s.write("t5\nha")
		time.Sleep(bodyTime - time.Nanosecond)
		s.expect(0)
		s.write("l")
		time.Sleep(bodyTime - time.Nanosecond)
		s.write("f")
		time.Sleep(bodyTime)
		s.expect(400)
		if got := toldOf(c, &said); got != `[1,"ack",4,1] [1,"ack",4,1,1]` {
			t.Errorf("told: %s", got)
		}
		if status := w.post("/a", `"tunnel":1,"seq":4`, "tlate", "thalf!"); status != 204 {
			t.Error(status)
		}
		w.expect("0s one", "0s ", "0s b9\nxx", "1h0m0.1s late", "1h1m30.099999998s half!")
		if w.Stats.Streams.Load() != 1 {
			t.Errorf("%d streams are counted", w.Stats.Streams.Load())
		}
	})
}

// The page ends it: what was still to be told is told.
func TestStreamIsEnded(t *testing.T) {
	for _, c := range []struct {
		last   string
		status int
	}{{"", 204}, {"t", 400}, {"t9\nha", 400}, {"x", 400}, {"n\n", 400}, {"n0\n", 400}, {"n+3\n", 400}, {"n99999999999999999999\n", 400}, {"n3", 400}} {
		bubble(t, nil, (*world).listen, func(w *world) {
			client, s := w.began()
			s.send("tone")
			s.write(c.last)
			s.close()
			s.expect(c.status)
			w.expect("0s one")
			said := 1
			if got := toldOf(client, &said); !strings.HasPrefix(got, `[1,"ack",1,1`) {
				t.Errorf("%q: told %q", c.last, got)
			}
		})
	}
}

// Numbers make it that nothing is written twice, or left out, whatever comes by other POSTs meanwhile.
func TestStreamNumbers(t *testing.T) {
	bubble(t, nil, (*world).listen, func(w *world) {
		c, s := w.began()
		said := 1
		w.post("/a", `"tunnel":1,"seq":1`, "t1", "t2")
		s.send("t1", "t2", "t3")
		w.post("/a", `"tunnel":1,"seq":3`, "t3", "t4", "t5")
		s.write("n6\n")
		s.send("t6")
		s.write("n5\n")
		s.send("t5", "t6", "t7")
		w.expect("0s 1", "0s 2", "0s 3", "0s 4", "0s 5", "0s 6", "0s 7")
		time.Sleep(ackTime)
		if synctest.Wait(); toldOf(c, &said) != `[1,"ack",7,1]` {
			t.Errorf("told: %s", told(c))
		}
		s.write("n9\n")
		s.send("t9")
		s.expect(409)
		if got := toldOf(c, &said); got != `[1,"ack",7,1,1]` {
			t.Errorf("told %s", got)
		}
	})
}

// A later one takes the place of the one before, in the middle of a frame too; none that is late takes that of a later one.
func TestStreamIsReplaced(t *testing.T) {
	bubble(t, nil, (*world).listen, func(w *world) {
		c, s := w.began()
		s.send("t1")
		s.write("t5\nha")
		second := w.stream("/a", `"tunnel":1,"seq":1,"stream":7`)
		s.expect(409)
		second.send("t1", "t2")
		w.stream("/a", `"tunnel":1,"seq":2,"stream":7`).expect(409)
		w.stream("/a", `"tunnel":1,"seq":2,"stream":6`).expect(409)
		second.send("t3")
		w.expect("0s 1", "0s 2", "0s 3")
		said := 0
		time.Sleep(ackTime)
		synctest.Wait()
		all := strings.Split(toldOf(c, &said), " ") // the end of the first and the begin of the second in either order
		slices.Sort(all)
		if got := strings.Join(all, " "); got != `[1,"ack",0,1] [1,"ack",0,7] [1,"ack",1,1] [1,"ack",3,7]` {
			t.Errorf("told: %s", told(c))
		}
	})
}

// An upstream that takes nothing ends it, so that nothing waits in the connection that others share. The other POSTs wait, as always.
func TestStreamOfAnUpstreamThatTakesNothing(t *testing.T) {
	large := strings.Repeat("a", 100000)
	bubble(t, nil, func(w *world, ws *websocket.Conn) { time.Sleep(5 * time.Second); w.listen(ws) }, func(w *world) {
		c, s := w.began()
		s.send("t"+large, "tb")
		time.Sleep(slowTime - time.Nanosecond)
		s.expect(0)
		time.Sleep(time.Nanosecond)
		s.expect(503)
		said := 1
		if got := toldOf(c, &said); got != `[1,"ack",0,1,1]` {
			t.Errorf("told %s", got)
		}
		second := w.stream("/a", `"tunnel":1,"seq":1,"stream":2`)
		second.send("t" + large)
		third := w.stream("/a", `"tunnel":1,"seq":1,"stream":3`) // while the second waits
		second.expect(409)
		third.close()
		third.expect(204)
		if status := w.post("/a", `"tunnel":1,"seq":1`, "t"+large, "tb"); status != 204 {
			t.Error(status)
		}
		w.expect("5s "+large[:20], "5s b")
	})
}

// Much is acknowledged at once; a page that takes in nothing of it is not told any more.
func TestStreamAcknowledges(t *testing.T) {
	const count = 5000
	bubble(t, func(s *Settings) { s.Window = 1000 }, func(w *world, ws *websocket.Conn) {
		for {
			if _, _, err := ws.Read(context.Background()); err != nil {
				return
			}
		}
	}, func(w *world) {
		c, s := w.began()
		s.send("t" + strings.Repeat("x", 40000))
		s.send("t" + strings.Repeat("x", 40000))
		said := 1
		if got := toldOf(c, &said); got != `[1,"ack",2,1]` {
			t.Errorf("told %s", got)
		}
		var all bytes.Buffer
		for range count {
			all.WriteString("t100\n" + strings.Repeat("x", 100))
		}
		s.write(all.String())
		time.Sleep(ackTime)
		synctest.Wait()
		if got := toldOf(c, &said); strings.Count(got, "ack") > 2+count*100/ackBytes || !strings.Contains(got, fmt.Sprint(`"ack",`, count+2, ",1]")) {
			t.Errorf("told %s", got)
		}
		for n := 0; n < 50; n++ { // it asks for nothing
			s.send("t" + strings.Repeat("x", ackBytes))
		}
		s.expect(503)
		if held := c.Ring.Held(); held > 1500 {
			t.Errorf("%d bytes are held", held)
		}
		again := w.stream("/a", `"tunnel":1,"seq":1,"stream":2`)
		again.expect(503)
		if status := w.post("/a", fmt.Sprintf(`"tunnel":1,"seq":1,"ack":%q`, c.Ring.LastID())); status != 204 {
			t.Error(status)
		}
		w.stream("/a", `"tunnel":1,"seq":1,"stream":3`).expect(0)
	})
}

// It ends with its tunnel, its page and the sidecar, whatever it waits for.
func TestStreamEnds(t *testing.T) {
	for name, c := range map[string]struct {
		do     func(w *world, c deliver.Client, s *streamed)
		status int
		acks   string
	}{
		"closed by the page":     {func(w *world, _ deliver.Client, s *streamed) { s.send("c4000 bye") }, 204, ""},
		"closed by another POST": {func(w *world, _ deliver.Client, _ *streamed) { w.post("/a", `"tunnel":1,"seq":1`, "c") }, 410, ""},
		"closed by the upstream": {func(w *world, _ deliver.Client, s *streamed) { s.send("tclose") }, 410, ""},
		"without the page": {func(w *world, c deliver.Client, _ *streamed) {
			c.Leave()
			time.Sleep(30 * time.Second)
		}, 410, ""},
		"in the middle of a frame": {func(w *world, _ deliver.Client, s *streamed) {
			s.write("t5\nha")
			w.post("/a", `"tunnel":1,"seq":1`, "c")
		}, 410, ""},
		"with the sidecar":  {func(w *world, _ deliver.Client, _ *streamed) { w.StopStreams() }, 503, `[1,"ack",0,1,1]`},
		"with a large one":  {func(w *world, _ deliver.Client, s *streamed) { s.write("t1048577\n") }, 413, ""},
		"with what is none": {func(w *world, _ deliver.Client, s *streamed) { s.write("x") }, 400, `[1,"ack",0,1,1]`},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(w *world, ws *websocket.Conn) {
				for {
					if _, data, err := ws.Read(context.Background()); err != nil || string(data) == "close" {
						ws.Close(websocket.StatusNormalClosure, "")
						return
					}
				}
			}, func(w *world) {
				client, s := w.began()
				c.do(w, client, s)
				synctest.Wait()
				s.expect(c.status)
				said := 1
				if got := toldOf(client, &said); got != c.acks {
					t.Errorf("told %s, want %s", got, c.acks)
				}
				if c.status == 413 && !strings.Contains(told(client), `[1,"close",1009,`) {
					t.Errorf("told %s", told(client))
				}
				if c.status == 503 {
					w.stream("/a", `"tunnel":1,"seq":1,"stream":2`).expect(503)
					if status := w.post("/a", `"tunnel":1,"seq":1`, "ta"); status != 204 {
						t.Errorf("another POST: %d", status)
					}
				}
			})
		})
	}
}

// A page has some at once, each for a tunnel that is open and its own.
func TestStreamsAreBounded(t *testing.T) {
	bubble(t, nil, (*world).listen, func(w *world) {
		w.enter()
		for n := 1; n <= maxStreams+1; n++ {
			w.post("/a", fmt.Sprintf(`"tunnel":%d,"open":[]`, n))
		}
		synctest.Wait()
		var all []*streamed
		for n := 1; n <= maxStreams; n++ {
			all = append(all, w.stream("/a", fmt.Sprintf(`"tunnel":%d,"seq":1,"stream":1`, n)))
		}
		w.stream("/a", fmt.Sprintf(`"tunnel":%d,"seq":1,"stream":1`, maxStreams+1)).expect(429)
		w.stream("/b", `"tunnel":1,"seq":1,"stream":2`).expect(404)
		w.stream("/a", `"tunnel":99,"seq":1,"stream":2`).expect(404)
		w.stream("/a", `"tunnel":1,"seq":1,"stream":-1`).expect(400)
		w.stream("/a", `"tunnel":1,"seq":1,"stream":3000000000`).expect(400)
		for n := 2; n < 20; n++ {
			again := w.stream("/a", fmt.Sprintf(`"tunnel":1,"seq":1,"stream":%d`, n))
			all[0].expect(409)
			all[0] = again
		}
		for _, s := range all {
			s.expect(0)
			s.close()
			s.expect(204)
		}
		w.stream("/a", fmt.Sprintf(`"tunnel":%d,"seq":1,"stream":1`, maxStreams+1)).expect(0)
		go w.post("/never", `"tunnel":50,"open":[]`)
		synctest.Wait()
		w.stream("/never", `"tunnel":50,"seq":1,"stream":1`).expect(409)
	})
}
