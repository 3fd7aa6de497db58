//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// chat is what a page's WebSocket has said and heard: numbers, in order. Plain and Streams are its POSTs, by what their bodies are.
type chat struct {
	Sent, Heard, Plain, Streams int
	Ended                       int  // of Streams
	Refused, Whole              int  // of them; Whole are those that the page has ended
	Calm                        bool // for a while
	Wrong                       string
}

// startChat opens always.html, runs first in it, and has it send a number every few milliseconds. What it sends beside them is larger.
func startChat(t *testing.T, c *chromium, addr string, first ...string) {
	t.Helper()
	c.open(t, "https://"+addr+"/always.html")
	for _, js := range first {
		c.eval(t, js)
	}
	c.eval(t, `(() => {
		const chat = window.chat = { sent: 0, heard: 0, plain: 0, streams: 0, ended: 0, refused: 0, whole: 0, wrong: "" }, send = window.fetch;
		window.fetch = (url, options) => {
			const goesOn = options.body instanceof ReadableStream, answer = send(url, options);
			chat[goesOn ? "streams" : "plain"]++;
			if (goesOn) answer.catch(() => {}).then(got => (chat.ended++, chat.refused += got?.status > 399, chat.whole += got?.status === 204));
			return answer;
		};
		const ws = chat.ws = new WebSocket("/echo");
		ws.onmessage = ({ data }) => data.startsWith("large") || (chat.wrong += data === "n" + chat.heard++ ? "" : data + " for " + (chat.heard - 1) + ", ");
		ws.onclose = ({ code }) => chat.wrong += "closed with " + code;
		ws.onopen = () => chat.timer = setInterval(() => ws.send("n" + chat.sent++), 5);
		return "";
	})()`)
}

func seeChat(t *testing.T, c *chromium) (now chat) {
	t.Helper()
	if err := json.Unmarshal([]byte(c.eval(t, "JSON.stringify({ ...chat, ws: 0 })")), &now); err != nil {
		t.Fatal(err)
	}
	if now.Wrong != "" {
		t.Fatalf("not each number once and in order: %s", now.Wrong)
	}
	return now
}

// chatUntil returns what the chat is like once enough says so.
func chatUntil(t *testing.T, c *chromium, what string, enough func(chat) bool) (now chat) {
	t.Helper()
	eventually(t, what, func() bool { now = seeChat(t, c); return enough(now) })
	return now
}

// flows wants messages that cost no POST, once n bodies that go on have ended.
func flows(t *testing.T, c *chromium, n int) { t.Helper(); flow(t, c, n, 100) }

func flow(t *testing.T, c *chromium, n, messages int) {
	t.Helper()
	before := chatUntil(t, c, "a body that goes on", func(now chat) bool { return now.Streams > n })
	chatUntil(t, c, "messages that come by it", func(now chat) bool {
		if now.Plain > before.Plain+2 { // it took its time to begin
			before = now
		}
		return now.Heard > before.Heard+messages
	})
}

// endChat wants all that was said to be heard.
func endChat(t *testing.T, c *chromium) chat {
	t.Helper()
	c.eval(t, "clearInterval(chat.timer), ''")
	return chatUntil(t, c, "all to be heard", func(now chat) bool { return now.Heard == now.Sent })
}

