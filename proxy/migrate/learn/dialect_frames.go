package learn

import (
	"encoding/binary"
	"encoding/json"
	"strings"
)

// stompHeaders are those of CONNECT and SUBSCRIBE that the sidecar writes itself.
var stompHeaders = map[string]bool{"accept-version": true, "heart-beat": true, "id": true, "destination": true, "receipt": true, "content-length": true}

// readSTOMP reads CONNECT, SUBSCRIBE and SEND frames:
//
//	COMMAND EOL *(name:value EOL) EOL body NUL
func readSTOMP(c *Conversation) (s speech) {
	all, begins := joined(c)
	at := 0
	for frame := range strings.SplitSeq(all, "\x00") {
		soon := at < begins
		at += len(frame) + 1
		head, body, _ := strings.Cut(strings.ReplaceAll(strings.TrimLeft(frame, "\r\n"), "\r\n", "\n"), "\n\n")
		lines := strings.Split(head, "\n")
		headers, destination := map[string]string{}, ""
		for _, line := range lines[1:] {
			name, value, _ := strings.Cut(line, ":")
			if name == "destination" && destination == "" {
				destination = unescapeSTOMP(value)
			}
			if _, twice := headers[name]; !twice && !stompHeaders[name] && !(name == "ack" && value == "auto") {
				headers[name] = value
				if lines[0] == "SUBSCRIBE" || lines[0] == "SEND" {
					headers[name] = unescapeSTOMP(value)
				}
			}
		}
		doc := ""
		if len(headers) > 0 {
			doc = encode(headers)
		}
		switch lines[0] {
		case "CONNECT", "STOMP":
			s.add(connects, "", doc)
		case "SUBSCRIBE":
			s.add(subscribes, destination, doc)
		case "SEND":
			if !soon {
				continue // that is somebody's own doing
			}
			s.send(destination, headers, body)
		}
	}
	return s
}

// send adds a message that the client has sent; the sidecar's own form of it has no room for other headers' order.
func (s *speech) send(destination string, headers map[string]string, body string) {
	m := map[string]any{"destination": destination, "body": body}
	if v, ok := parsed([]byte(body)); ok {
		m["body"] = v
	}
	if len(headers) > 0 {
		m["headers"] = headers
	}
	s.add(says, "", encode(m))
}

// joined is what the client has sent to begin with, put together, since a frame may be in several messages; and how much of it is early.
func joined(c *Conversation) (all string, begins int) {
	var b strings.Builder
	for _, f := range c.Frames {
		if f.FromClient && !f.Cut && b.Len() < 64<<10 {
			b.Write(f.Data)
			if early(c, f) {
				begins = b.Len()
			}
		}
	}
	return b.String(), begins
}

var stompEscapes = strings.NewReplacer(`\n`, "\n", `\c`, ":", `\\`, `\`, `\r`, "\r")

func unescapeSTOMP(s string) string { return stompEscapes.Replace(s) }

// writeSTOMP writes headers of CONNECT as lines, of SUBSCRIBE as JSON.
func writeSTOMP(kind, head, doc string) string {
	if kind != connects {
		return strings.TrimSpace(head + " " + doc)
	}
	leaves, _ := leavesOf([]byte(doc))
	var lines []string
	for _, l := range leaves {
		if !newlines.MatchString(l.text) && !(l.key == "host" && l.text == "/") {
			lines = append(lines, l.key+":"+l.text)
		}
	}
	return block(lines)
}

// readMQTT reads the client's packets: type and flags, remaining length, the rest.
//
//	1 CONNECT   protocol name, level, flags, keep alive, (5: properties,) client id, (will,) user name, password
//	8 SUBSCRIBE packet id, (5: properties,) filters, each with its options
func readMQTT(c *Conversation) (s speech) {
	version := byte(4)
	all, _ := joined(c)
	for rest := []byte(all); len(rest) > 1; {
		kind := rest[0] >> 4
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || size > uint64(len(rest)-1-n) {
			return s
		}
		body := rest[1+n : 1+n+int(size)]
		rest = rest[1+n+int(size):]
		switch kind {
		case 1:
			version = s.mqttConnect(body)
		case 8:
			s.mqttSubscribe(body, version)
		}
	}
	return s
}

// mqttReader reads fields; it yields empty ones where there are none.
type mqttReader struct{ data []byte }

func (r *mqttReader) take(n int) []byte {
	n = min(n, len(r.data))
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}

func (r *mqttReader) short() int {
	if b := r.take(2); len(b) == 2 {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *mqttReader) text() string { return string(r.take(r.short())) }

func (r *mqttReader) properties(version byte) {
	if version < 5 {
		return
	}
	size, n := binary.Uvarint(r.data)
	r.take(max(n, 0))
	r.take(int(min(size, 1<<20)))
}

func (s *speech) mqttConnect(body []byte) (version byte) {
	r := mqttReader{body}
	r.text()
	version = 4
	if b := r.take(1); len(b) == 1 {
		version = b[0]
	}
	var flags byte
	if b := r.take(1); len(b) == 1 {
		flags = b[0]
	}
	keepAlive := r.short()
	r.properties(version)
	r.text() // each stream has a client id of its own
	if flags&0x04 != 0 {
		r.properties(version)
		r.text()
		r.take(r.short())
	}
	connect := map[string]any{}
	if version == 5 {
		connect["version"] = json.Number("5")
	}
	if flags&0x80 != 0 {
		connect["username"] = r.text()
	}
	if flags&0x40 != 0 {
		connect["password"] = r.text()
	}
	if keepAlive > 0 && keepAlive != 60 {
		connect["keepAlive"] = keepAlive
	}
	if len(connect) > 0 {
		s.add(connects, "", encode(connect))
	}
	return version
}

func (s *speech) mqttSubscribe(body []byte, version byte) {
	r := mqttReader{body}
	r.short()
	r.properties(version)
	for len(r.data) > 2 {
		filter := r.text()
		options := r.take(1)
		qos := ""
		if len(options) == 1 && options[0]&3 > 0 {
			qos = string('0' + rune(min(options[0]&3, 2)))
		}
		s.add(subscribes, filter, qos)
	}
}
