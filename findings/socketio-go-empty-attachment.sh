#!/usr/bin/env bash
# Guess: a server with connection state recovery sends a client that comes back the very packets that it has missed, as it sent them to the others; that
#   they have the same offsets says so. What a Go server is given as binary it can pass on to its other clients in an event of its own.
# Instead: with socket.io for Go what arrives as binary is a buffer that is used up when it is sent. The client that was there has the bytes. The one that
#   comes back is told that it has recovered, and has the event, its other arguments and its offset, with a binary argument of no bytes.
# Version: github.com/zishang520/socket.io/servers/socket/v3 v3.0.6, Go 1.26; npm socket.io-client 4.8.4, Node 20.
# Why it matters: an exact resume is not exact, and no gap can be told. A server that passes binary on has to make a []byte of it first.
set -euo pipefail
cd "$(mktemp -d)"; trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$PWD"' EXIT
cat >go.mod <<'MOD'
module see

go 1.26.0
MOD
cat >main.go <<'GO'
package main

import (
	"io"
	"net/http"

	"github.com/zishang520/socket.io/servers/socket/v3"
)

func main() {
	recovery := socket.DefaultConnectionStateRecovery()
	recovery.SetMaxDisconnectionDuration(60000)
	options := socket.DefaultServerOptions()
	options.SetConnectionStateRecovery(recovery)
	server := socket.NewServer(nil, options)
	server.On("connection", func(clients ...any) {
		client := clients[0].(*socket.Socket)
		client.Emit("welcome")                 // has an offset, without which nothing is recovered
		client.On("say", func(said ...any) { // passed on to everybody, as it came and as bytes
			server.Emit("said", said...)
		})
		client.On("say bytes", func(said ...any) {
			bytes, _ := io.ReadAll(said[1].(io.Reader))
			server.Emit("said", said[0], bytes)
		})
	})
	http.Handle("/socket.io/", server.ServeHandler(nil))
	panic(http.ListenAndServe("127.0.0.1:18190", nil))
}
GO
go get github.com/zishang520/socket.io/servers/socket/v3@v3.0.6 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
go build -o server .
./server &
npm init -y >/dev/null && npm install --silent --no-audit --no-fund socket.io-client@4.8.4
cat >clients.cjs <<'JS'
const { io } = require("socket.io-client");
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const open = async (more) => {
  const socket = io("http://127.0.0.1:18190", { transports: ["websocket"], forceNew: true, reconnectionDelay: 1000, randomizationFactor: 0, ...more });
  socket.got = [];
  socket.on("said", (text, binary) => socket.got.push(`${text} ${binary.length}`));
  await new Promise((done) => socket.on("welcome", done));
  return socket;
};
(async () => {
  const there = await open(), away = await open();
  const say = async (...what) => { there.emit(...what); await wait(300); };
  await say("say", "before", Buffer.alloc(5));
  away.io.engine.close(); // and comes back a second later
  await wait(300);
  await say("say", "passed on", Buffer.alloc(5));
  await say("say bytes", "as bytes", Buffer.alloc(5));
  await new Promise((done) => (away.connected ? done() : away.on("connect", done)));
  await wait(1000);
  console.log(`there: ${there.got.join(", ")}`);
  console.log(`recovered ${away.recovered}: ${away.got.join(", ")}`);
  process.exit();
})();
JS
saw="$(timeout 60 node clients.cjs)"
echo "$saw"
# Each with how many bytes it has.
[ "$saw" = "there: before 5, passed on 5, as bytes 5
recovered true: before 5, passed on 0, as bytes 5" ] || { echo "this has changed" >&2; exit 1; }
