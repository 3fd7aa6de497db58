package upstream

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// decoded is the body of an answer without its Content-Encoding (RFC 9110, section 8.4): gzip and deflate, whatever we asked for.
// The error names any other coding. raw is called for whatever arrives, before it is decoded.
func decoded(resp *http.Response, raw func()) (io.Reader, error) {
	var body io.Reader = livingReader{resp.Body, raw}
	codings := strings.Split(strings.Join(resp.Header.Values("Content-Encoding"), ","), ",")
	for i := len(codings) - 1; i >= 0; i-- { // they are listed in the order in which they were applied
		switch coding := strings.ToLower(strings.TrimSpace(codings[i])); coding {
		case "", "identity":
		case "gzip", "x-gzip":
			body = &lazy{from: body, open: func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }}
		case "deflate":
			body = &lazy{from: body, open: inflate}
		default:
			return nil, fmt.Errorf("the answer has Content-Encoding %s, of which only gzip and deflate are read; ask for another in HEADERS (Accept-Encoding: gzip)", safeName(coding))
		}
	}
	return body, nil
}

// safeName shows a word of the upstream's if it is one.
func safeName(word string) string {
	if len(word) > 20 || !headerToken.MatchString(word) {
		return "with an unknown name"
	}
	return word
}

// inflate reads deflate: in the format of zlib, as the standard has it, or without, as some servers have it.
func inflate(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(2)
	if err != nil {
		return nil, err
	}
	if head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
		return zlib.NewReader(b)
	}
	return flate.NewReader(b), nil
}

// lazy opens a reader when it is first read: until then nothing may have come.
type lazy struct {
	from io.Reader
	open func(io.Reader) (io.Reader, error)
	body io.Reader
}

func (l *lazy) Read(p []byte) (n int, err error) {
	if l.body == nil {
		if l.body, err = l.open(l.from); err != nil {
			return 0, err
		}
	}
	return l.body.Read(p)
}
