package upstream

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// packer is a compressor that can be flushed.
type packer interface {
	io.WriteCloser
	Flush() error
}

var packers = map[string]func(w io.Writer) packer{
	"gzip":    func(w io.Writer) packer { return gzip.NewWriter(w) },
	"deflate": func(w io.Writer) packer { return zlib.NewWriter(w) },
	"Deflate": func(w io.Writer) packer { p, _ := flate.NewWriter(w, -1); return p }, // as some servers have it
}

// A stream that is compressed although nobody asked for it is read, event by event.
func TestFollowDecodes(t *testing.T) {
	for coding, pack := range packers {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", coding)
			w.Header().Set("Content-Type", "text/event-stream")
			http.NewResponseController(w).Flush()
			p := pack(w)
			for _, text := range []string{"data: 1\n\n", ":\n", "data: 2\n\n"} {
				time.Sleep(time.Second)
				io.WriteString(p, text)
				p.Flush()
				http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		}}
		polled(t, SourceSettings{Mode: ModeStream, Idle: 1500 * time.Millisecond}, a, func(k *taking) {
			time.Sleep(4 * time.Second)
			k.expect("1s 1", "3s 2")
		})
		if t.Failed() {
			t.Fatal(coding)
		}
	}
}

// Polls, pages of an error, and requests before a dial likewise, where HEADERS ask for it.
func TestPollDecodes(t *testing.T) {
	var twice bytes.Buffer
	outer := gzip.NewWriter(&twice)
	inner := zlib.NewWriter(outer)
	io.WriteString(inner, `{"n":1}`)
	inner.Close()
	outer.Close()
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "deflate, gzip")
		w.Write(twice.Bytes())
	}}
	polled(t, SourceSettings{Every: time.Second, Headers: "Accept-Encoding: gzip, deflate", Data: ".n"}, a, func(k *taking) { k.expect("0s 1") })
	// Without: net/http asks for gzip by itself.
	a = &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		p := gzip.NewWriter(w)
		io.WriteString(p, `{"n":2}`)
		p.Close()
	}}
	polled(t, SourceSettings{Every: time.Second, Data: ".n"}, a, func(k *taking) { k.expect("0s 2") })
	// What MAX_MESSAGE bounds is what comes out.
	a = &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		p := gzip.NewWriter(w)
		io.WriteString(p, strings.Repeat("0", 1<<20))
		p.Close()
	}}
	polled(t, SourceSettings{Every: time.Second, Headers: "Accept-Encoding: gzip", MaxMessage: 1 << 16}, a, func(k *taking) {
		time.Sleep(500 * time.Millisecond)
		k.expect("0s lost: the answer is larger than MAX_MESSAGE (65536 bytes)")
	})
}

// Any other coding is an error that names it.
func TestUnknownCoding(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "br")
		w.Write([]byte{0x1b, 0x05, 0x00, 0xff})
	}}
	const want = "lost: the answer has Content-Encoding br, of which only gzip and deflate are read; ask for another in HEADERS (Accept-Encoding: gzip)"
	for _, mode := range []string{ModeChanges, ModeStream} {
		polled(t, SourceSettings{Mode: mode, Every: time.Hour}, a, func(k *taking) { k.expect("0s " + want) })
	}
}
