//go:build linux

// The floor: what the kernel itself costs. Bare sockets and one thread; a request is bytes that are thrown away, a
// client is a descriptor. Events come on standard input (see feed.go). There are two: one write per event and client,
// and, coalesced, one write per client of all that waits.

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"runtime"

	"golang.org/x/sys/unix"
)

const floorHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n"

// floorClient is one client, by its descriptor.
type floorClient struct {
	rest []byte // of a write that the socket took a part of
	pos  int32  // in floor.live
	open bool
}

type floor struct {
	epoll, listener int
	coalesce        bool
	clients         []floorClient // by descriptor
	live            []int32
	input           []byte // events that are not complete yet
	seq             int
	buffer          []byte
	read            []byte
}

func serveFloor(coalesce bool) error {
	runtime.LockOSThread()
	f := &floor{coalesce: coalesce, read: make([]byte, 1<<20)}
	addr, err := f.listen()
	if err != nil {
		return err
	}
	if f.epoll, err = unix.EpollCreate1(0); err != nil {
		return err
	}
	unix.SetNonblock(0, true)
	f.watch(0, unix.EPOLLIN)
	f.watch(f.listener, unix.EPOLLIN)
	fmt.Println(addr)
	events := make([]unix.EpollEvent, 512)
	for {
		n, err := unix.EpollWait(f.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			switch int(e.Fd) {
			case 0:
				if !f.feed() {
					return nil
				}
			case f.listener:
				f.accept()
			default:
				f.ready(e.Fd, e.Events)
			}
		}
	}
}

func (f *floor) listen() (addr string, err error) {
	if f.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0); err != nil {
		return "", err
	}
	if err := unix.Bind(f.listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	if err := unix.Listen(f.listener, 4096); err != nil {
		return "", err
	}
	name, err := unix.Getsockname(f.listener)
	if err != nil {
		return "", err
	}
	return (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}).String(), nil
}

func (f *floor) watch(fd int, events uint32) {
	unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (f *floor) accept() {
	for {
		fd, _, err := unix.Accept4(f.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		for fd >= len(f.clients) {
			f.clients = append(f.clients, floorClient{})
		}
		f.clients[fd] = floorClient{}
		f.watch(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET&0xffffffff)
	}
}

// ready reads a request, notices an end, or goes on with a client that was full.
func (f *floor) ready(fd int32, events uint32) {
	c := &f.clients[fd]
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		if c.open {
			last := f.live[len(f.live)-1]
			f.live[c.pos], f.clients[last].pos = last, c.pos
			f.live = f.live[:len(f.live)-1]
		}
		*c = floorClient{}
		unix.Close(int(fd))
		return
	}
	if events&unix.EPOLLIN != 0 && !c.open {
		if n, err := unix.Read(int(fd), f.read); n <= 0 || err != nil {
			return
		}
		c.open, c.pos = true, int32(len(f.live))
		f.live = append(f.live, fd)
		rawWrite(fd, []byte(floorHead))
	}
	if len(c.rest) > 0 {
		n, _ := rawWrite(fd, c.rest)
		c.rest = c.rest[n:]
	}
}

// feed takes what standard input has and writes it to all. It returns whether there will be more.
func (f *floor) feed() bool {
	n, err := unix.Read(0, f.read)
	if err == unix.EAGAIN || err == unix.EINTR {
		return true
	}
	if n <= 0 {
		return false
	}
	f.input = append(f.input, f.read[:n]...)
	out, in := f.buffer[:0], f.input
	for len(in) >= 4 {
		size := int(binary.BigEndian.Uint32(in))
		if len(in) < 4+size {
			break
		}
		f.seq++
		out = appendEvent(out, f.seq, in[4:4+size])
		in = in[4+size:]
		if !f.coalesce {
			f.send(out)
			out = out[:0]
		}
	}
	f.send(out)
	f.buffer, f.input = out, append(f.input[:0], in...)
	return true
}

// send writes p to every client. Who is still at something earlier does not get it.
func (f *floor) send(p []byte) {
	if len(p) == 0 {
		return
	}
	for _, fd := range f.live {
		c := &f.clients[fd]
		if len(c.rest) > 0 {
			continue
		}
		if n, errno := rawWrite(fd, p); n < len(p) && (errno == 0 && n > 0) {
			c.rest = append([]byte(nil), p[n:]...)
		}
	}
}

// appendEvent is an event as all servers send it, give or take a few bytes.
func appendEvent(dst []byte, seq int, payload []byte) []byte {
	return fmt.Appendf(dst, "id: 1234567890123456789-%d\ndata: %s\n\n", seq, payload)
}
