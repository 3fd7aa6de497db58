//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/e2e/redistest"
)

// soakDialects are servers of every dialect that has a real one, or one of ours. Each says a number a second; the sidecars' connections to them are severed now and then.
type soakDialects struct {
	env    []string
	feeds  []*soakFeed
	routes []*soakRoute
}

// soakFeed is who says numbers, on one or several routes.
type soakFeed struct {
	name     string
	say      func(t *testing.T, n int64)
	severers []*severer
	severs   time.Duration // about so often
	said     atomic.Int64
}

type soakRoute struct {
	path   string
	feed   *soakFeed
	newest atomic.Int64 // the newest number that a client has got
}

func (d *soakDialects) feed(name string, severs time.Duration, say func(t *testing.T, n int64)) *soakFeed {
	f := &soakFeed{name: name, say: say, severs: severs}
	d.feeds = append(d.feeds, f)
	return f
}

// route has a path of the same name; ADDR in from is that of a severer before addr, and item finds {"n":…} in what comes.
func (d *soakDialects) route(t *testing.T, f *soakFeed, name, protocol, from, addr, item string, settings ...string) {
	t.Helper()
	s := &severer{target: addr}
	f.severers = append(f.severers, s)
	d.routes = append(d.routes, &soakRoute{path: name, feed: f})
	settings = append(settings, "PATH=/"+name, "FROM="+strings.ReplaceAll(from, "ADDR", s.listen(t)), "EVENT=null", "SELECT="+item+"|objects|select(.n)|{n}")
	if protocol != "" {
		settings = append(settings, "PROTOCOL="+protocol)
	}
	for _, s := range settings {
		d.env = append(d.env, "SSE_ROUTE_"+strings.ToUpper(name)+"_"+s)
	}
}

// hub starts a server of servers/, which is given a command for each number.
func (d *soakDialects) hub(t *testing.T, severs time.Duration, name, options string, command func(n int64) map[string]any) (*hub, *soakFeed) {
	t.Helper()
	h := startHub(t, name, options)
	return h, d.feed(name, severs, func(t *testing.T, n int64) { h.do(t, command(n), nil) })
}

