#!/usr/bin/env bash
# Guess: when an SSE connection breaks in the middle of an event, the half is discarded, as the HTML standard has it ("once the end of
#   the file is reached, any pending data must be discarded"), and the new connection begins with a clean slate.
# What happens: the data lines that had come stay in the client, and the first event of the next connection is delivered with them in
#   front: "half" and "two", which no server ever sent as one event, arrive as "half\ntwo". No error tells the two apart.
# Versions: npm eventsource 2.0.2 (sockjs-client's), on Node 20.
# Why it matters here: a proxy that resumes a client after a cut has to begin each answer so that a left-over cannot do harm.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
echo '{"private":true,"type":"module"}' >package.json
npm install --silent --no-audit --no-fund --save-exact eventsource@2.0.2
cat >see.mjs <<'JS'
import { createServer } from "node:http";
import EventSource from "eventsource";
let requests = 0;
const server = createServer((request, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  if (++requests > 1) return response.write("data: two\n\n");
  response.write("retry: 100\ndata: one\n\ndata: half\n"); // the blank line that ends the event does not come
  setTimeout(() => response.destroy(), 100);
}).listen(0, "127.0.0.1", () => {
  const saw = [];
  new EventSource("http://127.0.0.1:" + server.address().port).onmessage = event => {
    saw.push(event.data);
    if (saw.length === 2) {
      console.log(JSON.stringify(saw));
      process.exit();
    }
  };
});
JS
saw="$(timeout 60 node see.mjs)"
echo "$saw"
[ "$saw" = '["one","half\ntwo"]' ] || { echo "this has changed" >&2; exit 1; }
