#!/usr/bin/env bash
# Guess: a header that one STOMP 1.2 client sends reaches another as it was, whatever characters it has. They are escaped, and each escape is read once, from the left
#   ("Value Encoding"); nothing is trimmed, which the specification forbids.
# Instead: stompjs writes headers as it should, and reads them wrong. It looks for \r, \n and \c in the whole value before it looks for \\, and so finds them in the second half of an
#   escaped backslash: C:\new arrives as C:\, a line feed and "ew", and a\code as a\:ode. C:\data is well. Spaces at either end are gone. It is so with what stompjs itself has sent.
# Version: npm @stomp/stompjs 7.5.0, ws 8.23.0, Node 20.
# Why it matters: a file's path or a DOMAIN\name in a header is another one in the page, and a key that is computed from it finds nothing. A page that moves from
#   stompjs to the sidecar's $headers sees other values than before, which are what was sent; whoever compares the two has to know whose they are.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund @stomp/stompjs@7.5.0 ws@8.23.0 >/dev/null 2>&1
cat >look.mjs <<'JS'
import { Client } from "@stomp/stompjs";
import WebSocket, { WebSocketServer } from "ws";
globalThis.WebSocket = WebSocket;

const values = ["C:\\data", "C:\\new", "CORP\\rita", "a\\code", "\\\\host\\n", "two\nlines", " spaces "];
let wire; // the line of the header as it came, which goes back as it is
const server = new WebSocketServer({ host: "127.0.0.1", port: 18191 });
server.on("connection", (ws) => ws.on("message", (data) => {
  const [command, ...rest] = String(data).split("\n");
  if (command === "CONNECT") ws.send("CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0");
  if (command !== "SEND") return;
  wire = rest.find((line) => line.startsWith("of:"));
  ws.send(["MESSAGE", "subscription:s", "message-id:1", ...rest].join("\n"));
}));
server.on("listening", () => {
  const client = new Client({ brokerURL: "ws://127.0.0.1:18191", reconnectDelay: 0, heartbeatIncoming: 0, heartbeatOutgoing: 0 });
  const next = () => client.publish({ destination: "/q", headers: { of: values[0] }, body: "x" });
  client.onConnect = () => {
    client.subscribe("/q", ({ headers }) => {
      const sent = values.shift();
      console.log(`sent ${JSON.stringify(sent)}, on the wire ${wire}, received ${headers.of === sent ? "the same" : JSON.stringify(headers.of)}`);
      values.length ? next() : process.exit();
    }, { id: "s" });
    next();
  };
  client.activate();
});
JS
node look.mjs | tee saw
cat >want <<'TEXT'
sent "C:\\data", on the wire of:C\c\\data, received the same
sent "C:\\new", on the wire of:C\c\\new, received "C:\\\new"
sent "CORP\\rita", on the wire of:CORP\\rita, received "CORP\\\rita"
sent "a\\code", on the wire of:a\\code, received "a\\:ode"
sent "\\\\host\\n", on the wire of:\\\\host\\n, received "\\\\host\\\n"
sent "two\nlines", on the wire of:two\nlines, received the same
sent " spaces ", on the wire of: spaces , received "spaces"
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
