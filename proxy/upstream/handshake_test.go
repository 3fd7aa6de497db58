package upstream

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Header names are spelled as RFC 6455 and HEADERS do, on the wire.
func TestSpelling(t *testing.T) {
	rt := compiled(t, SourceSettings{From: "ws://legacy/feed", Headers: "x-API-key: 1\nX-Plain: 2\nUSER-agent: me\nsec-websocket-Token: 3"})
	ours, theirs := net.Pipe()
	defer theirs.Close()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return ours, nil }}
	defer transport.CloseIdleConnections()
	head := make(chan string, 1)
	go func() { // ends with the pipe
		in := bufio.NewReader(theirs)
		var lines []string
		for line, err := in.ReadString('\n'); err == nil && line != "\r\n"; line, err = in.ReadString('\n') {
			lines = append(lines, strings.TrimSpace(line))
		}
		head <- "\n" + strings.Join(lines, "\n") + "\n"
		io.WriteString(theirs, "HTTP/1.1 400 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	}()
	req, err := http.NewRequest("GET", "http://legacy/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"X-Api-Key", "X-Plain", "User-Agent", "Sec-WebSocket-Token", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"} {
		req.Header.Set(name, "v")
	}
	before := len(req.Header)
	resp, err := rt.client(&http.Client{Transport: transport}, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	got := <-head
	for _, want := range []string{"x-API-key: v", "X-Plain: v", "User-Agent: v", "sec-websocket-Token: v", "Sec-WebSocket-Key: v", "Sec-WebSocket-Version: v", "Sec-WebSocket-Protocol: v", "Sec-WebSocket-Extensions: v"} {
		if strings.Count(got, "\n"+want+"\n") != 1 {
			t.Errorf("%s is not there once: %s", want, got)
		}
	}
	if strings.Contains(got, "Sec-Websocket") || strings.Count(strings.ToLower(got), "user-agent") != 1 {
		t.Error(got)
	}
	if len(req.Header) != before || req.Header.Get("X-Api-Key") != "v" {
		t.Error("the request was changed")
	}
}

// deflater is a server that compresses as it says, whatever was asked for.
type deflater struct {
	answer  string // Sec-WebSocket-Extensions; "": none
	keeps   bool   // its window
	garbage bool   // instead of what is compressed
}

// upgrade answers by hand and sends texts.
func (d deflater) upgrade(w http.ResponseWriter, r *http.Request, texts ...string) bool {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	deflates := d.answer != "" && r.Header.Get("Sec-WebSocket-Extensions") != ""
	if deflates {
		head += "Sec-WebSocket-Extensions: " + d.answer + "\r\n"
	}
	io.WriteString(conn, head+"\r\n")
	var out bytes.Buffer
	to, _ := flate.NewWriter(&out, flate.BestCompression)
	for _, text := range texts {
		first, data := byte(0x81), []byte(text)
		if deflates {
			out.Reset()
			to.Write(data)
			to.Flush()
			first, data = 0xc1, bytes.TrimSuffix(out.Bytes(), []byte{0, 0, 0xff, 0xff})
			if d.garbage {
				data = bytes.Repeat([]byte{0xff}, 20)
			}
			if !d.keeps {
				to.Reset(&out)
			}
		}
		conn.Write(append([]byte{first, byte(len(data))}, data...))
	}
	io.Copy(io.Discard, conn)
	return true
}

func TestCompressionIsTakenAsBrowsersTakeIt(t *testing.T) {
	texts := []string{`{"n":1,"text":"the same words"}`, `{"n":2,"text":"the same words"}`, `{"n":3,"text":"the same words"}`}
	for _, d := range []deflater{
		{answer: ""}, {answer: "permessage-deflate"}, {answer: "permessage-deflate", keeps: true}, {answer: "permessage-deflate; server_no_context_takeover"},
		{answer: "permessage-deflate; client_max_window_bits=15", keeps: true}, {answer: "permessage-deflate;client_max_window_bits=9; server_no_context_takeover"},
		{answer: "permessage-deflate; client_no_context_takeover; server_max_window_bits=15; client_max_window_bits", keeps: true},
	} {
		var offered string
		f := &feed{refuse: func(w http.ResponseWriter, r *http.Request) bool {
			offered = r.Header.Get("Sec-WebSocket-Extensions")
			return d.upgrade(w, r, texts...)
		}}
		subscribed(t, SourceSettings{}, f, func(t *testing.T, k *taking) {
			time.Sleep(time.Second)
			if got := k.texts(); !slices.Equal(got, texts) {
				t.Errorf("%+v: %q", d, got)
			}
			if offered != "permessage-deflate; client_max_window_bits" {
				t.Errorf("offered %q", offered)
			}
		})
	}
}

// What cannot be inflated is asked for without compression.
func TestBrokenCompression(t *testing.T) {
	for name, d := range map[string]deflater{
		"garbage":           {answer: "permessage-deflate", garbage: true},
		"it keeps a window": {answer: "permessage-deflate; server_no_context_takeover", keeps: true},
		"nobody offered it": {answer: "x-webkit-deflate-frame"},
		"unknown parameter": {answer: "permessage-deflate; x=1"},
	} {
		texts := []string{strings.Repeat("ab", 30), strings.Repeat("ab", 30)}
		f := &feed{refuse: func(w http.ResponseWriter, r *http.Request) bool { return d.upgrade(w, r, texts...) }}
		subscribed(t, SourceSettings{}, f, func(t *testing.T, k *taking) {
			time.Sleep(6 * time.Second) // the library waits 3 s for more of a bad answer
			got := k.texts()
			if len(got) < 3 || !slices.Equal(got[len(got)-2:], texts) || !strings.HasPrefix(got[len(got)-3], "lost: ") {
				t.Errorf("%s: %q", name, got)
			}
			if n := strings.Count(k.log.String(), "compression cannot be read"); n != 1 {
				t.Errorf("%s: said %d times: %s", name, n, k.log.String())
			}
		})
	}
}
