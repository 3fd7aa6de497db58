//go:build e2e

package e2e

import (
	"fmt"
	"testing"
)

// TestLearnCentrifuge learns from Centrifugo's own client.
func TestLearnCentrifuge(t *testing.T) {
	t.Parallel()
	c := startCentrifugo(t)
	file, text := learned(t, c.addr, func(front string) {
		page := official(t, "centrifuge", "ws://"+front+"/connection/websocket", `{"subscribe":["news","plain:a"]}`)
		page.shows(t, `{"subscribed":"news"}`)
		page.shows(t, `{"subscribed":"plain:a"}`)
		c.publish(t, "news", map[string]any{"n": 1})
		page.shows(t, `{"channel":"news","data":{"n":1}}`)
	})
	holds(t, text, "_PROTOCOL=centrifuge", "news\nplain:a", "_EVENT=topic")
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/connection/websocket", "retry: ")
	side.explains(t, "upstream connected")
	c.publish(t, "plain:a", map[string]any{"n": 2})
	events.event(t, "plain:a", `{"n":2}`)
	proves(t, side, file, "connection", func(n int) { c.publish(t, "news", map[string]any{"n": n}) })
}

// TestLearnNATS learns from the official client of NATS. Its password is not in the file.
func TestLearnNATS(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	file, text := learned(t, n.ws, func(front string) {
		page := official(t, "nats", "ws://"+front+"/nats", `{"connect":{"user":"all","pass":"s3cret-word"},"subscribe":["news.*"]}`)
		page.shows(t, `{"subscribed":["news.*"]}`)
		n.publish(t, "news.a", "1")
		page.shows(t, `{"subject":"news.a","text":"1"}`)
	})
	holds(t, text, "SSE_ROUTE_NATS_PROTOCOL=nats", "SSE_ROUTE_NATS_SUBSCRIBE=news.*", `SSE_ROUTE_NATS_CONNECT={"pass":"{query.pass}","user":"all"}`)
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/nats?pass=s3cret-word", "retry: ")
	side.explains(t, "upstream connected")
	n.publish(t, "news.b", "2")
	events.event(t, "", "2")
	proves(t, side, file, "nats", func(i int) { n.publish(t, "news.a", fmt.Sprint(i)) }, "query.pass=s3cret-word")
}

// TestLearnSignalRClassic learns from the official client of ASP.NET SignalR, which runs in browsers.
func TestLearnSignalRClassic(t *testing.T) {
	t.Parallel()
	h := startHub(t, "signalrclassic", `{}`)
	file, text := learned(t, h.addr, func(front string) {
		page := classicPage(t, front, "webSockets")
		h.invokes(t, "red", "tick", 1)
		page.shows(t, `{"tick":[1]}`)
	})
	holds(t, text, "_PROTOCOL=signalr-classic", `_SUBSCRIBE=chat.Join ["red"]`, "_FROM=ws://"+h.addr+"/signalr")
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/signalr/connect", "retry: ")
	side.explains(t, "upstream connected")
	h.invokes(t, "red", "tick", 2)
	events.event(t, "tick", "2")
	proves(t, side, file, "connect", func(n int) { h.invokes(t, "red", "tick", n) })
}

// TestLearnWebPubSub learns from the official client of Azure Web PubSub. Its token is not in the file.
func TestLearnWebPubSub(t *testing.T) {
	t.Parallel()
	h := startHub(t, "webpubsub", `{}`)
	file, text := learned(t, h.addr, func(front string) {
		page := official(t, "webpubsub", "ws://"+front+"/client/hubs/chat?access_token=good", `{"subscribe":["chat"]}`)
		page.shows(t, `{"joined":"chat"}`)
		h.delivers(t, "chat", 1)
		page.shows(t, `{"group":"chat","data":1}`)
	})
	holds(t, text, "_PROTOCOL=webpubsub", "_SUBSCRIBE=chat")
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/client/hubs/chat?access_token=good", "retry: ")
	side.explains(t, "upstream connected")
	h.delivers(t, "chat", 2)
	events.event(t, "", "2")
}
