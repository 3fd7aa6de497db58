//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
)

// h2Load is a load client for HTTP/2 without TLS, on net/http's: fewer clients, more of a machine. It knows the same
// commands as load, where N of connect is of connections, and Request is the number of streams on each.
type h2Load struct {
	events, bytes, reads, open, failed atomic.Int64
}

func runH2Load() error {
	l := &h2Load{}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		if o.Op == "connect" {
			l.connect(o)
		}
		json.NewEncoder(os.Stdout).Encode(count{Open: int(l.open.Load()), Failed: int(l.failed.Load()),
			Events: l.events.Load(), Bytes: l.bytes.Load(), Reads: l.reads.Load()})
	}
	return in.Err()
}

func (l *h2Load) connect(o order) {
	var streams int
	fmt.Sscan(o.Request, &streams)
	for range o.N {
		t := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
		t.Protocols.SetUnencryptedHTTP2(true)
		var answered sync.WaitGroup
		for range streams {
			answered.Add(1)
			go l.stream(t, "http://"+o.Addr+"/events", answered.Done) // ends with the process
			answered.Wait()                                           // so that all are on one connection
		}
	}
}

func (l *h2Load) stream(t *http.Transport, url string, answered func()) {
	req, _ := http.NewRequest(http.MethodGet, url, nil)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := t.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		l.failed.Add(1)
		answered()
		return
	}
	defer resp.Body.Close()
	l.open.Add(1)
	answered()
	p := make([]byte, 4096)
	for {
		n, err := resp.Body.Read(p)
		l.events.Add(int64(bytes.Count(p[:n], mark)))
		l.bytes.Add(int64(n))
		l.reads.Add(1)
		if err != nil {
			l.open.Add(-1)
			return
		}
	}
}
