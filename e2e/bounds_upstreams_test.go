//go:build e2e

package e2e

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	bytesOf "encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// This file is upstreams that mean no good. Each peer is a client with a key of its own, so an upstream connection of its own.

var hostileUpstreams = []peers{
	{name: "a poll's gzip bomb, 1 MB for 1 GB", many: 50, few: 3, bound: 4 << 10, come: subscribed("/gzip")},
	{name: "a WebSocket's deflate bomb, 1 MB for 1 GB", many: 50, few: 3, bound: 4 << 10, heavy: true, come: subscribed("/deflate")},
	{name: "a packed message's gzip bomb, 1 MB for 1 GB", many: 50, few: 3, bound: 6 << 10, heavy: true, come: subscribed("/packed")},
	{name: "an answer's head without end", many: 50, few: 3, bound: 4 << 10, heavy: true, come: subscribed("/head")},
	{name: "an answer's body without end", many: 50, few: 3, bound: 6 << 10, come: subscribed("/body")},
	{name: "an answer's cookies, 900 KB", many: 50, few: 3, bound: 6 << 10, come: subscribed("/cookies")},
	{name: "a line of events without end", many: 50, few: 3, bound: 6 << 10, heavy: true, come: subscribed("/sse")},
	{name: "a line of JSON without end", many: 50, few: 3, bound: 6 << 10, heavy: true, come: subscribed("/ndjson")},
	{name: "a WebSocket message in fragments without end", many: 50, few: 3, bound: 6 << 10, heavy: true, come: subscribed("/fragments")},
	{name: "a WebSocket message in empty fragments", many: 50, few: 3, bound: 256, come: subscribed("/nothing")},
	{name: "pings without end", many: 50, few: 3, bound: 2 << 10, come: subscribed("/pings")},
	{name: "30,000 new keys a poll, START=latest", many: 8, few: 1, bound: 96 << 10, heavy: true, come: subscribed("/keys")},
	{name: "30,000 new elements a poll, MODE=items", many: 8, few: 1, bound: 96 << 10, heavy: true, come: subscribed("/items")},
	{name: "30,000 new keys a poll, MODE=patch", many: 8, few: 1, bound: 96 << 10, heavy: true, come: subscribed("/patch")},
}

// subscribed has clients whose streams are of the hostile upstream at path. It waits until each has got the whole of it, or all that the sidecar takes.
func subscribed(path string) func(t *testing.T, c *visitors) {
	return func(t *testing.T, c *visitors) {
		before := c.count(path).Load()
		c.each(func(int) {
			c.tell(t, c.dial(t, false), "GET "+path+" HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nCookie: key="+rand.Text()+"\r\n\r\n")
		})
		eventually(t, "each to have had it", func() bool { return c.count(path).Load() >= before+int64(c.n) })
		c.linger()
		c.did.Store(c.count(path).Load() - before)
	}
}

// count counts how often it was had.
func (b *bounds) count(path string) *atomic.Int64 {
	n, _ := b.had.LoadOrStore(path, new(atomic.Int64))
	return n.(*atomic.Int64)
}

