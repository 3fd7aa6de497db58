package wsconn

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// canned is a connection from which text is read, and to which nothing is written.
type canned struct {
	net.Conn
	*strings.Reader
}

func (canned) Write(p []byte) (int, error)      { return len(p), nil }
func (c canned) Read(p []byte) (int, error)     { return c.Reader.Read(p) }
func (canned) Close() error                     { return nil }
func (canned) SetDeadline(time.Time) error      { return nil }
func (canned) SetReadDeadline(time.Time) error  { return nil }
func (canned) SetWriteDeadline(time.Time) error { return nil }

// dialled has the library answered by 101 and then by c.
type dialled struct {
	c          canned
	extensions string
}

func (d dialled) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &upgraded{header: http.Header{}, c: d.c}
	asked := r.Clone(r.Context())
	asked.Header.Set("Sec-WebSocket-Extensions", "")
	ws, err := websocket.Accept(w, asked, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	ws.CloseNow()
	if d.extensions != "" {
		w.header.Set("Sec-WebSocket-Extensions", d.extensions)
	}
	return &http.Response{StatusCode: http.StatusSwitchingProtocols, Header: w.header, Body: d.c}, nil
}

// upgraded is what the library's server writes its answer to.
type upgraded struct {
	header http.Header
	c      canned
}

func (u *upgraded) Header() http.Header         { return u.header }
func (u *upgraded) Write(p []byte) (int, error) { return len(p), nil }
func (u *upgraded) WriteHeader(int)             {}
func (u *upgraded) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return u.c, bufio.NewReadWriter(bufio.NewReader(u.c), bufio.NewWriter(u.c)), nil
}

// FuzzReader: whatever comes, reading ends, keeps little, and where the library takes the same bytes it has the same messages.
func FuzzReader(f *testing.F) {
	for _, test := range cases {
		f.Add(test.said, test.deflate, byte(0))
		f.Add(test.said, test.deflate, byte(1))
	}
	f.Fuzz(func(t *testing.T, said string, deflate bool, how byte) {
		o := Options{Deflate: deflate, Takeover: how&1 != 0}
		c := New(canned{Reader: strings.NewReader(said)}, canned{}, o)
		got, err := readSome(func(ctx context.Context) (websocket.MessageType, io.Reader, error) { return c.Reader(ctx) })
		if err == nil {
			t.Fatal("reading has no end")
		}
		if cap(c.history) > 2*windowSize || cap(c.pongs) > 2*maxPongs || c.in != nil || c.packed != nil {
			t.Errorf("kept: %d of a window, %d of pongs, %v, %v", cap(c.history), cap(c.pongs), c.in != nil, c.packed != nil)
		}
		extensions := ""
		if deflate {
			extensions = "permessage-deflate"
			if !o.Takeover {
				extensions += "; server_no_context_takeover"
			}
		}
		ws, _, dialErr := websocket.Dial(t.Context(), "ws://x", &websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover,
			HTTPClient: &http.Client{Transport: dialled{canned{Reader: strings.NewReader(said)}, extensions}}})
		if dialErr != nil {
			t.Fatal(dialErr)
		}
		defer ws.CloseNow()
		ws.SetReadLimit(-1)
		theirs, theirErr := readSome(func(ctx context.Context) (websocket.MessageType, io.Reader, error) { return ws.Reader(ctx) })
		// It is laxer: it takes what is no UTF-8, a mask, lengths in too many bytes, and a message that is cut, and it is confused by a last block.
		// So what it has read begins with what we have, where it has not failed before; and where both end with a close it is the same.
		if c.again {
			return
		}
		if errors.Is(err, io.EOF) || errors.As(err, new(websocket.CloseError)) {
			n := min(len(got), len(theirs))
			if !slices.Equal(got[:n], theirs[:n]) {
				t.Errorf("read %.100q, the library %.100q", got, theirs)
			}
			if closed := websocket.CloseStatus(theirErr); closed != -1 && (closed != websocket.CloseStatus(err) || len(got) != len(theirs)) {
				t.Errorf("ended with %v after %d, the library with %v after %d", err, len(got), theirErr, len(theirs))
			}
		}
	})
}

// readSome reads messages of together 1 MiB at most, until one cannot be read.
func readSome(next func(context.Context) (websocket.MessageType, io.Reader, error)) (all []string, err error) {
	left := int64(1 << 20)
	for {
		_, r, err := next(context.Background())
		if err != nil {
			return all, err
		}
		data, err := io.ReadAll(io.LimitReader(r, left))
		if left -= int64(len(data)); left == 0 {
			return all, errors.New("enough")
		}
		if err != nil {
			return all, err
		}
		all = append(all, string(data))
	}
}
