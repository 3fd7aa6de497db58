#!/usr/bin/env bash
# Guess: react-native-sse, an EventSource over XMLHttpRequest, comes back as EventSource does: after a connection that was lost or refused, for ever; and not after an answer of 503.
# Instead it is the other way round. It asks again after each answer that is complete, whatever its status; a request that has failed without one is the last: it reports an error and is quiet. A
#   stream that ends well and finds its service away for one moment, as at a restart, is over. A field's name is what it begins with, too: "database: x" is data, "identity: 7" an id, and
#   comes back as the last id "entity: 7".
# Version: react-native-sse 1.2.1 with the XMLHttpRequest of Debian's Chromium; the first paragraph is a matter of its status, which is 0 where there was no answer.
# Why it matters: an application that moves from a WebSocket library that reconnects stands still after the first restart of anything between, and looks connected. It has to call open() itself
#   at an error whose xhrStatus is 0. A sidecar that is drained ends its streams well, and refuses connections until the next one listens; a proxy in
#   front answers meanwhile.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null
npm install --no-audit --no-fund --silent react-native-sse@1.2.1 puppeteer-core@24.43.1 >/dev/null 2>&1
cat >look.mjs <<'JS'
import fs from "node:fs";
import http from "node:http";
import puppeteer from "puppeteer-core";

const asked = {};
const server = http.createServer((request, answer) => {
  const [, client, what] = request.url.split("/");
  if (!what) {
    answer.setHeader("content-type", client ? "text/javascript" : "text/html");
    return answer.end(client ? fs.readFileSync("node_modules/react-native-sse/src/EventSource.js") : "<html></html>");
  }
  const name = `${client}/${what}`;
  asked[name] = (asked[name] ?? 0) + 1;
  if (what === "away" && asked[name] === 2) return request.socket.destroy();
  answer.writeHead(what === "busy" ? 503 : 200, { "content-type": "text/event-stream", connection: "close" });
  answer.write("retry: 300\nid: 1\nidentity: 7\ndata: a\ndatabase: x\n\n");
  if (what !== "open") setTimeout(() => answer.end(), 200);
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const browser = await puppeteer.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"] });
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${server.address().port}/`);
const first = await page.evaluate(async () => {
  const { default: Client } = await import("/client.js");
  const heard = {};
  for (const what of ["open", "ends", "away", "busy"]) {
    new EventSource(`/EventSource/${what}`).onmessage = (e) => { heard.EventSource ??= `data ${JSON.stringify(e.data)}, id ${e.lastEventId}`; };
    new Client(`${location.origin}/react-native-sse/${what}`, { pollingInterval: 300 }).addEventListener("message", (e) => { heard["react-native-sse"] ??= `data ${JSON.stringify(e.data)}, id ${e.lastEventId}`; });
  }
  await new Promise((done) => setTimeout(done, 6000));
  return heard;
});
for (const client of ["EventSource", "react-native-sse"]) {
  const again = (what) => { const n = asked[`${client}/${what}`]; return n > 4 ? "comes back again and again" : `asks ${n === 1 ? "once" : `${n} times`}`; };
  console.log(`${client}: ${first[client]}; where streams end, it ${again("ends")}; where the second request is refused, it ${again("away")}; at 503 it ${again("busy")}`);
}
await browser.close();
process.exit();
JS
timeout 60 node look.mjs | tee seen
diff seen - <<'WANT'
EventSource: data "a", id 1; where streams end, it comes back again and again; where the second request is refused, it comes back again and again; at 503 it asks once
react-native-sse: data "a\nbase: x", id entity: 7; where streams end, it comes back again and again; where the second request is refused, it asks 2 times; at 503 it comes back again and again
WANT
# 2026-12-01, Chromium 156: as above.
