//go:build e2e

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"sidestream/e2e/legacy"
)

// learned runs learn in front of a service, has clients at work through it, and returns the env file, which check has accepted.
func learned(t *testing.T, service string, use func(front string), words ...string) (file, text string) {
	t.Helper()
	front := freeAddr(t)
	file = filepath.Join(t.TempDir(), "learned.env")
	words = append(append([]string{"learn", "-o", file}, words...), "http://"+service)
	p := launch(t, []string{"SSE_LISTEN=" + front, "SSE_ADMIN_LISTEN=off", "GORACE=exitcode=66"}, binary, words...)
	eventually(t, "learn to watch", func() bool { return strings.Contains(p.stderr.String(), "Ctrl-C ends") })
	use(front)
	p.Process.Signal(os.Interrupt)
	if status := p.wait(t); status != 0 {
		t.Fatalf("learn ended with %d: %s", status, &p.stderr)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := run(t, nil, "-env-file", file, "check"); status != 0 {
		t.Fatalf("check: %s\n%s", stderr, data)
	}
	t.Logf("%s\n%s", &p.stdout, data)
	return file, string(data)
}

// holds fails for each of lines that a learned file has not.
func holds(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("there is no %s in\n%s", line, text)
		}
	}
}

// proves runs compare on a route of a learned file, against the sidecar that serves it, while the service says things; both have to carry the
// same.
func proves(t *testing.T, side *sidecar, file, route string, say func(n int), words ...string) {
	t.Helper()
	p := launch(t, []string{"SSE_LISTEN=" + side.addr, "SSE_ADMIN_LISTEN=off", "SSE_LOG_LEVEL=error", "GORACE=exitcode=66"}, binary,
		append([]string{"-env-file", file, "compare", route, "-for", "5s"}, words...)...)
	every := time.NewTicker(100 * time.Millisecond)
	defer every.Stop()
	for n := 0; ; n++ {
		select {
		case <-p.ended:
			if status := p.wait(t); status != 0 || !strings.HasSuffix(p.stdout.String(), "parity\n") {
				t.Errorf("compare ended with %d:\n%s%s", status, &p.stdout, &p.stderr)
			}
			return
		case <-every.C:
			say(n)
		}
	}
}

