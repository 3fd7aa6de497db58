#!/usr/bin/env bash
# Guess: `retry: 2678400000`, in milliseconds 31 days, is digits only, as the HTML standard wants them, and keeps a client away for a month, as `retry: 2073600000` does for
#   24 days: what a server that is to be left alone would send, and what stands at the end of a back-off that doubles.
# Instead: the EventSource of Deno and of undici, and npm `eventsource`, `eventsource-client` and `launchdarkly-eventsource`, wait with one timer of JavaScript, which takes 31 bits: what is
#   longer fires at once. Each of them comes back as fast as it is answered, for ever. Node prints a TimeoutOverflowWarning each time, Deno nothing.
# Version: Deno 2.9.6, undici 7.30.2, eventsource 5.1.5, eventsource-client 1.2.0, launchdarkly-eventsource 2.2.0, Node 20.20.
# Why it matters: a hint that is meant to spare a server becomes a flood from what runs in servers. `RETRY` is 24 h at most here, of which a client gets no more than twice.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null
npm install --silent --no-audit --no-fund deno@2.9.6 undici@7.30.2 eventsource@5.1.5 eventsource-client@1.2.0 launchdarkly-eventsource@2.2.0 >/dev/null 2>&1
cat >look.mjs <<'JS'
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { createEventSource } from "eventsource-client";
import { EventSource } from "eventsource";
import * as undici from "undici";

const { EventSource: LaunchDarkly } = createRequire(import.meta.url)("launchdarkly-eventsource");
const asked = {};
const server = http.createServer((request, answer) => {
  asked[request.url] = (asked[request.url] ?? 0) + 1;
  answer.writeHead(200, { "content-type": "text/event-stream" });
  answer.end(`retry: ${request.url.split("/")[2]}\ndata: x\n\n`);
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const origin = `http://127.0.0.1:${server.address().port}`, waits = ["2073600000", "2678400000"];
const clients = {
  undici: (url) => new undici.EventSource(url),
  eventsource: (url) => new EventSource(url),
  "eventsource-client": (url) => createEventSource({ url }),
  "launchdarkly-eventsource": (url) => { new LaunchDarkly(url).onerror = () => {}; },
};
for (const wait of waits) for (const name in clients) clients[name](`${origin}/${name}/${wait}`);
fs.writeFileSync("page.mjs", waits.map((wait) => `new EventSource("${origin}/deno/${wait}");`).join("\n"));
const deno = spawn("node_modules/@deno/linux-x64-glibc/deno", ["run", "--allow-net", "page.mjs"], { stdio: "ignore" });
setTimeout(() => {
  deno.kill();
  for (const name of ["deno", ...Object.keys(clients)]) for (const wait of waits) {
    console.log(`${name}, retry: ${wait}: ${asked[`/${name}/${wait}`] > 10 ? "comes back at once, again and again" : `asked ${asked[`/${name}/${wait}`]} times in 6 s`}`);
  }
  process.exit();
}, 6000);
JS
timeout 60 node --no-warnings look.mjs | tee seen
diff seen - <<'WANT'
deno, retry: 2073600000: asked 1 times in 6 s
deno, retry: 2678400000: comes back at once, again and again
undici, retry: 2073600000: asked 1 times in 6 s
undici, retry: 2678400000: comes back at once, again and again
eventsource, retry: 2073600000: asked 1 times in 6 s
eventsource, retry: 2678400000: comes back at once, again and again
eventsource-client, retry: 2073600000: asked 1 times in 6 s
eventsource-client, retry: 2678400000: comes back at once, again and again
launchdarkly-eventsource, retry: 2073600000: asked 1 times in 6 s
launchdarkly-eventsource, retry: 2678400000: comes back at once, again and again
WANT
# 2026-12-01, Deno 2.9.6, Node 20.20.2: as above.
