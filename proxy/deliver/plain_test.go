//go:build linux && !portable

package deliver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"testing"
)

// requests are heads, and whether they are plain.
var requests = map[string]bool{
	"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                                                   true,
	"GET /a?b=c&d HTTP/1.0\r\nHost: x:80\r\nAccept: text/event-stream, */*;q=0.1\r\n\r\n": true,
	"GET / HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: keep-alive\r\n\r\n":                true,
	"GET / HTTP/1.1\r\nhost:x\r\nconnection:close\r\nX:\r\nX:  y  \r\n\r\n":               true,
	"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n":                                                true, // the parser refuses it, so it is net/http's
	"":                                                                                    false,
	"GET / HTTP/1.1\r\n":                                                                  false,
	"GET / HTTP/1.1\r\nHost: x\r\n":                                                       false,
	"GET / HTTP/1.1\r\nHost: x\r\n\r":                                                     false,
	"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n":                                               false,
	"GET / HTTP/1.1\r\n\r\n":                                                              false, // no host
	"GET / HTTP/1.0\r\n\r\n":                                                              false,
	"GET / HTTP/1.1\r\nHost:\r\n\r\n":                                                     false,
	"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n":                                        false,
	"GET / HTTP/1.1\r\nHost: x\r\nHOST: y\r\n\r\n":                                        false,
	"GET / HTTP/1.1\r\nHost: x y\r\n\r\n":                                                 false,
	"GET / HTTP/1.1\r\nHost: x\r\n\r\nG":                                                  false, // pipelined
	"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n":                  false,
	"GET / HTTP/1.1\nHost: x\n\n":                                                         false,
	"GET / HTTP/1.1\r\nHost: x\n\r\n":                                                     false,
	"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n":                                        false,
	"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n":                                     false, // goes on
	"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n":                                          false,
	"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n":                                            false,
	"GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n":                                              false,
	"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n":                                        false,
	"GET / HTTP/1.1\r\nHost: x\r\nA: \t\r\n\r\n":                                          false,
	"GET / HTTP/1.1\r\nHost: x\r\nA: \xc3\xa4\r\n\r\n":                                    false,
	"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n":                              false,
	"GET / HTTP/1.1\r\nHost: x\r\ncontent-length: 5\r\n\r\n":                              false,
	"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n":                     false,
	"GET / HTTP/1.1\r\nHost: x\r\nTrailer: a\r\n\r\n":                                     false,
	"GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n":                           false,
	"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n":      false,
	"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n":                                   false,
	"GET / HTTP/1.1\r\nHost: x\r\nConnection: Accept\r\n\r\n":                             false,
	"GET / HTTP/1.1\r\nHost: x\r\nConnection: close, keep-alive\r\n\r\n":                  false,
	"GET  / HTTP/1.1\r\nHost: x\r\n\r\n":                                                  false,
	"GET / a HTTP/1.1\r\nHost: x\r\n\r\n":                                                 false,
	"GET /\tHTTP/1.1\r\nHost: x\r\n\r\n":                                                  false,
	"GET / HTTP/1.2\r\nHost: x\r\n\r\n":                                                   false,
	"GET / HTTP/2.0\r\nHost: x\r\n\r\n":                                                   false,
	"GET / http/1.1\r\nHost: x\r\n\r\n":                                                   false,
	"GET /\r\nHost: x\r\n\r\n":                                                            false,
	"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n":                                           false,
	"GET * HTTP/1.1\r\nHost: x\r\n\r\n":                                                   false,
	"get / HTTP/1.1\r\nHost: x\r\n\r\n":                                                   false,
	"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n":                                                  false,
	"POST / HTTP/1.1\r\nHost: x\r\n\r\n":                                                  false,
	"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n":                                               false,
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                                    false,
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03":                                        false, // TLS
}

func TestPlain(t *testing.T) {
	for head, want := range requests {
		if got := plain([]byte(head)); got != want {
			t.Errorf("%q: %v", head, got)
		}
	}
}

// dump is what a handler sees of a request.
func dump(r *http.Request) string {
	text := fmt.Sprintln(r.Method, r.RequestURI, r.URL, r.Proto, r.Host, r.ContentLength, r.TransferEncoding, r.Close, r.Body == http.NoBody, r.Trailer)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		text += fmt.Sprintf("%s: %q\n", name, r.Header[name])
	}
	return text
}

// FuzzPlain holds that what is plain and is parsed is, to the last header, what net/http's server gives its handler, and
// the whole of it.
func FuzzPlain(f *testing.F) {
	for head := range requests {
		f.Add([]byte(head))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		if len(head) >= peekSize || !plain(head) {
			return
		}
		source := bytes.NewReader(head)
		in := bufio.NewReaderSize(source, peekSize)
		r, err := http.ReadRequest(in)
		if err != nil {
			return // net/http's
		}
		if in.Buffered()+source.Len() > 0 {
			t.Fatalf("%q: %d bytes are left", head, in.Buffered()+source.Len())
		}
		if served, want := atServer(t, head), dump(r); served != want {
			t.Fatalf("%q: net/http serves\n%s, here it is\n%s", head, served, want)
		}
	})
}

// one is a listener of one connection.
type one struct {
	conn chan net.Conn
	net.Listener
}

func (o *one) Accept() (net.Conn, error) {
	if c := <-o.conn; c != nil {
		return c, nil
	}
	return nil, errors.New("no more")
}
func (o *one) Close() error   { return nil }
func (o *one) Addr() net.Addr { return &net.TCPAddr{} }

// atServer is what the handler of net/http's server sees of head, "" when it is not asked.
func atServer(t *testing.T, head []byte) string {
	seen := make(chan string, 10)
	s := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen <- dump(r) })}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	here, there := net.Pipe()
	l := &one{conn: make(chan net.Conn, 2)}
	l.conn <- there
	l.conn <- nil
	s.Serve(l)
	go here.Write(head) // ends with here
	in := bufio.NewReader(here)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	resp.Body.Close()
	here.Close()
	s.Close()
	if len(seen) != 1 {
		t.Fatalf("%q: %d requests, answered with %s", head, len(seen), resp.Status)
	}
	return <-seen
}
