package redisconn

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	bufferSize = 16 << 10 // bytes read at once; a line is no longer
	writeTime  = 10 * time.Second

	// Of an answer that is read as a whole.
	maxDepth = 8
	maxList  = 64
	maxParts = 4096

	maxLength = 4 << 30 // bytes that a server may announce; Redis has at most half a GiB
	firstGrow = 64 << 10
)

// ErrProtocol is what was received that is none of Redis' protocol.
var ErrProtocol = errors.New("what answers there speaks another protocol than Redis'; check host and port, and whether it is TLS (rediss://)")

// Error is an answer by which the server refuses a command.
type Error struct {
	Code string // its first word: WRONGTYPE, NOPERM, ERR, ...; at most 24 capital letters
	text string
}

func (e *Error) Error() string { return "the Redis answered " + e.Code }

// Says reports whether the server's text contains this.
func (e *Error) Says(part string) bool { return strings.Contains(e.text, part) }

// Moved is the node to ask instead, where the answer was MOVED; "" otherwise. asked is who answered.
func (e *Error) Moved(asked string) string {
	words := strings.Fields(e.text)
	if e.Code != "MOVED" || len(words) != 3 {
		return ""
	}
	colon := strings.LastIndexByte(words[2], ':')
	if colon < 0 {
		return ""
	}
	host, port := strings.Trim(words[2][:colon], "[]"), words[2][colon+1:]
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return ""
	}
	if host == "" { // the node does not know its own name
		host, _, _ = net.SplitHostPort(asked)
	}
	return net.JoinHostPort(host, port)
}

func newError(line []byte) *Error {
	text := string(line)
	code, _, _ := strings.Cut(text, " ")
	if code == "" || len(code) > 24 || strings.ContainsFunc(code, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		code = "an error"
	}
	return &Error{Code: code, text: text}
}

// Conn is one connection. It is used by one goroutine at a time, but for Close.
type Conn struct {
	// Patience is how long a read waits for the next byte; 0 for ever.
	Patience time.Duration

	conn net.Conn
	at   string // host:port
	in   *bufio.Reader
}

func newConn(c net.Conn, at string) *Conn {
	conn := &Conn{conn: c, at: at}
	conn.in = bufio.NewReaderSize(patient{conn}, bufferSize)
	return conn
}

// patient reads from a connection, of which each byte is a sign of life.
type patient struct{ c *Conn }

func (p patient) Read(b []byte) (int, error) {
	until := time.Time{}
	if p.c.Patience > 0 {
		until = time.Now().Add(p.c.Patience)
	}
	p.c.conn.SetReadDeadline(until) // what is wrong with the connection, reading tells
	return p.c.conn.Read(b)
}

// At is the host and port at the other end.
func (c *Conn) At() string { return c.at }

// Close ends what is being read and written. It may be called at any time.
func (c *Conn) Close() error { return c.conn.Close() }

// Send writes one command.
func (c *Conn) Send(words ...string) error { return c.SendAll(words) }

