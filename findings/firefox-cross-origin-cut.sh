#!/usr/bin/env bash
# Guess: an EventSource whose connection is cut reconnects (HTML standard: "reestablish the connection"), wherever the answer was cut
#   and whichever origin it came from, as long as CORS allows it.
# What happens: a same-origin Firefox EventSource reconnects after every cut. A cross-origin one reconnects only if at least one byte of
#   the body had come: cut between the head, with its Access-Control-Allow-Origin, and the body's first byte, it fails the connection
#   for good (readyState 2) as if CORS had refused it.
# Version: Firefox ESR 153 (Debian's firefox-esr); Chromium 156 and WebKitGTK 2.50.6 reconnect in both cases.
# Why it matters here: a proxy of another origin that sends the head first and events later has its pages' streams ended for good by a
#   short network fault; head and first bytes must leave in one write, and a page needs a watch over readyState 2.
set -euo pipefail
command -v firefox-esr >/dev/null || { echo "install Debian's firefox-esr" >&2; exit 2; }
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
firefox-esr --version
cat >see.mjs <<'JS'
import { createServer } from "node:net";
import { spawn } from "node:child_process";
const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nAccess-Control-Allow-Origin: *\r\n\r\n";
const event = "retry: 500\ndata: an event of forty-two bytes\n"; // and its blank line, which comes later
const body = (event.length).toString(16) + "\r\n" + event + "\r\n";
const cuts = [0, 1, 4, 5, 20, body.length - 1], requests = new Map(); // bytes of the body, of which the first four are the chunk's size
const origins = ["127.0.0.1", "127.0.0.2"]; // the page's own, and another
const page = `<script>
const all = ${JSON.stringify(origins.flatMap(origin => cuts.map(cut => [origin, cut])))};
function next() { // one after the other: a browser has six connections for a host
  const one = all.shift();
  if (one === undefined) return fetch("/over");
  const source = new EventSource("http://" + one[0] + ":" + location.port + "/events?" + one.join("-"));
  source.onmessage = () => { source.close(); next(); };
  source.onerror = () => source.readyState === 2 && next();
}
next();
</script>`;
const server = createServer(socket => {
  socket.on("error", () => {});
  socket.once("data", data => {
    const [, path, query] = /^GET (\/\w*)\??(\S*)/.exec(String(data)) || [];
    if (path === "/events") {
      const seen = (requests.get(query) || 0) + 1;
      requests.set(query, seen);
      if (seen > 1) return socket.end(head + "b\r\ndata: back\n\r\n1\r\n\n\r\n0\r\n\r\n");
      return socket.write(head + body.slice(0, query.split("-")[1]), () => socket.destroy());
    }
    if (path === "/over") setTimeout(over, 100);
    socket.end("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + (path === "/" ? page : ""));
  });
}).listen(0, "0.0.0.0", () => {
  const browser = spawn("firefox-esr", ["--headless", "--no-remote", "--profile", process.cwd(), "http://127.0.0.1:" + server.address().port + "/"], { stdio: "ignore", env: { ...process.env, HOME: process.cwd() } });
  globalThis.over = () => {
    const back = origins.map(origin => cuts.filter(cut => requests.get(origin + "-" + cut) > 1).join(" "));
    console.log("same origin: came back after " + back[0] + "; another origin: came back after " + back[1]);
    browser.kill();
    process.exit();
  };
});
JS
saw="$(timeout 120 node see.mjs)"
echo "$saw"
[ "$saw" = 'same origin: came back after 0 1 4 5 20 50; another origin: came back after 5 20 50' ] || { echo "this has changed" >&2; exit 1; }
