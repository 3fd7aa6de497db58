// This file is the framing of NATS. See nats.go.

package dialect

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// natsOp is one line of a server's, with what belongs to it.
type natsOp struct {
	verb string // in capitals
	rest string // of the line; of MSG and HMSG see below

	subject, sid, reply string
	status, text        string // of HMSG: what the first line of its headers says
	headers             http.Header
	body                []byte // headers and payload as they came
	payload             []byte
	over                bool // it had more than max bytes, and has neither headers nor payload
}

var errNATS = errors.New("the server sent something that is not of the NATS protocol; FROM must be the WebSocket listener of a NATS server")

// natsParser cuts a stream of bytes into lines and messages.
type natsParser struct {
	max    int  // bytes of a message
	client bool // the stream is a client's, whose messages are PUB and HPUB and have no sid
	buf    []byte
	open   *natsOp // whose payload is awaited
	head   int     // bytes of its headers
	size   int     // of both
	skip   int     // bytes of it that are still to be thrown away
}

func (p *natsParser) feed(data []byte) {
	n := min(p.skip, len(data))
	p.skip -= n
	p.buf = append(p.buf, data[n:]...)
}

// next returns the next line, with its payload; ok is false where more has to come.
func (p *natsParser) next() (op natsOp, ok bool, err error) {
	if p.open == nil {
		end := bytes.Index(p.buf, []byte("\r\n"))
		if end > maxNATSInfo || end < 0 && len(p.buf) > maxNATSInfo {
			return op, false, errNATS
		}
		if end < 0 {
			return op, false, nil
		}
		line := string(p.buf[:end])
		p.take(end + 2)
		verb, rest, _ := strings.Cut(line, " ")
		op = natsOp{verb: strings.ToUpper(verb), rest: strings.Trim(rest, natsBlanks)}
		if p.client && (op.verb == "PUB" || op.verb == "HPUB") {
			subject, rest := cutWord(op.rest)
			op.verb, op.rest = strings.Replace(op.verb, "PUB", "MSG", 1), subject+" 0 "+rest
		}
		if op.verb != "MSG" && op.verb != "HMSG" {
			return op, true, p.known(op.verb)
		}
		if err := p.begin(op); err != nil {
			return op, false, err
		}
	}
	return p.finish()
}

func (p *natsParser) known(verb string) error {
	verbs := []string{"INFO", "PING", "PONG", "-ERR", "+OK"}
	if p.client {
		verbs = []string{"CONNECT", "PING", "PONG", "SUB", "UNSUB"}
	}
	if slices.Contains(verbs, verb) {
		return nil
	}
	return errNATS
}

// take drops what has been read.
func (p *natsParser) take(n int) {
	if p.buf = p.buf[n:]; len(p.buf) == 0 {
		p.buf = nil
	}
}

// begin reads the line of a message.
func (p *natsParser) begin(op natsOp) error {
	fields := natsWords(op.rest)
	sizes := 1
	if op.verb == "HMSG" {
		sizes = 2
	}
	if len(fields) != 2+sizes && len(fields) != 3+sizes {
		return errNATS
	}
	op.subject, op.sid = fields[0], fields[1]
	if len(fields) == 3+sizes {
		op.reply = fields[2]
	}
	size, err := strconv.ParseUint(fields[len(fields)-1], 10, 31)
	var head uint64
	if err == nil && sizes == 2 {
		head, err = strconv.ParseUint(fields[len(fields)-2], 10, 31)
	}
	if err != nil || head > size {
		return errNATS
	}
	p.open, p.head, p.size = &op, int(head), int(size)
	if op.over = p.size > p.max; op.over {
		n := min(p.size, len(p.buf))
		p.take(n)
		p.skip = p.size - n
	}
	return nil
}

// finish returns the message whose line was read, once it is all there.
func (p *natsParser) finish() (op natsOp, ok bool, err error) {
	op = *p.open
	size := p.size
	if op.over {
		size = 0
	}
	if p.skip > 0 || len(p.buf) < size+2 {
		return op, false, nil
	}
	if string(p.buf[size:size+2]) != "\r\n" {
		return op, false, errNATS
	}
	p.open = nil
	if !op.over {
		op.headers = http.Header{}
		if op.verb == "HMSG" {
			op.head(p.buf[:p.head])
		}
		op.body = bytes.Clone(p.buf[:size])
		op.payload = op.body[p.head:]
	}
	p.take(size + 2)
	return op, true, nil
}

// head reads headers: NATS/1.0, a status where it is none of an application, and names and values. Servers pass on whatever a publisher has written there;
// what is not in this form is none.
func (op *natsOp) head(data []byte) {
	first, rest, _ := strings.Cut(string(data), "\r\n")
	version, ok := strings.CutPrefix(first, "NATS/1.0")
	if !ok {
		return
	}
	op.status, op.text = cutWord(version)
	for rest != "" {
		var line string
		line, rest, _ = strings.Cut(rest, "\r\n")
		if name, value, ok := strings.Cut(line, ":"); ok {
			name = strings.ToLower(strings.ToValidUTF8(name, "\ufffd"))
			op.headers[name] = append(op.headers[name], strings.ToValidUTF8(strings.TrimSpace(value), "\ufffd"))
		}
	}
}

// first is the first value of a header; "" for none.
func (op *natsOp) first(name string) string {
	if values := op.headers[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// natsBlanks are what parts the words of a line. Others that Unicode calls spaces may be part of a subject.
const natsBlanks = " \t\r\n"

func natsWords(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(natsBlanks, r) })
}

func natsFrame(text string) Frame { return Frame{Binary: true, Data: []byte(text)} }

// natsOnce adds a line to frames unless the last one is the same.
func natsOnce(frames []Frame, text string) []Frame {
	if n := len(frames); n > 0 && string(frames[n-1].Data) == text {
		return frames
	}
	return append(frames, natsFrame(text))
}

// natsPublish is a message. headers are as they are sent; nil: none.
func natsPublish(subject, reply string, headers, payload []byte) Frame {
	if reply != "" {
		subject += " " + reply
	}
	var out []byte
	if headers == nil {
		out = fmt.Appendf(nil, "PUB %s %d\r\n", subject, len(payload))
	} else {
		out = fmt.Appendf(nil, "HPUB %s %d %d\r\n%s", subject, len(headers), len(headers)+len(payload), headers)
	}
	return Frame{Binary: true, Data: append(append(out, payload...), "\r\n"...)}
}

// natsHeaders writes headers; nil where there are none.
func natsHeaders(all map[string]string) ([]byte, error) {
	if len(all) == 0 {
		return nil, nil
	}
	out := []byte("NATS/1.0\r\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name == "" || strings.ContainsAny(name, ":\r\n ") || strings.ContainsAny(all[name], "\r\n") {
			return nil, errors.New("has a header that cannot be sent")
		}
		out = append(out, name+": "+all[name]+"\r\n"...)
	}
	return append(out, "\r\n"...), nil
}

// natsSubject reports whether text is a subject, which may have wildcards: words between dots, of which * is any and > at the end any number.
func natsSubject(text string) bool {
	words := strings.Split(text, ".")
	for i, word := range words {
		if word == "" || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\ufffd' }) || word == ">" && i < len(words)-1 {
			return false
		}
	}
	return len(text) <= 1<<10
}
