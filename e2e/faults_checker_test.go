//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestFaultsAreSeen: what the clients of TestFaults should not get, they complain of, and of nothing else.
func TestFaultsAreSeen(t *testing.T) {
	event := func(id string, n int) string { return fmt.Sprintf("data: %s\nid: %s\n\n", springText("/x", n), id) }
	gap := func(reason, missed string) string {
		return fmt.Sprintf("event: stream.gap\ndata: {\"reason\":%q,\"missed\":%s}\n\n", reason, missed)
	}
	for name, one := range map[string]struct {
		text  string
		wants string // part of the only complaint; "" none
	}{
		"in order":                {event("1-1", 5) + ":\n\n" + event("1-2", 6), ""},
		"a gap, and a loss":       {event("1-1", 5) + gap("upstream", "null") + event("1-3", 9), ""},
		"evicted":                 {event("1-1", 5) + gap("evicted", "3") + event("1-5", 9), ""},
		"half an event":           {event("1-1", 5) + "data: {", ""},
		"lost":                    {event("1-1", 5) + event("1-2", 7), "lost 1 events after 5"},
		"doubled":                 {event("1-1", 5) + event("1-2", 5), "got 5 after 5"},
		"out of order":            {event("1-1", 6) + event("1-2", 5), "got 5 after 6"},
		"never said":              {event("1-1", 11), "has not said"},
		"another's":               {fmt.Sprintf("data: %s\nid: 1-1\n\n", springText("/y", 5)), "has not said"},
		"a byte of it":            {strings.Replace(event("1-1", 5), "é", "e", 1), "has not said"},
		"another epoch":           {event("1-1", 5) + event("2-1", 6), "was not told"},
		"another epoch, told":     {event("1-1", 5) + gap("restart", "null") + event("2-1", 6), ""},
		"an id again":             {event("1-1", 5) + event("1-1", 6), "got the id 1-1 after 1-1"},
		"evicted, and none is":    {event("1-1", 5) + gap("evicted", "1") + event("1-3", 6), "missed none"},
		"evicted, another number": {event("1-1", 5) + gap("evicted", "4") + event("1-3", 9), "told that 4 are evicted, and missed 3"},
		"two gaps for a loss":     {event("1-1", 5) + gap("upstream", "null") + gap("upstream", "null") + event("1-4", 9), "told of 2 gaps"},
		"a gap for no loss":       {event("1-1", 5) + gap("history", "null") + event("1-3", 6), "told of 1 gaps"},
		"a loss that goes on":     {event("1-1", 5) + gap("upstream", "null") + event("1-3", 9) + gap("upstream", "null"), ""},
		"an unknown event":        {"event: x\ndata: y\n\n", "got x"},
	} {
		s := &spring{key: "/x", more: make(chan struct{})}
		s.say(10)
		c := &eventSource{spring: s, gaps: map[string]int{}}
		c.reader.read(strings.NewReader(one.text), c.take)
		c.held(map[string]int{"upstream": 1, "restart": 1})
		if got := strings.Join(c.wrong, "; "); len(c.wrong) > 1 || (got == "") != (one.wants == "") || !strings.Contains(got, one.wants) {
			t.Errorf("%s: complains of %q, want %q", name, got, one.wants)
		}
	}
}

// TestLinkFails: a link delays, cuts after a byte, swallows and refuses as it is told, and heals.
func TestLinkFails(t *testing.T) {
	t.Parallel()
	f := startFeed(t, map[string]string{"/page": strings.Repeat("x", 10_000)})
	l := startLink(t, f.addr(), seeded(1, "link"))
	begun := time.Now()
	l.turn(weather{delay: 300 * time.Millisecond, torn: true, loss: 0.1})
	if code, page := text(t, plain, "http://"+l.addr+"/page"); code != 200 || len(page) != 10_000 {
		t.Errorf("late and torn: %d, %d bytes", code, len(page))
	}
	if took := time.Since(begun); took < 600*time.Millisecond { // there and back
		t.Errorf("took %v", took)
	}
	l.turn(weather{})
	l.refuse(true)
	if code, _ := text(t, plain, "http://"+l.addr+"/page"); code != 0 {
		t.Errorf("refused: %d", code)
	}
	l.heal()
	eventually(t, "no connection of before", func() bool { return len(l.all()) == 0 })
	l.silence(true)
	waiting := make(chan int)
	go func() { waiting <- status("http://" + l.addr + "/page") }() // ends with heal
	eventually(t, "a connection", func() bool { return len(l.all()) == 1 })
	l.heal()
	if code := <-waiting; code != 0 {
		t.Errorf("swallowed: %d", code)
	}
	if code, page := text(t, plain, "http://"+l.addr+"/page"); code != 200 || len(page) != 10_000 {
		t.Errorf("healed: %d, %d bytes", code, len(page))
	}
}

// TestLinkHealsWhatIsBeingCut: a connection that goes silent while the link heals is ended like those that were silent before.
func TestLinkHealsWhatIsBeingCut(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	l := startLink(t, server.Addr().String(), seeded(1, "link"))
	c, err := net.Dial("tcp", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "the connection", func() bool { return len(l.all()) == 1 })
	p := l.all()[0]
	l.cutAfter(func() cutHow { return cutSilent }, 1)
	l.mu.Lock()
	p.left = [2]int64{-1, 0}
	l.mu.Unlock()
	if _, cut, _, _ := p.takes(segment{bytes: []byte("x")}, 1); !cut {
		t.Fatal("it is not cut")
	}
	l.heal()
	p.end(cutSilent) // who cuts it comes late
	c.SetReadDeadline(time.Now().Add(patience / 10))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the one who has dialled is not told: %v", err)
	}
}
