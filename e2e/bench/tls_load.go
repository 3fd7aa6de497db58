//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// tlsLoad is a load client for HTTP/1.1 over TLS, on Go's. It knows the same commands as load, but for the latency.
type tlsLoad struct {
	events, bytes, reads, open, failed, lost atomic.Int64

	mu    sync.Mutex // guards what follows
	conns []net.Conn // oldest first
}

func runTLSLoad() error {
	l := &tlsLoad{}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		switch o.Op {
		case "connect":
			l.connect(o)
		case "close":
			l.close(o.N)
		}
		json.NewEncoder(os.Stdout).Encode(count{Open: int(l.open.Load()), Failed: int(l.failed.Load()), Lost: int(l.lost.Load()),
			Events: l.events.Load(), Bytes: l.bytes.Load(), Reads: l.reads.Load()})
	}
	return in.Err()
}

// connect opens connections, a few at once, and returns when each has got its first bytes.
func (l *tlsLoad) connect(o order) {
	// The bench's own servers, with a certificate of its own.
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	var all sync.WaitGroup
	places := make(chan struct{}, inFlight/4)
	for range o.N {
		places <- struct{}{}
		var answered sync.Once
		all.Add(1)
		go l.read(o, config, func() { answered.Do(func() { <-places; all.Done() }) }) // ends with its connection
	}
	all.Wait()
}

func (l *tlsLoad) read(o order, config *tls.Config, answered func()) {
	defer answered()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", o.Addr, config)
	if err == nil {
		defer conn.Close()
		_, err = conn.Write([]byte(o.Request))
	}
	p := make([]byte, 4096)
	n := 0
	if err == nil {
		n, err = conn.Read(p)
	}
	if err != nil || !bytes.HasPrefix(p[:n], []byte("HTTP/1.1 200")) {
		l.failed.Add(1)
		return
	}
	l.mu.Lock()
	l.conns = append(l.conns, conn)
	l.mu.Unlock()
	l.open.Add(1)
	answered()
	for {
		l.events.Add(int64(bytes.Count(p[:n], mark)))
		l.bytes.Add(int64(n))
		l.reads.Add(1)
		if n, err = conn.Read(p); err != nil {
			l.open.Add(-1)
			l.lost.Add(1)
			return
		}
	}
}

// close closes the n oldest.
func (l *tlsLoad) close(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, len(l.conns))
	for _, c := range l.conns[:n] {
		c.(*tls.Conn).NetConn().Close()
	}
	l.conns = l.conns[n:]
}
