package tunnel

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The kinds of events.
const (
	pageKind   = "page"
	openKind   = "open"
	textKind   = "text"
	binaryKind = "binary"
	closeKind  = "close"
	ackKind    = "ack"
)

// The kinds of frames.
const (
	textFrame   = 't'
	binaryFrame = 'b'
	closeFrame  = 'c'
	numberFrame = 'n' // between frames of a body that goes on
)

const (
	maxHeader  = 16 << 10 // bytes of the line of JSON before the frames
	maxReason  = 123      // bytes of a reason (RFC 6455, section 5.5)
	maxNumber  = 1<<31 - 1
	lengthSize = 10 // digits of a length
	numberSize = 19 // and of a frame's number
)

func appendHead(dst []byte, n int, kind string) []byte {
	dst = strconv.AppendInt(append(dst, '['), int64(n), 10)
	dst = append(append(dst, `,"`...), kind...)
	return append(dst, `",`...)
}

// appendPage is the first event of a page. owner is what its id is to end in from now on; "" nothing.
func appendPage(dst []byte, ackEvery int, linger time.Duration, owner string) []byte {
	dst = strconv.AppendInt(appendHead(dst, 0, pageKind), int64(ackEvery), 10)
	dst = strconv.AppendInt(append(dst, ','), linger.Milliseconds(), 10)
	dst = appendString(append(dst, ','), []byte(owner))
	return append(dst, ",1]"...) // bodies that go on are taken
}

// appendAck appends an acknowledgement: the upstream has all frames of tunnel n up to written. stream is the number of the POST that
// brought them; with over the sidecar takes no more from it.
func appendAck(dst []byte, n int, written uint64, stream int, over bool) []byte {
	dst = append(strconv.AppendInt(append(dst, '['), int64(n), 10), `,"`+ackKind+`",`...)
	dst = strconv.AppendInt(append(strconv.AppendUint(dst, written, 10), ','), int64(stream), 10)
	if over {
		dst = append(dst, ",1"...)
	}
	return append(dst, ']')
}

func appendOpen(dst []byte, n int, protocol string) []byte {
	return append(appendString(appendHead(dst, n, openKind), []byte(protocol)), ']')
}

// appendText wants UTF-8.
func appendText(dst []byte, n int, text []byte) []byte {
	return append(appendString(appendHead(dst, n, textKind), text), ']')
}

func appendBinary(dst []byte, n int, data []byte) []byte {
	dst = append(appendHead(dst, n, binaryKind), '"')
	return append(base64.StdEncoding.AppendEncode(dst, data), `"]`...)
}

// ending is how a tunnel ends.
type ending struct {
	code   int
	reason string
	clean  bool
	status int // of the answer to the upgrade, 0 when that was not it
}

// lost is the end without a word.
var lost = ending{code: 1006}

func appendClose(dst []byte, n int, e ending) []byte {
	dst = strconv.AppendInt(appendHead(dst, n, closeKind), int64(e.code), 10)
	dst = appendString(append(dst, ','), bytes.ToValidUTF8([]byte(e.reason), []byte("\uFFFD")))
	dst = strconv.AppendBool(append(dst, ','), e.clean)
	return append(strconv.AppendInt(append(dst, ','), int64(e.status), 10), ']')
}

const hexDigits = "0123456789abcdef"

// appendString appends s, which is UTF-8, as JSON (RFC 8259, section 7), on one line. Nothing of it is replaced, as
// encoding/json would do for HTML's sake.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	done := 0
	for i, c := range s {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[done:i]...)
		done = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(dst, s[done:]...), '"')
}

// header is the first line of a POST.
type header struct {
	Page   string    `json:"page"`
	Tunnel int       `json:"tunnel"`
	Open   *[]string `json:"open"` // subprotocols; nil: not to be opened
	Seq    uint64    `json:"seq"`  // number of the first frame
	Ack    string    `json:"ack"`
	Stream int       `json:"stream"` // number of a POST whose body goes on; 0: it does not
}

// errMalformed is wrapped by the errors of a POST that does not follow the protocol.
var errMalformed = errors.New("not the tunnel's protocol")

// errTooLarge means that a message is larger than MAX_MESSAGE.
var errTooLarge = errors.New("a message is larger than MAX_MESSAGE")

