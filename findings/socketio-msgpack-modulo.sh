#!/usr/bin/env bash
# Guess: socket.io-msgpack-parser says in MessagePack what the default parser says in JSON. A number is any double: integers as far as MessagePack has them, 64 bits,
#   and what is beyond as a double, as each library for MessagePack does it.
# Instead: each number without a fraction goes as an integer of 64 bits, modulo 2 to the 64th. 1e21 arrives as 3875820019684212700, 1e300 as 0, -1e19 as a positive
#   number. Nobody is told. It is so in both directions; 1e300 and the like have no fraction either.
# Version: npm socket.io and socket.io-client 4.8.4, socket.io-msgpack-parser 3.0.2 with notepack.io 2.2.0, Node 20.
# Why it matters: amounts of the smallest unit of a currency and counters are wrong before anybody between the two can see them, once a service takes this parser for speed.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund socket.io@4.8.4 socket.io-client@4.8.4 socket.io-msgpack-parser@3.0.2 notepack.io@2.2.0
cat >numbers.cjs <<'JS'
const { Server } = require("socket.io"), { io } = require("socket.io-client");
const numbers = [2 ** 63, 0.1, 2 ** 64, 1e21, 1e300, -(2 ** 63), -1e19];
(async () => {
  for (const [name, more] of [["default", {}], ["msgpack", { parser: require("socket.io-msgpack-parser") }]]) {
    const server = new Server(0, more);
    server.on("connection", (socket) => socket.emit("numbers", numbers));
    const client = io(`http://127.0.0.1:${server.httpServer.address().port}`, { transports: ["websocket"], ...more });
    const got = await new Promise((done) => client.on("numbers", done));
    console.log(`${name}: ${got.map((number, i) => (number === numbers[i] ? "same" : `${numbers[i]} is ${number}`)).join(", ")}`);
  }
  process.exit();
})();
JS
saw="$(timeout 60 node numbers.cjs)"
echo "$saw"
[ "$saw" = "default: same, same, same, same, same, same, same
msgpack: same, same, 18446744073709552000 is 0, 1e+21 is 3875820019684212700, 1e+300 is 0, same, -10000000000000000000 is 8446744073709552000" ] || { echo "this has changed" >&2; exit 1; }
