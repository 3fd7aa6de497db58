// This file is the dialect ddp: Meteor's Distributed Data Protocol, version 1, of Meteor and Rocket.Chat. Sources: "DDP Specification" of Meteor
// (packages/ddp/DDP.md) and its ddp-server 3; the clients ddp 0.12 and Rocket.Chat's.
//
//	-> connect {version,support}                     <- connected {session}, or failed {version}
//	-> method {id,method:"login",params}             <- result {id,result}, or {id,error}   with CONNECT
//	-> sub {id,name,params}                          <- ready {subs}, or nosub {id,error}
//	<- added {collection,id,fields}                  addedBefore likewise
//	<- changed {collection,id,fields,cleared}
//	<- removed {collection,id}
//	-> method {id,method,params}                     <- result, updated {methods}
//	-> unsub {id}                                    <- nosub {id}
//	<> ping {id}, pong {id}
//	<- error {reason,offendingMessage}
//
// The rules:
//
//   - CONNECT is what the method login gets. Subscriptions go out after it; their ids are the numbers of their lines. The session is ready once all
//     of them are.
//   - The documents that the server has told of are kept, bounded, so that an event has all of a document: changed tells its new fields alone.
//     A change of a document that was not added goes as it is: Rocket.Chat's streams have no others.
//   - While subscriptions are not ready, documents are collected. Then comes each as added, after a reconnect first a removed for each that is gone: with
//     the gap that is said, a page is told all that is. What is no document, as in Rocket.Chat's streams, comes at once.
//   - A message that is larger than MAX_MESSAGE may be of a document, which is then not known any more: the connection ends, and where that was before
//     it was ready it would come again, so that it is refused.
//   - A nosub before ready is a refusal, later the end of the connection.
//   - The server is pinged, and one that does not answer is left.

package dialect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"sidestream/translate"
)

const (
	ddpEvery   = 17500 * time.Millisecond // as its clients do
	ddpLogin   = "login"                  // the id of that call
	maxDDPSent = 1 << 30                  // calls of one connection
)

// ddp speaks with a Meteor server.
type ddp struct {
	Base
	Options

	before []ddpName // the documents that clients have been told of on connections before

	// Of the present connection.
	docs      ddpDocuments
	connected bool
	waiting   map[string]bool // subscriptions that are not ready, by id
	subs      int             // all of them
	ready     bool
	pinged    bool // and not answered
	sent      int
	secrets   []string // of CONNECT
}

func newDDP(o Options) Session { return &ddp{Options: o} }

func (s *ddp) Dial(*HTTPResponse) (Dial, error) {
	s.ends() // in SockJS a connection can fail before Open
	d, err := s.Options.Dial()
	if err != nil {
		return d, err
	}
	u, err := url.Parse(d.URL)
	if err != nil {
		return d, errors.New("the address is not valid")
	}
	if !s.Carried && (u.Path == "" || u.Path == "/") {
		u.Path = "/websocket"
		d.URL = u.String()
	}
	return d, nil
}

// ends notes what clients have been told of on the connection before.
func (s *ddp) ends() {
	if s.ready {
		s.before = s.docs.names()
	}
	s.docs, s.ready = ddpDocuments{}, false
}

func (s *ddp) Open(string) ([]Frame, error) {
	s.ends()
	s.connected, s.waiting, s.subs, s.pinged, s.sent = false, map[string]bool{}, 0, false, 0
	return []Frame{jsonFrame(map[string]any{"msg": "connect", "version": "1", "support": []string{"1", "pre2", "pre1"}})}, nil
}

func (s *ddp) Timers() Timers {
	switch {
	case !s.connected:
		return Timers{Opening: openingTime, Step: 1, Waiting: "connected; FROM must be the address of Meteor's WebSocket, such as /websocket"}
	case s.subs == 0 && !s.ready:
		return Timers{Opening: openingTime, Step: 2, Waiting: "the answer to login", Every: ddpEvery}
	case !s.ready:
		return Timers{Opening: openingTime, Step: 3, Waiting: "ready for all lines of SUBSCRIBE; a publication must call this.ready() or return a cursor", Every: ddpEvery}
	}
	return Timers{Every: ddpEvery}
}

func (s *ddp) Ping() ([]Frame, error) {
	if s.pinged {
		return nil, fmt.Errorf("a ping was not answered within %v", ddpEvery)
	}
	s.pinged = true
	return []Frame{jsonFrame(map[string]any{"msg": "ping"})}, nil
}

var errDDP = errors.New("the server sent something that is not a message of DDP's; where it speaks SockJS, write PROTOCOL=sockjs+ddp and its prefix in FROM")

func (s *ddp) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	var m ddpMessage
	if f.Binary || json.Unmarshal(f.Data, &m) != nil || !utf8.Valid(f.Data) {
		return got, errDDP
	}
	s.pinged = false // whatever comes, it lives
	switch m.Msg {
	case "connected":
		return s.admitted()
	case "failed":
		return got, refuse(http.StatusBadRequest, "the server does not speak version 1 of DDP")
	case "ping":
		pong := map[string]any{"msg": "pong"}
		if m.ID != "" {
			pong["id"] = string(m.ID)
		}
		got.Replies = []Frame{jsonFrame(pong)}
	case "ready":
		s.readied(m.Subs, &got)
	case "nosub":
		return got, s.nosub(m)
	case "result":
		return s.result(m)
	case "added", "addedBefore", "changed", "removed":
		return got, s.document(m, &got)
	case "error":
		text := "error: " + s.shown(m.Reason)
		if !s.ready {
			return got, errors.New(text)
		}
		got.Complaints = []string{text}
	}
	return got, nil
}

