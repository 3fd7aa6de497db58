#!/usr/bin/env bash
# Guess: GOAWAY with NO_ERROR ends no stream that has begun (RFC 9113, section 6.8): a server that is about to stop says it first, the client asks nothing more over that
#   connection, and what it is being answered comes to its end.
# Instead: undici, Node's fetch, with allowH2 destroys the connection at GOAWAY, whatever its code and last stream: each answer that goes on fails, with `HTTP/2: "GOAWAY"
#   frame received with code 0`. Node's own http2 client reads on to the end.
# Version: undici 7.30.2, Node 20.20.
# Why it matters: a sidecar that said GOAWAY as its drain begins would cut all such clients at once, whom it means to send away one by one over the window of the drain. So it says it
#   to a connection that has no stream any more.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null
npm install --no-audit --no-fund --silent undici@7.30.2
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 3 -subj /CN=localhost 2>/dev/null
cat >look.mjs <<'JS'
import fs from "node:fs";
import http2 from "node:http2";
import { Agent, fetch } from "undici";

const server = http2.createSecureServer({ key: fs.readFileSync("key.pem"), cert: fs.readFileSync("cert.pem") });
server.on("sessionError", () => {});
server.on("stream", (stream) => {
  stream.on("error", () => {});
  stream.respond({ ":status": 200, "content-type": "text/event-stream" });
  stream.write("data: before\n\n");
  setTimeout(() => stream.session.close(), 500); // GOAWAY, and the end once all streams have ended
  setTimeout(() => stream.end("data: after\n\n"), 1500);
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const url = `https://127.0.0.1:${server.address().port}`;

let got = "", end = "ended";
const session = http2.connect(url, { rejectUnauthorized: false });
session.on("error", (err) => { end = err.message; });
await new Promise((done) => {
  const stream = session.request({ ":path": "/" });
  stream.on("data", (bytes) => { got += bytes; });
  stream.on("error", (err) => { end = err.message; });
  stream.on("close", done);
  stream.end();
});
console.log(`Node's http2: ${JSON.stringify(got)}, ${end}`);

got = ""; end = "ended";
try {
  const answer = await fetch(url, { dispatcher: new Agent({ allowH2: true, connect: { rejectUnauthorized: false } }) });
  for await (const bytes of answer.body) got += new TextDecoder().decode(bytes);
} catch (err) {
  end = err.cause?.message ?? err.message;
}
console.log(`undici: ${JSON.stringify(got)}, ${end}`);
process.exit();
JS
timeout 60 node look.mjs | tee seen
diff seen - <<'WANT'
Node's http2: "data: before\n\ndata: after\n\n", ended
undici: "data: before\n\n", HTTP/2: "GOAWAY" frame received with code 0
WANT
# 2026-11-30, undici 7.30.2, Node 20.20.2:
#   Node's http2: "data: before\n\ndata: after\n\n", ended
#   undici: "data: before\n\n", HTTP/2: "GOAWAY" frame received with code 0
