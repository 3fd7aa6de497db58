#!/usr/bin/env bash
# Guess: when an EventSource is cut in the middle of an event, the half is discarded (HTML standard: "any pending data must be
#   discarded"), and the next answer is parsed from its own first byte on.
# What happens: cut inside a chunk of HTTP/1.1 (between two chunks it does discard), WebKit keeps the half line and puts the next answer's first bytes behind it. An answer that was cut after
#   `data: {"n":2,"pad":"ppp` and one that begins with `retry: 497` make an event with the data `{"n":2,"pad":"pppretry: 497`, which
#   nobody sent; the retry hint is lost in it.
# Version: WebKitGTK 2.50.6 (Debian's MiniBrowser of webkit2gtk-driver, under Xvfb); its EventSource is Safari's too.
# Why it matters here: a page that parses each event's data as JSON gets an exception after a short network fault, and one that does not
#   shows rubbish; an answer to such a client has to begin with a block that takes the left-over in.
set -euo pipefail
browser="$(ls /usr/lib/*/webkit2gtk-4.1/MiniBrowser 2>/dev/null || true)"
[ -n "$browser" ] && command -v Xvfb >/dev/null || { echo "install Debian's webkit2gtk-driver and xvfb" >&2; exit 2; }
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
dpkg-query -W -f 'WebKitGTK ${Version}\n' libwebkit2gtk-4.1-0
cat >see.mjs <<'JS'
import { createServer } from "node:http";
import { spawn } from "node:child_process";
const page = `<script>
const saw = [], source = new EventSource("/events");
source.onmessage = ({ data }) => {
  saw.push(data);
  if (data === "end") fetch("/saw", { method: "POST", body: JSON.stringify(saw) });
};
</script>`;
let answers = 0;
const server = createServer((request, response) => {
  if (request.url === "/events") {
    if (++answers > 1) {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      return response.write("retry: 497\n\ndata: end\n\n");
    }
    const body = 'retry: 500\ndata: {"n":1}\n\ndata: {"n":2,"pad":"pppppp"}\n\n';
    const chunk = body.length.toString(16) + "\r\n" + body;
    request.socket.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    return request.socket.end(chunk.slice(0, chunk.indexOf("ppp") + 3));
  }
  if (request.url === "/saw") return request.on("data", data => {
    console.log(String(data));
    for (const child of [view, screen]) child.kill();
    process.exit();
  });
  response.writeHead(200, { "Content-Type": "text/html" });
  response.end(request.url === "/" ? page : "");
});
const screen = spawn("Xvfb", ["-displayfd", "1", "-nolisten", "tcp"], { stdio: ["ignore", "pipe", "ignore"] });
let view;
screen.stdout.once("data", number => server.listen(0, "127.0.0.1", () => {
  const env = { ...process.env, DISPLAY: ":" + String(number).trim(), HOME: process.cwd(), LIBGL_ALWAYS_SOFTWARE: "1", WEBKIT_DISABLE_COMPOSITING_MODE: "1" };
  view = spawn(process.argv[2], ["http://127.0.0.1:" + server.address().port + "/"], { stdio: "ignore", env });
}));
JS
saw="$(timeout 120 node see.mjs "$browser")"
echo "$saw"
[ "$saw" = '["{\"n\":1}","{\"n\":2,\"pad\":\"pppretry: 497","end"]' ] || { echo "this has changed" >&2; exit 1; }
