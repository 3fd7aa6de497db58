package upstream

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

func TestCloseCodes(t *testing.T) {
	for code, want := range map[websocket.StatusCode]string{1000: "closed by the upstream with code 1000", 1001: "closed by the upstream with code 1001", 4001: "closed by the upstream with code 4001"} {
		f := &feed{talk: func(p *peer) { p.say("1"); p.Close(code, "secret reason") }}
		subscribed(t, SourceSettings{}, f, func(t *testing.T, k *taking) { k.expect("0s 1", "0s lost: "+want) })
	}
}

func TestPoliteClose(t *testing.T) {
	f := &feed{}
	f.talk = func(p *peer) { f.listen(p) }
	subscribed(t, SourceSettings{}, f, func(t *testing.T, k *taking) {
		time.Sleep(time.Second)
		if err := k.end(); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		f.expect(t, "1s closed 1001")
	})
}

// The stream may end while a message is being emitted: then the reader notices before the keeper does.
func TestPoliteCloseWhileEmitting(t *testing.T) {
	for range 30 {
		f := &feed{begun: time.Now()}
		var heard string
		f.talk = func(p *peer) {
			p.say("1")
			heard = p.hear()
		}
		bubble(t, f.ServeHTTP, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			conn, err := expanded(t, compiled(t, SourceSettings{From: "ws://legacy/"}), "/").Source(slog.New(slog.DiscardHandler)).Connect(ctx)
			if err != nil {
				t.Fatal(err)
			}
			err = conn.Run(ctx, func([]translate.Message) error { cancel(); return ctx.Err() })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
		if heard != "closed 1001" {
			t.Fatalf("the upstream heard %q", heard)
		}
	}
}

// After a session's last words nothing follows but the close: not its answer to the upstream's, which comes across, nor what a client sends.
func TestLastWordsAreTheLast(t *testing.T) {
	var heard []string
	f := &feed{begun: time.Now(), talk: func(p *peer) {
		p.hear()
		p.say(`[2,1,{"roles":{"broker":{}}}]`)
		p.hear()
		p.say(`[33,1,7]`)
		for len(heard) < 5 && !slices.Contains(heard, "closed 1001") {
			heard = append(heard, p.hear())
		}
	}, options: websocket.AcceptOptions{Subprotocols: []string{"wamp.2.json"}}}
	bubble(t, f.ServeHTTP, func(t *testing.T) {
		s := SourceSettings{From: "ws://legacy/", Protocol: "wamp", Connect: `{"realm":"r"}`, Subscribe: "a", Send: true}
		conn, err := expanded(t, compiled(t, s), "/").Source(quietLog).Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := conn.(*wsConn)
		if err := c.say(c.session.Leave()); err != nil {
			t.Error(err)
		}
		got, _ := c.given(t.Context(), dialect.Frame{Data: []byte(`[6,{},"wamp.close.system_shutdown"]`)})
		if err := c.send(t.Context(), got.Replies); err != nil || len(got.Replies) == 0 {
			t.Errorf("%v, of %d replies", err, len(got.Replies))
		}
		if err := c.Send(t.Context(), translate.Message{Topic: "a", Data: []byte("[1]")}); err != errLeft {
			t.Errorf("who sends gets %v", err)
		}
		c.ws.Close(websocket.StatusGoingAway, "")
	})
	if !slices.Equal(heard, []string{`[6,{},"wamp.close.normal"]`, "closed 1001"}) {
		t.Errorf("the upstream heard %q", heard)
	}
}

func TestDoneSaysGoodbye(t *testing.T) {
	f := &feed{}
	f.talk = func(p *peer) { p.say("1", "2"); f.listen(p) }
	subscribed(t, SourceSettings{Done: ".==2"}, f, func(t *testing.T, k *taking) {
		f.expect(t, "0s closed 1000")
		if got := k.texts(); !slices.Equal(got, []string{"1", "2"}) || !errors.Is(k.err, translate.ErrFinished) {
			t.Errorf("%q, %v", got, k.err)
		}
	})
}

// rude is a legacy service that upgrades by hand, sends raw, and then neither reads nor says anything.
func rude(t *testing.T, raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		accept(conn, r, raw)
	}
}

func accept(conn net.Conn, r *http.Request, raw string) {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n" + raw))
	// Everything we say is read, so that only the silence is rude.
	b := bufio.NewReader(conn)
	for {
		if _, err := b.ReadByte(); err != nil {
			return
		}
	}
}

const (
	two  = "\x81\x012"                                   // the text message 2
	huge = "\x82\x7f\x00\x00\x00\x7f\xff\xff\xff\xff..." // the begin of a binary one of 512 GiB
)

// An upstream that does not answer the close frame, or has begun something that it never ends, holds nothing up.
func TestGoodbyeIsBounded(t *testing.T) {
	for name, raw := range map[string]string{"silent": two, "stalled in a frame": two + huge} {
		bubble(t, rude(t, raw), func(t *testing.T) {
			k := start(t, SourceSettings{From: "ws://legacy/", Done: ".==2"})
			<-k.done
			if !errors.Is(k.err, translate.ErrFinished) || k.ended != byeTime {
				t.Errorf("%s: finished with %v after %v", name, k.err, k.ended)
			}
		})
		bubble(t, rude(t, raw), func(t *testing.T) {
			k := start(t, SourceSettings{From: "ws://legacy/"})
			time.Sleep(time.Minute)
			began := time.Now()
			k.end()
			if took := time.Since(began); took > byeTime {
				t.Errorf("%s: the end of the stream took %v", name, took)
			}
		})
	}
}

// A message that arrives bit by bit is life; one that stops is not.
func TestStalledMessageIsIdle(t *testing.T) {
	bubble(t, rude(t, huge), func(t *testing.T) {
		k := start(t, SourceSettings{From: "ws://legacy/", Idle: time.Minute})
		time.Sleep(time.Minute)
		synctest.Wait()
		k.expect("1m0s lost: nothing was received within IDLE (1m0s)")
		k.end()
	})
}

func TestProtocolErrors(t *testing.T) {
	for name, raw := range map[string]string{"HTTP in the socket": "HTTP/1.1 400 Bad Request\r\n\r\n", "reserved opcode": "\x83\x00", "compressed without asking": "\xc1\x01x", "a long ping": "\x89\x7e\x01\x00"} {
		bubble(t, rude(t, raw), func(t *testing.T) {
			k := start(t, SourceSettings{From: "ws://legacy/"})
			time.Sleep(500 * time.Millisecond)
			if got := k.texts(); len(got) != 1 {
				t.Errorf("%s: %q", name, got)
			}
			k.end()
		})
	}
}

func TestNobodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		real := sockets
		defer func() { sockets = real }()
		sockets = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("connection refused")
		}}}
		k := start(t, SourceSettings{From: "ws://legacy/?token=secret"})
		k.expect("0s lost: connect: connection refused")
		k.end()
	})
}