// serveUpstreams adds hostile upstreams, and routes for them.
func (b *bounds) serveUpstreams() (env []string) {
	route := func(path, scheme string, hostile http.HandlerFunc, settings ...string) {
		b.service.HandleFunc("/hostile"+path, func(w http.ResponseWriter, r *http.Request) {
			defer b.count(path).Add(1)
			hostile(w, r)
		})
		name := "SSE_ROUTE_" + strings.ToUpper(path[1:]) + "_"
		env = append(env, name+"PATH="+path, name+"FROM="+scheme+"://"+b.app+"/hostile"+path, name+"FORWARD=Cookie")
		for _, s := range settings {
			env = append(env, name+s)
		}
	}
	zeros := make([]byte, 16<<20)
	member := gzipped(zeros)
	route("/gzip", "http", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		for range 64 { // a gzip stream may have any number of members (RFC 1952, section 2.2)
			w.Write(member)
		}
	}, "SELECT=.")
	var block bytes.Buffer
	z, _ := flate.NewWriter(&block, flate.BestCompression)
	z.Write(zeros)
	z.Flush()
	route("/deflate", "ws", func(w http.ResponseWriter, r *http.Request) {
		if conn := upgraded(w, r, "permessage-deflate"); conn != nil {
			defer conn.Close()
			conn.Write(wsFrame(0xC1, bytes.Repeat(block.Bytes(), 64)))
			b.wait(conn)
		}
	})
	// pour sends begin and then piece again and again, 64 of b.mega at most, as long as it is taken.
	pour := func(begin, piece string) http.HandlerFunc {
		all := bytes.Repeat([]byte(piece), max(1, 64<<10/len(piece)))
		return func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			defer context.AfterFunc(b.over, func() { conn.Close() })()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+begin)
			for sent := 0; sent < 64*b.mega(); sent += len(all) {
				conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
				if _, err := conn.Write(all); err != nil {
					return
				}
			}
		}
	}
	route("/head", "http", pour("X-More: ", "x"))
	route("/body", "http", pour("\r\n", "x"), "SELECT=.")
	route("/sse", "http", pour("Content-Type: text/event-stream\r\n\r\ndata: ", "x"), "MODE=stream")
	route("/ndjson", "http", pour("Content-Type: application/x-ndjson\r\n\r\n{\"a\":\"", "x"), "MODE=stream")
	route("/cookies", "http", func(w http.ResponseWriter, r *http.Request) {
		for n := range 9000 {
			w.Header().Add("Set-Cookie", fmt.Sprintf("c%d=%s", n, strings.Repeat("v", 90)))
		}
		io.WriteString(w, "{}")
	})
	// frames are a WebSocket message that begins with first and goes on with piece.
	frames := func(first, piece []byte) http.HandlerFunc {
		all := bytes.Repeat(piece, max(1, 64<<10/len(piece)))
		return func(w http.ResponseWriter, r *http.Request) {
			conn := upgraded(w, r, "")
			if conn == nil {
				return
			}
			defer conn.Close()
			defer context.AfterFunc(b.over, func() { conn.Close() })()
			go io.Copy(io.Discard, conn) // ends with conn
			conn.Write(first)
			for sent := 0; sent < 16*b.mega(); sent += len(all) {
				conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
				if _, err := conn.Write(all); err != nil {
					return
				}
			}
		}
	}
	route("/packed", "ws", frames(nil, wsFrame(0x82, bytes.Repeat(member, 40))), "DECODE=gzip") // within MAX_MESSAGE
	route("/fragments", "ws", frames(wsFrame(0x01, []byte("begun")), wsFrame(0x00, bytes.Repeat([]byte("f"), 100))))
	route("/nothing", "ws", frames(wsFrame(0x01, []byte("begun")), wsFrame(0x00, nil)))
	route("/pings", "ws", frames(nil, wsFrame(0x89, bytes.Repeat([]byte("p"), 125))))

	var key atomic.Int64
	keys := func(w http.ResponseWriter, r *http.Request) {
		var list bytes.Buffer
		for last := key.Add(30_000); list.Len() < 30_000*len(`,{"id":10000000}`)-1; last-- {
			if list.Len() > 0 {
				list.WriteByte(',')
			}
			fmt.Fprintf(&list, `{"id":%d}`, 10_000_000+last)
		}
		fmt.Fprintf(w, "[%s]", &list)
	}
	route("/keys", "http", keys, "SELECT=.[]", "KEY=.id", "START=latest", "EVERY=500ms")
	route("/items", "http", keys, "MODE=items", "ID=.id", "EVERY=500ms")
	route("/patch", "http", keys, "MODE=patch", "KEY=.id", "EVERY=500ms")
	return env
}

// wait waits until the sidecar ends the connection.
func (b *bounds) wait(conn net.Conn) {
	defer context.AfterFunc(b.over, func() { conn.Close() })()
	io.Copy(io.Discard, conn)
}

func gzipped(data []byte) []byte {
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	z.Write(data)
	z.Close()
	return out.Bytes()
}

// upgraded answers a WebSocket's handshake (RFC 6455, section 4.2.2), and leaves all else to the caller.
func upgraded(w http.ResponseWriter, r *http.Request, extension string) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	text := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	if extension != "" {
		text += "Sec-WebSocket-Extensions: " + extension + "\r\n"
	}
	io.WriteString(conn, text+"\r\n")
	return conn
}

// wsFrame is one of a WebSocket server's: its first byte, and what it holds.
func wsFrame(first byte, data []byte) []byte {
	out := []byte{first}
	switch n := len(data); {
	case n < 126:
		out = append(out, byte(n))
	case n < 1<<16:
		out = bytesOf.BigEndian.AppendUint16(append(out, 126), uint16(n))
	default:
		out = bytesOf.BigEndian.AppendUint64(append(out, 127), uint64(n))
	}
	return append(out, data...)
}