// admitted logs in, where there is something to log in with, and subscribes.
func (s *ddp) admitted() (got Received, err error) {
	if s.connected {
		return got, nil
	}
	connect, err := s.Connect()
	if err != nil {
		return got, err
	}
	login, err := ddpConnect(connect)
	if err != nil {
		return got, refuse(http.StatusBadRequest, "CONNECT: "+err.Error())
	}
	s.connected, s.secrets = true, jsonTexts(login)
	if login == nil {
		return s.subscribe()
	}
	got.Replies = []Frame{ddpCall(ddpLogin, "login", []json.RawMessage{login})}
	return got, nil
}

// subscribe sends the lines.
func (s *ddp) subscribe() (got Received, err error) {
	lines, err := s.Subscribe()
	if err != nil {
		return got, err
	}
	for i, line := range lines {
		id := strconv.Itoa(i + 1)
		name, params, err := ddpSubscription(line)
		if err != nil {
			return got, refuseLine(i+1, err)
		}
		s.waiting[id] = true
		got.Replies = append(got.Replies, jsonFrame(map[string]any{"msg": "sub", "id": id, "name": name, "params": params}))
	}
	s.subs = len(lines)
	if s.subs == 0 {
		s.settle(&got)
	}
	return got, nil
}

func (s *ddp) readied(ids []string, got *Received) {
	if s.ready || s.subs == 0 {
		return
	}
	for _, id := range ids {
		delete(s.waiting, id)
	}
	if len(s.waiting) == 0 {
		s.settle(got)
	}
}

// settle makes the session ready, and tells what is.
func (s *ddp) settle(got *Received) {
	s.ready, got.Ready = true, true
	for _, name := range s.before {
		if s.docs.find(name) == nil {
			got.Messages = append(got.Messages, (&ddpDocument{ddpName: name}).message("removed"))
		}
	}
	for _, d := range s.docs.inOrder() {
		got.Messages = append(got.Messages, d.message("added"))
	}
}

// result takes the answer to a call.
func (s *ddp) result(m ddpMessage) (got Received, err error) {
	fault := m.fault()
	switch {
	case string(m.ID) != ddpLogin || s.subs > 0 || s.ready || !s.connected:
		if fault != nil {
			got.Complaints = []string{"a method failed: " + s.shown(fault.text())}
		}
		return got, nil
	case fault != nil:
		return got, fault.meaning("login", s.secrets, http.StatusUnauthorized)
	}
	return s.subscribe()
}

// nosub takes the end of a subscription, which nobody here has asked for.
func (s *ddp) nosub(m ddpMessage) error {
	id := string(m.ID)
	n, err := strconv.Atoi(id)
	if err != nil || n < 1 || n > s.subs {
		return nil
	}
	what := "the subscription of line " + strconv.Itoa(n)
	fault := m.fault()
	switch {
	case fault == nil && !s.ready:
		return refuse(http.StatusForbidden, what+": the server has stopped it")
	case fault == nil:
		return errors.New(what + ": the server has stopped it")
	case s.ready:
		return errors.New(what + ": " + s.shown(fault.text()))
	}
	return fault.meaning(what, s.secrets, http.StatusForbidden)
}

// document takes what has become of one.
func (s *ddp) document(m ddpMessage, got *Received) error {
	d, err := s.docs.take(m, s.most())
	if err != nil || !s.ready && (m.Msg != "changed" || s.docs.find(d.ddpName) != nil) {
		return err
	}
	kind := m.Msg
	if kind == "addedBefore" {
		kind = "added"
	}
	got.Messages = append(got.Messages, d.message(kind))
	return nil
}

// Skipped ends a connection whose documents are not known any more.
func (s *ddp) Skipped() error {
	if !s.ready {
		return refuse(http.StatusBadRequest, "SUBSCRIBE: a message of the opening, probably a document, is larger than MAX_MESSAGE; subscribe to less, or raise MAX_MESSAGE")
	}
	return errors.New("a message larger than MAX_MESSAGE was skipped, and what it has made of the documents is not known")
}

// Failed keeps what clients may have been told of: they may not have been told of what this connection has brought.
func (s *ddp) Failed() bool {
	if s.ready {
		was := map[ddpName]bool{}
		for _, name := range s.before {
			was[name] = true
		}
		for _, name := range s.docs.names() {
			if !was[name] && len(s.before) < maxDDPDocuments {
				s.before = append(s.before, name)
			}
		}
	}
	s.ready = false
	return false
}

func (s *ddp) Send(m translate.Message) ([]Frame, error) {
	if !s.connected {
		return nil, errors.New("not connected")
	}
	method, params, err := ddpSubscription(string(m.Data))
	if err != nil || !utf8.Valid(m.Data) {
		return nil, errors.New(`write a method and its parameters: sendMessage [{"text":"hello"}]`)
	}
	s.sent = (s.sent + 1) % maxDDPSent
	return []Frame{ddpCall("s"+strconv.Itoa(s.sent), method, params)}, nil
}

func (s *ddp) Leave() (frames []Frame) {
	for id := range s.subs {
		frames = append(frames, jsonFrame(map[string]any{"msg": "unsub", "id": strconv.Itoa(id + 1)}))
	}
	return frames
}

// shown is a text of the server's, fit for logs.
func (s *ddp) shown(text string) string { return serverText(without(text, s.secrets)) }
