package peer

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Kind is what a request is about.
type Kind int

// The kinds.
const (
	Tunnel Kind = iota // a page's stream, or a POST of its tunnels
	Send               // a message for a stream
	kinds
)

// Kinds names them.
var Kinds = [kinds]string{"tunnel", "send"}

// preface is what of a client's request is not in its head.
type preface struct {
	Kind    string `json:"kind"`
	Address string `json:"address"` // the client's
	TLS     bool   `json:"tls"`
}

// framing are the fields that a request as bytes has of its own.
var framing = map[string]bool{"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Trailer": true}

var errQuestion = errors.New("a client's request that cannot be forwarded")

// encode returns a client's request, with its body, as bytes. It fails with errQuestion for what net/http would not have accepted.
func encode(kind Kind, r *http.Request, body []byte) ([]byte, error) {
	var b bytes.Buffer
	line, err := json.Marshal(preface{Kinds[kind], r.RemoteAddr, r.TLS != nil})
	if err != nil || strings.ContainsFunc(r.Method+r.RequestURI+r.Host, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return nil, errQuestion
	}
	b.Write(append(line, '\n'))
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Host)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, value := range r.Header[name] {
			if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
				return nil, errQuestion
			}
			if !framing[name] {
				b.WriteString(name + ": " + value + "\r\n")
			}
		}
	}
	if r.Method != http.MethodGet || len(body) > 0 {
		b.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes(), nil
}

// decode is encode's reverse. The request's body is read from data.
func decode(data []byte) (kind Kind, r *http.Request, err error) {
	line, rest, ok := bytes.Cut(data, []byte("\n"))
	var p preface
	if !ok || len(line) > maxPreface || json.Unmarshal(line, &p) != nil {
		return 0, nil, errQuestion
	}
	if kind = Kind(slices.Index(Kinds[:], p.Kind)); kind < 0 {
		return 0, nil, errQuestion
	}
	if r, err = http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(rest), min(len(rest)+16, 64<<10))); err != nil {
		return 0, nil, errQuestion
	}
	if r.RemoteAddr = p.Address; p.TLS {
		r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	}
	if r.Body == nil {
		r.Body = io.NopCloser(strings.NewReader(""))
	}
	return kind, r, nil
}
