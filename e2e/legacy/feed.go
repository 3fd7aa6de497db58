// The feed's frames, JSON text messages each:
//
//	client  {"type":"subscribe","channel":"prices"}        first, within 5 s, else close 1008
//	server  {"type":"subscribed","channel":"prices"}
//	server  {"type":"price","symbol":"ACME","price":123.45,"change":-0.4,"seq":7,"time":".."}
//	server  {"type":"ping","id":3}                         every 10 s
//	client  {"type":"pong","id":3}                         within 5 s, else close 1008
//	server  {"type":"error","message":".."}                then close 1008: no such channel, not understood

package legacy

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

const channel = "prices"

var (
	errCut      = errors.New("cut")
	errStopping = errors.New("service is stopping")
	errDeaf     = errors.New("reads too slowly")
)

// command is what a client may say.
type command struct {
	Type    string `json:"type"` // subscribe or pong
	Channel string `json:"channel"`
	ID      int    `json:"id"`
}

type confirmation struct {
	Type    string `json:"type"` // "subscribed"
	Channel string `json:"channel"`
}

type ping struct {
	Type string `json:"type"` // "ping"
	ID   int    `json:"id"`
}

type complaint struct {
	Type    string `json:"type"` // "error"
	Message string `json:"message"`
}

// refusal ends a feed that breaks the rules: close code 1008 with its text, after an error message if say is set.
type refusal struct {
	reason string
	say    bool
}

func (r refusal) Error() string { return r.reason }

// feed is one WebSocket client. quotes and end may be used from any goroutine, the rest belongs to the handler.
type feed struct {
	conn    *websocket.Conn
	service *Service
	end     context.CancelCauseFunc
	sidecar bool // it is no browser's
	heard   chan command
	quotes  chan quote // a client that does not keep up is dropped, as such services do
}

func (s *Service) serveFeed(w http.ResponseWriter, r *http.Request) {
	// Accept's own check is the usual one: Origin is absent or names the Host that was asked.
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	f := &feed{conn: conn, service: s, end: cancel, sidecar: r.UserAgent() == "sidestream", heard: make(chan command), quotes: make(chan quote, 64)}
	if !s.add(f) {
		conn.Close(websocket.StatusGoingAway, errStopping.Error())
		return
	}
	defer s.remove(f)

	read := make(chan struct{})
	// Ends with the connection or with ctx; the handler sees to both before it waits.
	go func() { defer close(read); cancel(f.read(ctx)) }()
	why := f.serve(ctx)
	cancel(why)
	f.close(why)
	<-read
}

func (s *Service) add(f *feed) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.feeds[f] = struct{}{}
	s.gone.Add(1)
	return true
}

func (s *Service) remove(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.feeds, f)
	s.gone.Done()
}

// trade moves one price and offers it to every feed.
func (s *Service) trade(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.market.move(now)
	for f := range s.feeds {
		select {
		case f.quotes <- q:
		default:
			f.end(errDeaf)
		}
	}
}

// read hands the client's commands to serve. It always returns an error: why nothing more will be heard.
func (f *feed) read(ctx context.Context) error {
	for {
		// Not ctx: its end would close the connection before serve could say why.
		_, data, err := f.conn.Read(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		var c command
		if err := json.Unmarshal(data, &c); err != nil {
			return refusal{"not understood: want a JSON object", true}
		}
		select {
		case f.heard <- c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// serve talks to the client until it leaves, ctx ends or it breaks the rules, and returns which.
func (f *feed) serve(ctx context.Context) error {
	if err := f.subscription(ctx); err != nil {
		return err
	}
	f.drain()
	if err := f.say(confirmation{"subscribed", channel}); err != nil {
		return err
	}
	beat := time.NewTicker(or(f.service.PingEvery, defaultPingEvery))
	defer beat.Stop()
	var late <-chan time.Time // set while an answer is due
	for id := 0; ; {
		select {
		case q := <-f.quotes:
			if err := f.say(q); err != nil {
				return err
			}
		case <-beat.C:
			id++
			late = time.After(or(f.service.PongWithin, defaultPongWithin))
			if err := f.say(ping{"ping", id}); err != nil {
				return err
			}
		case c := <-f.heard:
			if c.Type == "pong" && c.ID == id {
				late = nil
			}
		case <-late:
			return refusal{"no pong in time", false}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// subscription waits for the client's first word.
func (f *feed) subscription(ctx context.Context) error {
	select {
	case c := <-f.heard:
		if c.Type != "subscribe" {
			return refusal{"subscribe first", true}
		}
		if c.Channel != channel {
			return refusal{"no such channel", true}
		}
		return nil
	case <-time.After(or(f.service.SubscribeWithin, defaultSubscribeWithin)):
		return refusal{"no subscription in time", false}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// say sends one message; a client that does not take it within 5 s is gone.
func (f *feed) say(v any) error {
	// Not the feed's context: its end in the middle of a frame would close the connection without a word.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.conn.Write(ctx, websocket.MessageText, data)
}

// drain forgets the quotes from before the subscription.
func (f *feed) drain() {
	for {
		select {
		case <-f.quotes:
		default:
			return
		}
	}
}

// close ends the connection, and says why as far as the reason lets it.
func (f *feed) close(why error) {
	defer f.conn.CloseNow()
	var r refusal
	switch {
	case errors.As(why, &r):
		if r.say {
			f.say(complaint{"error", r.reason})
		}
		f.conn.Close(websocket.StatusPolicyViolation, r.reason)
	case errors.Is(why, errStopping):
		f.conn.Close(websocket.StatusGoingAway, why.Error())
	} // cut, deaf or gone already: nothing to say
}
