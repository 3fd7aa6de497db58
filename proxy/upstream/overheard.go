// This file is what an old client is told, in a route's terms. Whose stream it is compared with, instead.go says. The rules:
//
//   - What the service sends to it is given to a session of the route's dialect, which sends nothing: whether the client has asked for
//     the same is seen by what it sends.
//   - Nothing is counted, and nothing of it gets into a stream.

package upstream

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"sidestream/translate"
	"sidestream/translate/decode"
	"sidestream/translate/dialect"
)

// Overhears reports whether what old clients are sent can be read in the route's terms.
func (rt *Route) Overhears() bool {
	if rt.Polls() {
		return !rt.Follows() && rt.settings.Pages <= 1
	}
	if rt.Merges() != nil || rt.Redis() { // its parts are what has old clients; those of a Redis do not pass through here
		return false
	}
	return dialect.Overhears(rt.settings.Protocol)
}

// Overheard reads what one old client is sent. It is used by one goroutine.
type Overheard struct {
	q       Request
	session dialect.Session // nil for polls
	terms   dialect.Overhearing
	poll    *poll
	over    bool // the session has ended
}

// Overhear returns a reader for the old client that has sent r. subprotocol is the one that the service chose.
func (q Request) Overhear(r *http.Request, subprotocol string) *Overheard {
	o := &Overheard{q: q}
	if q.Route.Polls() {
		o.poll = q.poll(nil)
		return o
	}
	s, _ := q.Source(nil).(*subscription)
	o.session = s.session
	if o.terms = dialect.Overhear(q.Route.settings.Protocol, dialect.Options{Connect: s.connect, Subscribe: s.subscribe}); o.terms == nil {
		o.over = true
		return o
	}
	s.count = translate.Counter{}
	if dial, err := o.session.Dial(nil); err == nil && dial.Request != nil {
		_, _ = o.session.Dial(&dialect.HTTPResponse{Status: http.StatusOK, Body: []byte("{}")}) // which the client has made
	}
	_, err := o.session.Open(subprotocol)
	o.over = err != nil
	if strings.HasPrefix(q.Route.settings.Protocol, "socket.io") && r.URL.Query().Has("sid") {
		o.upgraded()
	}
	return o
}

// upgraded gives a Socket.IO session what its client was told over long polls, before it came to a WebSocket: that the connection is open, and
// each namespace.
func (o *Overheard) upgraded() {
	ctx := context.Background()
	got, err := o.session.Receive(ctx, time.Time{}, dialect.Frame{Data: []byte(`0{"sid":"overheard","upgrades":[],"pingInterval":3600000,"pingTimeout":3600000}`)})
	for i := 0; err == nil && i < len(got.Replies) && i < 64; i++ {
		if answer, asked := connectedSocketIO(got.Replies[i]); asked {
			_, err = o.session.Receive(ctx, time.Time{}, answer)
		}
	}
	o.over = err != nil
}

// connectedSocketIO is the answer to a frame that connects a namespace.
func connectedSocketIO(f dialect.Frame) (answer dialect.Frame, asked bool) {
	if f.Binary {
		var packet struct{ NSP string }
		text, _, err := decode.Notepack(f.Data, len(f.Data)*8, false)
		if err != nil || json.Unmarshal(text, &packet) != nil || packet.NSP == "" {
			return answer, false
		}
		text = append(translate.AppendJSONString([]byte(`{"type":0,"data":{"sid":"overheard"},"nsp":`), packet.NSP, false), '}')
		answer.Binary = true
		answer.Data, err = decode.AppendMsgpack(nil, text)
		return answer, err == nil
	}
	rest, asked := strings.CutPrefix(string(f.Data), "40")
	namespace, _, _ := strings.Cut(rest, ",") // and what it wants to know
	if strings.HasPrefix(namespace, "/") {
		return dialect.Frame{Data: []byte("40" + namespace + `,{"sid":"overheard"}`)}, asked
	}
	return dialect.Frame{Data: []byte(`40{"sid":"overheard"}`)}, asked
}

// Hears reports whether what the client sends matters; if not, Asked need not be called.
func (o *Overheard) Hears() bool { return o.terms != nil && o.terms.Hears() }

// Asked takes a frame that the client has sent.
func (o *Overheard) Asked(data []byte, binary bool) {
	if !o.Over() && o.terms != nil {
		o.terms.Client(dialect.Frame{Binary: binary, Data: data})
	}
}

// Frame is what comes of a frame that the service has sent.
func (o *Overheard) Frame(ctx context.Context, now time.Time, data []byte, binary bool) (out []translate.Message) {
	if o.Over() || o.session == nil {
		return nil
	}
	for _, f := range o.terms.Server(dialect.Frame{Binary: binary, Data: data}) {
		got, err := o.session.Receive(ctx, now, f)
		for _, m := range got.Messages {
			if !o.terms.Wants(m) {
				continue
			}
			if made, _, err := o.applied(ctx, m); err == nil {
				out = append(out, made...)
			}
		}
		if o.over = err != nil; o.over {
			return out
		}
	}
	return out
}

// Body is what comes of an answer to a poll.
func (o *Overheard) Body(ctx context.Context, status int, head http.Header, body []byte) []translate.Message {
	if o.poll == nil || status/100 != 2 || len(body) == 0 {
		return nil
	}
	body, err := o.q.Route.decode.Decode(body, o.q.Route.settings.MaxMessage)
	if err != nil {
		return nil
	}
	m, err := translate.Message{Data: body, Header: head, Status: status}.Parse(true)
	if err != nil {
		return nil
	}
	out, _, err := o.applied(ctx, m)
	if err != nil {
		return nil
	}
	out, err = o.poll.news(ctx, out)
	if err != nil {
		return nil
	}
	return out
}

// Polls reports whether it reads answers to polls, and no frames.
func (o *Overheard) Polls() bool { return o.poll != nil }

// Listening reports whether the old client is sent what a client of the route's stream is: it has asked for all that SUBSCRIBE asks for, and the
// service has confirmed that. Polls are it always. Only meanwhile the two can be compared.
func (o *Overheard) Listening() bool {
	return o.poll != nil || !o.Over() && o.terms != nil && o.terms.Listening()
}

// Over reports whether nothing more can be read.
func (o *Overheard) Over() bool { return o.over || o.terms != nil && o.terms.Over() }

func (o *Overheard) applied(ctx context.Context, m translate.Message) (made []translate.Message, done bool, err error) {
	err = o.q.Route.bounded(ctx, func(ctx context.Context) (err error) {
		made, done, err = o.q.Route.program.Apply(ctx, m)
		return err
	})
	return made, done, err
}
