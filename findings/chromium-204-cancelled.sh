#!/usr/bin/env bash
# Guess: a fetch() that was answered with 204 is over when its head is there: there is no body, so that it does not matter whether the page
#   reads one. What watches the page (developer tools, monitoring over the DevTools protocol) sees a request that has finished.
# What happens: Chromium reports such a request as failed, net::ERR_ABORTED and cancelled, once the Response is collected as garbage, unless the
#   page has read the body that there is not. Of 20 that read it none is; the server has answered all 40 alike.
# Versions: Chromium of Debian 12 (156), npm puppeteer-core 24.43.1.
# Why it matters here: a WebSocket that travels over POSTs is a 204 for each message. Without one await answer.text() each looked cancelled, and
#   monitoring counted as many failures as there were messages.
set -euo pipefail
cd "$(mktemp -d)"; trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$PWD"' EXIT
command -v chromium >/dev/null || { echo "install Debian's chromium" >&2; exit 1; }
npm init -y >/dev/null; npm install --silent --no-audit --no-fund puppeteer-core@24.43.1 >/dev/null
cat >run.mjs <<'JS'
import { createServer } from "node:http";
import puppeteer from "puppeteer-core";
let answered = 0;
const server = createServer((request, response) => {
  if (request.method === "GET") return response.setHeader("Content-Type", "text/html").end("<!doctype html><title>page</title>");
  request.resume().on("end", () => { answered++; response.writeHead(204).end(); });
}).listen(0, "127.0.0.1");
await new Promise(done => server.once("listening", done));
const browser = await puppeteer.launch({ executablePath: "/usr/bin/chromium", headless: true, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const page = await browser.newPage(), devtools = await page.createCDPSession();
await devtools.send("Network.enable");
const posts = new Map(), outcome = { unread: {}, read: {} };
const count = (id, what) => { const kind = posts.get(id); if (kind) outcome[kind][what] = (outcome[kind][what] || 0) + 1; };
devtools.on("Network.requestWillBeSent", e => { if (e.request.method === "POST") posts.set(e.requestId, e.request.url.split("/").pop()); });
devtools.on("Network.loadingFinished", e => count(e.requestId, "finished"));
devtools.on("Network.loadingFailed", e => count(e.requestId, `${e.errorText} cancelled ${e.canceled}`));
await page.goto(`http://127.0.0.1:${server.address().port}/`);
for (const kind of ["unread", "read"]) {
  for (let i = 0; i < 20; i++) {
    await page.evaluate(async kind => { const answer = await fetch("/" + kind, { method: "POST", body: "x" }); if (kind === "read") await answer.text(); }, kind);
    await devtools.send("HeapProfiler.collectGarbage");
  }
}
await new Promise(done => setTimeout(done, 1000));
console.log(`${(await browser.version()).split(".")[0]}, answered ${answered}, unread ${JSON.stringify(outcome.unread)}, read ${JSON.stringify(outcome.read)}`);
await browser.close();
server.close();
JS
saw="$(node run.mjs)"
echo "$saw"
# Seen: Chrome/156, answered 40, unread {"net::ERR_ABORTED cancelled true":20}, read {"finished":20}
[[ "$saw" == *', answered 40, unread {"net::ERR_ABORTED cancelled true":20}, read {"finished":20}' ]] || { echo "this has changed" >&2; exit 1; }
