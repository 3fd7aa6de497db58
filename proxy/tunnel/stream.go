package tunnel

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	bodyTime = 30 * time.Second       // for the next part of a POST's body to arrive, or of its frame where the body goes on
	slowTime = time.Second            // for the upstream to take a frame of a body that goes on, until that is ended
	ackTime  = 100 * time.Millisecond // how long what is written may wait for its acknowledgement
	ackBytes = 64 << 10               // of it that do not wait
	maxIdle  = 4 << 10                // bytes of a buffer that is kept for the next frame

	maxStreams = 8 // POSTs of a page whose bodies go on, at once
	maxFormer  = 4 // of a tunnel, those that were replaced and have not ended among them
)

// errReplaced means that a later POST has taken the place of this one.
var errReplaced = errors.New("another request has taken the place of this one")

// arriving is the body of a POST. The rest of what has begun must go on arriving; between two frames of a body that goes on anything may
// pass. Reading belongs to one goroutine; any may cut.
type arriving struct {
	body    io.Reader
	control *http.ResponseController

	mu      sync.Mutex
	patient bool          // nothing has begun
	bounded bool          // there is a deadline
	eof     bool          // it was read to its end
	endless bool          // it may go on for ever
	why     error         // it was cut
	gone    chan struct{} // closed when it is cut
}

func newArriving(body io.Reader, control *http.ResponseController) *arriving {
	return &arriving{body: body, control: control, gone: make(chan struct{})}
}

func (a *arriving) Read(b []byte) (int, error) {
	a.mu.Lock()
	switch {
	case a.why != nil:
		a.mu.Unlock()
		return 0, a.why
	case !a.patient:
		a.control.SetReadDeadline(time.Now().Add(bodyTime))
		a.bounded = true
	case a.bounded:
		a.control.SetReadDeadline(time.Time{})
		a.bounded = false
	}
	a.mu.Unlock()
	n, err := a.body.Read(b)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.eof = a.eof || err == io.EOF
	if err != nil && a.why != nil {
		err = a.why
	}
	return n, err
}

// await sets whether the next byte is the first of a frame, which may take any time to come.
func (a *arriving) await(frame bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.patient = frame
}

// cut has reading fail with why, also where it waits. It may be called of a nil body.
func (a *arriving) cut(why error) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.why == nil {
		a.why = why
		close(a.gone)
		a.control.SetReadDeadline(time.Unix(1, 0))
	}
}

// goesOn marks a body that need never end.
func (a *arriving) goesOn() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endless = true
}

// end is called when the request is answered. net/http reads what the handler has not, and is not to wait for what may never come.
func (a *arriving) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.why = http.ErrHandlerTimeout
	if a.endless && !a.eof {
		a.control.SetReadDeadline(time.Unix(1, 0))
	} else {
		a.control.SetReadDeadline(time.Time{})
	}
}

// StopStreams ends the POSTs whose bodies go on, and has none taken any more: the pages go on with others.
func (ps *Pages) StopStreams() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.calm = true
	for _, p := range ps.byKey {
		for _, t := range p.tunnels {
			t.stream.cut(errNoRoom)
		}
	}
}

// join makes body the one of t that goes on, until leave is called: the former is cut.
func (p *page) join(t *tunnel, number int, body *arriving) (leave func(), err error) {
	ps := p.pages
	ps.mu.Lock()
	defer ps.mu.Unlock()
	switch {
	case t.isEnded():
		return nil, errEnded
	case !closed(t.opened):
		return nil, errSkipped
	case number <= t.latest:
		return nil, errReplaced
	case ps.calm, p.ring.Held() > ps.Window: // a page that reads nothing must not have more to read
		return nil, errNoRoom
	case t.streams >= maxFormer, t.stream == nil && p.streams >= maxStreams:
		return nil, errPosts
	}
	if t.stream == nil {
		p.streams++
	}
	t.stream.cut(errReplaced)
	t.stream, t.latest = body, number
	t.streams++
	return func() {
		ps.mu.Lock()
		defer ps.mu.Unlock()
		t.streams--
		if t.stream == body {
			t.stream = nil
			p.streams--
		}
	}, nil
}