// readHeader reads the first line, which it returns too. Its error wraps errMalformed, or is the reader's.
func readHeader(in *bufio.Reader) (h header, line []byte, err error) {
	if line, err = readLine(in, maxHeader); err != nil {
		return h, nil, err
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return h, nil, fmt.Errorf("%w: the first line is not the expected JSON", errMalformed)
	}
	switch {
	case h.Tunnel < 1 || h.Tunnel > maxNumber:
		return h, nil, fmt.Errorf(`%w: "tunnel" is not a number from 1 to %d`, errMalformed, maxNumber)
	case h.Stream < 0 || h.Stream > maxNumber:
		return h, nil, fmt.Errorf(`%w: "stream" is not a number from 1 to %d`, errMalformed, maxNumber)
	case h.Open == nil && h.Seq < 1:
		return h, nil, fmt.Errorf(`%w: "seq" is missing`, errMalformed)
	case h.Open != nil:
		return h, line, checkProtocols(*h.Open)
	}
	return h, line, nil
}

// checkProtocols holds that each is a token of its own (WebSockets Standard, 3.1).
func checkProtocols(protocols []string) error {
	seen := map[string]bool{}
	for _, p := range protocols {
		if p == "" || seen[strings.ToLower(p)] || strings.ContainsFunc(p, notToken) {
			return fmt.Errorf(`%w: "open" lists a subprotocol that is not a token, or one twice`, errMalformed)
		}
		seen[strings.ToLower(p)] = true
	}
	return nil
}

func notToken(c rune) bool {
	return c <= ' ' || c >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c)
}

// readLine reads up to most bytes and their newline, which is not returned.
func readLine(in *bufio.Reader, most int) (line []byte, err error) {
	for {
		c, err := in.ReadByte()
		switch {
		case err == io.EOF:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case c == '\n':
			return line, nil
		case len(line) == most:
			return nil, fmt.Errorf("%w: a line is too long", errMalformed)
		}
		line = append(line, c)
	}
}

// frame is what is sent upward. Its data is good until the next one is read.
type frame struct {
	kind   byte
	data   []byte
	code   int // of a close frame
	reason string
}

// readFrame reads the next frame into buf. The error is io.EOF after the last one, errTooLarge, one that wraps
// errMalformed, or the reader's. What is not there yet takes no memory.
func readFrame(in *bufio.Reader, buf *bytes.Buffer, most int) (f frame, err error) {
	if f.kind, err = in.ReadByte(); err != nil {
		return f, err
	}
	if f.kind != textFrame && f.kind != binaryFrame && f.kind != closeFrame {
		return f, fmt.Errorf("%w: no frame begins with %q", errMalformed, f.kind)
	}
	length, err := readLength(in)
	switch {
	case err != nil:
		return f, err
	case f.kind == closeFrame && length > maxReason+len("1000 "):
		return f, fmt.Errorf("%w: the reason is over %d bytes", errMalformed, maxReason)
	case length > most && f.kind != closeFrame:
		return f, errTooLarge
	}
	buf.Reset()
	if n, err := buf.ReadFrom(io.LimitReader(in, int64(length))); err != nil {
		return f, err
	} else if n < int64(length) {
		return f, io.ErrUnexpectedEOF
	}
	f.data = buf.Bytes()
	if f.kind != binaryFrame && !utf8.Valid(f.data) {
		return f, fmt.Errorf("%w: text that is not UTF-8", errMalformed)
	}
	if f.kind == closeFrame {
		f.code, f.reason, err = parseClose(string(f.data))
	}
	return f, err
}

// readNumber reads what follows the kind of a number frame.
func readNumber(in *bufio.Reader) (uint64, error) {
	digits, err := readLine(in, numberSize)
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(string(digits), 10, 63)
	if err != nil || number == 0 || digits[0] == '+' {
		return 0, fmt.Errorf("%w: %.20q is not the number of a frame", errMalformed, digits)
	}
	return number, nil
}

func readLength(in *bufio.Reader) (int, error) {
	digits, err := readLine(in, lengthSize)
	if err != nil {
		return 0, err
	}
	length, err := strconv.ParseUint(string(digits), 10, 31)
	if err != nil || digits[0] == '+' {
		return 0, fmt.Errorf("%w: %.12q is not a length", errMalformed, digits)
	}
	return int(length), nil
}

// noCode is the code of a close frame that has none (RFC 6455, section 7.1.5).
const noCode = 1005

// parseClose reads what a close frame holds: nothing, or a code, a blank and a reason. The codes are those that pages
// may use (WebSockets Standard), and 1001, which a browser uses when a page goes away.
func parseClose(s string) (code int, reason string, err error) {
	if s == "" {
		return noCode, "", nil
	}
	digits, reason, ok := strings.Cut(s, " ")
	code, err = strconv.Atoi(digits)
	if !ok || err != nil || code != 1000 && code != 1001 && (code < 3000 || code > 4999) {
		return 0, "", fmt.Errorf("%w: %.12q is not a close code", errMalformed, digits)
	}
	return code, reason, nil
}
