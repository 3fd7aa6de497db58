#!/usr/bin/env bash
# Guess: the SliceRepository that donovanhide/eventsource and LaunchDarkly's fork of it bring for the replay gives a client that comes back with its last id the events that came after
#   it, in their order: the interface Repository says that these "follow on from" the id. Whatever the ids are, they are looked up.
# Instead: it keeps the events sorted by their ids as text, and gives from the id on, itself included. A client that heard 7 and missed 8 gets 7 again, and 8. One that heard 9 and missed 10
#   and 11 gets 9 again and nothing else: 10 and 11 stand before it, and no reconnect brings them. One that heard 1 and missed up to 11 gets 1, 10, 11, 2, 3 and so on to 9, and has 9
#   for its last id. No error. (Both call the repository an example; there is no other.)
# Version: github.com/donovanhide/eventsource v0.0.0-20210830082556-c59027999da0, github.com/launchdarkly/eventsource v1.11.0, servers with their own clients, Go 1.26.
# Why it matters: tests with a handful of events are well, but for one repetition. Who counts ids from 1 loses events at a cut about the tenth and the
#   hundredth, and, as 9 is the last id after a repetition, at the cuts that follow one. A route with MODE=stream that takes such a server's ids for places (CURSOR=id) tells its clients of no
#   gap, as it is told of none: let the ids be of equal length, with noughts before them.
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
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"

	donovanhide "github.com/donovanhide/eventsource"
	launchdarkly "github.com/launchdarkly/eventsource"
)

type event int

func (e event) Id() string    { return strconv.Itoa(int(e)) }
func (e event) Event() string { return "" }
func (e event) Data() string  { return "event " + strconv.Itoa(int(e)) }

// look has a client that heard the event with an id come back after the newest was published, and tells what it hears.
func look(name string, heard, newest int, serve func(newest int) http.HandlerFunc, listen func(url, id string, ids chan<- string)) {
	web := httptest.NewServer(serve(newest))
	ids := make(chan string)
	go listen(web.URL, strconv.Itoa(heard), ids)
	fmt.Printf("%s: heard %d, missed the others up to %d, hears", name, heard, newest)
	for over := time.After(time.Second); over != nil; {
		select {
		case id := <-ids:
			fmt.Print(" ", id)
		case <-over:
			over = nil
		}
	}
	fmt.Println()
}

func main() {
	for _, c := range [][2]int{{7, 8}, {9, 11}, {1, 11}, {10, 11}} {
		look("donovanhide", c[0], c[1], func(newest int) http.HandlerFunc {
			server, repository := donovanhide.NewServer(), donovanhide.NewSliceRepository()
			server.Register("c", repository)
			for i := 1; i <= newest; i++ {
				repository.Add("c", event(i))
				server.Publish([]string{"c"}, event(i))
			}
			return server.Handler("c")
		}, func(url, id string, ids chan<- string) {
			stream, err := donovanhide.Subscribe(url, id)
			if err != nil {
				panic(err)
			}
			for e := range stream.Events {
				ids <- e.Id()
			}
		})
		look("launchdarkly", c[0], c[1], func(newest int) http.HandlerFunc {
			server, repository := launchdarkly.NewServer(), launchdarkly.NewSliceRepository()
			server.Register("c", repository)
			for i := 1; i <= newest; i++ {
				repository.Add("c", event(i))
				server.Publish([]string{"c"}, event(i))
			}
			return server.Handler("c")
		}, func(url, id string, ids chan<- string) {
			stream, err := launchdarkly.SubscribeWithURL(url, launchdarkly.StreamOptionLastEventID(id))
			if err != nil {
				panic(err)
			}
			for e := range stream.Events {
				ids <- e.Id()
			}
		})
	}
}
GO
go get github.com/donovanhide/eventsource@v0.0.0-20210830082556-c59027999da0 github.com/launchdarkly/eventsource@v1.11.0 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
go run . | tee saw
cat >want <<'TEXT'
donovanhide: heard 7, missed the others up to 8, hears 7 8
launchdarkly: heard 7, missed the others up to 8, hears 7 8
donovanhide: heard 9, missed the others up to 11, hears 9
launchdarkly: heard 9, missed the others up to 11, hears 9
donovanhide: heard 1, missed the others up to 11, hears 1 10 11 2 3 4 5 6 7 8 9
launchdarkly: heard 1, missed the others up to 11, hears 1 10 11 2 3 4 5 6 7 8 9
donovanhide: heard 10, missed the others up to 11, hears 10 11 2 3 4 5 6 7 8 9
launchdarkly: heard 10, missed the others up to 11, hears 10 11 2 3 4 5 6 7 8 9
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
