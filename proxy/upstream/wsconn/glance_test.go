//go:build linux && !portable

package wsconn

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// glancer is dozer, but that it takes what comes whole from who tells.
func glancer(c *Conn) (read chan string, glances, wakes *atomic.Int64) {
	read, glances, wakes = make(chan string, 1<<16), new(atomic.Int64), new(atomic.Int64)
	var mu sync.Mutex // nobody waits for it: one reads at a time
	one := func() bool {
		if !mu.TryLock() {
			panic("two read")
		}
		defer mu.Unlock()
		return readOne(c, read)
	}
	var turn, wake func()
	var glance func() bool
	glance = func() bool {
		for c.Whole() {
			glances.Add(1)
			if !one() {
				return true
			}
		}
		return c.Doze(wake, glance)
	}
	wake = func() {
		wakes.Add(1)
		go turn()
	}
	turn = func() {
		for !c.Doze(wake, glance) && one() {
		}
	}
	go turn() // ends with the connection
	return read, glances, wakes
}

// What has come whole is read by who tells; what has not, is large or is about the connection by a reader that is woken. Nothing is lost, doubled or out of order.
func TestGlance(t *testing.T) {
	near, far := dialTCP(t)
	go io.Copy(io.Discard, far) // the pongs; ends with the connection
	c := New(near, near, Options{})
	defer c.CloseNow()
	read, glances, wakes := glancer(c)
	for i := range 50 {
		asleep(t, c)
		io.WriteString(far, frame(fin, 1, fmt.Sprint(i))+frame(fin, 2, big[:130]))
		expectRead(t, read, fmt.Sprint(i), big[:130])
	}
	asleep(t, c)
	if g, w := glances.Load(), wakes.Load(); g < 90 || w > 5 { // two writes of one system call may still be seen as two
		t.Errorf("%d messages by who tells, of 100, and %d wakes", g, w)
	}
	for _, woken := range []string{frame(0, 1, "in ") + frame(fin, 0, "parts"), frame(fin, 9, "ping") + frame(fin, 1, "in parts"), frame(fin, 1, "in parts") + frame(fin, 9, "ping"),
		frame(fin, 1, "in parts")[:4]} {
		asleep(t, c)
		before := wakes.Load()
		io.WriteString(far, woken)
		if len(woken) == 4 {
			for deadline := time.Now().Add(time.Minute); wakes.Load() == before && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			}
			io.WriteString(far, frame(fin, 1, "in parts")[4:])
		}
		expectRead(t, read, "in parts")
		if wakes.Load() == before {
			t.Errorf("%q is read by who tells", woken)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	var want []string
	var all strings.Builder
	for i := range 3000 {
		text := fmt.Sprint(i, strings.Repeat("x", random.IntN(300)))
		want = append(want, text)
		switch random.IntN(20) {
		case 0:
			all.WriteString(frame(fin, 9, "p") + frame(0, 1, text[:1]) + frame(fin, 9, "p") + frame(fin, 0, text[1:]))
		case 1:
			all.WriteString(frame(fin, 10, "nobody asked") + frame(fin, 1, text))
		default:
			all.WriteString(frame(fin, 1, text))
		}
	}
	go func() { // ends with what there is to write
		for rest := all.String(); rest != ""; {
			n := min(len(rest), 1+random.IntN(1500))
			io.WriteString(far, rest[:n])
			rest = rest[n:]
			if random.IntN(4) == 0 {
				time.Sleep(time.Duration(random.IntN(300)) * time.Microsecond)
			}
		}
	}()
	expectRead(t, read, want...)
	asleep(t, c)
	io.WriteString(far, frame(fin, 1, "last"))
	far.(*net.TCPConn).CloseWrite()
	expectRead(t, read, "last", "ended: EOF")
}

// Of many that have something at once a few are read by who tells, and the others, meanwhile, by readers that are woken: by as many as it takes.
func TestGlanceAtMany(t *testing.T) {
	const many = mostGlances + 20
	var events []unix.EpollEvent
	var reads []chan string
	var glanced, woken int64
	var told, waked []*atomic.Int64
	var l *lookout
	for i := range many {
		near, far := dialTCP(t)
		c := New(near, near, Options{})
		defer c.CloseNow()
		read, glances, wakes := glancer(c)
		asleep(t, c)
		lookouts.Lock()
		l = current
		l.conns[int32(c.watched)] = seen{c, -1} // the lookout itself knows no such mark
		lookouts.Unlock()
		io.WriteString(far, frame(fin, 1, fmt.Sprint(i)))
		events = append(events, unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.watched), Pad: -1})
		reads, told, waked = append(reads, read), append(told, glances), append(waked, wakes)
	}
	l.wake(nil, events)
	for i, read := range reads {
		expectRead(t, read, fmt.Sprint(i))
		glanced, woken = glanced+told[i].Load(), woken+waked[i].Load()
	}
	if glanced != mostGlances || woken != many-mostGlances {
		t.Errorf("%d read by who tells, %d woken", glanced, woken)
	}
}

