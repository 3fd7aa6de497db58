// This file is the dialect parse: LiveQuery of Parse Server. Sources: its LiveQuery protocol specification, parse-server 9's lib/LiveQuery and the client parse 8.
//
//	-> connect {applicationId,clientKey..,sessionToken}      <- connected {clientId}
//	-> subscribe {requestId,query:{className,where,keys,watch}}   <- subscribed {requestId}
//	<- create, enter, update, leave, delete {requestId,object,original}
//	-> unsubscribe {requestId}                                <- unsubscribed {requestId}
//	<- error {code,error,reconnect,requestId}
//	<- redirect {url}
//
// The rules:
//
//   - CONNECT is connect's, with an applicationId. Request ids are the numbers of the lines. The session is ready once all of them are subscribed to.
//   - An object that matches two lines is an event of each, as it is for a page with two subscriptions; $headers.line tells them apart.
//   - An error with reconnect is to be tried again; but servers say so of keys that are wrong, and of requests that they do not understand, which is refused.
//   - An error of a subscription later is that an event of it could not be told, which is a gap. One that the server ends is the end of the connection.
//   - A redirect leads the next dial elsewhere: never from TLS to none, and to another host without the headers. After that, and where it comes to
//     nothing, FROM is next.
//   - The server pings over the WebSocket. Nothing bridges a reconnect, and nothing is told of what is.

package dialect

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"sidestream/translate"
)

// maxParseAddress bounds the address of a redirect, in bytes.
const maxParseAddress = 2 << 10

// parseLive speaks with a LiveQuery server.
type parseLive struct {
	Base
	Options

	elsewhere string // where the next dial goes; "" to FROM
	at        Dial   // the last dial

	// Of the present connection.
	connected bool
	classes   []string     // of the lines
	waiting   map[int]bool // lines that are not subscribed to
	ready     bool
	secrets   []string // of CONNECT
}

func newParse(o Options) Session { return &parseLive{Options: o} }

// parseMessage is any message of the server's.
type parseMessage struct {
	Op        string
	RequestID json.RawMessage
	Object    json.RawMessage
	Original  json.RawMessage
	Code      int
	Error     string
	Reconnect bool
	URL       string
}

func (s *parseLive) Dial(*HTTPResponse) (d Dial, err error) {
	if d, err = s.Options.Dial(); err != nil {
		return d, err
	}
	if to := s.elsewhere; to != "" {
		s.elsewhere = ""
		if d, err = parseRedirected(d, to); err != nil {
			return d, err
		}
	}
	s.at = d
	return d, nil
}

// parseRedirected is d at another address.
func parseRedirected(d Dial, address string) (Dial, error) {
	from, err := url.Parse(d.URL)
	if err != nil {
		return d, errors.New("the address is not valid")
	}
	to, err := url.Parse(address)
	if err != nil || len(address) > maxParseAddress || to.Host == "" || to.Scheme != "ws" && to.Scheme != "wss" || to.User != nil {
		return d, errors.New("redirected to something that is not the address of a WebSocket")
	}
	if secured(from) && !secured(to) {
		return d, errors.New("redirected from wss to ws; let the server redirect to wss")
	}
	if secured(from) != secured(to) || authority(from) != authority(to) {
		d.Header = http.Header{}
	}
	to.Fragment = ""
	d.URL = to.String()
	return d, nil
}

func (s *parseLive) Open(string) ([]Frame, error) {
	s.connected, s.ready, s.waiting, s.classes = false, false, map[int]bool{}, nil
	connect, err := s.Connect()
	if err != nil {
		return nil, err
	}
	login, err := parseConnect(connect)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, err.Error())
	}
	s.secrets = nil
	for name, value := range login {
		if name != "applicationId" {
			s.secrets = append(s.secrets, value)
		}
	}
	login["op"] = "connect"
	return []Frame{jsonFrame(login)}, nil
}

func (s *parseLive) Timers() Timers {
	switch {
	case !s.connected:
		return Timers{Opening: openingTime, Step: 1, Waiting: "connected; FROM must be the address of a LiveQuery server"}
	case !s.ready:
		return Timers{Opening: openingTime, Step: 2, Waiting: "subscribed for all lines of SUBSCRIBE; are their classes among liveQuery.classNames of the server?"}
	}
	return Timers{}
}

var errParse = errors.New("the server sent something that is not a message of LiveQuery's")

func (s *parseLive) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	var m parseMessage
	if f.Binary || !utf8.Valid(f.Data) || json.Unmarshal(f.Data, &m) != nil || m.Op == "" {
		return got, errParse
	}
	line := s.line(m.RequestID)
	switch m.Op {
	case "connected":
		return s.admitted()
	case "subscribed":
		if delete(s.waiting, line); s.connected && !s.ready && len(s.waiting) == 0 {
			s.ready, got.Ready = true, true
		}
	case "create", "enter", "update", "leave", "delete":
		if line > 0 && len(m.Object) > 0 {
			got.Messages = []translate.Message{s.event(m, line)}
		}
	case "unsubscribed":
		if line > 0 {
			return got, errors.New(s.of(line) + ": the server has ended the subscription")
		}
	case "error":
		return s.failed(m, line)
	case "redirect":
		if _, err := parseRedirected(s.at, m.URL); err != nil {
			return got, err
		}
		s.elsewhere = m.URL
		return got, errors.New("the server leads elsewhere")
	}
	return got, nil
}

