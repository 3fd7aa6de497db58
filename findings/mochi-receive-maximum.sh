#!/usr/bin/env bash
# Guess: Receive Maximum 20 has a broker wait with the 21st message of QoS 1 until one of the 20 is acknowledged, and go on from there (MQTT 5, 4.9). To one who
#   acknowledges each at once it is a matter of speed: 300 messages that are published in a burst all come, in order.
# Instead: mochi-mqtt sends the first ones, then for some acknowledgements any one of those that wait, and no more. What is published later does not come either.
#   The connection stands, and its pings are answered. The rest comes with the session's next connection, in no order.
# Version: github.com/mochi-mqtt/server/v2 v2.7.9, Go 1.26.
# Why it matters: a subscriber with a bound, and each should have one, is silent for good after one burst over it, and its liveness checks all pass.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
cat >go.mod <<'MOD'
module see

go 1.26.0
MOD
cat >main.go <<'GO'
package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

const address = "127.0.0.1:18189"

// subscriber has a session of MQTT 5 with a Receive Maximum, and acknowledges whatever comes at once.
type subscriber struct {
	net.Conn
	sync.Mutex
	payloads []int // numbers
	pong     chan bool
}

func open(client byte, receiveMaximum uint16) *subscriber {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	s := &subscriber{Conn: conn, pong: make(chan bool, 1)}
	// CONNECT: no clean start, session expiry 60, Receive Maximum, client identifier
	s.Write([]byte{0x10, 22, 0, 4, 'M', 'Q', 'T', 'T', 5, 0, 0, 0, 8, 0x11, 0, 0, 0, 60, 0x21, byte(receiveMaximum >> 8), byte(receiveMaximum), 0, 1, client})
	go func() {
		for in := bufio.NewReader(conn); ; {
			kind, _ := in.ReadByte()
			n, err := in.ReadByte()
			if err != nil {
				return
			}
			p := make([]byte, n)
			io.ReadFull(in, p)
			switch kind >> 4 {
			case 3: // 00 01 "t", the number of the packet, properties, the payload
				conn.Write([]byte{0x40, 2, p[3], p[4]})
				n, _ := strconv.Atoi(string(p[6+p[5]:]))
				s.Lock()
				s.payloads = append(s.payloads, n)
				s.Unlock()
			case 13:
				s.pong <- true
			}
		}
	}()
	return s
}

// came is what has come since open, after five seconds, which is far more than it takes, and a ping that was answered.
func (s *subscriber) came() []int {
	time.Sleep(5 * time.Second)
	s.Write([]byte{0xc0, 0})
	<-s.pong
	s.Lock()
	defer s.Unlock()
	return slices.Clone(s.payloads)
}

func different(numbers []int) int { return len(slices.Compact(slices.Sorted(slices.Values(numbers)))) }

func main() {
	server := mqtt.New(&mqtt.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	server.AddHook(new(auth.AllowHook), nil)
	server.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: address}))
	server.Serve()
	large, small := open('a', 1000), open('b', 20)
	for _, s := range []*subscriber{large, small} {
		s.Write([]byte{0x82, 7, 0, 1, 0, 0, 1, 't', 1})
	}
	time.Sleep(time.Second)
	for i := range 300 {
		server.Publish("t", []byte(strconv.Itoa(i)), false, 1)
	}
	time.Sleep(3 * time.Second)
	server.Publish("t", []byte("300"), false, 1)
	all, some := large.came(), small.came()
	fmt.Printf("Receive Maximum 1000: %d of 301, in order %v\n", different(all), slices.IsSorted(all))
	fmt.Fprintln(os.Stderr, "Receive Maximum 20:", some)
	fmt.Printf("Receive Maximum 20: fewer %v, in order %v, what was published later %v\n", different(some) < 150, slices.IsSorted(some), slices.Contains(some, 300))
	small.Close()
	time.Sleep(time.Second)
	rest := open('b', 1000).came()
	fmt.Printf("and with the session's next connection: %d of 301\n", different(append(some, rest...)))
}
GO
go get github.com/mochi-mqtt/server/v2@v2.7.9 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
saw="$(go run .)"
echo "$saw"
# Seen, of the second line on stderr: [0 1 2 ... 18 19 23 245 235 51 118 228 181 50 220 65 205 55 62 78 36 219 252 85 122 259]
[ "$saw" = "Receive Maximum 1000: 301 of 301, in order true
Receive Maximum 20: fewer true, in order false, what was published later false
and with the session's next connection: 301 of 301" ] || { echo "this has changed" >&2; exit 1; }
