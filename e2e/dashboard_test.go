//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The dashboard in a browser: what is wrong is first, with what to do; streams are found by a value of their path; events, clients and the log
// are there, by keyboard too, in the light, in the dark and on a phone; and nothing is shown that was told in confidence.
func TestDashboard(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	closed := freeAddr(t)
	s := startSidecar(t, append(feedEnv(f), "SSE_LOG_LEVEL=info", "SSE_ADMIN_PAYLOADS=true", "SSE_TRUSTED_PROXIES=127.0.0.1",
		"SSE_ROUTE_ORDERS_PATH=/orders/{id}", "SSE_ROUTE_ORDERS_FROM=ws://"+closed+"/{path.id}?token={query.token}")...)
	read := func(path, from string) {
		req, _ := http.NewRequest("GET", "http://"+s.addr+path, nil)
		req.Header.Set("Accept", "text/event-stream")
		req.Header.Set("X-Forwarded-For", from)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		read("/ticks", fmt.Sprint("203.0.113.", i))
	}
	for _, id := range []string{"alder", "birch"} {
		read("/orders/"+id+"?token=hunter2-hunter2", "198.51.100.7")
	}
	c := startChromium(t)
	c.open(t, "http://"+s.admin+"/")
	shows := func(what, js string) {
		t.Helper()
		shown(t, c, what, js)
	}
	shows("what is wrong", `text("verdict") === "1 problem" && text("problem-list").includes("orders: upstream down") && text("problem-list").includes("Nothing listens at that address")`)
	shows("routes", `document.querySelectorAll("#route-rows tr").length === 2 && text("route-rows").includes("connection refused")`)
	shows("streams, those in trouble first", `document.querySelectorAll("#stream-rows tr").length === 3 && document.querySelector("#stream-rows tr").textContent.includes("retrying")`)
	shows("clients by the addresses that a trusted proxy gave", `document.querySelectorAll("#client-rows tr").length === 5 && text("address-rows").includes("198.51.100.72") && text("client-rows").includes("203.0.113.1")`)
	shows("the log", `text("lines").includes("sidestream is serving") && text("lines").includes("upstream lost")`)
	c.screenshot(t, "dashboard-light")

	c.eval(t, `document.querySelector("#stream-form [name=q]").focus(), ""`)
	c.keys(t, "birch\r")
	shows("one stream by its path", `document.querySelectorAll("#stream-rows tr").length === 1 && text("stream-rows").includes("id=birch")`)
	c.eval(t, `(() => { const f = document.getElementById("stream-form"); f.elements.q.value = ""; f.elements.route.value = "ticks"; f.requestSubmit(); return "" })()`)
	shows("the other route's stream", `document.querySelectorAll("#stream-rows tr").length === 1 && text("stream-rows").includes("connected")`)
	f.tick(t)
	c.eval(t, `document.querySelector("#stream-rows button").focus(), ""`)
	c.keys(t, "\r")
	shows("its newest events", `text("event-text").includes("data: ") && document.activeElement.id === "events-title"`)

	c.eval(t, `(() => { const l = document.getElementById("level"); l.value = "debug"; l.dispatchEvent(new Event("change")); return "" })()`)
	shows("the level set", `text("log-note").startsWith("The level is debug") && text("lines").includes("level was set")`)
	if all := c.eval(t, `document.documentElement.outerHTML`); strings.Contains(all, "hunter2") {
		t.Error("the page shows a token")
	}
	if wrong := c.eval(t, `performance.getEntriesByType("resource").filter(e => !e.name.startsWith(location.origin)).map(e => e.name).join()`); wrong != "" {
		t.Errorf("it fetched from elsewhere: %s", wrong)
	}
	c.dark(t)
	c.screenshot(t, "dashboard-dark")
	c.narrow(t)
	shows("no more than a phone is wide", `document.documentElement.scrollWidth <= innerWidth`)
	c.screenshot(t, "dashboard-phone")

	s.drain(t)
	shows("that the sidecar is away", `text("verdict") === "no connection to the sidecar"`)
	s.start(t)
	shows("it again", `text("problem-list").includes("Nothing") && text("verdict") === "all well"`)
}
