package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/peer"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
)

// sendTime is for the answer to a message that another replica sends.
const sendTime = 5 * time.Second

// errNoStore means that it is not known who holds a stream.
var errNoStore = errors.New("it cannot be found out which replica holds this stream; try again")

// lookTime is for the store to tell who holds a stream.
const lookTime = time.Second

// look returns the live stream of req, or the replica that holds it, where that is another one. The error is errNoStore.
func (rt *Route) look(r *http.Request, req upstream.Request) (st *stream.Stream, holder string, err error) {
	st = rt.Streams.Find(req)
	peers, store := rt.proxy.Peers, rt.Streams.History
	if peers == nil || store == nil || asked(r) || st != nil && st.Connected() {
		return st, "", nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), lookTime)
	defer cancel()
	holder, err = store.Holder(ctx, rt.Name, req.Key)
	switch {
	case err != nil && st == nil:
		return nil, "", errNoStore
	case err != nil || holder == "" || holder == peers.Replica():
		return st, "", nil // which has no connection where it only follows
	}
	return nil, holder, nil
}

// sendElsewhere has the body sent by the replica that holds the stream. What may have been sent is not sent again; what was certainly not is
// tried once more where another replica holds the stream by then.
func (rt *Route) sendElsewhere(w http.ResponseWriter, r *http.Request, holder string, pass *access.Pass) {
	body, give := rt.proxy.Peers.Counted(r.Body)
	defer give()
	r.Body = body
	m, status, problem := readMessage(w, r, rt.Upstream.MaxMessage(), bodyTime)
	if status != 0 {
		refuseSend(w, status, problem)
		return
	}
	late := time.Now().Add(sendTime)
	ctx, cancel := context.WithTimeout(r.Context(), 2*sendTime) // for an answer that begins and does not end
	defer cancel()
	resp, err := rt.ask(ctx, r, holder, m.Data, sendTime)
	if unsent(resp, err) {
		st, next, again := rt.find(r, pass)
		switch {
		case again != nil || st == nil && (next == "" || next == holder):
		case st != nil:
			discard(resp)
			write(w, r, st, m)
			return
		default:
			discard(resp)
			resp, err = rt.ask(ctx, r, next, m.Data, time.Until(late))
		}
	}
	if err != nil {
		refuseUnanswered(w, err)
		return
	}
	defer resp.Body.Close()
	copyAnswer(w, resp, maxAnswer)
}

func (rt *Route) ask(ctx context.Context, r *http.Request, holder string, body []byte, within time.Duration) (*http.Response, error) {
	return rt.proxy.Peers.Ask(ctx, holder, peer.Question{Kind: peer.Send, Request: r, Body: body, Within: within})
}

// unsent reports whether a message was certainly not sent for want of a stream: 404 is the answer of a replica that does not hold it.
func unsent(resp *http.Response, err error) bool {
	var failed *peer.Error
	return err == nil && resp.StatusCode == http.StatusNotFound || errors.As(err, &failed) && !failed.Sent()
}

func discard(resp *http.Response) {
	if resp != nil {
		resp.Body.Close()
	}
}

// refuseUnanswered tells that the holder of a stream has not answered.
func refuseUnanswered(w http.ResponseWriter, err error) {
	var failed *peer.Error
	switch {
	case errors.Is(err, peer.ErrFull):
		w.Header().Set("Retry-After", "1")
		refuseSend(w, http.StatusServiceUnavailable, err.Error())
	case errors.As(err, &failed) && !failed.Sent():
		refuseSend(w, http.StatusBadGateway, "the replica that holds this stream cannot be reached; nothing was sent")
	default:
		refuseSend(w, http.StatusBadGateway, "the replica that holds this stream did not answer; it is not known whether the message was sent")
	}
}
