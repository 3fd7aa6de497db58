#!/usr/bin/env bash
# Guess: with stateful reconnect, the official SignalR client handles each invocation once: what the server sends again after a reconnect, because the
#   client had not acknowledged it yet, is recognised by its number and dropped.
# What happens: an invocation that arrives in one WebSocket message with the answer to the handshake is handled and not counted. From there on the client
#   is one behind: when the server sends again what was not acknowledged, beginning with the number that it says, the client drops one too few, and calls
#   the handler of the last one twice. Sent a moment later, in a message of its own, the same invocation is counted.
# Versions: npm @microsoft/signalr 10.0.11 (on node 20, with ws 8.23.0 for the server).
# Why it matters here: a server of ours that an official client is held to must not put anything beside the answer; and a page that counts on once sees twice.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund @microsoft/signalr@10.0.11 ws@8.23.0
cat >twice.cjs <<'JS'
const http = require("http"), { WebSocketServer } = require("ws"), { HubConnectionBuilder, LogLevel } = require("@microsoft/signalr");
const beside = process.argv[2] === "beside", end = "\x1e";
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const news = (n) => JSON.stringify({ type: 1, target: "news", arguments: [n] }) + end;
const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify({ negotiateVersion: 1, connectionId: "a", connectionToken: "b", useStatefulReconnect: true,
    availableTransports: [{ transport: "WebSockets", transferFormats: ["Text"] }] }));
});
let connections = 0;
new WebSocketServer({ server }).on("connection", (ws) => {
  const first = ++connections === 1;
  ws.on("message", async (text) => {
    for (const record of String(text).split(end).filter(Boolean).map((one) => JSON.parse(one))) {
      if (first && record.protocol) {
        if (beside) ws.send("{}" + end + news(1));
        else { ws.send("{}" + end); await wait(100); ws.send(news(1)); }
        await wait(200);
        ws.send(news(2));
        await wait(200);
        ws.terminate();
      }
      // Nothing was acknowledged: the server goes on with number 1, and sends both again, then a third.
      if (!first && record.type === 9) ws.send(JSON.stringify({ type: 9, sequenceId: 1 }) + end + news(1) + news(2) + news(3));
    }
  });
});
server.listen(18187, "127.0.0.1", async () => {
  const handled = [];
  const hub = new HubConnectionBuilder().configureLogging(LogLevel.None).withUrl("http://127.0.0.1:18187/hub").withStatefulReconnect().build();
  hub.on("news", (n) => handled.push(n));
  await hub.start();
  await wait(2500);
  console.log(`${beside ? "beside the answer" : "after the answer"}: handled ${handled.join(", ")} over ${connections} connections`);
  process.exit();
});
JS
saw="signalr $(node -p 'require("@microsoft/signalr/package.json").version')
$(node twice.cjs after)
$(node twice.cjs beside)"
echo "$saw"
# Seen: signalr 10.0.11; after the answer: handled 1, 2, 3 over 2 connections; beside the answer: handled 1, 2, 2, 3 over 2 connections
[ "$saw" = "signalr 10.0.11
after the answer: handled 1, 2, 3 over 2 connections
beside the answer: handled 1, 2, 2, 3 over 2 connections" ] || { echo "this has changed" >&2; exit 1; }