// Chromium sends all in one POST over HTTP/2, and does not lose or double anything when that is cut; over HTTP/1.1 it sends as others do.
func TestTunnelStreams(t *testing.T) {
	t.Parallel()
	s := startSidecar(t, append(keyPair(t), "SSE_UPSTREAM=http://"+startTunnelServer(t, ""), "SSE_TUNNEL=/echo", "SSE_DRAIN=200ms")...)
	streams := func() float64 { return metric(t, s, "sidestream_tunnel_streams_total") }
	t.Run("HTTP/2", func(t *testing.T) {
		c, l := startChromium(t), startHole(t, s.addr)
		startChat(t, c, l.addr)
		for n := range 3 {
			flows(t, c, n)
			if got := streams(); got < float64(n+1) {
				t.Errorf("the sidecar has had %v, want the page's %d", got, n+1)
			}
			if n == 1 { // in the middle of a large message
				c.eval(t, `chat.ws.send("large".repeat(40000)), ""`)
			}
			l.cut(cutReset)
		}
		// What never came is sent again, although nothing else is sent or acknowledged after it.
		flows(t, c, 3)
		endChat(t, c)
		c.eval(t, `setTimeout(() => chat.calm = true, 500), ""`)
		chatUntil(t, c, "the last acknowledgement", func(now chat) bool { return now.Calm })
		l.silence(true)
		c.eval(t, `for (let n = 0; n < 100; n++) chat.ws.send("n" + chat.sent++); ""`)
		l.silence(false)
		l.cut(cutReset)
		endChat(t, c)
	})
	t.Run("silence", func(t *testing.T) { // says nothing about bodies
		c, l := startChromium(t), startHole(t, s.addr)
		startChat(t, c, l.addr)
		for n := range 2 {
			flows(t, c, n)
			l.silence(true)
			chatUntil(t, c, "it to be given up", func(now chat) bool { return now.Ended > n })
			l.silence(false)
			l.cut(cutReset)
		}
		flows(t, c, 2)
		endChat(t, c)
	})
	t.Run("a replica that has not got the page", func(t *testing.T) { // is not asked again and again
		c := startChromium(t)
		startChat(t, c, s.addr, `(() => {
			const send = window.fetch;
			window.fetch = (url, options) => options.body instanceof ReadableStream ? Promise.resolve(new Response("", { status: 503 })) : send(url, options);
			return "";
		})()`)
		chatUntil(t, c, "it to be tried", func(now chat) bool { return now.Refused > 0 })
		before := seeChat(t, c)
		chatUntil(t, c, "much more", func(now chat) bool { return now.Heard > before.Heard+1000 })
		if now := endChat(t, c); now.Streams != 1 {
			t.Errorf("tried %d times, want once", now.Streams)
		}
	})
	t.Run("other cookies", func(t *testing.T) { // are found out, since no body goes on for long
		c := startChromium(t)
		startChat(t, c, s.addr, `(() => {
			const send = window.fetch, later = setTimeout;
			let opening = false; // what it begins to wait for is shorter
			window.fetch = (url, options) => {
				if (options.body instanceof ReadableStream) {
					opening = true;
					queueMicrotask(() => opening = false);
				}
				return send(url, options);
			};
			window.setTimeout = (run, ms) => opening && ms === 30000 ? later(() => {
				opening = true;
				run();
				opening = false;
			}, 1000) : later(run, ms);
			return "";
		})()`)
		chatUntil(t, c, "another body", func(now chat) bool { return now.Whole > 0 && now.Streams > now.Whole })
		c.eval(t, `document.cookie = "who=another", ""`)
		eventually(t, "the end", func() bool { return c.eval(t, "chat.wrong") == "closed with 1006" })
	})
	t.Run("upstreams that do not answer to a close", func(t *testing.T) { // say nothing about bodies
		c, l := startChromium(t), startHole(t, s.addr)
		startChat(t, c, l.addr)
		flows(t, c, 0)
		before := seeChat(t, c)
		c.eval(t, `(() => {
			for (let n = 0; n < 2; n++) {
				const ws = new WebSocket("/echo");
				ws.onopen = () => (ws.send("deaf"), setInterval(() => ws.readyState === 1 && ws.send("large"), 20));
				setTimeout(() => ws.close(4000), 3000);
				ws.onclose = () => chat.deaf = (chat.deaf || 0) + 1;
			}
			return "";
		})()`)
		eventually(t, "their ends", func() bool { return c.eval(t, "String(chat.deaf)") == "2" })
		if now := seeChat(t, c); now.Streams < before.Streams+2 {
			t.Errorf("%d bodies, want theirs too", now.Streams-before.Streams)
		}
		l.cut(cutReset)
		flows(t, c, seeChat(t, c).Streams)
		endChat(t, c)
	})
	t.Run("HTTP/1.1", func(t *testing.T) {
		before := streams()
		c := startChromium(t, chromedp.Flag("disable-http2", true))
		startChat(t, c, s.addr)
		chatUntil(t, c, "messages", func(now chat) bool { return now.Heard > 100 })
		if now := endChat(t, c); now.Streams != 0 || streams() != before {
			t.Errorf("%d bodies that go on were tried", now.Streams)
		}
	})
}

