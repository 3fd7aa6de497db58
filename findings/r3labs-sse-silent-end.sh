#!/usr/bin/env bash
# Guess: a client of event streams comes back when an answer has ended, with its last id, as browsers do, whether it ended cleanly or was cut. One that took a clean
#   end for the last one would say so: by OnDisconnect, or by closing the channel that it was given for events.
# Instead: r3labs/sse comes back after a cut, and calls OnDisconnect. After a clean end it does nothing of all that. SubscribeChan has long returned nil, the
#   channel stays open and nothing comes by it any more. (Subscribe returns nil then, too, as if it had been told to stop.)
# Version: github.com/r3labs/sse/v2 v2.10.0, Go 1.26.
# Why it matters: each server and proxy that ends answers cleanly when it restarts leaves such clients without events for good, and they look well. Sidestream cuts,
#   but for WebKit over HTTP/2, which this one's Cache-Control is not enough to be taken for.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
cat >go.mod <<'MOD'
module see

go 1.26.0
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/r3labs/sse/v2"
)

// look has a client read answers of one event each, of which the first ends after a moment, and tells what it made of ten seconds.
func look(end string) {
	var requests, disconnects atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := requests.Add(1)
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "id: %d\ndata: event %d, after id %q\n\n", n, n, r.Header.Get("Last-Event-ID"))
		w.(http.Flusher).Flush()
		time.Sleep(500 * time.Millisecond)
		switch {
		case n > 1:
			<-r.Context().Done()
		case end == "cut":
			panic(http.ErrAbortHandler)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	client := sse.NewClient(server.URL)
	client.OnDisconnect(func(*sse.Client) { disconnects.Add(1) })
	events := make(chan *sse.Event)
	if err := client.SubscribeChanRaw(events); err != nil {
		panic(err)
	}
	fmt.Printf("%s:", end)
	open := true
	for over := time.After(10 * time.Second); over != nil; {
		select {
		case e, more := <-events:
			if open = more; !open {
				events = nil
				break
			}
			fmt.Printf(" %s;", e.Data)
		case <-over:
			over = nil
		}
	}
	fmt.Printf(" OnDisconnect %d, the channel is open %v\n", disconnects.Load(), open)
	server.CloseClientConnections()
}

func main() {
	look("cut")
	look("clean end")
}
GO
go get github.com/r3labs/sse/v2@v2.10.0 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
saw="$(go run .)"
echo "$saw"
[ "$saw" = 'cut: event 1, after id ""; event 2, after id "1"; OnDisconnect 1, the channel is open true
clean end: event 1, after id ""; OnDisconnect 0, the channel is open true' ] || { echo "this has changed" >&2; exit 1; }
