// Package page is a client of the tunnel's wire protocol (see package sidestream/proxy/tunnel), as the script in a page is
// one: for tests, which can cut its connections at any moment.
package page

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// isAway says that the stream could not be had for so long that the page is gone.
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
	defer func() {
		resp.Body.Close()
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

// Socket is one tunnel.
type Socket struct {
	Protocol string // chosen by the upstream, once it is open

	page   *Page
	n      int
	target string
	in     queue
	opened chan struct{}
	closed chan struct{}
	due    chan struct{} // has one element when there is something to POST

	mu  sync.Mutex // guards what follows
	how Close
	out [][]byte // frames that are not acknowledged
	seq uint64   // number of the first of them
}

// Dial opens the tunnel with number n, and returns when it is open. How it failed, Closed says.
func (p *Page) Dial(ctx context.Context, n int, target string, protocols ...string) (*Socket, error) {
	s := &Socket{page: p, n: n, target: target, seq: 1, opened: make(chan struct{}), closed: make(chan struct{}), due: make(chan struct{}, 1)}
	s.in.some = make(chan struct{}, 1)
	p.mu.Lock()
	p.sockets[n] = s
	p.mu.Unlock()
	if protocols == nil {
		protocols = []string{}
	}
	for {
		status, err := s.post(map[string]any{"page": p.ID, "tunnel": n, "open": protocols}, nil)
		if status == http.StatusAccepted {
			break
		}
		if status != 0 && status < 500 || ctx.Err() != nil {
			return s, fmt.Errorf("open: status %d, %w", status, errors.Join(err, ctx.Err()))
		}
		pause(ctx, again)
	}
	select {
	case <-s.opened:
	case <-s.closed:
	case <-ctx.Done():
		return s, ctx.Err()
	}
	select {
	case <-s.opened: // it may have been closed since
		p.tasks.Go(s.send) // ends with the tunnel or the page
		return s, nil
	default:
		return s, fmt.Errorf("closed: %+v", s.Closed())
	}
}

func (s *Socket) ended() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// Closed waits for the end, a minute at most; then the code is -1.
func (s *Socket) Closed() Close {
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	select {
	case <-s.closed:
	case <-s.page.ctx.Done():
		s.finish(failed)
	case <-late.C:
		return Close{Code: -1}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.how
}

func (s *Socket) finish(how Close) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended() {
		s.how = how
		close(s.closed)
	}
}

// Send queues a message.
func (s *Socket) Send(m Message) {
	kind := byte('t')
	if m.Binary {
		kind = 'b'
	}
	s.queue(append(fmt.Appendf(nil, "%c%d\n", kind, len(m.Data)), m.Data...))
}

// Close queues a close frame; text is "" or "code reason".
func (s *Socket) Close(text string) { s.queue(append(fmt.Appendf(nil, "c%d\n", len(text)), text...)) }

func (s *Socket) queue(f []byte) {
	s.mu.Lock()
	s.out = append(s.out, f)
	s.mu.Unlock()
	s.wake()
}

// Waiting is how many frames are not acknowledged.
func (s *Socket) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.out)
}

func (s *Socket) wake() {
	select {
	case s.due <- struct{}{}:
	default:
	}
}

// Receive returns the next message; false when there is none before the end, or ctx is done.
func (s *Socket) Receive(ctx context.Context) (Message, bool) { return s.in.get(ctx, s.closed) }

// send POSTs what is queued, one batch after the other, until each is acknowledged.
func (s *Socket) send() {
	for {
		select {
		case <-s.due:
		case <-s.closed:
			return
		case <-s.page.ctx.Done():
			return
		}
		for s.Waiting() > 0 {
			if !s.batch() {
				return
			}
		}
	}
}

// batch POSTs one batch until the answer says what became of it. It returns false when the tunnel is done for.
func (s *Socket) batch() bool {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && s.page.ctx.Err() == nil; {
		s.mu.Lock()
		seq, n, size := s.seq, 0, 0
		var body []byte
		for n < len(s.out) && (n == 0 || size+len(s.out[n]) <= maxBatch) {
			body, size = append(body, s.out[n]...), size+len(s.out[n])
			n++
		}
		s.mu.Unlock()
		status, _ := s.post(map[string]any{"page": s.page.ID, "tunnel": s.n, "seq": seq}, body)
		switch status {
		case http.StatusNoContent:
			s.mu.Lock()
			s.out, s.seq = s.out[n:], s.seq+uint64(n)
			s.mu.Unlock()
			return true
		case http.StatusGone, http.StatusRequestEntityTooLarge:
			return false // the event comes
		case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusConflict:
			s.finish(failed)
			return false
		}
		pause(s.page.ctx, again)
	}
	s.finish(failed)
	return false
}

func (s *Socket) post(head map[string]any, frames []byte) (status int, err error) {
	line, err := json.Marshal(head)
	if err != nil {
		return 0, err
	}
	body := append(append(line, '\n'), frames...)
	r, err := http.NewRequestWithContext(s.page.ctx, http.MethodPost, s.page.Base+"/_sidestream/tunnel"+s.target, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header = s.page.header()
	resp, err := s.page.Client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, errors.New(strings.TrimSpace(string(text)))
}

// queue is what has come and was not received yet.
type queue struct {
	mu   sync.Mutex
	all  []Message
	some chan struct{}
}

func (q *queue) put(m Message) {
	q.mu.Lock()
	q.all = append(q.all, m)
	q.mu.Unlock()
	select {
	case q.some <- struct{}{}:
	default:
	}
}

func (q *queue) get(ctx context.Context, closed <-chan struct{}) (m Message, ok bool) {
	for {
		over := false
		select {
		case <-closed:
			over = true
		default:
		}
		q.mu.Lock()
		if ok = len(q.all) > 0; ok {
			m, q.all = q.all[0], q.all[1:]
		}
		q.mu.Unlock()
		if ok || over || ctx.Err() != nil {
			return m, ok
		}
		select {
		case <-q.some:
		case <-closed:
		case <-ctx.Done():
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
