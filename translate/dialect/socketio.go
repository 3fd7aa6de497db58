// This file is Socket.IO as a client: protocol 5 (servers 3 and 4, over Engine.IO 4) and protocol 4 (servers 1 and 2, over
// Engine.IO 3), over WebSockets alone (docs/socket.io-protocol/v5-current.md and v4.md, docs/engine.io-protocol of
// github.com/socketio/socket.io; servers 4.8.4 and 2.5.1). The packets themselves are in socketio_packet.go.
//
//	S-> 0{"pingInterval","pingTimeout"}    Engine.IO is open
//	C-> 40{auth}  40/admin,{auth}          connect a namespace            v4; {auth} with "pid" and "offset" resumes
//	S-> 40{"sid","pid"}                    it is connected                v4; "pid" where the server can resume
//	S-> 40                                 so is the main namespace       v2, by itself
//	C-> 40/admin?query,   S-> 40/admin,    connect another one            v2
//	S-> 44{"message","data"}               refused                        v2: 44"text", 44{data}
//	S-> 42["name",..]  42/admin,7["name",..]  event; with an id it wants an answer
//	C-> 43/admin,7[]                       the answer
//	S-> 452-["name",..], then 2 binary     event with attachments         v2: each begins with 0x04
//	S-> 41/admin,                          the server has disconnected the namespace
//	S-> 2   C-> 3                          ping, every pingInterval       v4
//	C-> 2   S-> 3                          likewise                       v2
//
// The rules:
//
//   - The session is ready once every namespace of SUBSCRIBE is connected. v2 connects the main one in any case; its events are
//     left out unless it is among them.
//   - Acknowledgements that the server asks for are sent, empty, once the event is in the ring.
//   - 44 is a refusal: 404 for an unknown namespace, else the status in its data (status, statusCode or code), else 401
//     where its message is about authentication, else 403. A status of 408, 425, 429, or 500 and above means to retry.
//   - 41 before everything is connected is a refusal (403). Later it ends the connection, and a new session begins after a
//     pause: unlike a page, we cannot ask a user.
//   - Connection state recovery (servers 4.6 and later): with a pid, an event that wants no answer has its offset as last
//     argument, which is cut. To resume, pid and last offset are sent along; the events missed come before the 40, which
//     has the same pid if they are all. What the server does not keep (volatile events, those that want an answer) is lost
//     silently, and a volatile event's own last argument, if it is a string without blanks, cannot be told from an offset.
//   - Where offsets are places in a Redis stream (redis-streams-adapter 0.3.1), each is taken once. That adapter also replays volatile
//     events, which had none when they came live, so those after the last offset come twice, as they do to the official client.
//   - What arrives on a connection counts for the offset only once that connection is ready: what arrives earlier is dropped
//     with it if it fails.
//   - Attachments go the way of BINARY, as JSON strings in their places in the arguments; with drop, the event is left out.

package dialect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sidestream/translate"
)

const (
	maxSioAttachments = 1000 // of one event
	maxSioResume      = 256  // bytes of a pid or offset

	sioMinPing, sioMaxPing = 10 * time.Millisecond, 24 * time.Hour // bounds of the server's intervals
)

// The steps of an opening; from sioConnecting on it grows with each namespace connected.
const (
	sioOpening = iota
	sioConnecting
)

type socketio struct {
	Base
	Options
	v2     bool
	packed bool // it is inside of a packedSocketIO

	spaces []*sioSpace

	// Of the present connection.
	step              int
	ready             bool
	auth              string
	interval, timeout time.Duration // of the server's pings, or of ours
	pending           *sioPending
	skipped           bool // a message was, so attachments without their event are to be expected
}

// sioPending is an event whose attachments are on their way.
type sioPending struct {
	packet sioPacket
	space  *sioSpace // nil: not one of SUBSCRIBE
	size   int       // bytes of everything so far
	parts  [][]byte  // nil when over
	left   int
	over   bool // too large or too many
}

func newSocketIO(o Options) Session { return socketIO(o, false) }

func newSocketIOv2(o Options) Session { return socketIO(o, true) }

func socketIO(o Options, v2 bool) Session {
	if o.MaxMessage == 0 {
		o.MaxMessage = defaultBounds
	}
	return &socketio{Options: o, v2: v2}
}

// Dial completes the address.
func (s *socketio) Dial(*HTTPResponse) (Dial, error) {
	d, err := s.Options.Dial()
	if err != nil {
		return d, err
	}
	d.URL, err = s.address(d.URL)
	return d, err
}