// follow writes the frames of a POST whose body goes on to its tunnel's upstream, as they come, and acknowledges them by events.
func (p *page) follow(h header, target string, in *bufio.Reader, body *arriving) error {
	t, done, err := p.tunnel(h.Tunnel, target)
	if err != nil {
		return err
	}
	done() // it is not counted with the others
	leave, err := p.join(t, h.Stream, body)
	if err != nil {
		return err
	}
	defer leave()
	p.pages.Stats.Streams.Add(1)
	acks := &acks{t: t, stream: h.Stream}
	acks.tell() // that it comes through
	err = t.followed(h.Seq, in, body, acks)
	acks.stop(errors.Is(err, errBusy) || errors.Is(err, errNoRoom) || errors.Is(err, errSkipped) || errors.Is(err, errMalformed) || errors.Is(err, os.ErrDeadlineExceeded))
	return err
}

// followed reads frames, the first of which has this number, and writes them, until the body ends or one cannot be written.
func (t *tunnel) followed(number uint64, in *bufio.Reader, body *arriving, acks *acks) error {
	var buf bytes.Buffer
	for {
		body.await(true)
		kind, err := in.Peek(1)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		body.await(false)
		if kind[0] == numberFrame {
			in.Discard(1)
			if number, err = readNumber(in); err != nil {
				return err
			}
			continue
		}
		f, err := readFrame(in, &buf, t.page.pages.MaxMessage)
		if errors.Is(err, errTooLarge) {
			t.leaveSaying(websocket.StatusGoingAway, "", shortBye, &tooLarge)
		}
		if err == nil {
			err = t.take(number, f, slowTime, body.gone)
		}
		switch {
		case err == nil && f.kind == closeFrame:
			return nil
		case err == nil:
			err = acks.add(number, len(f.data))
		case errors.Is(err, errReplaced):
			err = body.reason()
		}
		if err != nil {
			return err
		}
		if number++; buf.Cap() > maxIdle {
			buf = bytes.Buffer{}
		}
	}
}

// reason is why it was cut.
func (a *arriving) reason() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.why
}

// acks tells the page what of a body that goes on is written: soon, and much at once.
type acks struct {
	t      *tunnel
	stream int

	mu      sync.Mutex
	timer   *time.Timer // runs when something is to be told
	written uint64      // up to this number; what came by other POSTs is not known here
	due     bool        // that is to be told
	bytes   int         // of that
	over    bool        // nothing is told any more
}

// add is called when the frame with this number is written. It fails with errNoRoom where the page takes in nothing of what it is told.
func (a *acks) add(number uint64, size int) error {
	if p := a.t.page; p.ring.Held() > p.pages.Window {
		return errNoRoom
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	first := !a.due
	a.written, a.due = max(a.written, number), true
	a.bytes += size
	switch {
	case a.bytes >= ackBytes:
		a.say(false)
	case first && a.timer == nil:
		a.timer = time.AfterFunc(ackTime, a.late)
	case first:
		a.timer.Reset(ackTime)
	}
	return nil
}

// late is the timer's.
func (a *acks) late() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.due && !a.over {
		a.say(false)
	}
}

// tell says what is written, at once.
func (a *acks) tell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.say(false)
}

// stop says what is still to be said, and with over that the page is to send by other POSTs.
func (a *acks) stop(over bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if over || a.due && !a.t.isEnded() {
		a.say(over)
	}
	a.over = true
	if a.timer != nil {
		a.timer.Stop()
	}
}

// say is called with mu held.
func (a *acks) say(over bool) {
	a.due, a.bytes = false, 0
	a.t.page.say(appendAck(nil, a.t.n, a.written, a.stream, over))
}
