#!/usr/bin/env bash
# Guess: whatever id an event has, a client that was cut comes back with it: an EventSource sends its last id as UTF-8 (HTML standard, "Last-Event-ID"), as browsers do, and npm eventsource 5
#   does. At worst a client of another kind comes back with a mangled id, or without one.
# Instead: clients that hand the id to fetch() or Headers as text do not come back at all once an event's id has a character beyond U+00FF: fetch takes a header's value by bytes, and throws.
#   undici's own EventSource says "error" for each attempt and never sends a request again; so does @microsoft/fetch-event-source, whose error one sees; eventsource-client says nothing.
#   Where all characters are below U+0100 they come back, with the id in Latin-1: "é" is one byte, not two.
# Version: npm undici 7.30.2, eventsource-client 1.2.0, @microsoft/fetch-event-source 2.0.1, eventsource 5.1.5, Node 20.
# Why it matters: a title or a file's name for an id is valid, all is well until the first cut, and no server sees why the page stays away. The sidecar gives an event an id of
#   its own where the service's has other characters than [A-Za-z0-9._~:-]; who leaves it, or has such a client read the service itself, has to look at the ids first.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund undici@7.30.2 eventsource-client@1.2.0 @microsoft/fetch-event-source@2.0.1 eventsource@5.1.5 >/dev/null 2>&1
cat >look.mjs <<'JS'
import { createServer } from "node:http";
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource as NpmEventSource } from "eventsource";
import { createEventSource } from "eventsource-client";
import { EventSource as UndiciEventSource } from "undici";

globalThis.window = globalThis; // which fetch-event-source asks
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };

const classic = (Class) => (url, on) => {
  const events = new Class(url);
  events.onmessage = (e) => on("event", e.lastEventId);
  events.onerror = () => on("error");
  return () => events.close();
};
const clients = {
  "npm eventsource": classic(NpmEventSource),
  "undici's EventSource": classic(UndiciEventSource),
  "fetch-event-source": (url, on) => {
    const stop = new AbortController();
    fetchEventSource(url, { signal: stop.signal, openWhenHidden: true, onmessage: (e) => e.id && on("event", e.id), onerror: (e) => (on("error", e), 50) });
    return () => stop.abort();
  },
  "eventsource-client": (url, on) => {
    const events = createEventSource({ url, onMessage: (e) => on("event", e.id) });
    return () => events.close();
  },
};
for (const [name, start] of Object.entries(clients)) for (const id of ["plain", "café", "日本"]) {
  const asked = [];
  let errors = 0, heard;
  const server = createServer((request, response) => {
    asked.push(request.headers["last-event-id"]);
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(asked.length > 1 ? ":\n\n" : `retry: 50\nid: ${id}\ndata: x\n\n`);
    if (asked.length === 1) setTimeout(() => response.socket.destroy(), 300);
  });
  await new Promise((heard) => server.listen(0, "127.0.0.1", heard));
  const stop = start(`http://127.0.0.1:${server.address().port}/`, (what, id) => (what === "error" ? errors++ : (heard = id)));
  const until = Date.now() + 5000;
  while (Date.now() < until && asked.length < 2) await new Promise((more) => setTimeout(more, 50));
  const bytes = asked[1] && Buffer.from(asked[1], "latin1").toString("hex");
  const came = bytes ? `comes back with ${bytes === Buffer.from(id).toString("hex") ? "it" : `the bytes ${bytes}`}` : `does not come back in five seconds, ${errors > 1 ? "many errors" : "no errors"}`;
  console.log(`${name} heard the id ${heard}, is cut and ${came}`);
  stop();
  server.closeAllConnections();
  server.close();
}
process.exit();
JS
node --no-warnings look.mjs | tee saw
cat >want <<'TEXT'
npm eventsource heard the id plain, is cut and comes back with it
npm eventsource heard the id café, is cut and comes back with it
npm eventsource heard the id 日本, is cut and comes back with it
undici's EventSource heard the id plain, is cut and comes back with it
undici's EventSource heard the id café, is cut and comes back with the bytes 636166e9
undici's EventSource heard the id 日本, is cut and does not come back in five seconds, many errors
fetch-event-source heard the id plain, is cut and comes back with it
fetch-event-source heard the id café, is cut and comes back with the bytes 636166e9
fetch-event-source heard the id 日本, is cut and does not come back in five seconds, many errors
eventsource-client heard the id plain, is cut and comes back with it
eventsource-client heard the id café, is cut and comes back with the bytes 636166e9
eventsource-client heard the id 日本, is cut and does not come back in five seconds, no errors
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
