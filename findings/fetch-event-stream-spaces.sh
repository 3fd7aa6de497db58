#!/usr/bin/env bash
# Guess: of a field's value an SSE client takes away one space after the colon, as the standard says, and leaves the rest as it is: a piece of text that begins with a blank
#   keeps it. An id is text.
# Instead: fetch-event-stream takes away all white space there is after the colon, on each line. A model's words, " like" " this", run together; code, YAML and whatever else is
#   indented loses its indentation; a line of blanks is empty, and a first line that is empty is gone altogether. An id that looks like a number is one, so that "12" === id is false.
# Version: npm fetch-event-stream 0.1.6; eventsource-parser 4.1.3 for comparison; Node 20.
# Why it matters: where DATA is a string the sidecar's events are plain text, and a page with this library shows another text than the service has sent. Text within JSON is safe.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund fetch-event-stream@0.1.6 eventsource-parser@4.1.3 >/dev/null 2>&1
cat >look.mjs <<'JS'
import { createParser } from "eventsource-parser";
import { events } from "fetch-event-stream";

const streams = {
  words: "data: Just\n\ndata:  like\n\ndata:  this\n\n",
  "indented lines": "data: if x:\ndata:     y()\ndata: z()\n\n",
  "an empty first line": "data: \ndata: second\n\n",
  "text in JSON": 'data: {"text":"  like"}\n\n',
  "an id": "id: 12\ndata: x\n\n",
};
for (const [name, text] of Object.entries(streams)) {
  const seen = [], want = [];
  for await (const { id, data } of events(new Response(text))) seen.push(id === undefined ? data : { id, data });
  createParser({ onEvent: ({ id, data }) => want.push(id === undefined ? data : { id, data }) }).feed(text);
  console.log(`${name}: fetch-event-stream ${JSON.stringify(seen)}, eventsource-parser ${JSON.stringify(want)}`);
}
JS
node look.mjs | tee saw
cat >want <<'TEXT'
words: fetch-event-stream ["Just","like","this"], eventsource-parser ["Just"," like"," this"]
indented lines: fetch-event-stream ["if x:\ny()\nz()"], eventsource-parser ["if x:\n    y()\nz()"]
an empty first line: fetch-event-stream ["second"], eventsource-parser ["\nsecond"]
text in JSON: fetch-event-stream ["{\"text\":\"  like\"}"], eventsource-parser ["{\"text\":\"  like\"}"]
an id: fetch-event-stream [{"id":12,"data":"x"}], eventsource-parser [{"id":"12","data":"x"}]
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
