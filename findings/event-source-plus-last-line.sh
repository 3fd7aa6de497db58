#!/usr/bin/env bash
# Guess: data of several lines arrives whole, joined by line feeds (HTML standard, "append the field value to the data buffer"), in each client that reads event streams. It is what the
#   field may be repeated for.
# Instead: event-source-plus keeps the last line and forgets those before it: of "two\nlines" comes "lines", of indented JSON "}", and of a text that ends with a line feed nothing. Nothing
#   fails. (The white space at both ends of a line is gone, too.)
# Version: npm event-source-plus 0.1.15, eventsource 5.1.5 for comparison, Node 20.
# Why it matters: the sidecar writes a text of several lines as the standard has it. A page with this client loses all but the last line of a log's entry or a model's answer, and looks well
#   with all data of one line. JSON on one line has its line feeds escaped, and arrives.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund event-source-plus@0.1.15 eventsource@5.1.5 >/dev/null 2>&1
cat >look.mjs <<'JS'
import { createServer } from "node:http";
import { EventSource } from "eventsource";
import { EventSourcePlus } from "event-source-plus";

const texts = ["one line", "  indented ", "two\nlines", JSON.stringify({ a: 1 }, null, 2), "ends with one\n", JSON.stringify("two\nlines")];
const server = createServer((request, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  for (const text of texts) response.write(text.split("\n").map((line) => `data: ${line}\n`).join("") + "\n");
});
await new Promise((heard) => server.listen(0, "127.0.0.1", heard));
const url = `http://127.0.0.1:${server.address().port}/`;

const all = (start) => new Promise((done) => {
  const heard = [];
  const stop = start((data) => heard.push(data) === texts.length && done((stop(), heard)));
});
const one = await all((on) => {
  const events = new EventSource(url);
  events.onmessage = ({ data }) => on(data);
  return () => events.close();
});
const other = await all((on) => {
  const controller = new EventSourcePlus(url).listen({ onMessage: ({ data }) => on(data) });
  return () => controller.abort();
});
texts.forEach((text, i) => console.log(`sent ${JSON.stringify(text)}: eventsource ${JSON.stringify(one[i])}, event-source-plus ${JSON.stringify(other[i])}`));
process.exit();
JS
timeout 60 node look.mjs | tee saw
cat >want <<'TEXT'
sent "one line": eventsource "one line", event-source-plus "one line"
sent "  indented ": eventsource "  indented ", event-source-plus "indented"
sent "two\nlines": eventsource "two\nlines", event-source-plus "lines"
sent "{\n  \"a\": 1\n}": eventsource "{\n  \"a\": 1\n}", event-source-plus "}"
sent "ends with one\n": eventsource "ends with one\n", event-source-plus ""
sent "\"two\\nlines\"": eventsource "\"two\\nlines\"", event-source-plus "\"two\\nlines\""
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
