//go:build linux

// The load client: one thread, bare sockets and epoll, a few bytes a connection. It is commanded by lines of JSON on
// standard input and answers each with one on standard output:
//
//	{"op":"connect","n":10000,"addr":...,"request":...}  opens n more, {n} of whose request is another number each; answered when each has got its first bytes
//	{"op":"close","n":10000}                             closes the n oldest
//	{"op":"count"}                                       what has come since the start, latency since the last reset
//	{"op":"reset"}                                       begins the latency anew
//
// Events are counted by a byte that each has exactly once (see mark), so one that lies across two reads is counted once
// as well, and counting is a search that the processor does many bytes at a time.

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// order is a command.
type order struct {
	Op      string `json:"op"`
	N       int    `json:"n,omitempty"`
	Addr    string `json:"addr,omitempty"`
	Request string `json:"request,omitempty"`
}

// count is the answer to every command.
type count struct {
	Open    int   `json:"open"`
	Failed  int   `json:"failed"` // did not connect
	Lost    int   `json:"lost"`   // ended by the server
	Events  int64 `json:"events"`
	Bytes   int64 `json:"bytes"`
	Reads   int64 `json:"reads"`
	Samples int   `json:"samples"`
	P50     int64 `json:"p50"` // ns
	P99     int64 `json:"p99"` // ns
}

const (
	sampleEvery = 20  // of whose connections latency is taken of one
	inFlight    = 128 // connections that have no answer yet
	mostSamples = 1 << 20
	sources     = 8 // addresses that connections come from, for the number of ports
)

type loadConn struct {
	fd       int32
	answered bool
	closed   bool
}

type loader struct {
	epoll   int
	conns   []loadConn
	oldest  int // all before it are closed
	opened  int
	count   count
	buffer  []byte
	latency []int64

	connecting order
	left       int // to be opened
	waiting    int // for their first bytes
	deadline   time.Time
	line       []byte
}

func runLoad() error {
	runtime.LockOSThread()
	epoll, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	l := &loader{epoll: epoll, buffer: make([]byte, 256<<10)}
	unix.SetNonblock(0, true)
	unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, 0, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1})
	events := make([]unix.EpollEvent, 1024)
	for {
		wait := -1
		if l.connecting.Op != "" {
			wait = 100
		}
		n, err := unix.EpollWait(epoll, events, wait)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd < 0 {
				if !l.orders() {
					return nil
				}
				continue
			}
			l.receive(e.Fd)
		}
		l.connect()
	}
}

// orders reads commands. It returns whether there will be more.
func (l *loader) orders() bool {
	var p [4096]byte
	n, err := unix.Read(0, p[:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return true
	}
	if n <= 0 {
		return false
	}
	l.line = append(l.line, p[:n]...)
	for {
		line, rest, ok := bytes.Cut(l.line, []byte("\n"))
		if !ok {
			return true
		}
		var o order
		if err := json.Unmarshal(line, &o); err != nil {
			fmt.Fprintln(os.Stderr, "load:", err)
			return false
		}
		l.line = append([]byte(nil), rest...)
		l.obey(o)
	}
}

func (l *loader) obey(o order) {
	switch o.Op {
	case "connect":
		l.connecting, l.left, l.deadline = o, o.N, time.Now().Add(time.Minute)
		return // answered by connect
	case "close":
		for ; o.N > 0 && l.oldest < len(l.conns); l.oldest++ {
			if !l.conns[l.oldest].closed {
				l.close(&l.conns[l.oldest])
				o.N--
			}
		}
	case "reset":
		l.latency = l.latency[:0]
	}
	l.answer()
}

func (l *loader) answer() {
	c := l.count
	sorted := slices.Clone(l.latency)
	slices.Sort(sorted)
	if n := len(sorted); n > 0 {
		c.Samples, c.P50, c.P99 = n, sorted[n/2], sorted[n*99/100]
	}
	json.NewEncoder(os.Stdout).Encode(c)
}

// connect opens some of the connections that are wanted.
func (l *loader) connect() {
	if l.connecting.Op == "" {
		return
	}
	for l.left > 0 && l.waiting < inFlight {
		l.left--
		if err := l.open(); err != nil {
			l.count.Failed++
			if l.count.Failed == 1 {
				fmt.Fprintln(os.Stderr, "load: connect:", err)
			}
		}
	}
	late := time.Now().After(l.deadline)
	if l.left == 0 && l.waiting == 0 || late {
		l.connecting, l.left = order{}, 0
		l.answer()
	}
}

func (l *loader) open() error {
	addr, err := netip.ParseAddrPort(l.connecting.Addr)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	l.opened++
	unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + l.opened%sources)}})
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}) // loopback: at once
	}
	if err == nil {
		_, err = unix.Write(fd, []byte(strings.ReplaceAll(l.connecting.Request, "{n}", strconv.Itoa(l.opened))))
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	unix.SetNonblock(fd, true)
	index := len(l.conns)
	l.conns = append(l.conns, loadConn{fd: int32(fd)})
	l.count.Open++
	l.waiting++
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(index)})
}

// receive takes what one connection has.
func (l *loader) receive(index int32) {
	c := &l.conns[index]
	if c.closed {
		return
	}
	for l.read(index, c) == len(l.buffer) { // edge-triggered: less says that this is all
	}
}

// read returns how much it has read.
func (l *loader) read(index int32, c *loadConn) int {
	n, errno := rawRead(c.fd, l.buffer)
	if errno == unix.EAGAIN {
		return 0
	}
	if n <= 0 {
		l.count.Lost++
		l.close(c)
		return 0
	}
	l.count.Reads++
	l.count.Bytes += int64(n)
	p := l.buffer[:n]
	if !c.answered {
		c.answered = true
		l.waiting--
		if !bytes.HasPrefix(p, []byte("HTTP/1.1 200")) {
			l.count.Failed++
			fmt.Fprintf(os.Stderr, "load: answer: %.80q\n", p)
		}
	}
	l.count.Events += int64(bytes.Count(p, mark))
	if index%sampleEvery == 0 {
		l.sample(p)
	}
	return n
}

// sample takes the latency of the events whose beginning is in p.
func (l *loader) sample(p []byte) {
	now := time.Now().UnixNano()
	for len(l.latency) < mostSamples {
		_, rest, ok := bytes.Cut(p, stamp)
		if !ok || len(rest) < stampDigits {
			return
		}
		if at, err := strconv.ParseInt(string(rest[:stampDigits]), 10, 64); err == nil {
			l.latency = append(l.latency, now-at)
		}
		p = rest
	}
}

func (l *loader) close(c *loadConn) {
	if !c.answered {
		l.waiting--
	}
	unix.Close(int(c.fd))
	c.closed = true
	l.count.Open--
}
