#!/usr/bin/env bash
# Guess: an event is delivered when its blank line has come, whatever bytes of the next one came with it; a reader of event streams may be given its
#   bytes in any pieces.
# What happens: whatever was complete in a piece is held back when the piece ends within a line, until one comes that ends with a line's end. A proxy that
#   cuts the stream at 4 KiB, as any may, makes a client wait for results that it has, for as long as nothing else is said.
# Versions: npm graphql-sse 2.6.1, on Node 20.
# Why it matters here: each write to a client ends with a line's end, and heartbeats are short: they set free what is held back.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
echo '{"private":true,"type":"module"}' >package.json
npm install --silent --no-audit --no-fund --save-exact graphql@16 graphql-sse@2.6.1
cat >see.mjs <<'JS'
import { createServer } from "node:http";
import { createClient } from "graphql-sse";
const saw = [], began = Date.now();
const late = () => (Date.now() - began > 1500 ? "late" : "at once");
const server = createServer((request, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write('event: next\ndata: {"data":1}\n\nevent: nex'); // the first is complete
  setTimeout(() => response.write('t\ndata: {"data":2}\n\n'), 2000);
}).listen(0, "127.0.0.1", () => createClient({ url: "http://127.0.0.1:" + server.address().port }).subscribe({ query: "subscription { a }" }, {
  next({ data }) {
    saw.push(data + " " + late());
    if (data !== 2) return;
    console.log(JSON.stringify(saw));
    process.exit();
  },
  error(e) { throw e; },
  complete() {},
}));
JS
saw="$(timeout 60 node see.mjs)"
echo "$saw"
[ "$saw" = '["1 late","2 late"]' ] || { echo "this has changed" >&2; exit 1; }
