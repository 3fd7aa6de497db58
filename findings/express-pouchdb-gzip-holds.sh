#!/usr/bin/env bash
# Guess: a continuous feed of changes brings each change as it happens, and a heartbeat in between, to a client that takes gzip as to one that does not.
# Instead: PouchDB's server compresses the feed for whoever accepts gzip, and never flushes what it compresses: not a byte of the body comes, neither changes that were there before nor
#   new ones, nor the heartbeats that were asked for. Without Accept-Encoding, or with identity, all of it comes at once.
# Version: express-pouchdb 4.2.0 with pouchdb 9.0.0, express 4.21, Node 20.20.
# Why it matters: browsers' fetch, Node's and Go's clients all ask for gzip by themselves, so such a feed looks silent and well. Sidestream asks streams of events and lines for identity.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null
npm install --no-audit --no-fund --silent express@4.21.2 pouchdb@9.0.0 express-pouchdb@4.2.0 pouchdb-adapter-memory@9.0.0 >/dev/null 2>&1
cat >look.cjs <<'JS'
const express = require("express"), http = require("node:http"), zlib = require("node:zlib"), PouchDB = require("pouchdb");
PouchDB.plugin(require("pouchdb-adapter-memory"));
const app = express();
app.use("/", require("express-pouchdb")(PouchDB.defaults({ adapter: "memory" }), { inMemoryConfig: true, logPath: "/dev/null" }));
const server = app.listen(0, "127.0.0.1", async () => {
  const port = server.address().port;
  const put = (path) => new Promise((done) => {
    http.request({ port, path, method: "PUT", headers: { "content-type": "application/json" } }, (answer) => answer.resume().on("end", done)).end("{}");
  });
  const look = (coding) => new Promise((done) => {
    http.get({ port, path: "/db/_changes?feed=continuous&since=0&heartbeat=500", headers: { "accept-encoding": coding } }, (answer) => {
      let bytes = 0, text = "";
      const body = answer.headers["content-encoding"] === "gzip" ? zlib.createGunzip() : null;
      answer.on("data", (chunk) => { bytes += chunk.length; body ? body.write(chunk) : (text += chunk); });
      body?.on("data", (chunk) => { text += chunk; });
      setTimeout(() => put(`/db/during-${coding}`), 1000);
      setTimeout(() => {
        console.log(`${coding}: status ${answer.statusCode}, content-encoding ${answer.headers["content-encoding"]}; in 4 s a change from before: ${text.includes('"before"')}, one from during: ${text.includes(`"during-${coding}"`)}, heartbeats: ${text.includes("\n\n")}`);
        answer.destroy();
        done();
      }, 4000);
    });
  });
  await put("/db");
  await put("/db/before");
  await look("identity");
  await look("gzip");
  process.exit();
});
JS
timeout 60 node look.cjs | tee seen
diff seen - <<'WANT'
identity: status 200, content-encoding undefined; in 4 s a change from before: true, one from during: true, heartbeats: true
gzip: status 200, content-encoding gzip; in 4 s a change from before: false, one from during: false, heartbeats: false
WANT
# 2026-11-30, express-pouchdb 4.2.0, pouchdb 9.0.0, Node 20.20.2:
#   identity: status 200, content-encoding undefined; in 4 s a change from before: true, one from during: true, heartbeats: true
#   gzip: status 200, content-encoding gzip; in 4 s a change from before: false, one from during: false, heartbeats: false
