#!/usr/bin/env bash
# Guess: fetch opens a connection where none is free, up to what the system's descriptors allow, as in Node and Deno; at most there is a bound for each host, as browsers have.
# Instead: Bun has 256 requests at a time for the whole process, whatever their hosts. An event stream is one for as long as it is open: with 256 of them every other fetch, to any
#   host, waits unsent and without a word until a stream ends. A WebSocket is none of them. BUN_CONFIG_MAX_HTTP_REQUESTS raises it.
# Version: Bun 1.4.5, Deno 2.9.6, Node 20.20.
# Why it matters: a backend that moves from WebSockets to event streams, one for each user or device, worked with thousands of the former, and stands still in all that it asks of anybody at
#   its 257th of the latter. To the sidecar it looks like a client that does not come.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null
npm install --silent --no-audit --no-fund bun@1.4.5 deno@2.9.6 ws@8.23.0 >/dev/null 2>&1
bun="$PWD/node_modules/bun/bin/bun.exe"
[ "$(wc -c <"$bun")" -gt 1000000 ] || node node_modules/bun/install.js # where npm does not run it
cat >server.mjs <<'JS'
import fs from "node:fs";
import http from "node:http";
import { WebSocketServer } from "ws";

const listens = (server) => new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));
const streams = http.createServer((request, answer) => {
  answer.writeHead(200, { "content-type": "text/event-stream" });
  answer.write("data: x\n\n");
});
new WebSocketServer({ server: streams });
const other = http.createServer((request, answer) => answer.end("answered"));
fs.writeFileSync("ports.tmp", `${await listens(streams)} ${await listens(other)}`);
fs.renameSync("ports.tmp", "ports");
JS
cat >client.mjs <<'JS'
import fs from "node:fs";

const [streams, other] = fs.readFileSync("ports", "utf8").split(" ");
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
let open = 0, sockets = 0;
for (let n = 0; n < 300; n++) {
  new WebSocket(`ws://127.0.0.1:${streams}`).onopen = () => sockets++;
  fetch(`http://127.0.0.1:${streams}/${n}`).then(async (answer) => { open++; for await (const _ of answer.body); });
}
await sleep(3000);
let said;
try {
  said = await (await fetch(`http://127.0.0.1:${other}/`, { signal: AbortSignal.timeout(3000) })).text();
} catch (err) {
  said = "not answered";
}
console.log(`${process.argv[2]}: of 300 WebSockets ${sockets} are open, of 300 streams ${open}; another server has ${said}`);
process.exit();
JS
node server.mjs & trap 'kill %1; rm -rf "$PWD"' EXIT
until [ -f ports ]; do sleep 0.1; done
{
  timeout 30 "$bun" run client.mjs Bun
  timeout 30 node_modules/@deno/linux-x64-glibc/deno run --allow-net --allow-read client.mjs Deno
  sed 's/new WebSocket(/new (await import("ws")).WebSocket(/' client.mjs >node.mjs # Node 20 has none of its own
  timeout 30 node node.mjs Node
} | tee seen
diff seen - <<'WANT'
Bun: of 300 WebSockets 300 are open, of 300 streams 256; another server has not answered
Deno: of 300 WebSockets 300 are open, of 300 streams 300; another server has answered
Node: of 300 WebSockets 300 are open, of 300 streams 300; another server has answered
WANT
# 2026-12-01: as above.
