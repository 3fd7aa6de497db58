#!/usr/bin/env bash
# Guess: a client that comes back with the id of the newest event has missed nothing, and a server that replays by Last-Event-ID sends it nothing again.
# Instead: go-sse's replayers send it all that they have kept. With ids of their own (autoIDs) they do it always; with the program's ids where the number of events that were published is a
#   multiple of the FiniteReplayer's size, or as many as the ValidReplayer has room for at the time (4, 8, 16 ...). A client that missed one event gets that one.
#   What is repeated has its old ids and its old order, and the last id is the same after it as before: so it is at the next cut, too.
# Version: github.com/tmaxmax/go-sse v0.12.0, the server with the client of the same library, Go 1.26.
# Why it matters: a connection that is cut while nothing happens, which is when load balancers cut them, is the usual case, and all clients have everything twice after it. The sidecar sends
#   what comes after an id, and nothing twice; who moves a page to it, or compares the two, must not take the old server's repetitions for events that the sidecar lacks.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
cat >go.mod <<'MOD'
module see

go 1.26.0
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/tmaxmax/go-sse"
)

// look publishes n events while a client listens, cuts its connection, and tells what the client is sent as it comes back, having missed some.
func look(name string, replayer sse.Replayer, ids bool, n, missed int) {
	server := &sse.Server{Provider: &sse.Joe{Replayer: replayer}}
	asked, may := make(chan string, 9), make(chan bool, 9)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Last-Event-ID")
		<-may
		server.ServeHTTP(w, r)
	}))
	publish := func(i int) {
		m := &sse.Message{}
		if ids {
			m.ID = sse.ID(fmt.Sprint(i))
		}
		m.AppendData(fmt.Sprint(i))
		if err := server.Publish(m); err != nil {
			panic(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	request, _ := http.NewRequestWithContext(ctx, "GET", web.URL, nil)
	client := sse.Client{Backoff: sse.Backoff{InitialInterval: 10 * time.Millisecond}}
	connection := client.NewConnection(request)
	heard := make(chan string, 99)
	connection.SubscribeToAll(func(e sse.Event) { heard <- e.Data })
	go connection.Connect()
	<-asked
	may <- true
	time.Sleep(200 * time.Millisecond) // it is subscribed
	for i := range n {
		publish(i)
		<-heard
	}
	web.CloseClientConnections()
	id := <-asked // and waits until it may go on
	for i := range missed {
		publish(n + i)
	}
	may <- true
	fmt.Printf("%s, %d events heard, %d missed, comes back with id %s and hears:", name, n, missed, id)
	for over := time.After(500 * time.Millisecond); over != nil; {
		select {
		case data := <-heard:
			fmt.Print(" ", data)
		case <-over:
			over = nil
		}
	}
	fmt.Println()
	cancel()
	web.CloseClientConnections()
}

func main() {
	finite := func(auto bool) sse.Replayer { r, _ := sse.NewFiniteReplayer(4, auto); return r }
	valid := func(auto bool) sse.Replayer { r, _ := sse.NewValidReplayer(time.Hour, auto); return r }
	for _, n := range []int{2, 3, 4, 5, 8} {
		look("4 kept, autoIDs", finite(true), false, n, 0)
		look("4 kept, own ids", finite(false), true, n, 0)
		look("an hour, autoIDs", valid(true), false, n, 0)
		look("an hour, own ids", valid(false), true, n, 0)
	}
	look("4 kept, autoIDs", finite(true), false, 3, 1)
	look("4 kept, own ids", finite(false), true, 3, 1)
}
GO
go get github.com/tmaxmax/go-sse@v0.12.0 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
go run . | tee saw
cat >want <<'TEXT'
4 kept, autoIDs, 2 events heard, 0 missed, comes back with id 1 and hears: 0 1
4 kept, own ids, 2 events heard, 0 missed, comes back with id 1 and hears:
an hour, autoIDs, 2 events heard, 0 missed, comes back with id 1 and hears: 0 1
an hour, own ids, 2 events heard, 0 missed, comes back with id 1 and hears:
4 kept, autoIDs, 3 events heard, 0 missed, comes back with id 2 and hears: 0 1 2
4 kept, own ids, 3 events heard, 0 missed, comes back with id 2 and hears:
an hour, autoIDs, 3 events heard, 0 missed, comes back with id 2 and hears: 0 1 2
an hour, own ids, 3 events heard, 0 missed, comes back with id 2 and hears:
4 kept, autoIDs, 4 events heard, 0 missed, comes back with id 3 and hears: 0 1 2 3
4 kept, own ids, 4 events heard, 0 missed, comes back with id 3 and hears: 0 1 2 3
an hour, autoIDs, 4 events heard, 0 missed, comes back with id 3 and hears: 0 1 2 3
an hour, own ids, 4 events heard, 0 missed, comes back with id 3 and hears: 0 1 2 3
4 kept, autoIDs, 5 events heard, 0 missed, comes back with id 4 and hears: 1 2 3 4
4 kept, own ids, 5 events heard, 0 missed, comes back with id 4 and hears:
an hour, autoIDs, 5 events heard, 0 missed, comes back with id 4 and hears: 0 1 2 3 4
an hour, own ids, 5 events heard, 0 missed, comes back with id 4 and hears:
4 kept, autoIDs, 8 events heard, 0 missed, comes back with id 7 and hears: 4 5 6 7
4 kept, own ids, 8 events heard, 0 missed, comes back with id 7 and hears: 4 5 6 7
an hour, autoIDs, 8 events heard, 0 missed, comes back with id 7 and hears: 0 1 2 3 4 5 6 7
an hour, own ids, 8 events heard, 0 missed, comes back with id 7 and hears: 0 1 2 3 4 5 6 7
4 kept, autoIDs, 3 events heard, 1 missed, comes back with id 2 and hears: 3
4 kept, own ids, 3 events heard, 1 missed, comes back with id 2 and hears: 3
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