// A connection with half a message holds up no other, nor does one that is being closed, to whose end its peer says nothing.
func TestGlanceHoldsNobodyUp(t *testing.T) {
	half, farHalf := dialTCP(t)
	closing, _ := dialTCP(t)
	good, farGood := dialTCP(t)
	h, k, g := New(half, half, Options{}), New(closing, closing, Options{}), New(good, good, Options{})
	defer h.CloseNow()
	defer g.CloseNow()
	glancer(h)
	glancer(k)
	read, _, _ := glancer(g)
	for _, c := range []*Conn{h, k, g} {
		asleep(t, c)
	}
	closed, began := make(chan error, 1), time.Now()
	go func() { closed <- k.Close(1000, "") }() // waits for a close that does not come
	defer func() { k.CloseNow(); <-closed }()
	for reads := false; !reads; time.Sleep(time.Millisecond) {
		k.mu.Lock()
		reads = k.said && k.reading
		k.mu.Unlock()
	}
	k.tell(false) // as the lookout does where it is the first to see that something has come
	io.WriteString(farHalf, frame(fin, 1, "whole")+frame(fin, 1, "not whole")[:5])
	for i := range 100 {
		asleep(t, g)
		io.WriteString(farGood, frame(fin, 1, fmt.Sprint(i)))
		expectRead(t, read, fmt.Sprint(i))
	}
	if took := time.Since(began); took >= closeTime-time.Second {
		t.Errorf("it took %v", took)
	}
}

// Linger waits for the next message, and not for longer than it is told, also when it is asked again within that, and its deadline ends no message that comes later.
func TestLinger(t *testing.T) {
	near, far := dialTCP(t)
	c := New(near, near, Options{})
	defer c.CloseNow()
	next := func() string {
		_, r, err := c.Reader(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(p)
	}
	for i := range 3 {
		if c.Linger(30 * time.Millisecond) {
			t.Fatal("something was read")
		}
		go io.WriteString(far, frame(fin, 1, fmt.Sprint(i)))
		if !c.Linger(time.Minute) || next() != fmt.Sprint(i) {
			t.Fatal("nothing was read")
		}
	}
	for _, parts := range [][]string{{frame(fin, 1, "in parts")[:1], frame(fin, 1, "in parts")[1:]}, {frame(fin, 1, "in parts")[:5], frame(fin, 1, "in parts")[5:]},
		{frame(0, 1, "in "), frame(fin, 0, "parts")}} {
		c.mu.Lock()
		c.until = time.Now().Add(20 * time.Millisecond)
		near.SetReadDeadline(c.until)
		c.mu.Unlock()
		go func() {
			for _, part := range parts {
				io.WriteString(far, part)
				time.Sleep(50 * time.Millisecond) // past the deadline
			}
		}()
		if got := next(); got != "in parts" {
			t.Errorf("read %q", got)
		}
	}
	c.mu.Lock()
	c.until = time.Now().Add(20 * time.Millisecond)
	near.SetReadDeadline(c.until)
	c.mu.Unlock()
	time.AfterFunc(60*time.Millisecond, func() { io.WriteString(far, frame(fin, 1, "late")) })
	if got := next(); got != "late" {
		t.Errorf("read %q", got)
	}
}

// A connection that dozes with a deadline of Linger's that has not come yet is told of what comes after that as of all else.
func TestLingerThenDoze(t *testing.T) {
	for _, glances := range []bool{true, false} {
		near, far := dialTCP(t)
		c := New(near, near, Options{})
		defer c.CloseNow()
		go io.WriteString(far, frame(fin, 1, "soon"))
		if !c.Linger(time.Minute) {
			t.Fatal("nothing came")
		}
		c.mu.Lock()
		c.until = time.Now().Add(20 * time.Millisecond) // as if it had been asked to wait less
		near.SetReadDeadline(c.until)
		c.mu.Unlock()
		var read chan string
		if glances {
			read, _, _ = glancer(c)
		} else {
			read = dozer(c)
		}
		expectRead(t, read, "soon")
		asleep(t, c)
		time.Sleep(40 * time.Millisecond) // past the deadline
		io.WriteString(far, frame(fin, 1, "then")+frame(fin, 1, "at once"))
		expectRead(t, read, "then", "at once")
		asleep(t, c)
		io.WriteString(far, frame(fin, 1, "later"))
		expectRead(t, read, "later")
	}
}

// Where somebody lingers for a connection the lookout is not woken as well. It looks out for it again once it dozes, also for what came before that, and for its end.
func TestLingerAlone(t *testing.T) {
	near, far := dialTCP(t)
	c := New(near, near, Options{Brisk: true})
	defer c.CloseNow()
	read := make(chan string, 100)
	woken := make(chan bool, 1)
	expectDozing := func(want bool) {
		t.Helper()
		lookouts.Lock()
		defer lookouts.Unlock()
		watched := 0
		if current != nil {
			watched = len(current.conns)
		}
		if watched > 0 != want || c.watched >= 0 != want {
			t.Fatalf("%d connections are looked out for, this one as %d", watched, c.watched)
		}
	}
	for i := range 3 {
		if !c.Doze(func() { woken <- true }, nil) {
			t.Fatal("it does not doze")
		}
		expectDozing(true)
		io.WriteString(far, frame(fin, 1, fmt.Sprint("woken ", i)))
		<-woken
		readOne(c, read)
		go io.WriteString(far, frame(fin, 1, fmt.Sprint("lingered ", i)))
		if !c.Linger(time.Minute) {
			t.Fatal("nothing was read")
		}
		expectDozing(false)
		readOne(c, read)
		expectRead(t, read, fmt.Sprint("woken ", i), fmt.Sprint("lingered ", i))
	}
	io.WriteString(far, frame(fin, 1, "before"))
	for !c.Doze(func() { woken <- true }, nil) { // it may not have arrived
		readOne(c, read)
		woken <- true
	}
	<-woken
	if len(read) == 0 {
		readOne(c, read)
	}
	expectRead(t, read, "before")
	far.Close()
	if c.Doze(func() { woken <- true }, nil) {
		<-woken
	}
	if readOne(c, read) {
		t.Error("it goes on after its end")
	}
}

// A deadline of Linger's that comes as the connection is closed is no end of the time that the closing handshake has.
func TestLingerWhileClosing(t *testing.T) {
	near, _ := dialTCP(t)
	c := New(near, near, Options{})
	defer c.CloseNow()
	if c.Linger(time.Millisecond) {
		t.Fatal("something was read")
	}
	if c.lapsed(os.ErrDeadlineExceeded) {
		t.Error("a deadline that was not Linger's")
	}
	closed := make(chan error, 1)
	go func() { closed <- c.Close(1000, "") }() // waits for a close that does not come
	defer func() { c.CloseNow(); <-closed }()
	for reads := false; !reads; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		reads = c.said && c.reading
		c.mu.Unlock()
	}
	if !c.lapsed(os.ErrDeadlineExceeded) { // as by who has waited until then
		t.Error("who reads takes it for the end")
	}
	c.mu.Lock()
	c.until = time.Now().Add(-time.Millisecond)
	c.mu.Unlock()
	if c.lapsed(os.ErrDeadlineExceeded) {
		t.Error("the closing handshake has no end")
	}
}

