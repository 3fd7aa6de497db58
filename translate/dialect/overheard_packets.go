// This file reads what other clients are sent, and what they have subscribed to, in the dialects that are made of frames or packets of their own.
// See overheard.go.

package dialect

import (
	"bytes"
	"slices"

	"sidestream/translate"
)

// stompOverheard knows subscriptions by their destinations.
type stompOverheard struct {
	asked
	parser stompParser
	begins []byte // of what the service sends, until it is known whether that is CONNECTED
}

func newStompOverheard(lines []string) *stompOverheard {
	return &stompOverheard{parser: stompParser{max: defaultBounds}, asked: newAsked(lines, func(line string) (string, error) {
		sub, err := parseStompSub(line)
		return sameDestination(sub.destination, sub.headers), err
	})}
}

// sameDestination is equal for subscriptions that ask for the same.
func sameDestination(destination string, headers map[string]string) string {
	return destination + "\n" + headers["selector"]
}

func (s *stompOverheard) Client(f Frame) {
	if s.over {
		return
	}
	s.parser.feed(f.Data)
	for {
		frame, ok, err := s.parser.next("1.2")
		if err != nil {
			s.over, s.parser = true, stompParser{} // which would grow with all that comes
		}
		if err != nil || !ok {
			return
		}
		switch frame.command {
		case "SUBSCRIBE":
			s.ask(frame.headers["id"], s.lines[sameDestination(frame.headers["destination"], frame.headers)], true)
		case "UNSUBSCRIBE":
			s.forget(frame.headers["id"])
		case "DISCONNECT":
			s.open = false
		}
	}
}

func (s *stompOverheard) Server(f Frame) []Frame {
	const first = "CONNECTED\n" // or \r\n
	if !s.open && len(s.begins) < len(first) {
		s.begins = bytes.TrimLeft(append(s.begins, f.Data[:min(len(f.Data), 64)]...), "\r\n")
		s.open = len(s.begins) >= len(first) && bytes.HasPrefix(s.begins, []byte("CONNECTED"))
	}
	return []Frame{f}
}

func (s *stompOverheard) Wants(m translate.Message) bool {
	headers := map[string][]string(m.Header) // spelled as the service does
	return m.Gap != "" || slices.ContainsFunc(headers["subscription"], func(id string) bool { return s.lineOf(id) != "" })
}

// mqttOverheard reads the packets of one connection.
type mqttOverheard struct {
	asked        // by the lines' own numbers
	version byte // that the session speaks
	filters []mqttFilter
	client  mqttParser
	server  mqttParser
	suback  Frame
	waiting []mqttAsked
}

// mqttAsked is a filter in a packet of the client's that is not answered yet.
type mqttAsked struct {
	packet uint16
	at     int // in the packet
	line   string
}

// mqttUnsubscribe is what only other clients send.
const mqttUnsubscribe = 10

func newMQTTOverheard(o Options, lines []string) Overhearing {
	connect, err := o.Connect()
	if err != nil {
		return nil
	}
	m := &mqttOverheard{client: mqttParser{max: defaultBounds}, server: mqttParser{max: defaultBounds}}
	if _, m.version, err = readMQTT(connect); err != nil {
		return nil
	}
	body := []byte{0, 1}
	if m.version == 5 {
		body = append(body, 0)
	}
	for _, line := range lines {
		f, err := readFilter(line)
		if err != nil {
			return nil
		}
		m.filters, body = append(m.filters, f), append(body, f.qos)
	}
	m.suback = packet(mqttSuback, 0, body)
	m.asked = newAsked(lines, func(line string) (string, error) {
		f, err := readFilter(line)
		return f.filter, err
	})
	return m
}

// end drops what has come: a parser that is not asked would grow with all that comes.
func (m *mqttOverheard) end() { m.over, m.client, m.server = true, mqttParser{}, mqttParser{} }

// next is the next packet of one side.
func (m *mqttOverheard) next(p *mqttParser) (mqttPacket, bool) {
	pk, ok, err := p.next()
	if err != nil {
		m.end()
	}
	return pk, ok && err == nil
}

func (m *mqttOverheard) Client(f Frame) {
	if m.over {
		return
	}
	m.client.feed(f.Data)
	for !m.over {
		pk, ok := m.next(&m.client)
		if !ok {
			return
		}
		r := &mqttReader{b: pk.body}
		switch {
		case pk.kind == mqttConnect && r.string() != "" && r.byte() != m.version:
			m.end()
		case pk.kind == mqttSubscribe && !pk.over:
			m.subscribes(r)
		case pk.kind == mqttUnsubscribe && !pk.over:
			m.unsubscribes(r)
		case pk.kind == mqttDisconnect:
			m.open = false
		}
	}
}

// begin reads what such packets begin with.
func (m *mqttOverheard) begin(r *mqttReader) (id uint16) {
	if id = r.uint16(); m.version == 5 {
		r.properties()
	}
	return id
}

func (m *mqttOverheard) subscribes(r *mqttReader) {
	id := m.begin(r)
	for at := 0; len(r.b) > 0; at++ {
		line := m.lines[r.string()]
		if r.byte(); !r.bad && line != "" && len(m.waiting) < maxOverheard {
			m.ask(line, line, false)
			m.waiting = append(m.waiting, mqttAsked{id, at, line})
		}
	}
}

func (m *mqttOverheard) unsubscribes(r *mqttReader) {
	for m.begin(r); len(r.b) > 0; {
		if line := m.lines[r.string()]; !r.bad && line != "" {
			m.forget(line)
		}
	}
}

// subscribed reads a SUBACK: a code for each filter, of which those from 0x80 on are refusals.
func (m *mqttOverheard) subscribed(r *mqttReader) {
	id := m.begin(r)
	m.waiting = slices.DeleteFunc(m.waiting, func(w mqttAsked) bool {
		switch {
		case w.packet != id:
			return false
		case w.at < len(r.b) && r.b[w.at] < 0x80:
			m.confirm(w.line, "")
		default:
			m.forget(w.line)
		}
		return true
	})
}

func (m *mqttOverheard) Server(f Frame) (frames []Frame) {
	if m.over {
		return nil
	}
	m.server.feed(f.Data)
	for {
		pk, ok := m.next(&m.server)
		if !ok {
			return frames
		}
		switch pk.kind {
		case mqttConnack:
			if len(pk.body) > 0 {
				pk.body[0] = 0 // a session that the broker has is the client's
			}
			body := slices.Clone(pk.body)
			if m.version == 5 && len(body) > 1 && body[1] == 0 && overlapping(m.filters) {
				body = []byte{0, 0, 2, propSubscriptions, 0} // what identifiers a message has are the client's
			}
			frames = append(frames, packet(pk.kind, pk.flags, body))
			if m.open = len(pk.body) > 1 && pk.body[1] == 0; m.open && len(m.filters) > 0 {
				frames = append(frames, m.suback)
			}
		case mqttSuback:
			m.subscribed(&mqttReader{b: pk.body})
		case mqttPublish, mqttDisconnect:
			if pk.kind == mqttPublish && pk.flags&6 == 4 { // the client answers what follows with QoS 2
				pk.flags ^= 6
			}
			frames = append(frames, packet(pk.kind, pk.flags, slices.Clone(pk.body)))
		}
	}
}

func (m *mqttOverheard) Wants(msg translate.Message) bool {
	return msg.Gap != "" || slices.ContainsFunc(m.filters, func(f mqttFilter) bool { return f.matches(msg.Topic) })
}
