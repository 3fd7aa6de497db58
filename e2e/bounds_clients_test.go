//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// This file is clients that mean no good.

var hostileClients = []peers{
	{name: "silent connections", many: 2000, few: 100, bound: 24, thrown: true, nginx: "http1", come: func(t *testing.T, c *visitors) { c.say(t, "") }},
	{name: "half heads, a few bytes", many: 2000, few: 100, bound: 24, thrown: true, nginx: "http1", come: func(t *testing.T, c *visitors) { c.say(t, "GET /document HTTP/1.1\r\nHo") }},
	{name: "half heads, 60 KB", many: 500, few: 30, bound: 160, thrown: true, nginx: "http1", come: func(t *testing.T, c *visitors) {
		c.say(t, "GET /document HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("X-More: "+strings.Repeat("x", 3990)+"\r\n", 15))
	}},
	{name: "half HTTP/2 prefaces", many: 2000, few: 100, bound: 24, thrown: true, nginx: "http2", come: func(t *testing.T, c *visitors) { c.say(t, http2.ClientPreface[:20]) }},
	{name: "HTTP/2 connections without a request", many: 1000, few: 50, bound: 64, nginx: "http2", come: func(t *testing.T, c *visitors) {
		c.each(func(int) { c.frames(t, func(*http2.Framer) error { return nil }) })
	}},
	{name: "heads of 1 MB", many: 200, few: 20, bound: 160, nginx: "http1", come: func(t *testing.T, c *visitors) {
		c.say(t, "GET /document HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("X-More: "+strings.Repeat("x", 3990)+"\r\n", 250)+"\r\n")
	}},
	{name: "rapid reset, 4,000 requests", many: 20, few: 2, bound: 16 << 10, heavy: true, nginx: "http2", come: rapidReset},
	{name: "CONTINUATION without end, 64 MB", many: 20, few: 2, bound: 2 << 10, nginx: "http2", come: continuations},
	{name: "HPACK bombs, 1 KB for 4 MB, 100 requests", many: 20, few: 2, bound: 2 << 10, nginx: "http2", come: hpackBombs},
	{name: "readers of events who read nothing", many: 500, few: 20, bound: 64, come: deafReaders},
	{name: "readers of downloads who read nothing", many: 200, few: 10, bound: 128, nginx: "http1", come: func(t *testing.T, c *visitors) {
		c.each(func(int) { c.tell(t, c.dial(t, true), "GET /download HTTP/1.1\r\nHost: x\r\n\r\n") })
		c.linger()
	}},
	{name: "HTTP/2, 100 downloads in a window of 0", many: 20, few: 2, bound: 100 * 96, heavy: true, nginx: "http2", come: noWindow},
	{name: "uploads that nobody reads", many: 100, few: 10, bound: 160, come: func(t *testing.T, c *visitors) {
		c.pour(t, "POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n", "", 16*c.mega())
	}},
	{name: "uploads to a tunnel, 1 GB announced", many: 100, few: 10, bound: 2 << 10, come: func(t *testing.T, c *visitors) {
		c.pour(t, "POST /_sidestream/tunnel/quiet HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n", `{"page":"`+strings.Repeat("p", 32)+`","tunnel":1,"seq":1}`+"\nt1073741000\n", 16*c.mega())
	}},
	{name: "uploads to a tunnel, a head without end", many: 100, few: 10, bound: 256, come: func(t *testing.T, c *visitors) {
		c.pour(t, "POST /_sidestream/tunnel/quiet HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n", `{"page":"`, 16*c.mega())
	}},
	{name: "messages to a route, 1 GB announced", many: 100, few: 10, bound: 2 << 10, come: func(t *testing.T, c *visitors) {
		c.pour(t, "POST /feed HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n", "", 16*c.mega())
	}},
	{name: "messages to a route, in chunks without end", many: 100, few: 10, bound: 2 << 10, come: func(t *testing.T, c *visitors) {
		c.pour(t, "POST /feed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n", "", 16*c.mega())
	}},
	{name: "keys of their own, one each, and gone", many: 5000, few: 100, bound: 48, heavy: true, come: func(t *testing.T, c *visitors) {
		c.each(func(int) {
			resp, err := c.events("/private", rand.Text())
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}},
	{name: "bodies of a tunnel that go on and say nothing", many: 500, few: 20, bound: 128, come: silentBodies},
	{name: "pages with tunnels, one each, and gone", many: 2000, few: 50, bound: 64, come: func(t *testing.T, c *visitors) {
		c.each(func(int) {
			resp, err := c.events("/_sidestream/tunnel?page="+rand.Text(), "")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}},
}

// serveClients adds what the sidecar's clients need.
func (b *bounds) serveClients() (env []string) {
	quiet := func(w http.ResponseWriter, r *http.Request) {
		if ws, err := websocket.Accept(w, r, nil); err == nil {
			<-ws.CloseRead(r.Context()).Done()
		}
	}
	b.service.HandleFunc("/quiet", quiet)
	b.service.HandleFunc("/download", func(w http.ResponseWriter, r *http.Request) {
		for piece := make([]byte, 64<<10); r.Context().Err() == nil; {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	b.service.HandleFunc("/deaf", func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			context.AfterFunc(b.over, func() { conn.Close() })
		}
	})
	b.service.HandleFunc("/flood", func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		ctx := ws.CloseRead(r.Context())
		for pace := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-pace.C:
			case <-ctx.Done():
				return
			}
			if ws.Write(ctx, websocket.MessageText, bytes.Repeat([]byte("f"), 64<<10)) != nil {
				return
			}
		}
	})
	return []string{
		"SSE_ROUTE_PRIVATE_PATH=/private", "SSE_ROUTE_PRIVATE_FROM=ws://" + b.app + "/quiet", "SSE_ROUTE_PRIVATE_FORWARD=Cookie",
		"SSE_ROUTE_FEED_PATH=/feed", "SSE_ROUTE_FEED_FROM=ws://" + b.app + "/quiet", "SSE_ROUTE_FEED_SEND=true",
		"SSE_ROUTE_FLOOD_PATH=/flood", "SSE_ROUTE_FLOOD_FROM=ws://" + b.app + "/flood", "SSE_ROUTE_FLOOD_REPLAY_BYTES=1MiB",
	}
}

// linger gives those who are there time to cost more.
func (c *visitors) linger() {
	time.Sleep(map[bool]time.Duration{false: 100 * time.Millisecond, true: 2 * time.Second}[c.whole])
}

// tell writes to a connection, which the other side may have ended.
func (c *visitors) tell(t *testing.T, conn net.Conn, text string) {
	if conn == nil {
		return
	}
	conn.SetWriteDeadline(time.Now().Add(patience))
	io.WriteString(conn, text)
}

// say has each peer say text, and no more.
func (c *visitors) say(t *testing.T, text string) {
	c.each(func(int) { c.tell(t, c.dial(t, false), text) })
	c.linger()
}

// pour has each peer say text and begin, and then send up to so many bytes of a body until the server ends the connection or takes no more.
func (c *visitors) pour(t *testing.T, text, begin string, most int) {
	piece := bytes.Repeat([]byte("x"), 64<<10)
	c.each(func(int) {
		conn := c.dial(t, false)
		if conn == nil {
			return
		}
		c.tell(t, conn, text+begin)
		for sent := 0; sent < most; sent += len(piece) {
			conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			if _, err := conn.Write(piece); err != nil {
				return
			}
		}
	})
	c.linger()
}

// frames connects and has f write frames of HTTP/2.
func (c *visitors) frames(t *testing.T, f func(*http2.Framer) error, settings ...http2.Setting) {
	conn := c.dial(t, false)
	if conn == nil {
		return
	}
	conn.SetWriteDeadline(time.Now().Add(patience))
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	framer.AllowIllegalWrites = true
	framer.WriteSettings(settings...)
	framer.WriteSettingsAck()
	conn.Write(out.Bytes())
	f(http2.NewFramer(conn, nil))
}

// head is the block of a request's head, which leaves the table of who reads it as it was.
func (c *visitors) head(path string) []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", path}} {
		e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true})
	}
	return block.Bytes()
}

