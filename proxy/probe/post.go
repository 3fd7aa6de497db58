package probe

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"sidestream/proxy/deliver"
)

// Posted is the answer to a POST.
type Posted struct {
	Sidestream bool  `json:"sidestream"` // true
	Bytes      int64 `json:"bytes"`      // of its body, which is forgotten
}

// post counts a body.
func (p *Probe) post(w http.ResponseWriter, r *http.Request) deliver.Rest {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(uploadTime))
	n, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return refuse(w, http.StatusRequestEntityTooLarge, "the probe takes 4 MiB")
	case err != nil:
		return refuse(w, http.StatusBadRequest, "the body did not arrive")
	}
	rc.SetReadDeadline(time.Time{})
	return say(w, http.StatusOK, Posted{true, n})
}

// webSocket echoes one message. It is not refused for its Origin (see doc.go), as nobody is told anything but what it has said.
func (p *Probe) webSocket(w http.ResponseWriter, r *http.Request) deliver.Rest {
	if r.Header.Get("Upgrade") == "" {
		return refuse(w, http.StatusUpgradeRequired, "no Upgrade has arrived")
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return deliver.Answered // it has answered
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 10)
	ctx, cancel := context.WithTimeout(r.Context(), uploadTime)
	defer cancel()
	kind, said, err := c.Read(ctx)
	if err == nil && c.Write(ctx, kind, said) == nil {
		c.Close(websocket.StatusNormalClosure, "")
	}
	return deliver.Answered
}