func (s *socketio) Open(string) ([]Frame, error) {
	lines, err := s.Subscribe()
	if err != nil {
		return nil, err
	}
	was := s.spaces
	s.spaces = nil
	for _, line := range lines {
		s.join(line, was)
	}
	if len(s.spaces) == 0 {
		s.join("/", was)
	}
	s.step, s.ready, s.pending, s.skipped = sioOpening, false, nil, false
	return nil, nil
}

func (s *socketio) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	switch {
	case s.step == sioOpening:
		return got, s.opened(f, &got)
	case f.Binary && s.packed:
		return got, s.unpacked(f.Data, &got)
	case f.Binary:
		return got, s.binaryFrame(f.Data, &got)
	case len(f.Data) == 0:
		return got, errors.New("the server sent a message of no Engine.IO type")
	}
	switch data := f.Data[1:]; f.Data[0] {
	case '0', '3', '5', '6':
	case '1':
		err = errors.New("the server closed the Engine.IO session")
	case '2':
		pong := "3"
		if string(data) == "probe" {
			pong = "3probe"
		}
		got.Replies = append(got.Replies, Frame{Data: []byte(pong)})
	case '4':
		err = s.packet(data, &got)
	case 'b':
		err = s.base64Frame(data, &got)
	default:
		err = errors.New("the server sent a message of no Engine.IO type")
	}
	return got, err
}

// opened takes the first packet of a connection, and asks for the namespaces.
func (s *socketio) opened(f Frame, got *Received) error {
	var open struct{ PingInterval, PingTimeout float64 }
	if f.Binary || len(f.Data) == 0 || f.Data[0] != '0' || json.Unmarshal(f.Data[1:], &open) != nil {
		return errors.New("the first message is not an Engine.IO open packet; check that FROM is the address of a Socket.IO server, whose path is /socket.io/ unless it has another")
	}
	patience := 20 * time.Second
	if s.v2 {
		patience = 5 * time.Second
	}
	s.interval, s.timeout = sioSpan(open.PingInterval, 25*time.Second), sioSpan(open.PingTimeout, patience)
	s.step = sioConnecting
	if s.v2 {
		return nil // the main namespace is connected by itself, and first
	}
	var err error
	if s.auth, err = s.Connect(); err != nil {
		return err
	}
	for _, n := range s.spaces {
		auth, err := sioAuth(s.auth, n.pid, n.offset)
		if err != nil {
			return refuse(http.StatusBadRequest, "CONNECT is not a JSON object")
		}
		got.Replies = append(got.Replies, Frame{Data: []byte("40" + sioPrefix(n.name) + auth)})
	}
	return nil
}

// sioReserved are the names that no event may have (socket.io-parser 4.2.7, socket.io 2.5.1; the first adds connect_error, the second
// error). A server that is sent one closes the connection, which all clients of the stream share, or takes it for its own event.
var sioReserved = []string{"connect", "disconnect", "disconnecting", "newListener", "removeListener"}

// sioSpan makes milliseconds a duration within bounds.
func sioSpan(ms float64, unknown time.Duration) time.Duration {
	if !(ms > 0) {
		return unknown
	}
	ms = min(ms, float64(sioMaxPing.Milliseconds()))
	return max(time.Duration(ms*float64(time.Millisecond)), sioMinPing)
}

// packet takes one Socket.IO packet.
func (s *socketio) packet(data []byte, got *Received) error {
	if s.pending != nil {
		return errors.New("the server sent another packet in place of an attachment")
	}
	p, err := parseSioPacket(data)
	if err != nil {
		return err
	}
	return s.take(p, got)
}

func (s *socketio) take(p sioPacket, got *Received) error {
	s.skipped = false
	n := s.space(p.space)
	switch p.kind {
	case sioConnect:
		return s.connected(p, n, got)
	case sioDisconnect:
		return s.disconnected(p, n)
	case sioRefused:
		return s.refused(p, n)
	case sioEvent:
		if n != nil {
			return s.event(p, n, nil, got)
		}
	case sioBinaryEvent, sioBinaryAck:
		return s.await(p, n, got)
	}
	return nil
}

// event takes an event that is complete.
func (s *socketio) event(p sioPacket, n *sioSpace, parts [][]byte, got *Received) error {
	name, args, err := p.event()
	if err != nil {
		return err
	}
	if last := len(args) - 1; last >= 0 && n.now.pid != "" && p.id == "" {
		if offset, ok := sioOffset(args[last]); ok {
			if n.seen.has(offset) || n.now.seen.has(offset) {
				return nil
			}
			n.now.seen.add(offset)
			n.now.offset, args = offset, args[:last]
		}
	}
	if p.id != "" {
		got.Replies = append(got.Replies, Frame{Data: []byte("43" + sioPrefix(p.space) + p.id + "[]")})
	}
	m := translate.Message{Event: name, Topic: n.name, Data: joined(args)}
	if parts == nil {
		got.Messages = append(got.Messages, m)
		return nil
	}
	if s.Binary == BinaryDrop {
		return nil
	}
	if m.Data, err = putBack(m.Data, parts, s.Binary); err != nil { // sending it again would not help
		m = translate.Message{Gap: translate.GapUpstream}
	}
	got.Messages = append(got.Messages, m)
	return nil
}