func (d *soakDialects) start(t *testing.T, severs time.Duration) {
	t.Helper()
	numbered := func(n int64) map[string]any { return map[string]any{"n": n} }

	d.brokers(t, severs)
	c := startCentrifugo(t)
	f := d.feed("centrifugo", severs, func(t *testing.T, n int64) { c.publish(t, "news", numbered(n)) })
	d.route(t, f, "centrifuge", "centrifuge", "ws://ADDR", c.addr, ".", `CONNECT={"token":"`+c.token(t, "joe", "", 86400)+`"}`, "SUBSCRIBE=news")
	n := startNATS(t)
	n.stream(t, "S", "memory", map[string]any{"max_msgs": 1000})
	f = d.feed("nats", severs, func(t *testing.T, i int64) {
		n.publish(t, "plain.x", fmt.Sprintf(`{"n":%d}`, i))
		n.keep(t, "s.x", fmt.Sprintf(`{"n":%d}`, i))
	})
	d.route(t, f, "nats", "nats", "ws://ADDR", n.ws, ".", natsLogin, "SUBSCRIBE=plain.x")
	d.route(t, f, "jetstream", "nats", "ws://ADDR", n.ws, ".", natsLogin, `SUBSCRIBE=s.x {"stream":"S"}`)
	r := redistest.Start(t)
	f = d.feed("redis", severs, func(t *testing.T, n int64) {
		for _, command := range [][]string{{"XADD", "numbers", "MAXLEN", "1000", "*", "n", fmt.Sprint(n)}, {"PUBLISH", "channel", fmt.Sprintf(`{"n":%d}`, n)}} {
			eventually(t, "Redis to take a command", func() bool {
				_, err := r.Try(command...)
				var dial *net.OpError
				if err != nil && !(errors.As(err, &dial) && dial.Op == "dial") { // it may have been taken
					t.Fatal(err)
				}
				return err == nil
			})
		}
	})
	d.route(t, f, "redisstream", "", "redis://ADDR?stream=numbers", r.Addr, "{n:.n|tonumber}")
	d.route(t, f, "redischannel", "", "redis://ADDR?channel=channel", r.Addr, ".")

	rails := startRails(t)
	chat := func(n int64) map[string]any {
		return map[string]any{"do": "say", "topic": "a", "message": numbered(n)}
	}
	f = d.feed("rails", severs, func(t *testing.T, n int64) { rails.do(t, chat(n), nil) })
	d.route(t, f, "actioncable", "actioncable", "ws://ADDR/cable", rails.addr, ".", `SUBSCRIBE={"channel":"ChatChannel","room":"a"}`)
	h, f := d.hub(t, severs, "anycable", `{}`, chat)
	d.route(t, f, "anycable", "actioncable", "ws://ADDR/cable", h.addr, ".", `SUBSCRIBE={"channel":"ChatChannel","room":"a"}`)
	h, f = d.hub(t, severs, "faye", `{}`, func(n int64) map[string]any {
		return map[string]any{"do": "say", "topic": "/prices", "message": numbered(n)}
	})
	d.route(t, f, "bayeux", "bayeux", "ws://ADDR/bayeux", h.addr, ".", "SUBSCRIBE=/prices")
	d.route(t, f, "bayeuxpolls", "bayeux", "http://ADDR/bayeux", h.addr, ".", "SUBSCRIBE=/prices")
	for protocol, options := range map[string]string{"graphql-transport-ws": `{}`, "graphql-ws": `{"legacy":true,"pings":10000}`} {
		h, f := d.hub(t, severs, "graphql", options, func(n int64) map[string]any {
			return map[string]any{"do": "say", "topic": "a", "tick": numbered(n)}
		})
		f.name = protocol
		d.route(t, f, strings.ReplaceAll(protocol, "-", ""), protocol, "ws://ADDR/graphql", h.addr, ".data.tick", "SUBSCRIBE=subscription { tick { n } }")
	}
	for name, options := range map[string]string{"socketio": `{"recovery":true}`, "socketiopacked": `{"msgpack":true}`, "socketio2": `{"version":2}`} {
		h, f := d.hub(t, severs, "socketio", options, func(n int64) map[string]any {
			return map[string]any{"do": "emit", "topic": "/", "name": "tick", "args": []any{numbered(n)}}
		})
		f.name = name
		d.route(t, f, name, map[string]string{"socketio": "socket.io", "socketiopacked": "socket.io+msgpack", "socketio2": "socket.io-v2"}[name], "ws://ADDR", h.addr, ".")
	}
	h, f = d.hub(t, severs, "sockjs", `{}`, func(n int64) map[string]any {
		return map[string]any{"do": "emit", "text": fmt.Sprintf(`{"n":%d}`, n)}
	})
	d.route(t, f, "sockjs", "sockjs", "ws://ADDR/echo", h.addr, ".")
	h, f = d.hub(t, severs, "parse", `{"session":"r:ann.token","ping":10000}`, func(n int64) map[string]any {
		object := func(n int64) map[string]any {
			return map[string]any{"className": "Order", "objectId": "a", "state": "open", "n": n}
		}
		return map[string]any{"do": "save", "object": object(n), "original": object(n - 1)}
	})
	d.route(t, f, "parse", "parse", "ws://ADDR", h.addr, ".object", parseKeys, "SUBSCRIBE=Order")
	for protocol, name := range map[string]string{"signalr": "signalr", "signalr+msgpack": "signalrpacked"} {
		h, f := d.hub(t, severs, "signalr", `{}`, func(n int64) map[string]any {
			return map[string]any{"do": "send", "records": []any{invocation("Tick", numbered(n))}}
		})
		f.name = name
		d.route(t, f, name, protocol, "ws://ADDR/hub", h.addr, ".")
	}
	h, f = d.hub(t, severs, "signalrclassic", `{}`, func(n int64) map[string]any {
		return map[string]any{"do": "publish", "hub": "Chat", "group": "red", "calls": []any{[]any{"tick", []any{numbered(n)}}}}
	})
	d.route(t, f, "signalrclassic", "signalr-classic", "ws://ADDR/signalr", h.addr, ".", `SUBSCRIBE=Chat.Join ["red"]`)
	h, f = d.hub(t, severs, "wamp", `{}`, func(n int64) map[string]any {
		return map[string]any{"do": "publish", "topic": "com.acme.price", "args": []any{}, "kwargs": numbered(n)}
	})
	d.route(t, f, "wamp", "wamp", "ws://ADDR/ws", h.addr, ".kwargs", `CONNECT={"realm":"open"}`, "SUBSCRIBE=com.acme.price")
	h, f = d.hub(t, severs, "webpubsub", `{}`, func(n int64) map[string]any {
		return map[string]any{"do": "publish", "group": "chat", "values": []any{numbered(n)}}
	})
	d.route(t, f, "webpubsub", "webpubsub", "ws://ADDR/client/hubs/chat?access_token=good", h.addr, ".", "SUBSCRIBE=chat")
	h, f = d.hub(t, severs, "appsync", `{}`, func(n int64) map[string]any {
		return map[string]any{"do": "publish", "topic": "/default/news", "events": []string{fmt.Sprintf(`{"n":%d}`, n)}}
	})
	d.route(t, f, "appsync", "appsync", "ws://ADDR/event/realtime", h.addr, ".", appSyncKey, "SUBSCRIBE=/default/news")
	h, f = d.hub(t, severs, "jsonrpc", `{}`, func(n int64) map[string]any {
		return map[string]any{"do": "say", "topic": "slot", "results": []any{numbered(n)}}
	})
	d.route(t, f, "jsonrpc", "jsonrpc", "ws://ADDR/", h.addr, ".", "SUBSCRIBE=slotSubscribe")
	h, f = d.hub(t, severs, "phoenix", `{}`, func(n int64) map[string]any {
		return map[string]any{"do": "broadcast", "topic": "room:lobby", "event": "tick", "payload": numbered(n)}
	})
	d.route(t, f, "phoenix", "phoenix", "ws://ADDR/socket?token=t", h.addr, ".", "SUBSCRIBE=room:lobby")
	h, f = d.hub(t, severs, "ddp", `{"ping":10000}`, func(n int64) map[string]any {
		return map[string]any{"do": "put", "collection": "prices", "id": "p", "fields": numbered(n)}
	})
	d.route(t, f, "ddp", "ddp", "ws://ADDR", h.addr, ".fields", "SUBSCRIBE=prices")
}

