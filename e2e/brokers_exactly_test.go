//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
)

// packetCutter relays the WebSockets of MQTT to a broker, and cuts the connection at some of the client's packets.
type packetCutter struct {
	addr string
	cuts atomic.Int64
}

// startPacketCutter asks cut about each packet that the client sends, by its type and how many of that type came before it: -1 cuts the connection instead of
// passing it on, 1 right after that, 0 not at all.
func startPacketCutter(t *testing.T, target string, cut func(kind byte, n int) int) *packetCutter {
	t.Helper()
	c := &packetCutter{}
	var counts [16]atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"mqtt"}})
		if err != nil {
			return
		}
		defer client.CloseNow()
		broker, _, err := websocket.Dial(r.Context(), target, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
		if err != nil {
			return
		}
		defer broker.CloseNow()
		ctx, stop := context.WithCancel(r.Context())
		defer stop()
		done := make(chan struct{})
		go func() { // ends with either connection; the handler waits for it
			defer close(done)
			defer stop()
			for {
				kind, data, err := broker.Read(ctx)
				if err != nil || client.Write(ctx, kind, data) != nil {
					return
				}
			}
		}()
		defer func() { stop(); <-done }()
		for {
			kind, data, err := client.Read(ctx)
			if err != nil || len(data) == 0 {
				return
			}
			what := data[0] >> 4
			where := cut(what, int(counts[what].Add(1))-1)
			if where < 0 || broker.Write(ctx, kind, data) != nil || where > 0 {
				if where != 0 {
					c.cuts.Add(1)
				}
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	c.addr = strings.TrimPrefix(server.URL, "http://")
	return c
}

// Packets of QoS 2, by type.
const (
	pubPublish = 3
	pubRec     = 5
	pubRel     = 6
	pubComp    = 7
)

// midHandshake cuts just before or just after a PUBREC or PUBCOMP, for a few of the first forty. More cuts in a row would only test the backoff, which grows with each.
func midHandshake(kind byte, n int) int {
	if kind != pubRec && kind != pubComp || n%9 != 4 || n > 36 {
		return 0
	}
	return map[bool]int{true: 1, false: -1}[n%2 == 0]
}

// exactly publishes with QoS 2.
func (b *broker) exactly(t *testing.T, topic, payload string) {
	t.Helper()
	b.exchange(t, mqttConnect("\x02", "pb")+mqttMessage(t, 4, topic, payload)+"\x62\x02\x00\x01", mqttAccepted+"\x50\x02\x00\x01\x70\x02\x00\x01")
}

// exactlyOnce has a client see numbers, each once, in order, and no gap, over connections that are cut in the middle of QoS 2.
func exactlyOnce(t *testing.T, target, connect string, publish func(n int)) {
	t.Helper()
	const count = 60
	c := startPacketCutter(t, target, midHandshake)
	s := startSidecar(t, hubRoute("mqtt", "ws://"+c.addr, "CONNECT="+connect, "SUBSCRIBE=news 2")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "upstream connected")
	for n := range count {
		publish(n)
	}
	events.event(t, "", strconv.Itoa(count-1))
	eventually(t, "cuts", func() bool { return c.cuts.Load() >= 5 })
	inOrder(t, events.got.String(), count)
}

// inOrder looks for the numbers as events, each once.
func inOrder(t *testing.T, text string, count int) {
	t.Helper()
	var got, want []string
	for line := range strings.Lines(text) {
		if data, ok := strings.CutPrefix(line, "data: "); ok && data != "{}\n" {
			got = append(got, strings.TrimSpace(data))
		}
	}
	for n := range count {
		want = append(want, strconv.Itoa(n))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") || strings.Contains(text, "stream.gap") {
		t.Errorf("got %v\n%s", got, text)
	}
}

func TestDialectMQTTExactlyOnce(t *testing.T) {
	t.Parallel()
	for name, connect := range map[string]string{"5": `{"version":5}`, "3.1.1": `{"clientId":"kept","cleanSession":false}`} {
		t.Run("mosquitto, "+name, func(t *testing.T) {
			t.Parallel()
			b := startMosquitto(t, "allow_anonymous true", "max_queued_messages 10000")
			exactlyOnce(t, "ws://"+b.ws, connect, func(n int) { b.exactly(t, "news", strconv.Itoa(n)) })
		})
	}
	t.Run("aedes", func(t *testing.T) {
		t.Parallel()
		h := startHub(t, "aedes", `{}`)
		exactlyOnce(t, "ws://"+h.addr, `{"clientId":"kept","cleanSession":false}`, func(n int) {
			// Of two that are under way, aedes 1.2.0 takes the second's PUBREC for the first's, and sends the second again when its PUBREL was out.
			eventually(t, "nothing to be under way", func() bool {
				var under int
				h.do(t, map[string]any{"do": "under", "client": "kept"}, &under)
				return under == 0
			})
			h.do(t, map[string]any{"do": "publish", "topic": "news", "payload": strconv.Itoa(n), "qos": 2}, nil)
		})
	})
}

// What clients send with QoS 2 arrives once at the most, and where the broker had it, once; the ones after it arrive in any case.
func TestDialectMQTTSendsOnce(t *testing.T) {
	t.Parallel()
	b := startMosquitto(t, "allow_anonymous true")
	c := startPacketCutter(t, "ws://"+b.ws, func(kind byte, n int) int {
		switch {
		case kind == pubPublish && n == 2, kind == pubRel && n == 4:
			return 1
		case kind == pubRel && n == 0:
			return -1
		}
		return 0
	})
	s := startSidecar(t, hubRoute("mqtt", "ws://"+c.addr, `CONNECT={"clientId":"kept","cleanSession":false}`, "SUBSCRIBE=back 1", "SEND=true")...)
	other := startSidecar(t, hubRoute("mqtt", "ws://"+b.ws, `CONNECT={"version":5}`, "SUBSCRIBE=out 2")...)
	events, sent := ask(t, s.addr, "HTTP/1.0", "/events", "retry: "), ask(t, other.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "upstream connected")
	other.explains(t, "upstream connected")
	for n := range 6 {
		eventually(t, "it is sent", func() bool { return s.posts(fmt.Sprintf(`{"topic":"out","payload":%d,"qos":2}`, n)) })
		sent.event(t, "", strconv.Itoa(n))
	}
	if c.cuts.Load() != 3 {
		t.Errorf("%d cuts", c.cuts.Load())
	}
	inOrder(t, sent.got.String(), 6)
	b.publish(t, "back", "0", false)
	events.event(t, "", "0")
	inOrder(t, events.got.String(), 1)
}

// Where lines overlap a message is one event, also with what is retained and with a shared subscription; the topic is its own.
func TestDialectMosquittoOverlaps(t *testing.T) {
	t.Parallel()
	b := startMosquitto(t, "allow_anonymous true")
	b.publish(t, "news/a", "kept", true)
	r := startRecorder(t, b.ws)
	s := startSidecar(t, hubRoute("mqtt", "ws://"+r.addr(), `CONNECT={"version":5}`, "SUBSCRIBE=news/# 1\nnews/a 2\n$share/team/news/+ 2\n$share/team/orders 1", "EVENT=topic")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	events.event(t, "news/a", "kept")
	for n := range 4 {
		eventually(t, "the connection", func() bool { return s.connects() == 1+n/2 })
		b.exactly(t, "news/a", fmt.Sprint("a", n))
		b.exactly(t, "news/b", fmt.Sprint("b", n))
		b.exactly(t, "orders", fmt.Sprint("o", n))
		events.event(t, "orders", fmt.Sprint("o", n))
		if n == 1 {
			r.cut()
		}
	}
	text := events.got.String()
	for n := range 4 {
		for _, data := range []string{fmt.Sprintf("event: news/a\ndata: a%d\n", n), fmt.Sprintf("event: news/b\ndata: b%d\n", n), fmt.Sprintf("event: orders\ndata: o%d\n", n)} {
			if strings.Count(text, data) != 1 {
				t.Errorf("%q comes %d times: %s", data, strings.Count(text, data), text)
			}
		}
	}
	if strings.Count(text, "data: kept\n") != 1 || strings.Contains(text, "stream.gap") {
		t.Errorf("%s", text)
	}
}

// Two members of a group share its messages.
func TestDialectMosquittoShares(t *testing.T) {
	t.Parallel()
	b := startMosquitto(t, "allow_anonymous true")
	var both []*stream
	for range 2 {
		s := startSidecar(t, hubRoute("mqtt", "ws://"+b.ws, `CONNECT={"version":5}`, "SUBSCRIBE=$share/team/news/# 2\nend", "EVENT=topic")...)
		both = append(both, ask(t, s.addr, "HTTP/1.0", "/events", "retry: "))
		s.explains(t, "upstream connected")
	}
	for n := range 20 {
		b.exactly(t, "news/a", fmt.Sprint("n", n))
	}
	b.exactly(t, "end", "end")
	text := ""
	for _, events := range both {
		events.event(t, "end", "end")
		if strings.Count(events.got.String(), "event: news/a\n") == 0 {
			t.Error("one has nothing")
		}
		text += events.got.String()
	}
	for n := range 20 {
		if strings.Count(text, fmt.Sprintf("data: n%d\n", n)) != 1 {
			t.Errorf("n%d comes %d times", n, strings.Count(text, fmt.Sprintf("data: n%d\n", n)))
		}
	}
}