// await begins an event whose attachments are still to come.
func (s *socketio) await(p sioPacket, n *sioSpace, got *Received) error {
	p.data = slices.Clone(p.data)
	s.pending = &sioPending{packet: p, space: n, size: len(p.data), left: p.attachments, parts: [][]byte{}}
	s.pending.over = p.attachments > maxSioAttachments || s.pending.size > s.MaxMessage
	return s.complete(got)
}

// Send takes ["name",args], with the namespace in front as on the wire. Without one it is the main namespace, or the first
// of SUBSCRIBE if that is not among them.
func (s *socketio) Send(m translate.Message) ([]Frame, error) {
	const form = `write ["name",args], or /namespace,["name",args]`
	text := strings.TrimSpace(string(m.Data))
	var n *sioSpace
	if strings.HasPrefix(text, "/") {
		name, rest, _ := strings.Cut(text, ",")
		if n = s.space(name); n == nil {
			return nil, errors.New("Socket.IO: an emit to a namespace that SUBSCRIBE does not have; " + form)
		}
		text = strings.TrimSpace(rest)
	} else if n = s.space("/"); n == nil && len(s.spaces) > 0 {
		n = s.spaces[0]
	}
	name, _, err := (&sioPacket{data: []byte(text)}).event()
	if err != nil || n == nil || m.Binary || !utf8.ValidString(text) {
		return nil, errors.New("Socket.IO emits events as JSON arrays; " + form)
	}
	if slices.Contains(sioReserved, name) || s.v2 && name == "error" || !s.v2 && name == "connect_error" {
		return nil, errors.New("Socket.IO keeps the name of this event for itself, and a server that is sent one closes the connection; choose another")
	}
	return []Frame{{Data: []byte("42" + sioPrefix(n.name) + text)}}, nil
}

func (s *socketio) Timers() Timers {
	switch {
	case s.step == sioOpening:
		return Timers{Opening: openingTime, Step: s.step, Waiting: "the Engine.IO open packet; check that FROM is the address of a Socket.IO server"}
	case !s.ready:
		return Timers{Opening: openingTime, Step: s.step, Waiting: "the server to connect the namespace " + s.unconnected()}
	case s.v2: // twice as often as the server asks for, as PING may delay it by up to its own interval
		return Timers{Every: max(s.interval/2, sioMinPing), Silence: s.interval + s.timeout}
	}
	return Timers{Silence: s.interval + s.timeout}
}

// unconnected names the first namespace that is not connected.
func (s *socketio) unconnected() string {
	if s.v2 && s.step == sioConnecting {
		return "/"
	}
	for _, n := range s.spaces {
		if !n.connected {
			return n.name
		}
	}
	return "/"
}

// Ping is only sent in v2, where clients ping. A missing pong is noticed as silence.
func (s *socketio) Ping() ([]Frame, error) {
	if !s.v2 || !s.ready {
		return nil, nil
	}
	return []Frame{{Data: []byte("2")}}, nil
}

// Closed explains the ends that Socket.IO leaves unexplained: its close codes mean nothing.
func (s *socketio) Closed(int, string) error {
	other := "1 or 2, write PROTOCOL=socket.io-v2"
	if s.v2 {
		other = "3 or 4, write PROTOCOL=socket.io"
	}
	parser := "the default parser, or write PROTOCOL=" + sioPacked + " where that is socket.io-msgpack-parser"
	if s.packed {
		parser = "socket.io-msgpack-parser, or write PROTOCOL=socket.io"
	}
	switch {
	case s.step == sioOpening:
		return errors.New("the connection ended before the Engine.IO open packet; if the server is Socket.IO " + other)
	case !s.ready:
		return fmt.Errorf("the connection ended while the namespace %s was being connected; check CONNECT and SUBSCRIBE, and that the server uses %s", s.unconnected(), parser)
	}
	return nil
}

func (s *socketio) Leave() (frames []Frame) {
	for _, n := range s.spaces {
		if n.connected {
			frames = append(frames, Frame{Data: []byte("41" + sioPrefix(n.name))})
		}
	}
	return frames
}
