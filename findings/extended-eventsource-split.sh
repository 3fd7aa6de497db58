#!/usr/bin/env bash
# Guess: extended-eventsource, which presents itself as an EventSource with headers and a body, reads a stream as the standard does, wherever the network has divided it: CR and LF are one end of a
#   line, and an event without data is none, whatever its id.
# Instead: where a piece ends between a CR and its LF, that line ends twice: an event of two lines becomes two. An event that has an id and no data is heard as a
#   message with the data "", and two empty lines of data are one. The same bytes in one piece are one event of two lines.
# Version: extended-eventsource 2.1.0, eventsource 5.1.5, Node 20.20.
# Why it matters: which event falls apart is decided by segments on the way. The sidecar's own streams end lines with LF alone, and have data with every id; streams of a service that it passes on
#   untouched may have neither.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null
npm install --no-audit --no-fund --silent extended-eventsource@2.1.0 eventsource@5.1.5 >/dev/null 2>&1
cat >look.mjs <<'JS'
import http from "node:http";
import { EventSource } from "eventsource";
import { EventSource as Extended } from "extended-eventsource";

const streams = {
  "in one piece": ["data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n"],
  "divided after a CR": ["data: a\r", "\ndata: b\r\n\r\ndata: c\r\n\r\n"],
  "an id without data": ["id: 7\n\ndata: c\n\n"],
  "two empty lines": ["data\ndata\n\ndata: c\n\n"],
};
const server = http.createServer(async (request, answer) => {
  answer.writeHead(200, { "content-type": "text/event-stream" });
  for (const piece of streams[decodeURIComponent(request.url.slice(1))]) {
    answer.write(piece);
    await new Promise((done) => setTimeout(done, 300));
  }
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
for (const name in streams) for (const [client, Source] of [["eventsource", EventSource], ["extended-eventsource", Extended]]) {
  const heard = [], source = new Source(`http://127.0.0.1:${server.address().port}/${encodeURIComponent(name)}`);
  source.onmessage = (e) => heard.push(JSON.stringify(e.data));
  await new Promise((done) => setTimeout(done, 1500));
  source.close();
  console.log(`${name}, ${client}: ${heard.join(", ")}`);
}
process.exit();
JS
timeout 60 node look.mjs 2>/dev/null | tee seen
diff seen - <<'WANT'
in one piece, eventsource: "a\nb", "c"
in one piece, extended-eventsource: "a\nb", "c"
divided after a CR, eventsource: "a\nb", "c"
divided after a CR, extended-eventsource: "a", "b", "c"
an id without data, eventsource: "c"
an id without data, extended-eventsource: "", "c"
two empty lines, eventsource: "\n", "c"
two empty lines, extended-eventsource: "", "c"
WANT
# 2026-12-01: as above.
