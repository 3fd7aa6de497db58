#!/usr/bin/env bash
# Guess: the event source of resty, which names the HTML standard as what it follows, ends lines at LF, CRLF or CR, as that says, and drops an event whose end has not come when the stream ends.
# Instead: it waits for two LFs. A stream with CRLF, which sse-starlette sends by default, is one event, which is there when the stream has ended: all data in one text, the name with a CR at its end, at
#   which no listener is, the last id with one, which it comes back with. One with CR is none. With LF an event that was cut in the middle is delivered as it stands, half a JSON text.
# Version: resty.dev/v3 v3.0.0-rc.4, Go 1.26.
# Why it matters: behind such a service a client sees nothing until it is cut off, and no error. The sidecar reads all three and sends LF alone; but what it is killed in the middle of reaches this
#   client as an event: parse what comes, and ask again for what does not parse.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
cat >main.go <<'GO'
package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"resty.dev/v3"
)

func main() {
	for _, end := range []string{"\n", "\r\n", "\r"} {
		service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for n := 1; n <= 3; n++ {
				fmt.Fprint(w, strings.ReplaceAll(fmt.Sprintf("event: price\nid: %d\ndata: {\"n\":%d}\n\n", n, n), "\n", end))
				http.NewResponseController(w).Flush()
				time.Sleep(400 * time.Millisecond)
			}
			fmt.Fprint(w, "event: price"+end+"data: {\"n\":")
		}))
		fmt.Printf("lines end with %q; the stream does after 1.2 s\n", end)
		begun := time.Now()
		source := resty.NewSSESource().SetURL(service.URL).SetRetryCount(0)
		heard := func(e any) {
			m := e.(*resty.SSE)
			fmt.Printf("  %s: %q, id %q: %q\n", map[bool]string{true: "at the end", false: "on the way"}[time.Since(begun) > 1100*time.Millisecond], m.Name, m.ID, m.Data)
		}
		source.OnMessage(heard, nil).AddEventListener("price", heard, nil).AddEventListener("price\r", heard, nil)
		source.OnError(func(err error) { fmt.Println("  error:", err) })
		go source.Get()
		time.Sleep(2 * time.Second)
		source.Close()
		service.CloseClientConnections()
	}
}
GO
export GOFLAGS=-mod=mod GOTOOLCHAIN=local
go mod init look >/dev/null 2>&1
go get resty.dev/v3@v3.0.0-rc.4 >/dev/null 2>&1
go run . | tee seen
diff seen - <<'WANT'
lines end with "\n"; the stream does after 1.2 s
  on the way: "price", id "1": "{\"n\":1}"
  on the way: "price", id "2": "{\"n\":2}"
  on the way: "price", id "3": "{\"n\":3}"
  at the end: "price", id "": "{\"n\":"
lines end with "\r\n"; the stream does after 1.2 s
  at the end: "price\r", id "3\r": "{\"n\":1}\r\n{\"n\":2}\r\n{\"n\":3}\r\n{\"n\":"
lines end with "\r"; the stream does after 1.2 s
WANT
# 2026-12-01: as above.