// admitted subscribes to the lines.
func (s *parseLive) admitted() (got Received, err error) {
	if s.connected {
		return got, nil
	}
	lines, err := s.Subscribe()
	if err != nil {
		return got, err
	}
	for i, line := range lines {
		class, query, err := parseQuery(line)
		if err != nil {
			return got, refuseLine(i+1, err)
		}
		s.classes, s.waiting[i+1] = append(s.classes, class), true
		got.Replies = append(got.Replies, jsonFrame(map[string]any{"op": "subscribe", "requestId": i + 1, "query": query}))
	}
	s.connected = true
	return got, nil
}

// line is the number of the line that a request id stands for, 0 for none.
func (s *parseLive) line(id json.RawMessage) int {
	n, err := strconv.Atoi(string(id))
	if err != nil || n < 1 || n > len(s.classes) {
		return 0
	}
	return n
}

func (s *parseLive) of(line int) string { return "line " + strconv.Itoa(line) + " of SUBSCRIBE" }

// event is what has become of an object, as it was told.
func (s *parseLive) event(m parseMessage, line int) translate.Message {
	data := map[string]any{"object": m.Object}
	if !isNull(m.Original) {
		data["original"] = m.Original
	}
	return translate.Message{Event: m.Op, Topic: s.classes[line-1], Header: http.Header{"Line": {strconv.Itoa(line)}}, Data: jsonFrame(data).Data}
}

// failed takes an error.
func (s *parseLive) failed(m parseMessage, line int) (got Received, err error) {
	text := serverText(without(m.Error, s.secrets))
	if m.Error == "" {
		text = "an error without a reason"
	}
	text += " (" + strconv.Itoa(m.Code) + ")"
	if line > 0 {
		text = s.of(line) + ": " + text
	}
	opening := !s.ready && (line == 0 || s.waiting[line]) // what a line that stands has is of its events, although others are waited for
	switch status := parseStatus(m); {
	case opening && status != 0:
		return got, refuse(status, text)
	case opening || m.Reconnect:
		return got, errors.New(text)
	case line > 0: // it could not tell of something
		got.Messages = []translate.Message{{Gap: translate.GapUpstream}}
	}
	got.Complaints = []string{text}
	return got, nil
}

// parseStatus is the client's status for an error of the opening, 0 where asking again may help.
func parseStatus(m parseMessage) int {
	switch m.Code {
	case 1, 3, 102: // not understood, no such operation, a query that is none
		return http.StatusBadRequest
	case 4, 209: // a key, a session token
		return http.StatusUnauthorized
	case 2: // the server has forgotten the client
		return 0
	}
	if m.Reconnect {
		return 0
	}
	return http.StatusForbidden
}

// Send has nothing that could be sent.
func (s *parseLive) Send(translate.Message) ([]Frame, error) {
	return nil, errors.New("LiveQuery takes no messages; send them to Parse Server's REST API")
}

func (s *parseLive) Leave() (frames []Frame) {
	for i := range s.classes {
		frames = append(frames, jsonFrame(map[string]any{"op": "unsubscribe", "requestId": i + 1}))
	}
	return frames
}

const (
	parseConnectForm = `write {"applicationId":"..","clientKey":"..","sessionToken":".."} or a part of it`
	parseLineForm    = `write a class, and what of it: Order {"where":{"state":"open"},"keys":["state"]}`
)

// parseKeys are what connect takes; servers refuse any other.
var parseKeys = []string{"applicationId", "javascriptKey", "masterKey", "clientKey", "windowsKey", "restAPIKey", "sessionToken", "installationId"}

// parseConnect reads CONNECT. Empty texts are left out, so that a placeholder may be empty.
func parseConnect(connect string) (login map[string]string, err error) {
	if readOnly(connect, &login) != nil || login == nil {
		return nil, badConnect("is not a JSON object of texts; " + parseConnectForm)
	}
	for name, value := range login {
		if !slices.Contains(parseKeys, name) {
			return nil, badConnect("has a field that LiveQuery does not know; " + parseConnectForm)
		}
		if value == "" {
			delete(login, name)
		}
	}
	if login["applicationId"] == "" {
		return nil, badConnect("has no applicationId; " + parseConnectForm)
	}
	return login, nil
}

// parseQuery reads a line: a class, and the rest of a query.
func parseQuery(line string) (class string, query map[string]any, err error) {
	class, text, err := parseTopicLine(line, parseLineForm)
	if err != nil {
		return "", nil, err
	}
	var rest struct {
		Where               map[string]json.RawMessage
		Keys, Fields, Watch []string
	}
	if readOnly(string(text), &rest) != nil {
		return "", nil, errors.New("has something beside where, keys, fields and watch, or a where that is no object; " + parseLineForm)
	}
	if rest.Where == nil {
		rest.Where = map[string]json.RawMessage{}
	}
	query = map[string]any{"className": class, "where": rest.Where}
	for name, list := range map[string][]string{"keys": rest.Keys, "fields": rest.Fields, "watch": rest.Watch} {
		if len(list) > 0 {
			query[name] = list
		}
	}
	return class, query, nil
}

func checkParse(connect string, lines []string) error {
	var problems []error
	if _, err := parseConnect(connect); err != nil {
		problems = append(problems, err)
	}
	for i, line := range lines {
		if _, _, err := parseQuery(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}
