package tunnel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

const (
	dialTime = 30 * time.Second // for the upstream's answer to the upgrade
	patience = 20 * time.Second // for the upstream to take a frame, until the POST is answered without
)

// Why a frame was not written.
var (
	errEnded   = errors.New("the tunnel has ended")
	errBusy    = errors.New("the upstream is not taking more at present")
	errSkipped = errors.New("a sequence number was skipped")
)

// tunnel is one WebSocket of a page. One goroutine dials and reads; POSTs write, one after the other.
type tunnel struct {
	page   *page
	n      int
	target string // path and query as in the first POST, see short

	alive    context.Context // until it is given up while it is dialled
	giveUp   context.CancelFunc
	answer   Answer        // of the upstream, once answered is closed
	answered chan struct{} // closed when it has answered the upgrade, or will not
	opened   chan struct{} // closed when ws and wire are set
	unread   chan struct{} // closed when nothing more is read of the upstream
	ended    chan struct{} // closed when the last event is in the ring
	ws       *websocket.Conn
	wire     *Wire // below ws

	turn  chan struct{} // full while a frame is being written; for good at the end
	taken uint64        // number of the last frame taken; belongs to the holder of the turn

	failed bool // a frame could not be written; belongs to the holder of the turn

	leaving chan struct{} // closed when the closing handshake is begun

	mu        sync.Mutex    // guards what follows
	connected bool          // ws and wire are set
	abandoned bool          // it was given up before
	over      bool          // nothing may be begun any more
	left      chan struct{} // closed when the closing handshake is through; nil before it is begun
	cut       *time.Timer   // ends it
	until     time.Time     // when
	said      *ending       // what the page is told whatever comes of it

	// Guarded by Pages.mu.
	posts       int       // under way
	streams     int       // of them, those whose body goes on
	stream      *arriving // the body of the latest of those, while it goes on
	latest      int       // its number
	cookiesSeen int       // by the browser when it asked for the tunnel, as page.cookies counts them
}

func newTunnel(p *page, n int, target string) *tunnel {
	t := &tunnel{page: p, n: n, target: short(target), answered: make(chan struct{}), opened: make(chan struct{}), unread: make(chan struct{}), ended: make(chan struct{}),
		turn: make(chan struct{}, 1), leaving: make(chan struct{})}
	t.alive, t.giveUp = context.WithCancel(context.Background())
	return t
}

// short is what a target is known by as long as its tunnel is remembered: itself, or its hash.
func short(target string) string {
	if len(target) <= 64 {
		return target
	}
	sum := sha256.Sum256([]byte(target))
	return string(sum[:])
}

// run is the tunnel's life; in is the request of the WebSocket that it stands for.
func (t *tunnel) run(in *http.Request, protocols []string) {
	defer t.giveUp()
	stats, log := &t.page.pages.Stats, t.page.pages.Log.With("page", t.page.ring.Epoch(), "tunnel", t.n)
	err := t.dial(in, protocols)
	close(t.answered)
	if err != nil {
		stats.Failed.Add(1)
		log.Debug("tunnel not opened", "status", t.answer.Status, "err", err)
		t.end(ending{code: lost.code, status: t.answer.Status})
		return
	}
	stats.Opened.Add(1)
	log.Debug("tunnel opened")
	close(t.opened) // first: the page answers at once
	if opened := t.page.pages.Settings.Opened; opened != nil {
		defer opened(in, in.RequestURI)()
	}
	t.page.say(appendOpen(nil, t.n, t.ws.Subprotocol()))
	how := t.read()
	log.Debug("tunnel ended", "code", how.code)
	t.end(how)
}

// dial connects to the upstream, once no other tunnel of the page does.
func (t *tunnel) dial(in *http.Request, protocols []string) error {
	select {
	case t.page.dialling <- struct{}{}:
		defer func() { <-t.page.dialling }()
	case <-t.alive.Done():
		return context.Canceled
	}
	ctx, cancel := context.WithTimeout(t.alive, dialTime)
	defer cancel()
	t.catchUp(in)
	ws, wire, answer, err := t.page.pages.Dial(ctx, in, protocols, t.pong)
	answer.Cookies = withPath(bounded(answer.Cookies), in.RequestURI)
	t.answer = answer
	t.page.learn(answer.Cookies) // before the next one is dialled
	if err != nil {
		return err
	}
	if len(protocols) > 0 && !slices.Contains(protocols, ws.Subprotocol()) { // browsers fail such a connection too
		ws.CloseNow()
		return errors.New("the upstream chose none of the subprotocols offered")
	}
	ws.SetReadLimit(-1) // read has its own
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.abandoned {
		ws.CloseNow()
		return context.Canceled
	}
	t.ws, t.wire, t.connected = ws, wire, true
	return nil
}

