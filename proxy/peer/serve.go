package peer

import (
	"errors"
	"log"
	"net/http"
	"strconv"
	"time"
)

// What the mark of an answer says.
const (
	wordServed = "served"
	wordClock  = "clock"
	wordOther  = "other"
	wordFull   = "full"
)

const (
	idleTime = 2 * time.Minute  // a connection is kept open for another request
	readTime = 30 * time.Second // for a request's body to arrive
)

// Refusal is why a request was not served.
type Refusal int

// The refusals.
const (
	NoSecret  Refusal = iota // no MAC, or a wrong one
	Forged                   // a body that is not the one signed
	Replayed                 // it was served before
	OffTime                  // its time is not now
	ForOther                 // it is for another replica
	Malformed                // signed, but no question
	NoRoom                   // none for its body
	refusals
)

// Refusals names them.
var Refusals = [refusals]string{"secret", "body", "replay", "clock", "replica", "malformed", "full"}

// Handler answers other replicas: serve answers a client's request, which another replica has got, as its own. It must ask no replica for
// that. Nothing else is answered with anything but 403 or 404.
func (p *Peers) Handler(serve func(w http.ResponseWriter, r *http.Request, kind Kind)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, outer *http.Request) {
		if outer.RequestURI != path || outer.Method != http.MethodPost {
			http.NotFound(w, outer)
			return
		}
		kind, r, give := p.receive(w, outer)
		if r == nil {
			return
		}
		defer give()
		p.Stats.Served[kind].Add(1)
		serve(w, r, kind)
	})
}

// receive returns the question of outer, whose body is held until give is called. r is nil where it has been answered.
func (p *Peers) receive(w http.ResponseWriter, outer *http.Request) (kind Kind, r *http.Request, give func()) {
	t, secret, refusal := p.check(outer)
	say := func(word, argument string) {
		w.Header().Set(mark, word+" "+argument+" "+signAnswer(secret, t.nonce, word, argument))
	}
	now := time.Now()
	switch {
	case refusal >= 0:
		return 0, nil, p.refuse(w, refusal, http.StatusForbidden)
	case t.to != p.Replica():
		say(wordOther, "-")
		return 0, nil, p.refuse(w, ForOther, http.StatusMisdirectedRequest)
	case !t.inTime(now):
		say(wordClock, strconv.FormatInt(now.UnixMilli(), 10))
		return 0, nil, p.refuse(w, OffTime, http.StatusForbidden)
	}
	control := http.NewResponseController(w)
	control.SetReadDeadline(now.Add(readTime))
	data, cut, give, err := p.Hold(outer.Body, p.maxQuestion())
	control.SetReadDeadline(time.Time{})
	switch {
	case errors.Is(err, ErrFull):
		say(wordFull, "-")
		return 0, nil, p.refuse(w, NoRoom, http.StatusServiceUnavailable)
	case err != nil:
		return 0, nil, p.refuse(w, Forged, http.StatusForbidden)
	}
	if kind, r, refusal = p.open(t, data, cut); refusal >= 0 {
		give()
		return 0, nil, p.refuse(w, refusal, http.StatusForbidden)
	}
	say(wordServed, "-")
	return kind, r.WithContext(outer.Context()), give
}

// none is no refusal.
const none Refusal = -1

// check finds out under which secret outer is signed.
func (p *Peers) check(outer *http.Request) (t ticket, secret string, refusal Refusal) {
	lines := outer.Header[mark]
	if len(lines) != 1 {
		return t, "", NoSecret
	}
	t, err := parseTicket(lines[0])
	if err != nil {
		return t, "", NoSecret
	}
	secret, ok := t.signer(p.Secrets, outer.Method, outer.RequestURI)
	if !ok {
		return t, "", NoSecret
	}
	return t, secret, none
}

// open returns what is asked, once it is known to be what was signed, and to come for the first time.
func (p *Peers) open(t ticket, data []byte, cut bool) (kind Kind, r *http.Request, refusal Refusal) {
	if cut || !equal(digest(data), t.body) {
		return 0, nil, Forged
	}
	if !p.seen.first(t.nonce, time.Now()) {
		return 0, nil, Replayed
	}
	kind, r, err := decode(data)
	if err != nil {
		return 0, nil, Malformed
	}
	return kind, r, none
}

// refuse answers with status; what it returns does nothing.
func (p *Peers) refuse(w http.ResponseWriter, why Refusal, status int) (give func()) {
	p.Stats.Refused[why].Add(1)
	w.Header().Set("Connection", "close")
	http.Error(w, http.StatusText(status), status)
	return func() {}
}

// Server returns a server of h, which is Handler's, that does not run yet. ErrorLog gets net/http's complaints.
func (p *Peers) Server(h http.Handler, complaints *log.Logger) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleTime, MaxHeaderBytes: 4 << 10, ErrorLog: complaints}
}