// brokers are those of MQTT and STOMP, without sessions: what is said meanwhile is a gap.
func (d *soakDialects) brokers(t *testing.T, severs time.Duration) {
	t.Helper()
	b := startMosquitto(t, "allow_anonymous true")
	f := d.feed("mosquitto", severs, func(t *testing.T, n int64) { b.publish(t, "news", fmt.Sprintf(`{"n":%d}`, n), false) })
	d.route(t, f, "mqtt", "mqtt", "ws://ADDR", b.ws, ".", "SUBSCRIBE=news 0")
	d.route(t, f, "mqtt5", "mqtt", "ws://ADDR", b.ws, ".", `CONNECT={"version":5}`, "SUBSCRIBE=news 0")
	h, f := d.hub(t, severs, "aedes", `{"password":"secret"}`, func(n int64) map[string]any {
		return map[string]any{"do": "publish", "topic": "news", "payload": fmt.Sprintf(`{"n":%d}`, n)}
	})
	d.route(t, f, "aedes", "mqtt", "ws://ADDR", h.addr, ".", `CONNECT={"username":"joe","password":"secret"}`, "SUBSCRIBE=news 0")
	r := startRabbit(t)
	f = d.feed("rabbit", severs, nil)
	say := r.publisher(t)
	f.say = func(t *testing.T, n int64) { say(t, "/topic/news", fmt.Sprintf(`{"n":%d}`, n)) }
	d.route(t, f, "stomp", "stomp", "ws://ADDR/ws", r.stomp, ".", login, "SUBSCRIBE=/topic/news")
	d.route(t, f, "rabbitmqtt", "mqtt", "ws://ADDR/ws", r.mqtt, ".", `CONNECT={"username":"guest","password":"guest"}`, "SUBSCRIBE=news 0")
}

// publisher says things over one connection, each confirmed by a receipt: the official client would be a process for each of them. It connects with the first,
// as RabbitMQ closes a WebSocket that is silent for a minute, which building the other servers may take.
func (r *rabbit) publisher(t *testing.T) func(t *testing.T, destination, body string) {
	t.Helper()
	var ws *websocket.Conn
	asks := func(t *testing.T, frame, answer string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := ws.Write(ctx, websocket.MessageText, []byte(frame+"\x00")); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.Read(ctx); err != nil || !strings.HasPrefix(string(got), answer) {
			t.Fatalf("%q is answered with %q, %v", frame, got, err)
		}
	}
	t.Cleanup(func() {
		if ws != nil {
			ws.CloseNow()
		}
	})
	return func(t *testing.T, destination, body string) {
		t.Helper()
		if ws == nil {
			var err error
			if ws, _, err = websocket.Dial(patient(t), "ws://"+r.stomp+"/ws", &websocket.DialOptions{Subprotocols: []string{"v12.stomp"}}); err != nil {
				t.Fatal(err)
			}
			asks(t, "CONNECT\nlogin:guest\npasscode:guest\naccept-version:1.2\n\n", "CONNECTED\n")
		}
		asks(t, "SEND\ndestination:"+destination+"\nreceipt:r\n\n"+body, "RECEIPT\n")
	}
}

// say has all say their numbers until ctx is done. Each is a subtest of its own, which may fail where it is.
func (d *soakDialects) say(ctx context.Context, t *testing.T, all *sync.WaitGroup) {
	for _, f := range d.feeds {
		all.Go(func() { t.Run(f.name, func(t *testing.T) { f.run(ctx, t) }) }) // ends with ctx
	}
}

func (f *soakFeed) run(ctx context.Context, t *testing.T) {
	due := time.Now().Add(f.severs/2 + rand.N(f.severs))
	for ctx.Err() == nil {
		n := f.said.Load() + 1
		f.say(t, n)
		f.said.Store(n)
		if time.Now().After(due) {
			for _, s := range f.severers {
				s.sever(rand.N(2) == 0)
			}
			due = time.Now().Add(f.severs/2 + rand.N(f.severs))
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second/2 + rand.N(time.Second)):
		}
	}
}

// look holds what clients have got against what was said: to the end, but for the last reconnect.
func (d *soakDialects) look(t *testing.T) {
	for _, r := range d.routes {
		said, newest := r.feed.said.Load(), r.newest.Load()
		if newest < said-60 {
			t.Errorf("%s has said %d, and its clients have got up to %d", r.path, said, newest)
		}
	}
	if len(d.routes) > 0 {
		t.Logf("%d routes of dialects", len(d.routes))
	}
}
