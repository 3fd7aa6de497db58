//go:build linux && !portable

package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
)

// A WebSocket that nothing comes on leaves its goroutine alone; what comes, and its end, wakes it.
func TestTurn(t *testing.T) {
	say, heard := make(chan string), make(chan string, 1)
	f := &feed{talk: func(p *peer) {
		go func() { // ends with the test
			for text := range say {
				p.say(text)
			}
		}()
		heard <- p.hear()
	}}
	f.begun = time.Now()
	server := httptest.NewServer(f)
	defer server.Close()
	defer sockets.CloseIdleConnections()
	defer close(say)
	rt := compiled(t, SourceSettings{From: "ws" + strings.TrimPrefix(server.URL, "http"), Idle: time.Hour})
	conn, err := expanded(t, rt, "/").Source(quietLog).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	woken, got := make(chan bool, 1), ""
	turn := func() (bool, error) {
		return conn.(Dozer).Turn(ctx, func(ms []translate.Message) error {
			got += write(ms) + ";"
			return nil
		}, func() { woken <- true }, false)
	}
	wakes := func() {
		t.Helper()
		select {
		case <-woken:
		case <-time.After(time.Minute):
			t.Fatal("nobody is woken")
		}
	}
	sleeps := func() {
		t.Helper()
		if asleep, err := turn(); !asleep || err != nil {
			t.Fatalf("asleep: %v, %v", asleep, err)
		}
	}
	sleeps()
	for _, text := range []string{"1", "2", strings.Repeat("x", 100<<10)} {
		got = ""
		say <- text
		for got == "" { // what comes in parts wakes with the first
			wakes()
			sleeps()
		}
		if got != text+";" {
			t.Errorf("emitted %.100q", got)
		}
	}
	cancel()
	wakes()
	if asleep, err := turn(); asleep || !errors.Is(err, context.Canceled) {
		t.Errorf("asleep: %v, %v", asleep, err)
	}
	if bye := <-heard; bye != "closed 1001" {
		t.Errorf("the upstream has heard %q", bye)
	}
}

// Where a message takes no time it is emitted in the place of the wake; what emitting it ends with is told by the next turn. Where it may take its time, or emitting may,
// somebody is woken, and it is emitted once. Of messages one soon after the other somebody waits for the next, and sleeps again when it does not come.
func TestTurnBrief(t *testing.T) {
	for name, test := range map[string]struct {
		s     SourceSettings
		brief bool
		pad   int // of each message
		woken bool
	}{
		"raw":                         {SourceSettings{}, true, 0, false},
		"a plain program":             {SourceSettings{Select: "select(.!=null)"}, true, 0, false},
		"a program of gojq's":         {SourceSettings{Select: ". as $x|$x"}, true, 0, true},
		"a second program of gojq's":  {SourceSettings{Select: ".", ID: ". as $x|$x"}, true, 0, true},
		"a program beside":            {SourceSettings{Reply: "empty"}, true, 0, true},
		"long messages":               {SourceSettings{Select: "."}, true, 3500, true},
		"long messages, no program":   {SourceSettings{}, true, 3500, false},
		"messages that gojq is to do": {SourceSettings{Select: ".[]"}, true, 0, true}, // of an object
		"emit waits":                  {SourceSettings{}, false, 0, true},
		"a dialect":                   {SourceSettings{Protocol: "sockjs"}, true, 0, true},
	} {
		t.Run(name, func(t *testing.T) { turnsBrief(t, test.s, test.brief, strings.Repeat("x", test.pad), test.woken) })
	}
}

