package proxy

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"sidestream/proxy/access"
	"sidestream/proxy/peer"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

const (
	bodyTime    = 30 * time.Second // for the body of a message to arrive
	crowdedTime = 2 * time.Second  // the same, while half of the places of a stream are taken
	maxKey      = 255              // bytes of an Idempotency-Key
)

// serveSend sends the body upstream as one message, on the connection of the stream that the same request with GET reads.
func (rt *Route) serveSend(w http.ResponseWriter, r *http.Request) {
	p := rt.proxy
	if !p.admit(w.Header(), r) {
		p.refuseOrigin(w, r)
		return
	}
	g, err := rt.admitPost(r)
	if err != nil {
		rt.unsent(w, r, g, err)
		return
	}
	st, holder, err := rt.find(r, g.pass)
	switch {
	case errors.Is(err, errNoStore):
		refuseSend(w, http.StatusBadGateway, err.Error())
	case err != nil:
		rt.unwelcome(w, r, g, err)
	case holder != "":
		rt.sendElsewhere(w, r, holder, g.pass)
	case st == nil:
		refuseSend(w, http.StatusNotFound, "this request has no live stream; open one with the same address and credentials first")
	default:
		rt.sendHere(w, r, st)
	}
}

// sendHere sends the body on the connection of st.
func (rt *Route) sendHere(w http.ResponseWriter, r *http.Request, st *stream.Stream) {
	crowded, ok := st.Reserve()
	if !ok {
		w.Header().Set("Retry-After", "1")
		refuseSend(w, http.StatusTooManyRequests, "too many messages of this stream are in flight")
		return
	}
	defer st.Release()
	within := bodyTime
	if crowded { // a slow client must not keep the others from sending
		within = crowdedTime
	}
	m, status, problem := readMessage(w, r, rt.Upstream.MaxMessage(), within)
	if status != 0 {
		refuseSend(w, status, problem)
		return
	}
	write(w, r, st, m)
}

// write answers r, whose body is m, once that is written.
func write(w http.ResponseWriter, r *http.Request, st *stream.Stream, m translate.Message) {
	switch key := r.Header.Get("Idempotency-Key"); {
	case len(key) > maxKey:
		refuseSend(w, http.StatusBadRequest, "the Idempotency-Key is longer than 255 bytes")
	case key != "":
		answerSend(w, st.SendOnce(r.Context(), key, m))
	default:
		answerSend(w, st.Send(r.Context(), m))
	}
}

// admitPost is welcome for a POST, for which tickets are no good.
func (rt *Route) admitPost(r *http.Request) (g guest, err error) {
	g.r = r
	if rt.guard != nil {
		g.pass, err = rt.guard.Admit(r.Context(), rt.proxy.client(r))
	}
	return g, err
}

const otherOrigin = "requests from another origin are refused; add it to SSE_CORS_ORIGINS"

// find returns the live stream that r's GET would read, nil when there is none; or the replica that holds it, where that is another one.
// A same-origin GET of a browser has no Origin, while its POST has one: where Origin is forwarded, both are looked for. The error is
// errNoStore, or says what r lacks.
func (rt *Route) find(r *http.Request, pass *access.Pass) (st *stream.Stream, holder string, err error) {
	req, err := rt.Upstream.ExpandFor(r, r.PathValue, pass.Claim)
	if err != nil {
		return nil, "", err
	}
	st, holder, err = rt.look(r, req)
	if st != nil || holder != "" || err != nil || !sameHost(r.Header.Get("Origin"), r) {
		return st, holder, err // a GET of another origin would have sent it too
	}
	bare := r.Clone(r.Context())
	bare.Header.Del("Origin")
	if req, err = rt.Upstream.ExpandFor(bare, r.PathValue, pass.Claim); err != nil {
		return nil, "", nil // such a GET is none
	}
	return rt.look(r, req)
}

// readMessage makes a message of r's body. status is that of the answer when it is none.
func readMessage(w http.ResponseWriter, r *http.Request, most int, within time.Duration) (m translate.Message, status int, problem string) {
	binary, ok := binaryType(r.Header)
	if !ok {
		return m, http.StatusUnsupportedMediaType, "send application/json or text in UTF-8, or application/octet-stream for bytes, not encoded"
	}
	if r.ContentLength > int64(most) {
		return m, http.StatusRequestEntityTooLarge, "the message is larger than MAX_MESSAGE"
	}
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(within))
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(most)))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return m, http.StatusRequestEntityTooLarge, "the message is larger than MAX_MESSAGE"
	case errors.Is(err, peer.ErrFull):
		return m, http.StatusServiceUnavailable, err.Error()
	case err != nil:
		return m, http.StatusBadRequest, "the request's body cannot be read"
	case !binary && !utf8.Valid(data):
		return m, http.StatusBadRequest, "the message is not UTF-8; send application/octet-stream for bytes"
	}
	control.SetReadDeadline(time.Time{})
	return translate.Message{Data: data, Binary: binary}, 0, ""
}

// binaryType reports whether a body is bytes rather than text. Without a type it is bytes (RFC 9110, section 8.3). ok is false
// when it is neither, as forms are.
func binaryType(h http.Header) (binary, ok bool) {
	if h.Get("Content-Encoding") != "" {
		return false, false
	}
	if h.Get("Content-Type") == "" {
		return true, true
	}
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset := strings.ToLower(params["charset"])
	switch {
	case err != nil:
		return false, false
	case media == "application/octet-stream":
		return true, true
	case charset != "" && charset != "utf-8" && charset != "us-ascii":
		return false, false
	}
	return false, media == "application/json" || strings.HasSuffix(media, "+json") || strings.HasPrefix(media, "text/")
}

// answerSend tells the client what has become of its message.
func answerSend(w http.ResponseWriter, err error) {
	var bad *upstream.BadMessage
	switch {
	case err == nil:
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusAccepted)
	case errors.As(err, &bad):
		refuseSend(w, http.StatusBadRequest, "the message cannot be sent: "+bad.Error())
	case errors.Is(err, stream.ErrReused):
		refuseSend(w, http.StatusUnprocessableEntity, err.Error())
	default:
		refuseSend(w, http.StatusBadGateway, "the message could not be written to the upstream")
	}
}

func refuseSend(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, status)
}
