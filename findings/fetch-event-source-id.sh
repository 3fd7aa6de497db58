#!/usr/bin/env bash
# Guess: the last event id is that of the last event which was delivered. The HTML standard sets it when an event is dispatched, so a
#   client that is cut inside event 2 comes back with Last-Event-ID: 1 and gets event 2 again.
# What happens: the id is taken as soon as its line has come. Servers write the id first, so the client is cut inside event 2, has
#   never delivered it, comes back with Last-Event-ID: 2, and a server that resumes faithfully goes on with event 3: event 2 is lost,
#   and nobody can know.
# Versions: npm @microsoft/fetch-event-source 2.0.1 (npm eventsource 2.0.2 does the same), on Node 20.
# Why it matters here: the id has to be the last line of an event, and not the first as in every example of the format.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
echo '{"private":true,"type":"module"}' >package.json
npm install --silent --no-audit --no-fund --save-exact @microsoft/fetch-event-source@2.0.1
cat >see.mjs <<'JS'
import { createServer } from "node:http";
import library from "@microsoft/fetch-event-source";
globalThis.window = globalThis; // what the library takes from a page
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const all = [1, 2, 3, 4].map(n => `id: ${n}\ndata: event ${n}\n\n`), resumedAfter = [], saw = [];
const server = createServer((request, response) => {
  const last = Number(request.headers["last-event-id"] || 0);
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  if (last || resumedAfter.length) {
    resumedAfter.push(last);
    return response.write(all.slice(last).join(""));
  }
  resumedAfter.push("nothing");
  response.write("retry: 100\n" + all[0] + all[1].slice(0, 12)); // id: 2, data: half of it
  setTimeout(() => response.destroy(), 100);
}).listen(0, "127.0.0.1", () => library.fetchEventSource("http://127.0.0.1:" + server.address().port, {
  async onopen() {},
  onmessage({ data }) {
    saw.push(data);
    if (data !== "event 4") return;
    console.log(JSON.stringify({ resumedAfter, saw }));
    process.exit();
  },
}));
JS
saw="$(timeout 60 node see.mjs)"
echo "$saw"
[ "$saw" = '{"resumedAfter":["nothing",2],"saw":["event 1","event 3","event 4"]}' ] || { echo "this has changed" >&2; exit 1; }
