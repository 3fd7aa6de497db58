package tunnel

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/coder/websocket"

	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
	"sidestream/translate"
)

// ErrBusy means that there is no room for another page.
var ErrBusy = errNoRoom

// ErrUnknown means that the page belongs to another origin.
var ErrUnknown = errNoPage

// Client returns the client that r, a GET for page id, is. lastID is what it has received last. It must be served, or its
// Leave called. The error is [ErrBusy] or [ErrUnknown].
func (ps *Pages) Client(r *http.Request, id, lastID string) (c deliver.Client, err error) {
	p, err := ps.enter(id, r)
	if err != nil {
		return c, err
	}
	c = deliver.Client{Route: &ps.Clients, Ring: p.ring, LastID: lastID, Leave: p.leave}
	if lastID == "" {
		return c, nil
	}
	cursor, known := p.ring.Find(lastID)
	if !known {
		c.Cursor, c.Lost = stream.Begin, true
		return c, nil
	}
	c.Cursor = cursor
	p.acknowledge(cursor)
	return c, nil
}

// Post answers a POST for target, a path and query. in returns the request of the WebSocket that it stands for. stopping
// says that no tunnel may be opened any more.
func (ps *Pages) Post(w http.ResponseWriter, r *http.Request, target string, in func() *http.Request, stopping bool) {
	w.Header().Set("Cache-Control", "no-store")
	body := newArriving(r.Body, http.NewResponseController(w))
	defer body.end()
	frames := bufio.NewReader(body)
	h, line, err := readHeader(frames)
	if err != nil {
		refuse(w, err)
		return
	}
	if h.Stream > 0 {
		body.goesOn()
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // else net/http reads what is left, which may come at any time, before it answers
		}
	}
	id, replica := ps.Owner(h.Page)
	if replica != "" {
		if h.Stream > 0 { // what is passed on is passed on whole
			refuse(w, errNoRoom)
			return
		}
		if !ps.Forward(w, r, replica, io.MultiReader(bytes.NewReader(append(line, '\n')), frames)) {
			refuse(w, errNoPage)
		}
		return
	}
	h.Page = id
	p, err := ps.find(h, r)
	switch {
	case err != nil:
	case h.Open == nil && h.Stream > 0:
		err = p.follow(h, target, frames, body)
	case h.Open != nil && stopping:
		err = errNoRoom
	case h.Open != nil:
		var t *tunnel
		if t, err = p.open(h.Tunnel, target, in(), *h.Open); err == nil {
			if lines := t.cookies(r); len(lines) > 0 {
				p.know(h.Page, r, lines)
				w.Header()["Set-Cookie"] = lines
			}
			w.WriteHeader(http.StatusAccepted)
			return
		}
	default:
		err = p.take(h, target, frames)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// take writes the frames of a POST to its tunnel's upstream.
func (p *page) take(h header, target string, in *bufio.Reader) error {
	t, done, err := p.tunnel(h.Tunnel, target)
	if err != nil {
		return err
	}
	defer done()
	var buf bytes.Buffer
	for number := h.Seq; ; number++ {
		f, err := readFrame(in, &buf, p.pages.MaxMessage)
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, errTooLarge):
			t.leaveSaying(websocket.StatusGoingAway, "", shortBye, &tooLarge)
		}
		if err == nil {
			err = t.take(number, f, patience, nil)
		}
		if err != nil || f.kind == closeFrame {
			return err
		}
	}
}

// refuse tells why a POST did not do what it should.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	switch {
	case errors.Is(err, errMalformed):
	case errors.Is(err, errNoPage), errors.Is(err, errNoTunnel):
		status = http.StatusNotFound
	case errors.Is(err, errSkipped), errors.Is(err, errReplaced):
		status = http.StatusConflict
	case errors.Is(err, errEnded):
		status = http.StatusGone
	case errors.Is(err, errTooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, errPosts):
		status = http.StatusTooManyRequests
	case errors.Is(err, errBusy), errors.Is(err, errNoRoom):
		status = http.StatusServiceUnavailable
	default: // the reader's
		http.Error(w, "the request's body cannot be read", http.StatusBadRequest)
		return
	}
	http.Error(w, err.Error(), status)
}

// Under reports whether path, as it was sent, is prefix or below it. A path that climbs is under nothing.
func Under(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/"))
	return ok && (rest == "" || rest[0] == '/') && !translate.Climbs(path)
}