// end reports how the tunnel ended, once nothing is written any more.
func (t *tunnel) end(how ending) {
	t.mu.Lock()
	t.over = true
	left := t.left
	t.mu.Unlock()
	if left != nil {
		<-left
	}
	if t.ws != nil {
		t.ws.CloseNow()
	}
	t.turn <- struct{}{} // what is being written fails now
	t.page.say(appendClose(nil, t.n, how))
	close(t.ended)
}

// read moves messages into the page's ring until the connection ends.
func (t *tunnel) read() ending {
	defer close(t.unread)
	var buf bytes.Buffer
	for {
		kind, r, err := t.ws.Reader(context.Background())
		if err != nil {
			return t.ending(err)
		}
		if buf.Cap() > 1<<20 {
			buf = bytes.Buffer{} // one large message shall not be kept for the life of the tunnel
		}
		buf.Reset()
		most := t.page.pages.MaxMessage
		if _, err := buf.ReadFrom(io.LimitReader(r, int64(most)+1)); err != nil {
			return t.ending(err)
		}
		switch {
		case buf.Len() > most:
			t.refuse(websocket.StatusMessageTooBig, r)
			return tooLarge
		case kind == websocket.MessageText && !utf8.Valid(buf.Bytes()):
			t.refuse(websocket.StatusInvalidFramePayloadData, r)
			return lost
		}
		t.deliver(kind, buf.Bytes())
	}
}

// deliver puts one message into the ring once there is room, or drops it when the tunnel is being closed.
func (t *tunnel) deliver(kind websocket.MessageType, data []byte) {
	stats := &t.page.pages.Stats
	stats.Down.Add(1)
	stats.DownBytes.Add(int64(len(data)))
	t.page.emit(t.leaving, func() []byte {
		encoded := make([]byte, 0, len(data)+len(data)/8+32)
		if kind == websocket.MessageText {
			return appendText(encoded, t.n, data)
		}
		return appendBinary(encoded, t.n, data)
	})
}

// pongTime is how long a pong waits for a frame that is being written. The library, which answers pings while it reads,
// would give up the connection after five seconds.
const pongTime = 4 * time.Second

// pong reports whether a ping is to be answered: not while the upstream takes nothing, as it would not take that either.
func (t *tunnel) pong(ctx context.Context, _ []byte) bool {
	wait := time.NewTimer(pongTime)
	defer wait.Stop()
	select {
	case t.turn <- struct{}{}:
		<-t.turn
		return true
	case <-wait.C:
	case <-ctx.Done():
	}
	return false
}

// tooLarge is the end for a message that does not pass, in either direction.
var tooLarge = ending{code: 1009, reason: "message over MAX_MESSAGE", clean: true}

// isEnded reports whether the tunnel's last event is in the ring.
func (t *tunnel) isEnded() bool { return closed(t.ended) }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// take writes the frame with this number, unless it was taken before, and returns when it is written, or after so long, or when gone is closed:
// then f may still be written, and is not to be touched.
func (t *tunnel) take(number uint64, f frame, within time.Duration, gone <-chan struct{}) error {
	wait := time.NewTimer(within)
	defer wait.Stop()
	if err := t.takeTurn(wait.C, gone); err != nil {
		return err
	}
	switch {
	case f.kind == closeFrame:
		<-t.turn
		t.leave(websocket.StatusCode(f.code), f.reason, longBye)
		return nil
	case number <= t.taken: // also after a close frame that came along, whose answer takes its time
		failed := t.failed
		<-t.turn
		if failed {
			return errEnded
		}
		return nil
	case closed(t.leaving):
		<-t.turn
		return errEnded
	case !closed(t.opened):
		<-t.turn
		return errSkipped
	case number > t.taken+1:
		<-t.turn
		return errSkipped
	}
	t.taken = number
	return t.write(f, wait.C, gone)
}

// takeTurn waits until no other frame is being written.
func (t *tunnel) takeTurn(wait <-chan time.Time, gone <-chan struct{}) error {
	if t.isEnded() {
		return errEnded
	}
	select {
	case t.turn <- struct{}{}:
		return nil
	case <-t.ended:
		return errEnded
	case <-gone:
		return errReplaced
	case <-wait:
		return errBusy
	}
}

// write gives the turn back when f is written, which may be after it has returned errBusy or errReplaced.
func (t *tunnel) write(f frame, wait <-chan time.Time, gone <-chan struct{}) error {
	kind := websocket.MessageText
	if f.kind == binaryFrame {
		kind = websocket.MessageBinary
	}
	written := make(chan error, 1)
	go func() { // ends when the frame is written, or with the connection; end waits for the turn
		err := t.ws.Write(context.Background(), kind, f.data)
		if err == nil {
			stats := &t.page.pages.Stats
			stats.Up.Add(1)
			stats.UpBytes.Add(int64(len(f.data)))
		}
		t.failed = t.failed || err != nil
		<-t.turn
		written <- err
	}()
	select {
	case err := <-written:
		if err != nil {
			return errEnded // the reader has found out too
		}
		return nil
	case <-gone:
		return errReplaced
	case <-wait:
		return errBusy
	}
}
