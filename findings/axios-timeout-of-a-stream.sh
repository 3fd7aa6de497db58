#!/usr/bin/env bash
# Guess: axios's timeout, with responseType "stream", is either for the answer to begin or for a silence in it, and it is the same with each of its adapters: what is told
#   apart by nothing but where the program runs does not behave otherwise.
# Instead: with the adapter "http" (Node's own) it is for silence, and a stream that flows goes on for as long as it likes. With the adapter "fetch", the one that can stream in a page, it is for
#   the whole stream: one that flows is cut after it, in the middle. The documentation knows one timeout, for how long a request takes.
# Version: npm axios 1.21.1, Node 20.
# Why it matters: a page whose axios instance has a timeout reads events for that long and then no more, whatever the heartbeats; a test of the same code in Node, where the
#   adapter is another, runs for ever. Streams want timeout: 0.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund axios@1.21.1 >/dev/null 2>&1
cat >look.mjs <<'JS'
import { createServer } from "node:http";
import axios from "axios";

const every = { "/flows": 200, "/silent": 5000 }; // ms between two events, of a stream that lasts five seconds
const server = createServer((request, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" }).write("data: first\n\n");
  const more = setInterval(() => response.write("data: more\n\n"), every[request.url]);
  const end = setTimeout(() => response.end("data: last\n\n"), 5100);
  response.on("close", () => { clearInterval(more); clearTimeout(end); });
}).listen(18194, "127.0.0.1", async () => {
  for (const path of Object.keys(every)) for (const adapter of ["http", "fetch"]) {
    let text = "", end = "complete";
    try {
      const { data } = await axios.get("http://127.0.0.1:18194" + path, { adapter, responseType: "stream", timeout: 2000 });
      for await (const piece of data) text += Buffer.from(piece);
    } catch (error) {
      end = `cut (${error.code})`;
    }
    console.log(`${path}, adapter ${adapter}, timeout 2000: begun ${text.includes("first")}, ended ${text.includes("last")}, ${end}`);
  }
  process.exit();
});
JS
node look.mjs | tee saw
cat >want <<'TEXT'
/flows, adapter http, timeout 2000: begun true, ended true, complete
/flows, adapter fetch, timeout 2000: begun true, ended false, cut (ETIMEDOUT)
/silent, adapter http, timeout 2000: begun true, ended false, cut (ECONNRESET)
/silent, adapter fetch, timeout 2000: begun true, ended false, cut (ETIMEDOUT)
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
