//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
)

// plain is what a Go programmer writes first: a handler, and a channel per client that events are dropped at when it is
// full.
type plain struct {
	mu      sync.Mutex // guards what follows
	clients map[chan []byte]bool
}

func servePlain() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p := &plain{clients: map[chan []byte]bool{}}
	server := &http.Server{Handler: p, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }() // ends with the process
	fmt.Println(l.Addr())
	p.feed(os.Stdin)
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// feed publishes the events of r until it ends.
func (p *plain) feed(r io.Reader) {
	in := bufio.NewReaderSize(r, 64<<10)
	for seq := 1; ; seq++ {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(in, payload); err != nil {
			return
		}
		p.publish(appendEvent(nil, seq, payload))
	}
}

func (p *plain) publish(event []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.clients {
		select {
		case c <- event:
		default:
		}
	}
}

func (p *plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := make(chan []byte, 64)
	p.mu.Lock()
	p.clients[c] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.clients, c)
		p.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	flush := http.NewResponseController(w).Flush
	if flush() != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case event := <-c:
			if _, err := w.Write(event); err != nil || flush() != nil {
				return
			}
		}
	}
}
