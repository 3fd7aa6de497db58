//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// eventSourceBytes are what a legacy service sends, by the file of the Web Platform Tests that has the like.
var eventSourceBytes = map[string]string{
	"format-field-data":                   "data:\n\ndata\ndata\n\ndata:test\n\n",
	"event-data":                          "data:one\ndata:two\n\n:\nnofield:three\n\nnofield:four\nData:five\ndata\n\ndata:last\n\n",
	"format-bom":                          "\ufeffdata:1\n\n\ufeffdata:2\n\ndata:3\n\n",
	"format-bom-2":                        "\ufeff\ufeffdata:1\n\ndata:2\n\ndata:3\n\n",
	"format-comments":                     "data:1\r:\x00\n:\r\ndata:2\n:" + strings.Repeat("x", 3000) + "\rdata:3\n:data:none\r:" + strings.Repeat("x", 3000) + "\ndata:4\n\n",
	"format-field-parsing":                "data:  2\rData:9\ndata:1\r\x00data:9\nda-ta:9\rdata_9\ndata:3\rdata:\r\n data:9\ndata:4\n\n",
	"format-field-unknown":                "data:first\n data\ndata\nother:thing\nwordsalone\n:and a comment\ndata:last\n\n",
	"format-leading-space":                "data:\ttab\rdata: \ndata:  one\n\n",
	"format-newlines":                     "data:a\r\ndata\ndata:b\r\n\rdata: c\r\r",
	"format-utf-8":                        "data:ok… 😀\n\n",
	"format-field-retry-empty":            "retry\nretry:\nretry:1000x\ndata:x\n\n",
	"format-data-before-final-empty-line": "data:whole\n\nid:half\ndata:half",
	"format-field-event":                  "event:named\ndata:a\n\ndata:b\n\n",
	"format-field-event-empty":            "event: \ndata:data\n\n",
	"one":                                 "data:one\n\n",
	"quiet":                               ": nothing\n\n",
}

// TestEventSource holds the EventSource of browsers, and SidestreamEventSource, to what the Web Platform Tests ask of one, where its streams are the sidecar's: what is
// sent by a service in every form that text/event-stream allows arrives as it was meant.
func TestEventSource(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("eventsource.js")
	if err != nil {
		t.Fatal(err)
	}
	for name, start := range map[string]func(t *testing.T) browser{
		"chromium": func(t *testing.T) browser { return startChromium(t) },
		"firefox":  func(t *testing.T) browser { return startFirefox(t) },
		"webkit":   func(t *testing.T) browser { return startWebKit(t) },
	} {
		t.Run(name, func(t *testing.T) {
			var r *recorder
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				stream := func(text string) {
					w.Header().Set("Content-Type", "text/event-stream")
					io.WriteString(w, text)
					http.NewResponseController(w).Flush()
				}
				switch path := strings.TrimPrefix(q.URL.Path, "/from/"); path {
				case "/":
					fmt.Fprintf(w, "<!doctype html><script src=/_sidestream/events.js></script><script>%s</script>", script)
				case "/redirect":
					http.Redirect(w, q, "/es/one", http.StatusFound)
				case "/cut":
					r.cut()
				case "refused":
					w.WriteHeader(http.StatusNotFound)
				case "many":
					stream("")
					for n := 1; q.Context().Err() == nil; n++ {
						stream(fmt.Sprintf("data:%d\n\n", n))
						time.Sleep(100 * time.Millisecond)
					}
				default:
					stream(eventSourceBytes[path])
					if path != "format-data-before-final-empty-line" {
						<-q.Context().Done()
					}
				}
			}))
			t.Cleanup(func() { app.CloseClientConnections(); app.Close() })
			s := startSidecar(t, "SSE_UPSTREAM="+app.URL, "SSE_ROUTE_ES_PATH=/es/{name}", "SSE_ROUTE_ES_FROM="+app.URL+"/from/{path.name}?{query}", "SSE_ROUTE_ES_MODE=stream",
				"SSE_ROUTE_ES_START=all", "SSE_RETRY=500ms", "SSE_ROUTE_DONE_PATH=/done", "SSE_ROUTE_DONE_FROM="+app.URL+"/from/one", "SSE_ROUTE_DONE_MODE=stream",
				`SSE_ROUTE_DONE_DATA=.`, "SSE_ROUTE_DONE_DONE=true")
			r = startRecorder(t, s.addr)
			b := start(t)
			for _, of := range []string{"EventSource", "SidestreamEventSource"} {
				b.open(t, "http://"+r.addr()+"/?of="+of)
				var outcome struct {
					Failed []string
					Run    int
				}
				eventually(t, "the page to be done", func() bool {
					text := b.eval(t, "JSON.stringify(globalThis.outcome || null)")
					return text != "null" && json.Unmarshal([]byte(text), &outcome) == nil
				})
				for _, one := range outcome.Failed {
					t.Errorf("%s: %s", of, one)
				}
				if outcome.Run < 30 {
					t.Errorf("%s: only %d were run", of, outcome.Run)
				}
			}
			// request-accept, request-cache-control
			for _, q := range r.to("/es/one") {
				if q.Header.Get("Accept") != "text/event-stream" || q.Header.Get("Cache-Control") != "no-cache" {
					t.Errorf("Accept %q, Cache-Control %q", q.Header.Get("Accept"), q.Header.Get("Cache-Control"))
				}
			}
		})
	}
}