func turnsBrief(t *testing.T, s SourceSettings, brief bool, pad string, wakes bool) {
	say := make(chan string)
	f := &feed{talk: func(p *peer) {
		if s.Protocol == "sockjs" {
			p.say("o")
		}
		for text := range say {
			p.say(text)
		}
	}}
	f.begun = time.Now()
	server := httptest.NewServer(f)
	defer server.Close()
	defer sockets.CloseIdleConnections()
	defer close(say)
	s.From, s.Idle = "ws"+strings.TrimPrefix(server.URL, "http"), time.Hour
	frame := func(text string) string { return text + pad }
	switch {
	case s.Select == ".[]":
		frame = func(text string) string { return `{"a":"` + text + `"}` }
	case s.Protocol == "sockjs":
		frame = func(text string) string { return `a["` + text + `"]` }
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn, err := expanded(t, compiled(t, s), "/").Source(quietLog).Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	type turned struct {
		asleep bool
		err    error
	}
	woken, turns, got := make(chan bool, 1), make(chan turned, 1), make(chan string, 1000)
	refuse := errors.New("refused")
	run := func() {
		go func() {
			asleep, err := conn.(Dozer).Turn(ctx, func(ms []translate.Message) error {
				for _, m := range ms {
					if strings.Contains(string(m.Data), "bad") {
						return refuse
					}
					got <- string(m.Data)
				}
				return nil
			}, func() { woken <- true }, brief)
			turns <- turned{asleep, err}
		}()
	}
	wait := func() turned {
		t.Helper()
		select {
		case end := <-turns:
			return end
		case <-time.After(time.Minute):
			t.Fatal("it does not sleep")
		}
		panic("")
	}
	was := 0
	comes := func(text string) {
		t.Helper()
		for deadline := time.After(time.Minute); ; {
			select {
			case <-woken:
				was++
				run()
				if end := wait(); !end.asleep {
					t.Fatal(end.err)
				}
			case data := <-got:
				if data != text+pad {
					t.Errorf("%.100q came, not %q", data, text)
				}
				return
			case <-deadline:
				t.Fatalf("%q did not come", text)
			}
		}
	}
	run()
	if end := wait(); !end.asleep {
		t.Fatal(end.err)
	}
	const n = 20
	for i := range n {
		say <- frame(fmt.Sprint(i))
		comes(fmt.Sprint(i))
		time.Sleep(busyGap + 10*time.Millisecond) // that it is not hurried
	}
	if wakes && was < n || !wakes && was > 3 { // a machine at its limit may have both
		t.Errorf("%d wakes for %d messages", was, n)
	}
	for i := range 200 {
		say <- frame(fmt.Sprint("soon ", i))
	}
	for i := range 200 {
		comes(fmt.Sprint("soon ", i))
	}
	say <- frame("bad")
	select {
	case <-woken:
		run()
	case <-time.After(time.Minute):
		t.Fatal("nobody is woken")
	}
	if end := wait(); end.asleep || !errors.Is(end.err, refuse) {
		t.Errorf("%+v", end)
	}
}

// dozing is a connection that may sleep, of which the upstream says what it is given. Both end with the test.
func dozing(t *testing.T, s SourceSettings) (ctx context.Context, conn Dozer, say chan<- string) {
	t.Helper()
	texts := make(chan string)
	f := &feed{begun: time.Now(), talk: func(p *peer) {
		for text := range texts {
			p.say(text)
		}
	}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Cleanup(sockets.CloseIdleConnections)
	t.Cleanup(func() { close(texts) })
	ctx, conn = dozer(t, server, s)
	return ctx, conn, texts
}

// Of several messages in one frame those that take no time may be emitted before somebody is woken for the rest, in their order, each once.
func TestTurnBriefRest(t *testing.T) {
	ctx, conn, say := dozing(t, SourceSettings{Separator: ";", Select: ".[]"})
	woken, got := make(chan bool, 1), make(chan string, 1000)
	turn := func() {
		t.Helper()
		asleep, err := conn.Turn(ctx, func(ms []translate.Message) error {
			if last := string(ms[len(ms)-1].Data); (conn.(Foreseer).Comes() == ComesNothing) != (last == "4") {
				t.Errorf("all that has arrived is read, or not, as of %q", last)
			}
			for _, m := range ms {
				got <- string(m.Data)
			}
			return nil
		}, func() { woken <- true }, true)
		if !asleep {
			t.Fatal(err)
		}
	}
	turn()
	for range 5 {
		say <- `[1];[2];{"a":"text"};[3];{"a":"text"};[4]`
		for _, want := range []string{"1", "2", "text", "3", "text", "4"} {
			for data := ""; data == ""; {
				select {
				case <-woken:
					turn()
				case data = <-got:
					if data != want {
						t.Fatalf("%q came, not %q", data, want)
					}
				case <-time.After(time.Minute):
					t.Fatalf("%q did not come", want)
				}
			}
		}
		time.Sleep(busyGap + 10*time.Millisecond)
	}
}

// Of a frame of very many messages the first are emitted before somebody is woken, and not more than take no time.
func TestTurnBriefMany(t *testing.T) {
	for name, s := range map[string]SourceSettings{"raw": {}, "a program": {Select: "select(.)"}} {
		t.Run(name, func(t *testing.T) {
			s.Separator = ";"
			ctx, conn, say := dozing(t, s)
			woken, came, before := make(chan bool, 1), 0, 0
			turn := func() {
				t.Helper()
				if asleep, err := conn.Turn(ctx, func(ms []translate.Message) error {
					for _, m := range ms {
						if came++; string(m.Data) != fmt.Sprint(came) {
							t.Errorf("%q is number %d", m.Data, came)
						}
					}
					return nil
				}, func() { before = came; woken <- true }, true); !asleep {
					t.Fatal(err)
				}
			}
			turn()
			const n = 700
			var all []string
			for i := range n {
				all = append(all, fmt.Sprint(i+1))
			}
			say <- strings.Join(all, ";")
			select {
			case <-woken:
			case <-time.After(time.Minute):
				t.Fatalf("nobody is woken for %d messages", n)
			}
			if before < 5 || before > 60 {
				t.Errorf("%d of %d were emitted before somebody was woken", before, n)
			}
			turn()
			if came != n {
				t.Errorf("%d came, want %d", came, n)
			}
		})
	}
}

// Of many messages that come at once somebody who is woken reads most: who tells all that doze has others to see to.
func TestTurnBriefBurst(t *testing.T) {
	const n = 200
	say, began, said := make(chan bool), make(chan bool), make(chan bool)
	f := &feed{talk: func(p *peer) {
		<-say
		p.say("0")
		<-began
		for i := range n {
			p.say(fmt.Sprint(i + 1))
		}
		close(said)
		p.hearAll()
	}}
	f.begun = time.Now()
	server := httptest.NewServer(f)
	defer server.Close()
	defer sockets.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn, err := expanded(t, compiled(t, SourceSettings{From: "ws" + strings.TrimPrefix(server.URL, "http"), Idle: time.Hour}), "/").Source(quietLog).Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	emitted, woken, ended := 0, make(chan int, 1), make(chan error, 1)
	turn := func() {
		asleep, err := conn.(Dozer).Turn(ctx, func(ms []translate.Message) error {
			if emitted == 0 {
				close(began)
				<-said // what comes meanwhile is there at once
			}
			for _, m := range ms {
				if string(m.Data) != fmt.Sprint(emitted) {
					return fmt.Errorf("%q after %d", m.Data, emitted)
				}
				if emitted++; emitted == n+1 {
					return errors.New("all are there")
				}
			}
			return nil
		}, func() { woken <- emitted }, true)
		if !asleep {
			ended <- err
		}
	}
	turn()
	close(say)
	first := 0
	for {
		select {
		case at := <-woken:
			if first == 0 {
				first = at
			}
			go turn()
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), "all are there") {
				t.Fatal(err)
			}
			if first > busyRun+2 { // the first of them, and the next after that has waited, may not have come soon
				t.Errorf("%d messages before somebody was woken", first)
			}
			return
		case <-time.After(time.Minute):
			t.Fatal("they do not come")
		}
	}
}