// A proxy that holds bodies until they end is found out, at no cost to what is sent. One that does not, and that bounds a body, gets several.
func TestTunnelStreamsThroughNginx(t *testing.T) {
	t.Parallel()
	s := startSidecar(t, "SSE_UPSTREAM=http://"+startTunnelServer(t, ""), "SSE_TUNNEL=/echo", "SSE_DRAIN=200ms")
	holding, passing, lacking := freeAddr(t), freeAddr(t), freeAddr(t)
	var servers strings.Builder
	pair := keyPair(t)
	for addr, buffering := range map[string]string{holding: "on", passing: "off", lacking: "off"} {
		fmt.Fprintf(&servers, "  server {\n    listen %s ssl http2;\n", addr)
		for _, setting := range pair {
			name, path, _ := strings.Cut(setting, "=")
			fmt.Fprintf(&servers, "    %s %s;\n", map[string]string{"SSE_TLS_CERT": "ssl_certificate", "SSE_TLS_KEY": "ssl_certificate_key"}[name], path)
		}
		if addr == lacking {
			servers.WriteString("    location = /_sidestream/upward.mjs { return 404; }\n")
		}
		fmt.Fprintf(&servers, "    location / { proxy_pass http://%s; proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_request_buffering %s; }\n  }\n", s.addr, buffering)
	}
	runNginx(t, servers.String(), "return 404;")
	t.Run("holding", func(t *testing.T) {
		c := startChromium(t)
		startChat(t, c, holding)
		left := chatUntil(t, c, "a body that goes on to be tried, and given up", func(now chat) bool { return now.Ended > 0 })
		if left.Heard == 0 || left.Heard < left.Sent/2 {
			t.Errorf("%d of %d messages were heard meanwhile", left.Heard, left.Sent)
		}
		chatUntil(t, c, "what is sent after that", func(now chat) bool { return now.Heard > left.Sent+300 })
		if now := endChat(t, c); now.Streams != 1 {
			t.Errorf("%d were tried, want one", now.Streams)
		}
	})
	t.Run("passing", func(t *testing.T) {
		c := startChromium(t)
		startChat(t, c, passing)
		flows(t, c, 0)
		for range 4 { // nginx answers 413 to a body of more than 1 MiB
			c.eval(t, `for (let n = 0; n < 4; n++) chat.ws.send("large".repeat(20000)); ""`)
			before := seeChat(t, c)
			chatUntil(t, c, "what follows", func(now chat) bool { return now.Heard > before.Sent })
		}
		flows(t, c, 1)
		endChat(t, c)
	})
	t.Run("lacking", func(t *testing.T) {
		c := startChromium(t)
		startChat(t, c, lacking)
		eventually(t, "the script to be asked for", func() bool {
			return c.eval(t, `String(performance.getEntriesByType("resource").some(({ name }) => name.endsWith("upward.mjs")))`) == "true"
		})
		chatUntil(t, c, "messages", func(now chat) bool { return now.Heard > 100 })
		if problems := c.eval(t, "problems.join()"); endChat(t, c).Streams != 0 || problems != "" {
			t.Error(problems)
		}
	})
	t.Run("passing, to the last byte", func(t *testing.T) {
		c := startChromium(t)
		startChat(t, c, passing, `(() => {
			const often = setInterval;
			window.setInterval = run => often(run, 200);
			return "";
		})()`)
		flow(t, c, 0, 3)
		endChat(t, c)
		for n, size := range []int{40, 40, 40, 0} {
			c.eval(t, fmt.Sprintf(`chat.ws.send("large".padEnd((256 << 10) - %d)), chat.ws.send("n" + chat.sent++), ""`, size))
			chatUntil(t, c, fmt.Sprint("message ", n), func(now chat) bool { return now.Heard == now.Sent })
		}
		if now := chatUntil(t, c, "its end", func(now chat) bool { return now.Ended > 0 }); now.Refused > 0 {
			t.Errorf("%d were refused", now.Refused)
		}
	})
}
