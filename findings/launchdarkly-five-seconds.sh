#!/usr/bin/env bash
# Guess: launchdarkly-eventsource without readTimeoutMillis has no time-out: a stream that is silent for some seconds stays, as with every other client.
# Instead it ends each stream that is silent for 5 s, with "Read timeout, received no data in undefinedms", and opens another: it takes the event for a socket that is idle, which Node's own
#   agent for connections has after 5 s, for its time-out. A readTimeoutMillis of its own, or an agent of its own, and it waits.
# Version: launchdarkly-eventsource 2.2.0, eventsource 5.1.5, Node 20.20, whose http.globalAgent has timeout: 5000.
# Why it matters: a comment each 15 s is what servers send so that nothing between gives a stream up; so does the sidecar by default. To this client a quiet stream is a new connection every six
#   seconds, for ever. HEARTBEAT=4s, or the option, ends it.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null
npm install --no-audit --no-fund --silent launchdarkly-eventsource@2.2.0 eventsource@5.1.5 >/dev/null 2>&1
cat >look.mjs <<'JS'
import http from "node:http";
import { createRequire } from "node:module";
import { EventSource } from "eventsource";

const { EventSource: LaunchDarkly } = createRequire(import.meta.url)("launchdarkly-eventsource");
const asked = {}, errors = {};
const server = http.createServer((request, answer) => {
  asked[request.url] = (asked[request.url] ?? 0) + 1;
  answer.writeHead(200, { "content-type": "text/event-stream" });
  answer.write("data: x\n\n");
  const beat = setInterval(() => answer.write(":\n\n"), Number(request.url.split("/")[2]));
  answer.on("close", () => clearInterval(beat));
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const clients = {
  "launchdarkly-eventsource": (url) => new LaunchDarkly(url),
  "launchdarkly-eventsource with readTimeoutMillis 60000": (url) => new LaunchDarkly(url, { readTimeoutMillis: 60000 }),
  "launchdarkly-eventsource with an agent of its own": (url) => new LaunchDarkly(url, { agent: new http.Agent() }),
  eventsource: (url) => new EventSource(url),
};
const name = (client, beat) => `/${encodeURIComponent(client)}/${beat}`;
for (const client in clients) for (const beat of [4000, 15000]) {
  clients[client](`http://127.0.0.1:${server.address().port}${name(client, beat)}`).onerror = (err) => { errors[name(client, beat)] = err.message; };
}
setTimeout(() => {
  for (const client in clients) for (const beat of [4000, 15000]) {
    const n = asked[name(client, beat)];
    console.log(`${client}, a comment each ${beat / 1000} s: ${n === 1 ? "one connection" : "a new connection again and again"} in 20 s${errors[name(client, beat)] ? `, ${errors[name(client, beat)]}` : ""}`);
  }
  process.exit();
}, 20000);
JS
timeout 60 node look.mjs | tee seen
diff seen - <<'WANT'
launchdarkly-eventsource, a comment each 4 s: one connection in 20 s
launchdarkly-eventsource, a comment each 15 s: a new connection again and again in 20 s, Read timeout, received no data in undefinedms, assuming connection is dead
launchdarkly-eventsource with readTimeoutMillis 60000, a comment each 4 s: one connection in 20 s
launchdarkly-eventsource with readTimeoutMillis 60000, a comment each 15 s: one connection in 20 s
launchdarkly-eventsource with an agent of its own, a comment each 4 s: one connection in 20 s
launchdarkly-eventsource with an agent of its own, a comment each 15 s: one connection in 20 s
eventsource, a comment each 4 s: one connection in 20 s
eventsource, a comment each 15 s: one connection in 20 s
WANT
# 2026-12-01, Node 20.20.2: as above.