// library is the source of a client's, as pages load it.
func library(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("servers/node_modules", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// page opens something at front, which the service need not have a page for, and loads a client's library into it.
func (c *chromium) page(t *testing.T, front, source string) {
	t.Helper()
	c.open(t, "http://"+front+"/_sidestream/events.js")
	if source != "" {
		c.eval(t, "(0, eval)("+strconv.Quote(source)+"); 'loaded'")
	}
	c.eval(t, "window.saw = []; 'begun'")
}

// sees waits until the page has seen n things.
func (c *chromium) sees(t *testing.T, n int) {
	t.Helper()
	eventually(t, "the page to see "+strconv.Itoa(n), func() bool {
		have, _ := strconv.Atoi(c.eval(t, "String(saw.length)"))
		return have >= n
	})
}

// cookie is the value of one that the page has.
func (c *chromium) cookie(t *testing.T, url, name string) string {
	t.Helper()
	got, err := chromedp.Call(c.ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{url}})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range got.Cookies {
		if one.Name == name {
			return one.Value
		}
	}
	t.Fatalf("there is no cookie %s", name)
	return ""
}

// TestLearnFeed learns the demo's price feed from its own page.
func TestLearnFeed(t *testing.T) {
	t.Parallel()
	s := legacy.New()
	s.PingEvery, s.PongWithin = 500*time.Millisecond, 10*time.Second
	addr := startLegacy(t, s)
	file, text := learned(t, addr, func(front string) {
		c := startChromium(t)
		c.page(t, front, "")
		c.eval(t, `{ const ws = new WebSocket("ws://" + location.host + "/ws"); ws.onopen = () => ws.send(JSON.stringify({ type: "subscribe", channel: "prices" }));
			ws.onmessage = (e) => { const m = JSON.parse(e.data); saw.push(m); if (m.type === "ping") ws.send(JSON.stringify({ type: "pong", id: m.id })) }; } "on"`)
		eventually(t, "three pings", func() bool { return c.eval(t, `String(saw.filter((m) => m.type === "ping").length)`) >= "3" })
	})
	holds(t, text, "> {\"type\":\"subscribe\",\"channel\":\"prices\"}\n< .type==\"subscribed\"", `SSE_ROUTE_WS_REPLY=select(.type=="ping")|{"type":"pong","id":.id}`, `SSE_ROUTE_WS_SELECT=select(.type=="ping"|not)`)
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/ws", "retry: ")
	for range 3 {
		events.until(t, `"type":"price"`)
		events.got.Reset()
	}
	proves(t, side, file, "ws", func(int) {})
}

// TestLearnPoll learns a poll of an Express application: of three cookies it looks at one, as the service says itself.
func TestLearnPoll(t *testing.T) {
	t.Parallel()
	h := startHub(t, "orders", "{}")
	var sid string
	file, text := learned(t, h.addr, func(front string) {
		c := startChromium(t)
		c.open(t, "http://"+front+"/")
		c.sees(t, 12)
		sid = c.cookie(t, "http://"+front+"/", "sid")
	}, "-probe")
	holds(t, text, "SSE_ROUTE_ORDERS_FROM=http://"+h.addr+"/api/orders", "SSE_ROUTE_ORDERS_EVERY=200ms", "SSE_ROUTE_ORDERS_HEADERS=Cookie: sid={cookie.sid}", "SSE_ROUTE_ORDERS_SELECT=del(.serverTime)")
	if strings.Contains(text, sid) || strings.Contains(text, "111222333") {
		t.Error("a cookie's value is in the file")
	}
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0\r\nCookie: sid="+sid+"; _ga=x", "/events/orders", `{"orders":[{"id":1,"state":"open"}],"user":"ann"}`)
	resp, err := plain.Post("http://"+h.addr+"/control", "application/json", strings.NewReader(`{"user":"ann","order":{"id":2,"state":"new"}}`))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	events.until(t, `{"orders":[{"id":1,"state":"open"},{"id":2,"state":"new"}],"user":"ann"}`)
	proves(t, side, file, "orders", func(n int) {
		if n%10 == 0 {
			if resp, err := plain.Post("http://"+h.addr+"/control", "application/json", strings.NewReader(`{"user":"ann","order":{"id":`+strconv.Itoa(100+n)+`,"state":"new"}}`)); err == nil {
				resp.Body.Close()
			}
		}
	}, "cookie.sid="+sid)
}

func TestLearnSocketIO(t *testing.T) {
	t.Parallel()
	h := startHub(t, "socketio", "{}")
	file, text := learned(t, h.addr, func(front string) {
		c := startChromium(t)
		c.page(t, front, library(t, "socket.io-client/dist/socket.io.js"))
		c.eval(t, `window.admin = io("/admin", { transports: ["websocket"], auth: { token: "t" } }); admin.on("news", (m) => saw.push(m)); admin.emit("echo", { n: 1 }); admin.on("echoed", (m) => saw.push(m)); "on"`)
		c.sees(t, 1)
		h.emits(t, "/admin", "news", `[{"n":1}]`)
		c.sees(t, 2)
	})
	holds(t, text, "SSE_ROUTE_SOCKETIO_PROTOCOL=socket.io", "SSE_ROUTE_SOCKETIO_SUBSCRIBE=/admin", `SSE_ROUTE_SOCKETIO_CONNECT={"token":"{query.token}"}`, `SSE_ROUTE_SOCKETIO_HELLO=> /admin,["echo",{"n":1}]`)
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/socket.io?token=t", "retry: ")
	events.event(t, "echoed", `{"n":1}`)
	h.emits(t, "/admin", "news", `[{"n":2}]`)
	events.event(t, "news", `{"n":2}`)
	proves(t, side, file, "socketio", func(n int) { h.emits(t, "/admin", "news", `[{"n":`+strconv.Itoa(n)+`}]`) }, "query.token=t")
}

func TestLearnGraphQL(t *testing.T) {
	t.Parallel()
	h := startHub(t, "graphql", "{}")
	file, text := learned(t, h.addr, func(front string) {
		c := startChromium(t)
		c.page(t, front, library(t, "graphql-ws/umd/graphql-ws.js"))
		c.eval(t, `graphqlWs.createClient({ url: "ws://" + location.host + "/graphql", connectionParams: { token: "good" } }).subscribe({ query: "subscription Ticks($r: String) {\n  tick(room: $r) { n }\n}", variables: { r: "a" } },
			{ next: (m) => saw.push(m), error() {}, complete() {} }); "on"`)
		h.ticks(t, "a", map[string]any{"n": 1})
		c.sees(t, 1)
	})
	holds(t, text, "SSE_ROUTE_GRAPHQL_PROTOCOL=graphql-transport-ws", `SSE_ROUTE_GRAPHQL_CONNECT={"token":"{query.token}"}`,
		`SSE_ROUTE_GRAPHQL_SUBSCRIBE={"query":"subscription Ticks($r: String) {\n  tick(room: $r) { n }\n}","variables":{"r":"a"}}`)
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/graphql?token=good", "retry: ")
	h.ticks(t, "a", map[string]any{"n": 2.5})
	events.event(t, "", `{"data":{"tick":{"n":2.5}}}`)
	proves(t, side, file, "graphql", func(n int) { h.ticks(t, "a", map[string]any{"n": n}) }, "query.token=good")
}

func TestLearnActionCable(t *testing.T) {
	t.Parallel()
	h := startRails(t)
	file, text := learned(t, h.addr, func(front string) {
		c := startChromium(t)
		c.page(t, front, library(t, "@rails/actioncable/app/assets/javascripts/actioncable.js"))
		c.eval(t, `ActionCable.createConsumer("ws://" + location.host + "/cable").subscriptions.create({ channel: "ChatChannel", room: "a" }, { received: (m) => saw.push(m) }); "on"`)
		h.chats(t, 1, "a", map[string]any{"n": 1})
		c.sees(t, 1)
	})
	holds(t, text, "SSE_ROUTE_CABLE_PROTOCOL=actioncable", `SSE_ROUTE_CABLE_SUBSCRIBE={"channel":"ChatChannel","room":"a"}`)
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/cable", "retry: ")
	h.chats(t, 1, "a", map[string]any{"n": 2})
	events.event(t, "", `{"n":2}`)
	proves(t, side, file, "cable", func(n int) { h.chats(t, 1, "a", map[string]any{"n": n}) })
}

// TestLearnBayeux learns from Faye's own client in a page.
func TestLearnBayeux(t *testing.T) {
	t.Parallel()
	h := startHub(t, "faye", "{}")
	file, text := learned(t, h.addr, func(front string) {
		c := startChromium(t)
		c.page(t, front, library(t, "faye/client/faye-browser-min.js"))
		c.eval(t, `window.client = new Faye.Client(location.origin + "/bayeux"); client.connect(); "on"`)
		// Until its WebSocket is open, the client sends what it has to say as requests.
		eventually(t, "the client's WebSocket", func() bool { return c.eval(t, `String(client._dispatcher.connectionType)`) == "websocket" })
		c.eval(t, `client.subscribe("/orders/*", (m) => saw.push(m)).then(() => saw.push("on")); "on"`)
		c.sees(t, 1)
		h.tells(t, 1, "/orders/7", map[string]any{"n": 1})
		c.sees(t, 2)
	})
	holds(t, text, "SSE_ROUTE_BAYEUX_PROTOCOL=bayeux", "SSE_ROUTE_BAYEUX_SUBSCRIBE=/orders/*")
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/bayeux", "retry: ")
	h.told(t, "/orders/7", map[string]any{"n": 2})
	events.event(t, "", `{"n":2}`)
	proves(t, side, file, "bayeux", func(n int) { h.told(t, "/orders/7", map[string]any{"n": n}) })
}

// TestLearnSTOMP learns from RabbitMQ's official client in a page.
func TestLearnSTOMP(t *testing.T) {
	t.Parallel()
	r := startRabbit(t)
	file, text := learned(t, r.stomp, func(front string) {
		c := startChromium(t)
		c.page(t, front, library(t, "@stomp/stompjs/bundles/stomp.umd.js"))
		c.eval(t, `{ const client = new StompJs.Client({ brokerURL: "ws://" + location.host + "/ws", connectHeaders: { login: "guest", passcode: "guest", host: "/" } });
			client.onConnect = () => { client.subscribe("/topic/news", (m) => saw.push(m.body)); client.subscribe("/topic/news", () => {}, { receipt: "r" }); client.watchForReceipt("r", () => saw.push("on")) }; client.activate() } "on"`)
		c.sees(t, 1)
		r.publish(t, said("/topic/news", "first"))
		c.sees(t, 2)
	})
	holds(t, text, "SSE_ROUTE_WS_PROTOCOL=stomp", "SSE_ROUTE_WS_CONNECT='\nlogin:guest\npasscode:{query.passcode}\n'", "SSE_ROUTE_WS_SUBSCRIBE=/topic/news")
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/ws?passcode=guest", "retry: ")
	eventually(t, "the subscription", func() bool { return strings.Contains(side.apiStatus(t), `"connected"`) })
	r.publish(t, said("/topic/news", "second"))
	events.event(t, "", "second")
	proves(t, side, file, "ws", func(n int) { r.publish(t, said("/topic/news", "number "+strconv.Itoa(n))) }, "query.passcode=guest")
}

// TestLearnMQTT learns from a page that speaks MQTT 3.1.1 to mosquitto, in bytes by hand.
func TestLearnMQTT(t *testing.T) {
	t.Parallel()
	b := startMosquitto(t, "allow_anonymous true")
	file, text := learned(t, b.ws, func(front string) {
		c := startChromium(t)
		c.page(t, front, "")
		c.eval(t, `{ const ws = new WebSocket("ws://" + location.host + "/mqtt", "mqtt"); ws.binaryType = "arraybuffer";
			const send = (hex) => ws.send(Uint8Array.from(hex.match(/../g), (b) => parseInt(b, 16)));
			ws.onopen = () => send("100e00044d5154540402003c00026331");
			ws.onmessage = (e) => { const kind = new Uint8Array(e.data)[0] >> 4; if (kind === 2) send("82080001"+"0003612f2301"); if (kind === 9 || kind === 3) saw.push(kind) }; } "on"`)
		c.sees(t, 1)
		b.publish(t, "a/b", `{"x":1}`, false)
		c.sees(t, 2)
	})
	holds(t, text, "SSE_ROUTE_MQTT_PROTOCOL=mqtt", "SSE_ROUTE_MQTT_SUBSCRIBE=a/# 1")
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/mqtt", "retry: ")
	eventually(t, "the subscription", func() bool { return strings.Contains(side.apiStatus(t), `"connected"`) })
	b.publish(t, "a/b", `{"x":1}`, false)
	events.event(t, "", `{"x":1}`)
	proves(t, side, file, "mqtt", func(n int) { b.publish(t, "a/b", `{"x":`+strconv.Itoa(n)+`}`, false) })
}

// TestLearnSaysWhatIsNotThere checks that learn does not wait in silence for a service that is not there.
func TestLearnSaysWhatIsNotThere(t *testing.T) {
	t.Parallel()
	service := "http://" + freeAddr(t)
	p := launch(t, []string{"SSE_LISTEN=" + freeAddr(t), "SSE_ADMIN_LISTEN=off", "GORACE=exitcode=66"}, binary, "learn", service)
	eventually(t, "a warning", func() bool {
		return strings.Contains(p.stderr.String(), "warning: "+service+" cannot be reached: connection refused")
	})
}

// TestLearnLeavesFiles checks that learn does not overwrite an existing file, and refuses before it serves anything.
func TestLearnLeavesFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.env")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, stderr := run(t, nil, "learn", "-o", file, "http://127.0.0.1:9")
	if text, err := os.ReadFile(file); status != 2 || err != nil || string(text) != "mine" || !strings.Contains(stderr, "is not overwritten") {
		t.Errorf("%d %q: %s", status, text, stderr)
	}
}
