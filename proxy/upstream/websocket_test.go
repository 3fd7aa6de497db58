package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
)

// peer is the legacy side of one connection, and what it received.
type peer struct {
	*websocket.Conn
	ctx context.Context
	n   int // which connection it is, from 1
}

func (p *peer) say(texts ...string) {
	for _, text := range texts {
		p.Write(p.ctx, websocket.MessageText, []byte(text))
	}
}

// hear returns the next message, or why there is none.
func (p *peer) hear() string {
	_, data, err := p.Read(p.ctx)
	if code := websocket.CloseStatus(err); code != -1 {
		return fmt.Sprint("closed ", int(code))
	}
	if err != nil {
		return "cut"
	}
	return string(data)
}

// feed is a legacy WebSocket service.
type feed struct {
	options websocket.AcceptOptions
	refuse  func(w http.ResponseWriter, r *http.Request) bool // answers instead of an upgrade
	talk    func(p *peer)                                     // until it returns, which cuts the connection

	mu       sync.Mutex
	begun    time.Time
	times    []time.Duration // when each connection was asked for
	requests []*http.Request
	heard    []string // "<when> <what>", by those who note it
}

func (f *feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.times, f.requests = append(f.times, time.Since(f.begun)), append(f.requests, r)
	n := len(f.times)
	f.mu.Unlock()
	if f.refuse != nil && f.refuse(w, r) {
		return
	}
	options := f.options
	options.InsecureSkipVerify = true
	ws, err := websocket.Accept(w, r, &options)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	f.talk(&peer{ws, context.Background(), n})
}

func (f *feed) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = append(f.heard, fmt.Sprintf("%v %s", time.Since(f.begun), what))
}

// listen notes all that p says until it is gone.
func (f *feed) listen(p *peer) {
	for {
		what := p.hear()
		f.note(what)
		if what == "cut" || strings.HasPrefix(what, "closed") {
			return
		}
	}
}

