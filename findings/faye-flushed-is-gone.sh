#!/usr/bin/env bash
# Guess: a Bayeux server keeps what a client has not received, so that one that comes back with its client id on a new WebSocket, while the server
#   still knows it, is given all that it missed: that is what the id, the timeout and the server's queue are for.
# What happens: Faye takes a message off the queue when it writes it to a socket. What was written into a connection that was dying - here one over a
#   network that had stopped to deliver, and was then cut - is never sent again, though the client is known, its subscription stands, and what is published
#   after the server has noticed the cut is delivered on the new connection. Nothing says so.
# Versions: npm faye 1.4.1 on node 20, ws 8.23.0.
# Why it matters here: a bridge that takes the old client id for an exact resume hides a gap at nearly every cut of a busy channel.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund faye@1.4.1 ws@8.23.0
cat >lost.cjs <<'JS'
const http = require("http"), net = require("net"), faye = require("faye"), WebSocket = require("ws");
const server = http.createServer(), bayeux = new faye.NodeAdapter({ mount: "/bayeux", timeout: 45 });
bayeux.attach(server);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const got = [], answers = [];
let client;
// The network between them, which may fail to deliver, and be cut.
let delivers = true;
let cut;
net.createServer((near) => {
  const far = net.connect(18185, "127.0.0.1");
  near.pipe(far);
  far.on("data", (data) => delivers && near.write(data));
  for (const socket of [near, far]) socket.on("error", () => {}).on("close", () => { near.destroy(); far.destroy(); });
  cut = () => near.destroy();
}).listen(18186, "127.0.0.1");
const open = () => new Promise((done) => {
  const ws = new WebSocket("ws://127.0.0.1:18186/bayeux");
  ws.on("open", () => done(ws)).on("error", () => {});
  ws.on("message", (text) => {
    for (const m of JSON.parse(text)) {
      if (m.channel === "/meta/handshake") client = m.clientId;
      if (m.channel === "/meta/subscribe") answers.push(m.successful);
      if (m.channel === "/news") got.push(m.data);
    }
  });
});
const say = (ws, ...messages) => messages.forEach((m) => ws.send(JSON.stringify([m]))); // a message a frame
server.listen(18185, "127.0.0.1", async () => {
  const first = await open();
  say(first, { channel: "/meta/handshake", version: "1.0", supportedConnectionTypes: ["websocket"], id: "1" });
  await wait(300);
  const subscribe = { channel: "/meta/subscribe", clientId: client, subscription: "/news", id: "2" };
  const connect = { channel: "/meta/connect", clientId: client, connectionType: "websocket", id: "3" };
  say(first, subscribe, connect);
  await wait(300);
  const publish = (text) => bayeux.getClient().publish("/news", text);
  await publish("received");
  await wait(200);
  delivers = false;
  await publish("written to the dying connection");
  await wait(200);
  cut();
  delivers = true;
  await wait(200);
  await publish("while away");
  await wait(200);
  const second = await open();
  say(second, subscribe, connect);
  await wait(300);
  await publish("after");
  await wait(300);
  console.log(`faye ${require("faye/package.json").version}: subscribed ${answers.join(", ")}; ${got.join(", ")}`);
  process.exit();
});
JS
saw="$(node lost.cjs)"
echo "$saw"
# Seen: faye 1.4.1: subscribed true, true; received, while away, after
[ "$saw" = "faye 1.4.1: subscribed true, true; received, while away, after" ] || { echo "this has changed" >&2; exit 1; }
