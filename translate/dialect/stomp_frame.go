// This file reads and writes the frames of STOMP 1.1 and 1.2, and escapes what they hold.

package dialect

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// encode writes a frame other than CONNECT, with its headers in order.
func (s *stomp) encode(command string, headers map[string]string, body []byte) (Frame, error) {
	b := append([]byte(command), '\n')
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		n, err := s.escape(name)
		if err != nil {
			return Frame{}, err
		}
		v, err := s.escape(headers[name])
		if err != nil {
			return Frame{}, err
		}
		b = append(append(append(append(b, n...), ':'), v...), '\n')
	}
	return stompOut(append(append(append(b, '\n'), body...), 0)), nil
}

var (
	stompEscapes12 = strings.NewReplacer("\\", `\\`, "\r", `\r`, "\n", `\n`, ":", `\c`)
	stompEscapes11 = strings.NewReplacer("\\", `\\`, "\n", `\n`, ":", `\c`)
)

// escape writes a header's name or value in the form of the version ("Value Encoding").
func (s *stomp) escape(text string) (string, error) {
	if strings.IndexByte(text, 0) >= 0 {
		return "", errors.New("a header holds a NUL")
	}
	switch s.version {
	case "1.2":
		return stompEscapes12.Replace(text), nil
	case "1.1":
		if strings.IndexByte(text, '\r') >= 0 {
			return "", errors.New("a header holds a CR, which STOMP 1.1 cannot say")
		}
		return stompEscapes11.Replace(text), nil
	}
	if strings.ContainsAny(text, "\r\n") {
		return "", errors.New("a header holds a line end, which STOMP 1.0 cannot say")
	}
	return text, nil
}

// unescape reads one.
func unescape(text, version string) string {
	if version == "1.0" || strings.IndexByte(text, '\\') < 0 {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		switch c := text[i]; {
		case c == 'n':
			b.WriteByte('\n')
		case c == 'c':
			b.WriteByte(':')
		case c == '\\':
			b.WriteByte('\\')
		case c == 'r' && version == "1.2":
			b.WriteByte('\r')
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String()
}

// stompFrame is a frame of the broker.
type stompFrame struct {
	command string
	headers map[string]string
	body    []byte // valid until the next feed
	over    bool   // the body is over MAX_MESSAGE and was left out
}

// stompParser finds frames in pieces of bytes.
type stompParser struct {
	max     int
	buf     []byte
	begun   *stompFrame // its headers are read
	length  int         // of its body; -1: it ends at a NUL
	scanned int         // bytes of buf that hold no NUL
	left    int         // bytes of a body still to be dropped
	toNUL   bool        // a body is dropped up to its NUL
}

func (p *stompParser) feed(data []byte) {
	if len(p.buf) == 0 && cap(p.buf) > 64<<10 {
		p.buf = nil
	}
	p.buf = append(p.buf, data...) // after what was returned, never over it
}

var errStompFraming = errors.New("the upstream does not speak STOMP")

// next returns the next complete frame, false when there is none yet.
func (p *stompParser) next(version string) (f stompFrame, ok bool, err error) {
	if p.begun == nil {
		if ok, err := p.head(version); !ok || err != nil {
			return f, false, err
		}
	}
	if ok, err = p.body(); !ok || err != nil {
		return f, false, err
	}
	f, p.begun = *p.begun, nil
	return f, true, nil
}

// head reads command and headers.
func (p *stompParser) head(version string) (bool, error) {
	p.buf = bytes.TrimLeft(p.buf, "\r\n")
	end, after := stompHeadEnd(p.buf[:min(len(p.buf), maxStompHead+len("\n\r\n"))])
	if end < 0 || end > maxStompHead {
		if len(p.buf) > maxStompHead || bytes.IndexByte(p.buf, 0) >= 0 {
			return false, errStompFraming
		}
		return false, nil
	}
	lines := strings.Split(string(p.buf[:end]), "\n")
	p.buf = p.buf[end+after:]
	f := &stompFrame{command: strings.TrimSuffix(lines[0], "\r"), headers: map[string]string{}}
	if f.command == "CONNECTED" {
		version = "1.0" // whose headers are not escaped
	}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\r"), ":")
		if !ok {
			return false, errStompFraming
		}
		name = unescape(name, version)
		if _, repeated := f.headers[name]; !repeated {
			f.headers[name] = unescape(value, version)
		}
	}
	p.begun, p.length, p.scanned, p.left, p.toNUL = f, -1, 0, 0, false
	if text, set := f.headers["content-length"]; set {
		n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 31)
		if err != nil {
			return false, errStompFraming
		}
		if p.length = int(n); p.length > p.max {
			f.over, p.left = true, p.length
		}
	}
	return true, nil
}

// stompHeadEnd is where the headers at the beginning of buf end, and how many bytes part them from what follows; end is -1 where they do not end. It looks no further:
// many small frames may have come at once.
func stompHeadEnd(buf []byte) (end, after int) {
	for end < len(buf) {
		line := bytes.IndexByte(buf[end:], '\n')
		if line < 0 {
			break
		}
		end += line
		switch rest := buf[end+1:]; {
		case bytes.HasPrefix(rest, []byte("\n")):
			return end, 2
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return end, 3
		}
		end++
	}
	return -1, 0
}

// body reads up to and with the NUL.
func (p *stompParser) body() (bool, error) {
	f := p.begun
	if p.length < 0 {
		return p.bodyToNUL(f), nil
	}
	if f.over {
		n := min(p.left, len(p.buf))
		p.buf, p.left = p.buf[n:], p.left-n
		if p.left > 0 || len(p.buf) == 0 {
			return false, nil
		}
	} else {
		if len(p.buf) <= p.length {
			return false, nil
		}
		f.body, p.buf = p.buf[:p.length:p.length], p.buf[p.length:]
	}
	if p.buf[0] != 0 {
		return false, errStompFraming
	}
	p.buf = p.buf[1:]
	return true, nil
}

func (p *stompParser) bodyToNUL(f *stompFrame) bool {
	at := bytes.IndexByte(p.buf[p.scanned:], 0)
	if at < 0 {
		p.scanned = len(p.buf)
		if p.scanned > p.max || p.toNUL {
			f.over, p.toNUL, p.buf, p.scanned = true, true, nil, 0
		}
		return false
	}
	at += p.scanned
	if f.over = f.over || at > p.max; !f.over {
		f.body = p.buf[:at:at]
	}
	p.buf, p.scanned = p.buf[at+1:], 0
	return true
}

// stompOut is data as it is sent. What a broker has sent in bytes that are not UTF-8, such as the value of an ack header, goes back in the
// same bytes, which a text message must not hold (RFC 6455, section 8.1).
func stompOut(data []byte) Frame { return Frame{Binary: !utf8.Valid(data), Data: data} }
