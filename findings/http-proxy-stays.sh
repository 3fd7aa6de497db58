#!/usr/bin/env bash
# Guess: a proxy that passes an event stream on ends its own request once the client has left: a tab that is closed costs the service nothing from then on.
# Instead: http-proxy waits for an event that Node has for requests whose body is still on its way, which a GET never is; the request to the service stays, and is read, for as long as the
#   service writes. So with http-proxy-middleware 2, and with webpack's development server, which is made with it; not with http-proxy-3, which Vite has, nor with http-proxy-middleware 3.
# Version: http-proxy 1.18.1, http-proxy-middleware 2.0.12 and 3.0.11, webpack-dev-server 5.2.7, webpack 5.113.0, http-proxy-3 1.23.3, vite 7.3.8, Node 20.20.
# Why it matters: each reload of a page on such a server leaves one more stream that is written to for nobody, its upstream never ends, and a sidecar's counts of clients only grow. Nothing that is
#   written tells it: all of that arrives. What ends them is `MAX_AGE`.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null
npm install --silent --no-audit --no-fund http-proxy@1.18.1 hpm2@npm:http-proxy-middleware@2.0.12 hpm3@npm:http-proxy-middleware@3.0.11 http-proxy-3@1.23.3 vite@7.3.8 webpack@5.113.0 webpack-dev-server@5.2.7 >/dev/null 2>&1
mkdir src && touch src/index.js
cat >look.mjs <<'JS'
import http from "node:http";
import { createRequire } from "node:module";
import { createServer as vite } from "vite";

const require = createRequire(import.meta.url), webpack = require("webpack"), WebpackDevServer = require("webpack-dev-server");
const streams = {};
const service = http.createServer((request, answer) => {
  const name = request.url.slice("/api/".length);
  streams[name] = "open";
  answer.writeHead(200, { "content-type": "text/event-stream" });
  const beat = setInterval(() => answer.write("data: x\n\n"), 100);
  answer.on("close", () => { clearInterval(beat); streams[name] = "ended"; });
});
const listens = (server, port = 0) => new Promise((done) => server.listen(port, "127.0.0.1", () => done(server.address().port)));
const target = `http://127.0.0.1:${await listens(service)}`;
const ports = {};
for (const name of ["http-proxy", "http-proxy-3"]) {
  const proxy = require(name).createProxyServer({ target });
  proxy.on("error", () => {});
  ports[name] = await listens(http.createServer((request, answer) => proxy.web(request, answer)));
}
for (const [name, packed, options] of [["http-proxy-middleware 2", "hpm2", { logLevel: "silent" }], ["http-proxy-middleware 3", "hpm3", {}]]) {
  const middleware = require(packed).createProxyMiddleware({ target, ...options });
  ports[name] = await listens(http.createServer((request, answer) => middleware(request, answer, () => {})));
}
ports["webpack-dev-server"] = 18146;
await new WebpackDevServer({ port: 18146, host: "127.0.0.1", proxy: [{ context: ["/api"], target }] },
  webpack({ mode: "development", stats: "none", infrastructureLogging: { level: "none" } })).start();
ports.vite = 18147;
await (await vite({ configFile: false, logLevel: "silent", server: { port: 18147, host: "127.0.0.1", proxy: { "/api": { target } } } })).listen();

for (const name in ports) {
  await new Promise((done) => {
    const request = http.get({ port: ports[name], host: "127.0.0.1", path: `/api/${encodeURIComponent(name)}`, agent: false }, (answer) => {
      answer.once("data", () => { request.destroy(); done(); }); // the client leaves after its first event
      answer.on("error", () => {});
    });
  });
}
setTimeout(() => {
  for (const name in ports) console.log(`${name}: 5 s after the client has left, the stream of the service is ${streams[encodeURIComponent(name)]}`);
  process.exit();
}, 5000);
JS
timeout 60 node --no-warnings look.mjs | tee seen
diff seen - <<'WANT'
http-proxy: 5 s after the client has left, the stream of the service is open
http-proxy-3: 5 s after the client has left, the stream of the service is ended
http-proxy-middleware 2: 5 s after the client has left, the stream of the service is open
http-proxy-middleware 3: 5 s after the client has left, the stream of the service is ended
webpack-dev-server: 5 s after the client has left, the stream of the service is open
vite: 5 s after the client has left, the stream of the service is ended
WANT
# 2026-12-01: as above.