func (f *feed) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.heard, want) {
		t.Errorf("the upstream heard\n\t%s\nwant\n\t%s", strings.Join(f.heard, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// subscribed runs a WebSocket route against f until do has returned.
func subscribed(t *testing.T, s SourceSettings, f *feed, do func(t *testing.T, k *taking)) {
	t.Helper()
	bubble(t, f.ServeHTTP, func(t *testing.T) {
		f.begun, f.times, f.heard, f.requests = time.Now(), nil, nil, nil
		if s.From == "" {
			s.From = "ws://legacy/feed"
		}
		k := start(t, s)
		do(t, k)
		k.end()
	})
}

// What of its protocol the upstream has broken is said by name, for whoever looks for the reason that nothing comes.
func TestViolation(t *testing.T) {
	f := &feed{talk: func(p *peer) {
		p.say("o", `a["1"]`, "a[\"caf\xe9\"]")
	}}
	subscribed(t, SourceSettings{Protocol: "sockjs"}, f, func(t *testing.T, k *taking) {
		time.Sleep(time.Second / 2)
		k.expect("0s 1", "0s lost: connection lost: the upstream breaks the WebSocket protocol by a text message that is not UTF-8")
	})
}

// TestForeignText: a service that speaks no protocol of its own may put its own encoding into text. It did before anybody asked it for UTF-8.
func TestForeignText(t *testing.T) {
	f := &feed{talk: func(p *peer) { p.say("caf\xe9", "2") }}
	subscribed(t, SourceSettings{}, f, func(t *testing.T, k *taking) {
		time.Sleep(time.Second / 2)
		k.expect("0s caf\xe9", "0s 2", "0s lost: connection lost: EOF")
	})
}

func TestSubscription(t *testing.T) {
	f := &feed{talk: func(p *peer) {
		p.say("1", "2")
		p.Write(p.ctx, websocket.MessageBinary, []byte{1, 2, 3})
		time.Sleep(time.Second)
		p.say("3", "")
		time.Sleep(time.Second)
	}}
	subscribed(t, SourceSettings{}, f, func(t *testing.T, k *taking) {
		time.Sleep(2500 * time.Millisecond)
		k.expect("0s 1", "0s 2", "0s AQID", "1s 3", "1s ", "2s lost: connection lost: EOF")
		if st := k.route.Stats; st.Received.Load() != 5 || st.Connects.Load() != 1 {
			t.Errorf("%d received, %d connects", st.Received.Load(), st.Connects.Load())
		}
	})
}

func TestHandshakeHeader(t *testing.T) {
	for name, test := range map[string]struct {
		s                  SourceSettings
		origin, host, path string
	}{
		"default":    {SourceSettings{From: "ws://legacy:81/feed?n={stream.n}"}, "http://legacy:81", "legacy:81", "/feed?n=1"},
		"given":      {SourceSettings{Headers: "Origin: https://app\nHost: other"}, "https://app", "other", "/feed"},
		"none given": {SourceSettings{Forward: []string{"Origin"}}, "http://legacy", "legacy", "/feed"},
	} {
		f := &feed{talk: func(p *peer) { p.hear() }}
		subscribed(t, test.s, f, func(t *testing.T, k *taking) {
			synctest.Wait()
			r := f.requests[0]
			if r.Header.Get("Origin") != test.origin || r.Host != test.host || r.RequestURI != test.path || r.Header.Get("User-Agent") != "sidestream" {
				t.Errorf("%s: %s %s %v", name, r.Host, r.RequestURI, r.Header)
			}
			if e := r.Header.Get("Sec-WebSocket-Extensions"); !strings.HasPrefix(e, "permessage-deflate") {
				t.Errorf("extensions %q", e)
			}
		})
	}
	rt := compiled(t, SourceSettings{From: "wss://legacy/x", Forward: []string{"Origin"}})
	for _, forwarded := range []string{"", "https://page"} {
		h := http.Header{}
		want := "https://legacy"
		if forwarded != "" {
			h.Set("Origin", forwarded)
			want = forwarded
		}
		q, err := client{header: h}.expand(rt)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := (&subscription{q: q}).dial(); err != nil || d.Header.Get("Origin") != want {
			t.Errorf("Origin %q becomes %q, %v", forwarded, d.Header.Get("Origin"), err)
		}
	}
}

func TestHello(t *testing.T) {
	hello := "{\"auth\":{stream.n}}\n! .error\n< .ok\n> {\"sub\":{stream.n}}\n< .subscribed"
	f := &feed{talk: func(p *peer) {
		p.hear()
		p.say(`"early"`, `{"ok":1}`)
		p.hear()
		p.say(`{"ok":2}`, `{"subscribed":1}`, `"live"`)
		time.Sleep(time.Second)
		p.say(`{"error":"secret"}`)
		if code := p.hear(); code != "closed 1000" {
			t.Errorf("left with %q", code)
		}
	}}
	subscribed(t, SourceSettings{Hello: hello}, f, func(t *testing.T, k *taking) {
		time.Sleep(2 * time.Second)
		k.expect(`0s "early" {"ok":2}`, `0s "live"`)
		var refused *translate.Refused
		if !errors.As(k.err, &refused) || refused.Status != 403 || k.ended != time.Second || strings.Contains(k.err.Error(), "secret") {
			t.Errorf("%v after %v", k.err, k.ended)
		}
	})
}

// Each step has ten seconds of its own, whatever else arrives.
func TestHelloTimeout(t *testing.T) {
	f := &feed{talk: func(p *peer) {
		if p.n == 1 {
			time.Sleep(9 * time.Second)
			p.say(`{"a":1}`)
			for range 30 {
				time.Sleep(500 * time.Millisecond)
				p.say(`{"other":1}`)
			}
			return
		}
		p.hear()
	}}
	subscribed(t, SourceSettings{Hello: "< .a\n< .b"}, f, func(t *testing.T, k *taking) {
		time.Sleep(31 * time.Second)
		k.expect("19s lost: no answer within 10s, waiting for line 2 of HELLO", "30s lost: no answer within 10s, waiting for line 1 of HELLO")
	})
}

func TestHelloIsBounded(t *testing.T) {
	for name, talk := range map[string]func(p *peer){
		"messages": func(p *peer) {
			for range maxEarly + 1 {
				p.say("x")
			}
		},
		"bytes": func(p *peer) {
			for range maxEarlyBytes>>20 + 1 {
				p.say(strings.Repeat("x", 1<<20))
			}
		},
		"headers": func(p *peer) {
			p.say("INFO {}\r\nPONG\r\n")
			p.hear()
			head := "NATS/1.0\r\na: " + strings.Repeat("x", 1<<19) + "\r\n\r\n"
			for range maxEarlyBytes>>19 + 1 {
				p.say(fmt.Sprintf("HMSG a 1 %d %d\r\n%s1\r\n", len(head), len(head)+1, head))
			}
		},
	} {
		s := SourceSettings{Hello: "< .never"}
		if name == "headers" {
			s.Protocol, s.Subscribe = "nats", "a"
		}
		subscribed(t, s, &feed{talk: talk}, func(t *testing.T, k *taking) {
			synctest.Wait()
			if got := k.texts(); len(got) != 1 || !strings.Contains(got[0], "arrived before HELLO was complete") {
				t.Errorf("%s: %.200q", name, got)
			}
		})
	}
}

func TestReplyAndPing(t *testing.T) {
	f := &feed{}
	f.talk = func(p *peer) {
		p.say(`{"type":"ping","id":1}`)
		f.listen(p)
	}
	s := SourceSettings{Reply: `select(.type=="ping")|.type="pong"`, Ping: `{"n":{stream.n}}`, PingEvery: 30 * time.Second}
	subscribed(t, s, f, func(t *testing.T, k *taking) {
		time.Sleep(90 * time.Second)
		f.expect(t, `0s {"id":1,"type":"pong"}`, `30s {"n":1}`, `1m0s {"n":2}`, `1m30s {"n":3}`)
		k.end()
		f.expect(t, `0s {"id":1,"type":"pong"}`, `30s {"n":1}`, `1m0s {"n":2}`, `1m30s {"n":3}`, "1m30s closed 1001")
	})
}

// pinged is a feed that notes WebSocket pings, and answers them or not.
func pinged(answers bool, says time.Duration) *feed {
	f := &feed{}
	f.options.OnPingReceived = func(context.Context, []byte) bool {
		f.note("ping")
		return answers
	}
	f.talk = func(p *peer) {
		if says > 0 {
			go func() { // ends with the connection
				for range 20 {
					time.Sleep(says)
					p.say("x")
				}
			}()
		}
		f.listen(p)
	}
	return f
}

func TestIdle(t *testing.T) {
	const idle = time.Minute
	f := pinged(false, 0)
	subscribed(t, SourceSettings{Idle: idle}, f, func(t *testing.T, k *taking) {
		time.Sleep(idle)
		f.expect(t, "30s ping", "1m0s cut")
		k.expect("1m0s lost: nothing was received within IDLE (1m0s)")
	})
	f = pinged(true, 0)
	subscribed(t, SourceSettings{Idle: idle}, f, func(t *testing.T, k *taking) {
		time.Sleep(2*idle + time.Second)
		f.expect(t, "30s ping", "1m0s ping", "1m30s ping", "2m0s ping")
		k.expect()
	})
	f = pinged(false, idle/2-time.Second)
	subscribed(t, SourceSettings{Idle: idle}, f, func(t *testing.T, k *taking) {
		time.Sleep(5 * idle)
		f.expect(t) // who speaks is not pinged
	})
	f = pinged(false, idle/2+10*time.Second)
	subscribed(t, SourceSettings{Idle: idle}, f, func(t *testing.T, k *taking) {
		time.Sleep(2 * idle)
		f.expect(t, "30s ping", "1m10s ping", "1m50s ping") // and who speaks late is not cut
	})
	f = pinged(false, 0)
	subscribed(t, SourceSettings{}, f, func(t *testing.T, k *taking) {
		time.Sleep(24 * time.Hour)
		f.expect(t)
		k.expect()
	})
}

// The upstream's own pings are life too.
func TestUpstreamPingsAreLife(t *testing.T) {
	f := &feed{}
	f.talk = func(p *peer) {
		go func() { // ends with the connection
			for p.Ping(p.ctx) == nil {
				time.Sleep(20 * time.Second)
			}
		}()
		f.listen(p)
	}
	subscribed(t, SourceSettings{Idle: 30 * time.Second}, f, func(t *testing.T, k *taking) {
		time.Sleep(10 * time.Minute)
		k.expect()
	})
}

func TestSlowHandshakeIsNotIdle(t *testing.T) {
	f := pinged(true, 0)
	f.refuse = func(http.ResponseWriter, *http.Request) bool { time.Sleep(9 * time.Second); return false }
	subscribed(t, SourceSettings{Idle: 4 * time.Second}, f, func(t *testing.T, k *taking) {
		time.Sleep(14 * time.Second)
		f.expect(t, "11s ping", "13s ping")
		k.expect()
	})
}

func TestOversize(t *testing.T) {
	for _, mode := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionNoContextTakeover, websocket.CompressionContextTakeover} {
		f := &feed{options: websocket.AcceptOptions{CompressionMode: mode, CompressionThreshold: 1}, talk: func(p *peer) {
			p.say("a", strings.Repeat("x", 1000), strings.Repeat("x", 1001), "b", strings.Repeat("y", 20<<20), "c")
			p.hear()
		}}
		subscribed(t, SourceSettings{MaxMessage: 1000}, f, func(t *testing.T, k *taking) {
			if got := k.texts(); !slices.Equal(got, []string{"a", strings.Repeat("x", 1000), "gap upstream", "b", "gap upstream", "c"}) {
				t.Errorf("mode %d: %.300q", mode, got)
			}
			if k.route.Stats.Oversize.Load() != 2 || strings.Count(k.log.String(), "message larger than MAX_MESSAGE skipped") != 2 {
				t.Errorf("mode %d: %d counted", mode, k.route.Stats.Oversize.Load())
			}
		})
	}
}

// What is skipped before HELLO is through is said as well.
func TestOversizeInHello(t *testing.T) {
	f := &feed{talk: func(p *peer) {
		p.say("1", strings.Repeat("x", 101), `{"ok":1}`, "2")
		p.hear()
	}}
	subscribed(t, SourceSettings{MaxMessage: 100, Hello: "< .ok"}, f, func(t *testing.T, k *taking) { k.expect("0s gap upstream 1", "0s 2") })
}

// A message without end is given up; a bomb that inflates to one as well.
func TestEndlessMessage(t *testing.T) {
	for _, mode := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover} {
		f := &feed{options: websocket.AcceptOptions{CompressionMode: mode, CompressionThreshold: 1}, talk: func(p *peer) {
			w, err := p.Writer(p.ctx, websocket.MessageText)
			chunk := bytes.Repeat([]byte("x"), 1<<20)
			for range 3 * maxSkipped >> 20 {
				if err == nil {
					_, err = w.Write(chunk)
				}
			}
			if err == nil {
				t.Error("all of it was read")
			}
		}}
		subscribed(t, SourceSettings{MaxMessage: 1000}, f, func(t *testing.T, k *taking) {
			if got := k.texts(); len(got) != 2 || got[0] != "gap upstream" || !strings.HasPrefix(got[1], "lost: a message of more than ") {
				t.Errorf("mode %d: %q", mode, got)
			}
		})
	}
}

// TestAcknowledgedOnceInTheRing: what comes while the session is opening is not the broker's to forget before it is
// known that it opens.
func TestAcknowledgedOnceInTheRing(t *testing.T) {
	f := &feed{options: websocket.AcceptOptions{Subprotocols: []string{"v12.stomp"}}}
	acked := false
	f.talk = func(p *peer) {
		p.hear()
		p.say("CONNECTED\nversion:1.2\nserver:RabbitMQ/3.10\n\n\x00")
		p.hear()
		p.hear()
		if !acked {
			p.say("RECEIPT\nreceipt-id:r-0\n\n\x00", "MESSAGE\nsubscription:sub-0\nmessage-id:1\nack:1\ndestination:/queue/a\n\nprecious\x00")
		}
		if p.n == 1 { // the broker goes away
			return
		}
		p.say("RECEIPT\nreceipt-id:r-1\n\n\x00")
		heard := p.hear()
		f.note(heard)
		acked = strings.HasPrefix(heard, "ACK\n")
		f.listen(p)
	}
	subscribed(t, SourceSettings{Protocol: "stomp", Subscribe: "/queue/a {\"ack\":\"client\"}\n/queue/b"}, f, func(t *testing.T, k *taking) {
		time.Sleep(20 * time.Second)
		if all := strings.Join(k.texts(), " "); strings.Count(all, "precious") != 1 || !acked {
			t.Errorf("emitted %q; acknowledged: %v; the broker heard %q", all, acked, f.heard)
		}
	})
}
