// Package page is a client of the tunnel's wire protocol (see package sidestream/proxy/tunnel), as the script in a page is
// one: for tests, which can cut its connections at any moment.
package page

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Message is one WebSocket message.
type Message struct {
	Binary bool
	Data   string
}

// Close is how a tunnel ended.
type Close struct {
	Code   int
	Reason string
	Clean  bool
	Status int
}

// failed is the end of a tunnel that the page finds out by itself.
var failed = Close{Code: 1006}

const (
	maxBatch = 256 << 10              // bytes of frames in one POST
	again    = 100 * time.Millisecond // until something that failed is tried again; scripts wait longer
)

// Page is one page. Its fields are set before Begin.
type Page struct {
	Base   string      // http://host:port
	ID     string      // at least 16 characters
	Header http.Header // of all requests: cookies, Authorization
	Client *http.Client
	Deaf   bool // it acknowledges nothing

	ctx   context.Context
	end   context.CancelFunc
	tasks sync.WaitGroup
	acks  chan struct{} // has one element when it is time to acknowledge
	began chan struct{} // closed when the page's first event has come
	once  sync.Once

	mu      sync.Mutex // guards what follows
	cut     context.CancelFunc
	last    string // the last event's id
	every   int    // when to acknowledge
	weight  int    // since the last acknowledgement
	linger  time.Duration
	heard   time.Time // when the stream was last there
	sockets map[int]*Socket
	over    bool
	cuts    int
}

// Begin opens the page's stream and keeps it open until End. It returns when the page's first event has come, or ctx is
// done.
func (p *Page) Begin(ctx context.Context) error {
	p.ctx, p.end = context.WithCancel(context.Background())
	p.began, p.acks, p.sockets = make(chan struct{}), make(chan struct{}, 1), map[int]*Socket{}
	p.tasks.Go(p.acknowledge) // ends with p.ctx
	if p.Client == nil {
		p.Client = http.DefaultClient
	}
	p.tasks.Go(func() { // ends with p.ctx
		for p.ctx.Err() == nil && !p.isOver() {
			p.listen()
			if p.isAway() {
				p.fail()
			}
			pause(p.ctx, again/10)
		}
	})
	select {
	case <-p.began:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// End lets go of everything, as a page that is closed does.
func (p *Page) End() {
	p.end()
	p.tasks.Wait()
}

// Cut loses the connection of the page's stream. It returns how often it was made so far.
func (p *Page) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut != nil {
		p.cut()
	}
	return p.cuts
}

// isAway reports whether the stream could not be had for so long that the page is gone.
func (p *Page) isAway() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.linger > 0 && time.Since(p.heard) > p.linger
}

func (p *Page) isOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over
}

// listen reads one connection's events to its end.
func (p *Page) listen() error {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	p.mu.Lock()
	p.cut, p.cuts = cancel, p.cuts+1
	last := p.last
	p.mu.Unlock()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Base+"/_sidestream/tunnel?page="+p.ID, nil)
	if err != nil {
		return err
	}
	r.Header = p.header()
	r.Header.Set("Accept", "text/event-stream")
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := p.Client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		pause(p.ctx, again)
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	defer func() {
		p.mu.Lock()
		p.heard = time.Now()
		p.mu.Unlock()
	}()
	if resp.StatusCode != http.StatusOK {
		p.fail()
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	in := bufio.NewReaderSize(resp.Body, 64<<10)
	var id, name, data string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "id":
			id = value
		case "event":
			name = value
		case "data":
			data = value
		case "":
			if line == "\n" {
				p.event(id, name, data)
				if name, data = "", ""; p.isOver() {
					return errors.New("the page is over")
				}
			}
		}
	}
}

func (p *Page) header() http.Header {
	if p.Header == nil {
		return http.Header{}
	}
	return p.Header.Clone()
}

// event takes in one event.
func (p *Page) event(id, name, data string) {
	if name != "" { // stream.gap, stream.busy
		p.fail()
		return
	}
	var e []json.RawMessage
	if json.Unmarshal([]byte(data), &e) != nil || len(e) < 3 {
		panic("no event of the protocol: " + data)
	}
	n, kind, text := 0, "", ""
	json.Unmarshal(e[0], &n)
	json.Unmarshal(e[1], &kind)
	json.Unmarshal(e[2], &text)
	p.mu.Lock()
	p.last = id
	s := p.sockets[n]
	p.weight += len(data) + 100
	p.mu.Unlock()
	if n > 0 && s == nil { // a tunnel that a test opened by hand
		return
	}
	switch kind {
	case "page":
		first := false
		p.once.Do(func() { p.start(e); first = true })
		if !first {
			p.fail()
		}
	case "open":
		s.Protocol = text
		close(s.opened)
	case "text":
		s.in.put(Message{Data: text})
	case "binary":
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			panic(err)
		}
		s.in.put(Message{Binary: true, Data: string(raw)})
	case "close":
		var c Close
		json.Unmarshal(e[2], &c.Code)
		json.Unmarshal(e[3], &c.Reason)
		json.Unmarshal(e[4], &c.Clean)
		json.Unmarshal(e[5], &c.Status)
		s.finish(c)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.weight >= p.every && !p.Deaf {
		select {
		case p.acks <- struct{}{}:
		default:
		}
	}
}

// start takes in the page's first event.
func (p *Page) start(e []json.RawMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ms := 0
	json.Unmarshal(e[2], &p.every)
	json.Unmarshal(e[3], &ms)
	if len(e) > 4 { // several replicas
		suffix := ""
		json.Unmarshal(e[4], &suffix)
		p.ID += suffix
	}
	p.linger = time.Duration(ms) * time.Millisecond
	close(p.began)
}

// acknowledge POSTs what has come, beside all other POSTs.
func (p *Page) acknowledge() {
	for {
		select {
		case <-p.acks:
		case <-p.ctx.Done():
			return
		}
		p.mu.Lock()
		last := p.last
		p.weight = 0
		var s *Socket
		for _, s = range p.sockets {
			if !s.ended() {
				break
			}
		}
		p.mu.Unlock()
		for s != nil && p.ctx.Err() == nil {
			if status, _ := s.post(map[string]any{"page": p.ID, "tunnel": s.n, "seq": 1, "ack": last}, nil); status != 0 && status < 500 {
				break
			}
			pause(p.ctx, again)
		}
	}
}

// fail ends all tunnels: what was missed cannot be had.
func (p *Page) fail() {
	p.mu.Lock()
	p.over = true
	sockets := p.sockets
	p.mu.Unlock()
	for _, s := range sockets {
		s.finish(failed)
	}
}