// Nor does it make whoever tells wake somebody who need not be.
func TestGlancePastLinger(t *testing.T) {
	near, far := dialTCP(t)
	c := New(near, near, Options{})
	defer c.CloseNow()
	read, glances, _ := glancer(c)
	const n = 10
	for i := range n {
		asleep(t, c)
		time.Sleep(time.Millisecond) // that Doze has returned, mostly
		c.mu.Lock()
		c.until = time.Now()
		near.SetReadDeadline(c.until)
		c.mu.Unlock()
		io.WriteString(far, frame(fin, 1, fmt.Sprint(i)))
		expectRead(t, read, fmt.Sprint(i))
	}
	if g := glances.Load(); g < n/2 {
		t.Errorf("%d of %d messages by who tells", g, n)
	}
}

// What comes while who begins to doze is not through with that yet is read, too.
func TestGlanceWhileFallingAsleep(t *testing.T) {
	near, far := dialTCP(t)
	c := New(near, near, Options{})
	defer c.CloseNow()
	read, _, _ := glancer(c)
	for i := range 3 {
		asleep(t, c)
		if !c.enter(&c.reading) { // as Doze still has it once wake is left
			t.Fatal("it is closed")
		}
		io.WriteString(far, frame(fin, 1, fmt.Sprint(i)))
		for told := false; !told; time.Sleep(time.Millisecond) {
			c.mu.Lock()
			told = c.wake == nil
			c.mu.Unlock()
		}
		time.Sleep(time.Millisecond) // that whoever is woken waits
		c.leave(&c.reading)
		expectRead(t, read, fmt.Sprint(i))
	}
}

// While Close reads, what is read ahead is not Linger's to look at.
func TestLingerBesideClose(t *testing.T) {
	near, far := dialTCP(t)
	c := New(near, near, Options{})
	io.WriteString(far, frame(fin, 1, "read ahead"))
	if !c.Linger(time.Minute) {
		t.Fatal("nothing came")
	}
	closed := make(chan error, 1)
	go func() { // ends with the connection
		io.WriteString(far, frame(fin, 1, "more")+frame(fin, 8, closing(1000, "")))
		closed <- c.Close(1000, "")
	}()
	for {
		select {
		case err := <-closed:
			if err != nil || !c.Linger(time.Minute) { // Reader tells of the end
				t.Errorf("closed: %v, or waited for what is closed", err)
			}
			return
		default:
			c.Linger(time.Minute)
		}
	}
}