// rapidReset asks and takes it back (CVE-2023-44487).
func rapidReset(t *testing.T, c *visitors) {
	head := c.head("/document")
	c.each(func(int) {
		c.frames(t, func(f *http2.Framer) error {
			for n := range uint32(4000) {
				if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: head, EndHeaders: true, EndStream: true}); err != nil {
					return err
				}
				if err := f.WriteRSTStream(2*n+1, http2.ErrCodeCancel); err != nil {
					return err
				}
				c.did.Add(1)
			}
			return nil
		})
	})
	c.linger()
}

// continuations sends a head that does not end (CVE-2023-45288).
func continuations(t *testing.T, c *visitors) {
	head := c.head("/document")
	var block bytes.Buffer
	hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: "x-more", Value: strings.Repeat("~", 8<<10), Sensitive: true})
	c.each(func(int) {
		c.frames(t, func(f *http2.Framer) error {
			err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head, EndStream: true})
			for sent := 0; err == nil && sent < 64*c.mega(); sent += block.Len() {
				err = f.WriteContinuation(1, false, block.Bytes())
			}
			return err
		})
	})
	c.linger()
}

// hpackBombs puts one large field into the table, and has it a thousand times with a byte each.
func hpackBombs(t *testing.T, c *visitors) {
	var bomb bytes.Buffer
	bomb.Write(c.head("/document"))
	hpack.NewEncoder(&bomb).WriteField(hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("x", 4000)})
	again := append(c.head("/document"), bytes.Repeat([]byte{0x80 | 62}, 1000)...) // 62 is the newest of the table (RFC 7541, section 2.3.3)
	c.each(func(int) {
		c.frames(t, func(f *http2.Framer) error {
			block := bomb.Bytes()
			for n := range uint32(100) {
				if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: block, EndHeaders: true, EndStream: true}); err != nil {
					return err
				}
				block = again
				c.did.Add(1)
			}
			return nil
		})
	})
	c.linger()
}

