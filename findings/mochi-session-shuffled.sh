#!/usr/bin/env bash
# Guess: what a broker has kept for a session whose client was away comes in the order of its publishing once the client is back: a message of one topic and
#   QoS is not to overtake another (MQTT 3.1.1, 4.6). It has no DUP flag: nothing of it was ever sent.
# Instead: mochi-mqtt sends what it kept in another order each time, though none of its messages is missing, and flags each of them as a repetition. Only whole
#   seconds keep their order: what was published in an earlier one comes before. While the client is there everything comes in order.
# Version: github.com/mochi-mqtt/server/v2 v2.7.9, Go 1.26.
# Why it matters: after each reconnect a topic's last event is an old value, where it is a value; numbers of events run backwards. Nothing tells a subscriber so.
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
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

const address = "127.0.0.1:18188"

// connect opens the session "a" of MQTT 3.1.1, which outlives its connections, and is done when CONNACK has come.
func connect() net.Conn {
	c, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	c.Write([]byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0, 0, 1, 'a'})
	io.ReadFull(c, make([]byte, 4))
	return c
}

// read takes n messages, without an acknowledgement, and tells of their order and flags.
func read(c net.Conn, n int) string {
	var payloads []string
	dups, head := 0, make([]byte, 2)
	for range n {
		if _, err := io.ReadFull(c, head); err != nil {
			break
		}
		rest := make([]byte, head[1]) // 00 01 "t", the number of the packet, the payload
		io.ReadFull(c, rest)
		payloads = append(payloads, string(rest[5:]))
		dups += int(head[0] >> 3 & 1)
	}
	fmt.Println(strings.Join(payloads, " "))
	sorted := slices.Sorted(slices.Values(payloads))
	return fmt.Sprintf("%d different messages, in order %v, %d with DUP", len(slices.Compact(slices.Clone(sorted))), slices.Equal(payloads, sorted), dups)
}

func main() {
	s := mqtt.New(&mqtt.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	s.AddHook(new(auth.AllowHook), nil)
	s.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: address}))
	s.Serve()
	publish := func(from rune) {
		for i := range rune(20) {
			s.Publish("t", []byte(string(from+i)), false, 1)
		}
	}
	c := connect()
	c.Write([]byte{0x82, 6, 0, 1, 0, 1, 't', 1})
	io.ReadFull(c, make([]byte, 5))
	publish('A')
	fmt.Println("there:", read(c, 20))
	for i := range 20 { // acknowledged
		c.Write([]byte{0x40, 2, 0, byte(i + 1)})
	}
	time.Sleep(time.Second)
	c.Close()
	time.Sleep(time.Second)
	publish('a')
	fmt.Println("away:", read(connect(), 20))
}
GO
go get github.com/mochi-mqtt/server/v2@v2.7.9 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
go run . | tee seen
# Seen: A B C ... T, and "there: 20 different messages, in order true, 0 with DUP"; j g c t e n ..., and "away: 20 different messages, in order false, 20 with DUP"
[ "$(grep : seen)" = "there: 20 different messages, in order true, 0 with DUP
away: 20 different messages, in order false, 20 with DUP" ] || { echo "this has changed" >&2; exit 1; }
