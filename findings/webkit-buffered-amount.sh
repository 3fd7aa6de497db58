#!/usr/bin/env bash
# Guess: WebSocket.bufferedAmount is the bytes of application data that were queued by send() and not yet transmitted: what send() is
#   given while the connection is closing counts with its own length ("this does not include framing overhead", the standard says).
# What happens: while the connection is open it is so. From close() on each further send() adds the frame's header and mask too, which are
#   never made: "12345678" (8 bytes) adds 14, 200 bytes add 208.
# Version: WebKitGTK 2.50.6 (Debian's MiniBrowser of webkit2gtk-driver, under Xvfb), npm ws 8.18.3; Chromium 156 and Firefox 153 add 8
#   and 200.
# Why it matters here: who stands in for a WebSocket and is compared with the browser's own, byte for byte, finds a difference that is
#   not theirs.
set -euo pipefail
browser="$(ls /usr/lib/*/webkit2gtk-4.1/MiniBrowser 2>/dev/null || true)"
[ -n "$browser" ] && command -v Xvfb >/dev/null || { echo "install Debian's webkit2gtk-driver and xvfb" >&2; exit 2; }
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
dpkg-query -W -f 'WebKitGTK ${Version}\n' libwebkit2gtk-4.1-0
echo '{"private":true,"type":"module"}' >package.json
npm install --silent --no-audit --no-fund --save-exact ws@8.18.3
cat >see.mjs <<'JS'
import { createServer } from "node:http";
import { spawn } from "node:child_process";
import { WebSocketServer } from "ws";
const page = `<script>
const socket = new WebSocket("ws://" + location.host), amounts = [];
const note = () => amounts.push(socket.bufferedAmount);
socket.onopen = () => {
  socket.send("12345678");
  note();
  socket.onmessage = () => {
    note();
    socket.close();
    socket.send("12345678");
    note();
    socket.send("x".repeat(200));
    note();
    fetch("/saw", { method: "POST", body: amounts.join(" ") });
  };
};
</script>`;
const server = createServer((request, response) => {
  if (request.url === "/saw") return request.on("data", data => {
    console.log("after a send, its echo, and two sends while closing: " + data);
    for (const child of [view, screen]) child.kill();
    process.exit();
  });
  response.writeHead(200, { "Content-Type": "text/html" });
  response.end(request.url === "/" ? page : "");
});
new WebSocketServer({ server }).on("connection", socket => socket.on("message", data => socket.send(data)));
const screen = spawn("Xvfb", ["-displayfd", "1", "-nolisten", "tcp"], { stdio: ["ignore", "pipe", "ignore"] });
let view;
screen.stdout.once("data", number => server.listen(0, "127.0.0.1", () => {
  const env = { ...process.env, DISPLAY: ":" + String(number).trim(), HOME: process.cwd(), LIBGL_ALWAYS_SOFTWARE: "1", WEBKIT_DISABLE_COMPOSITING_MODE: "1" };
  view = spawn(process.argv[2], ["http://127.0.0.1:" + server.address().port + "/"], { stdio: "ignore", env });
}));
JS
saw="$(timeout 120 node see.mjs "$browser")"
echo "$saw"
[ "$saw" = 'after a send, its echo, and two sends while closing: 8 0 14 222' ] || { echo "this has changed" >&2; exit 1; }
