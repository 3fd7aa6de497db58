package tunnel

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// This file is the closing handshake (RFC 6455, section 7). The library gives each half of its own five seconds, where browsers wait longer for a
// service that is slow to answer: so it is begun below it, and answered by the one who reads anyway.

const (
	longBye  = 20 * time.Second // for the upstream's answer to the page's close frame: Firefox waits as long, Chromium for a minute
	shortBye = 5 * time.Second  // where the page is not to know the answer
	lastBye  = time.Second      // for what has come meanwhile to be read: a process that did not run finds both, its timer first
)

// Wire is what the library writes a WebSocket to and reads it from.
type Wire struct {
	io.ReadWriteCloser
	mu   sync.Mutex // guards what follows, and is held while something is written
	said bool       // a close frame
}

// Upgrade is the [http.RoundTripper] for one handshake.
type Upgrade struct {
	Base http.RoundTripper
	Wire *Wire // when the upstream has agreed
}

// RoundTrip is http.RoundTripper's.
func (u *Upgrade) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := u.Base.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	if body, ok := resp.Body.(io.ReadWriteCloser); ok {
		u.Wire = &Wire{ReadWriteCloser: body}
		resp.Body = u.Wire
	}
	return resp, nil
}

// Write is io.Writer's. Nothing goes out after a close frame, the library's answer to the upstream's among it.
func (w *Wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.said {
		return len(p), nil
	}
	return w.ReadWriteCloser.Write(p)
}

// bye writes a close frame, between two other frames. If that fails, whoever reads finds out.
func (w *Wire) bye(code websocket.StatusCode, reason string) {
	var payload []byte
	if code != noCode {
		payload = append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
	}
	const whole, closing, masked = 0x80, 0x8, 0x80
	frame := []byte{whole | closing, masked | byte(len(payload)), 0, 0, 0, 0}
	mask := frame[2:6]
	rand.Read(mask)
	for i, c := range payload {
		frame = append(frame, c^mask[i%4])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = true
	w.ReadWriteCloser.Write(frame)
}

// leave begins the closing handshake, which takes so long at most, or gives up dialling. It does not wait.
func (t *tunnel) leave(code websocket.StatusCode, reason string, within time.Duration) {
	t.leaveSaying(code, reason, within, nil)
}

// leaveSaying has the page told said, if it is not nil, rather than what the upstream answers.
func (t *tunnel) leaveSaying(code websocket.StatusCode, reason string, within time.Duration, said *ending) {
	t.mu.Lock()
	defer t.mu.Unlock()
	until := time.Now().Add(within)
	switch {
	case t.over:
	case t.left != nil:
		if until.Before(t.until) && t.cut.Stop() { // nobody is to know the answer any more
			t.until = until
			t.cut.Reset(within)
		}
	case !t.connected:
		t.abandoned = true
		t.giveUp()
	default:
		t.left, t.until, t.said = make(chan struct{}), until, said
		t.cut = time.AfterFunc(within, t.sever)
		close(t.leaving)
		go t.handshake(code, reason) // ends with t.left, which end waits for
	}
}

// handshake closes the connection politely.
func (t *tunnel) handshake(code websocket.StatusCode, reason string) {
	defer close(t.left)
	defer t.cut.Stop()
	select {
	case t.turn <- struct{}{}: // else it would stand within a frame
		t.wire.bye(code, reason)
		<-t.turn
	case <-t.unread:
	}
	<-t.unread
}

// refuse leaves because of what the upstream has sent, of which r is the rest, and throws that away until the answer has come: a connection that is closed with
// something unread is reset, and takes the close frame along.
func (t *tunnel) refuse(code websocket.StatusCode, r io.Reader) {
	t.leave(code, "", shortBye)
	var err error
	for err == nil {
		if _, err = io.Copy(io.Discard, r); err == nil {
			_, r, err = t.ws.Reader(context.Background())
		}
	}
}

// sever ends a handshake that has taken too long, unless the answer is there.
func (t *tunnel) sever() {
	last := time.NewTimer(lastBye)
	defer last.Stop()
	select {
	case <-t.unread:
	case <-last.C:
		t.wire.Close()
	}
}

// ending is what err, with which reading has ended, means for the page.
func (t *tunnel) ending(err error) ending {
	t.mu.Lock()
	said := t.said
	t.mu.Unlock()
	var e websocket.CloseError
	switch {
	case said != nil:
		return *said
	case errors.As(err, &e):
		return ending{code: int(e.Code), reason: e.Reason, clean: true}
	}
	return lost
}
