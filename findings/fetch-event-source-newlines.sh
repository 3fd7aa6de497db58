#!/usr/bin/env bash
# Guess: the data lines of an event are joined by line feeds, as the standard says, the empty ones among them: "data:" twice is one line feed, three times two.
# Instead: fetch-event-source begins anew as long as what it has is empty. The line feeds that data begins with are lost, and data that is nothing but line feeds is "". Those at the end
#   and in the middle stay. A model's text that comes piece by piece has its paragraphs in one wherever the break is a piece of its own or begins one, which is how they come.
# Version: npm @microsoft/fetch-event-source 2.0.1; eventsource-parser 4.1.3 for comparison; Node 20.
# Why it matters: where DATA is a string the sidecar's events are plain text, and a page with this library shows lists, code and paragraphs in one line. Text within JSON is safe.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund @microsoft/fetch-event-source@2.0.1 eventsource-parser@4.1.3 >/dev/null 2>&1
cat >look.mjs <<'JS'
import { createServer } from "node:http";
import library from "@microsoft/fetch-event-source";
import { createParser } from "eventsource-parser";

globalThis.window = globalThis; // what the library takes from a page
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const streams = [["Title", "\n\n", "Text"], ["-", " one", "\n-", " two"], ["a\n", "b\n\nc"], ['{"text":"\\n\\n"}']];
const server = createServer((request, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.end(streams[request.url.slice(1)].map(encoded).join(""));
}).listen(0, "127.0.0.1", async () => {
  for (const [i, pieces] of streams.entries()) {
    const seen = [], parsed = [];
    await library.fetchEventSource(`http://127.0.0.1:${server.address().port}/${i}`, { onmessage: ({ data }) => seen.push(data) });
    createParser({ onEvent: ({ data }) => parsed.push(data) }).feed(pieces.map(encoded).join(""));
    console.log(`sent ${JSON.stringify(pieces)}, eventsource-parser ${JSON.stringify(parsed)}, fetch-event-source ${JSON.stringify(seen)}`);
  }
  process.exit();
});

function encoded(text) {
  return text.split("\n").map((line) => `data: ${line}\n`).join("") + "\n";
}
JS
timeout 60 node look.mjs | tee saw
cat >want <<'TEXT'
sent ["Title","\n\n","Text"], eventsource-parser ["Title","\n\n","Text"], fetch-event-source ["Title","","Text"]
sent ["-"," one","\n-"," two"], eventsource-parser ["-"," one","\n-"," two"], fetch-event-source ["-"," one","-"," two"]
sent ["a\n","b\n\nc"], eventsource-parser ["a\n","b\n\nc"], fetch-event-source ["a\n","b\n\nc"]
sent ["{\"text\":\"\\n\\n\"}"], eventsource-parser ["{\"text\":\"\\n\\n\"}"], fetch-event-source ["{\"text\":\"\\n\\n\"}"]
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
