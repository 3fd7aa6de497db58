// This file is the page's WebSockets over the tunnel.

package page

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

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