// noWindow asks for downloads and lets none of them be sent.
func noWindow(t *testing.T, c *visitors) {
	head := c.head("/download")
	c.each(func(int) {
		c.frames(t, func(f *http2.Framer) error {
			for n := range uint32(100) {
				if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: head, EndHeaders: true, EndStream: true}); err != nil {
					return err
				}
				c.did.Add(1)
			}
			return nil
		}, http2.Setting{ID: http2.SettingInitialWindowSize})
	})
	c.linger()
}

// deafReaders are there while events come, 3 MB a second, and take none.
func deafReaders(t *testing.T, c *visitors) {
	c.each(func(int) {
		c.tell(t, c.dial(t, true), "GET /flood HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
	})
	c.linger()
}

// silentBodies are pages with a tunnel each, and a POST of it whose body begins and says nothing.
func silentBodies(t *testing.T, c *visitors) {
	c.each(func(int) {
		page := rand.Text()
		c.tell(t, c.dial(t, false), "GET /_sidestream/tunnel?page="+page+" HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
		const target = "/_sidestream/tunnel/quiet"
		eventually(t, "a tunnel", func() bool { // once the page is there
			r, _ := http.NewRequest("POST", "http://"+c.addr+target, strings.NewReader(`{"page":"`+page+`","tunnel":1,"open":[]}`+"\n"))
			r.Host = "x"
			resp, err := eager.RoundTrip(r)
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusAccepted
		})
		line := `{"page":"` + page + `","tunnel":1,"seq":1,"stream":1}` + "\n"
		c.tell(t, c.dial(t, false), fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", target, len(line), line))
	})
	c.linger()
	if now := metric(t, c.process, "sidestream_tunnel_streams_total"); now < float64(c.n) {
		t.Errorf("%v bodies go on, want %d", now, c.n)
	}
}

// events opens a stream of the sidecar's.
func (c *visitors) events(path, key string) (*http.Response, error) {
	r, err := http.NewRequest("GET", "http://"+c.addr+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Cookie", "key="+key)
	resp, err := eager.RoundTrip(r)
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return resp, err
}

// eager keeps no connection.
var eager = &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: patience}).DialContext, ResponseHeaderTimeout: patience}