// So does one of a byte stream, whose messages are read in pieces.
func TestTurnPieces(t *testing.T) {
	say := make(chan string)
	f := &feed{talk: func(p *peer) {
		p.hear() // CONNECT
		p.say("CONNECTED\nversion:1.2\n\n\x00")
		for text := range say {
			p.say(text)
		}
	}, options: websocket.AcceptOptions{Subprotocols: []string{"v12.stomp"}}}
	f.begun = time.Now()
	server := httptest.NewServer(f)
	defer server.Close()
	defer sockets.CloseIdleConnections()
	defer close(say)
	rt := compiled(t, SourceSettings{From: "ws" + strings.TrimPrefix(server.URL, "http"), Protocol: "stomp", Subscribe: "/topic/a"})
	conn, err := expanded(t, rt, "/").Source(quietLog).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	woken, got := make(chan bool, 1), ""
	for _, want := range []string{"", "1", "2"} {
		if want != "" {
			say <- "MESSAGE\nsubscription:0\nmessage-id:" + want + "\ndestination:/topic/a\n\n" + want + "\x00"
		}
		turned := make(chan error, 1)
		for got = ""; ; {
			if want != "" && got == "" {
				<-woken
			}
			go func() {
				asleep, err := conn.(Dozer).Turn(ctx, func(ms []translate.Message) error {
					got += write(ms)
					return nil
				}, func() { woken <- true }, false)
				if err == nil && !asleep {
					err = errors.New("neither asleep nor over")
				}
				turned <- err
			}()
			select {
			case err := <-turned:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(time.Minute):
				t.Fatal("it does not sleep")
			}
			if got == want {
				break
			}
		}
		if conn.(*wsConn).buf != nil {
			t.Error("it keeps a buffer in its sleep")
		}
	}
}