// SendAll writes several commands at once.
func (c *Conn) SendAll(commands ...[]string) error {
	var text []byte
	for _, words := range commands {
		text = fmt.Appendf(text, "*%d\r\n", len(words))
		for _, w := range words {
			text = fmt.Appendf(text, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_, err := c.conn.Write(text)
	return err
}

// Await returns when there is something to read, of which it takes nothing.
func (c *Conn) Await() error {
	_, err := c.in.Peek(1)
	return err
}

// Waiting reports whether something was received that is not read yet.
func (c *Conn) Waiting() bool { return c.in.Buffered() > 0 }

// header reads a line, of which the first byte is the kind.
func (c *Conn) header() (kind byte, rest []byte, err error) {
	line, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return 0, nil, ErrProtocol
	}
	if err != nil {
		return 0, nil, err
	}
	line, whole := bytes.CutSuffix(line, []byte("\r\n"))
	if !whole || len(line) == 0 {
		return 0, nil, ErrProtocol
	}
	if line[0] == '-' {
		return 0, nil, newError(line[1:])
	}
	return line[0], line[1:], nil
}

// length is the number in a header; -1 for what is not there.
func length(text []byte) (int64, error) {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n < -1 || n > maxLength {
		return 0, ErrProtocol
	}
	return n, nil
}

// List begins an array, whose elements are to be read next; -1: there is none. The error is an *[Error] where the server refuses.
func (c *Conn) List() (n int64, err error) {
	kind, text, err := c.header()
	if err != nil {
		return 0, err
	}
	if kind != '*' {
		return 0, ErrProtocol
	}
	return length(text)
}

// Text reads a string, or a number as it is written. What is longer than most is read past: cut.
func (c *Conn) Text(most int) (text []byte, cut bool, err error) {
	kind, line, err := c.header()
	if err != nil {
		return nil, false, err
	}
	switch kind {
	case '+', ':':
		return bytes.Clone(line), false, nil
	case '$':
		return c.bulk(line, most)
	}
	return nil, false, ErrProtocol
}

func (c *Conn) bulk(line []byte, most int) (text []byte, cut bool, err error) {
	n, err := length(line)
	if err != nil || n < 0 {
		return nil, false, err
	}
	if cut = n > int64(most); cut {
		_, err = io.CopyN(io.Discard, c.in, n)
	} else {
		text, err = c.take(n)
	}
	if err != nil {
		return nil, false, unexpected(err)
	}
	var end [2]byte
	if _, err := io.ReadFull(c.in, end[:]); err != nil {
		return nil, false, unexpected(err)
	}
	if string(end[:]) != "\r\n" {
		return nil, false, ErrProtocol
	}
	return text, cut, nil
}

// take reads n bytes. What is large is allocated as it arrives.
func (c *Conn) take(n int64) ([]byte, error) {
	if n <= firstGrow {
		text := make([]byte, n)
		_, err := io.ReadFull(c.in, text)
		return text, err
	}
	var buf bytes.Buffer
	got, err := io.CopyN(&buf, c.in, n)
	if err == nil && got != n {
		err = io.ErrUnexpectedEOF
	}
	return buf.Bytes(), err
}

// unexpected is an end in the middle of something.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Value is an answer that was read as a whole.
type Value struct {
	Text string  // of a string or number
	List []Value // of an array
	Nil  bool    // nothing is there
	Cut  bool    // it was longer than what is kept, and is left out
}

// Reply reads an answer. Strings of more than most bytes, and what is beyond 64 elements of an array or 4096 in all, are read past. The error is an
// *[Error] where the server refuses.
func (c *Conn) Reply(most int) (Value, error) {
	parts := maxParts
	return c.value(most, maxDepth, &parts)
}

func (c *Conn) value(most, depth int, parts *int) (v Value, err error) {
	kind, line, err := c.header()
	if err != nil {
		return v, err
	}
	switch kind {
	case '+', ':':
		return Value{Text: string(line)}, nil
	case '$':
		text, cut, err := c.bulk(line, most)
		return Value{Text: string(text), Cut: cut, Nil: text == nil && !cut}, err
	case '*':
	default:
		return v, ErrProtocol
	}
	n, err := length(line)
	if err != nil || depth == 0 {
		return v, errors.Join(err, ErrProtocol)
	}
	v.Nil = n < 0
	for i := range n {
		if v.Cut = i >= maxList || *parts == 0; v.Cut {
			if _, err := c.value(-1, depth-1, new(int)); err != nil {
				return v, err
			}
			continue
		}
		*parts--
		part, err := c.value(most, depth-1, parts)
		if err != nil {
			return v, err
		}
		v.List = append(v.List, part)
	}
	return v, nil
}

// Skip reads past an answer, or a part of one.
func (c *Conn) Skip() error {
	_, err := c.Reply(-1)
	return err
}

// Ask sends a command and reads its answer: see [Conn.Reply].
func (c *Conn) Ask(most int, words ...string) (Value, error) {
	if err := c.Send(words...); err != nil {
		return Value{}, err
	}
	return c.Reply(most)
}
