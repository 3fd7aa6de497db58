// Applications that were written for WebSockets, with the official clients' unmodified builds, and the servers behind them: a shared
// document (Yjs in Quill), a terminal (xterm.js and node-pty), and pages of MQTT.js and centrifuge, whose brokers' WebSockets are handed
// through.
//
//   node server.mjs PORT MQTT-PORT CENTRIFUGO-PORT BUNDLES
//
// BUNDLES is the folder with yjs.js, which is made of apps/yjs.js. The pages know nothing of Sidestream: the proxy in front puts its tag in.
import { createServer } from "node:http";
import { connect } from "node:net";
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { WebSocketServer } from "ws";
import { setupWSConnection } from "@y/websocket-server/utils";
import { spawn } from "@lydell/node-pty";

const [port, mqttPort, centrifugoPort] = process.argv.slice(2, 5).map(Number), bundles = pathToFileURL(process.argv[5] + "/");
const here = new URL(".", import.meta.url), modules = new URL("../node_modules/", import.meta.url);
const files = {
  "/lib/xterm.js": new URL("@xterm/xterm/lib/xterm.js", modules),
  "/lib/xterm.css": new URL("@xterm/xterm/css/xterm.css", modules),
  "/lib/addon-attach.js": new URL("@xterm/addon-attach/lib/addon-attach.js", modules),
  "/lib/quill.css": new URL("quill/dist/quill.snow.css", modules),
  "/lib/mqtt.js": new URL("mqtt/dist/mqtt.min.js", modules),
  "/lib/centrifuge.js": new URL("centrifuge/dist/centrifuge.js", modules),
  "/lib/yjs.js": new URL("yjs.js", bundles),
};
for (const name of ["terminal.js", "mqtt.js", "centrifuge.js"]) files["/" + name] = new URL(name, here);

const page = (title, body) => `<!doctype html><html><head><meta charset="utf-8"><link rel="icon" href="data:,"><title>${title}</title></head><body>${body}</body></html>`;
const chat = `<h1>Room</h1><form><input autofocus><button>Send</button></form><ol></ol>`;
const pages = {
  "/yjs.html": page("Yjs", `<link rel="stylesheet" href="/lib/quill.css"><div id="editor"></div><script src="/lib/yjs.js"></script>`),
  "/terminal.html": page("Terminal", `<link rel="stylesheet" href="/lib/xterm.css"><div id="terminal"></div><script src="/lib/xterm.js"></script><script src="/lib/addon-attach.js"></script><script src="/terminal.js"></script>`),
  "/mqtt.html": page("MQTT", `${chat}<script src="/lib/mqtt.js"></script><script src="/mqtt.js"></script>`),
  "/centrifuge.html": page("Centrifugo", `${chat}<script src="/lib/centrifuge.js"></script><script src="/centrifuge.js"></script>`),
};

const server = createServer(async (request, response) => {
  const path = request.url.split("?")[0];
  if (pages[path]) {
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.end(pages[path]);
  } else if (files[path]) {
    response.setHeader("Content-Type", path.endsWith(".css") ? "text/css" : "text/javascript; charset=utf-8");
    response.end(await readFile(files[path]));
  } else {
    response.statusCode = 404;
    response.end();
  }
});

const sockets = new WebSocketServer({ noServer: true });
// terminal is a shell of its own for each WebSocket, in the protocol of xterm.js's addon: bytes both ways.
function terminal(ws) {
  const shell = spawn("/bin/sh", ["-i"], { cols: 80, rows: 30, env: { PATH: process.env.PATH, PS1: "$ ", TERM: "dumb" } });
  shell.onData(data => ws.send(data));
  shell.onExit(() => ws.close(1000, "exit"));
  ws.on("message", data => shell.write(String(data)));
  ws.on("close", () => shell.kill());
}

// relay hands the connection through to a broker.
function relay(to, request, socket, head) {
  const broker = connect(to, "127.0.0.1", () => {
    const lines = [`GET ${request.url} HTTP/1.1`];
    for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(request.rawHeaders[i] + ": " + request.rawHeaders[i + 1]);
    broker.write(lines.join("\r\n") + "\r\n\r\n");
    broker.write(head);
    socket.pipe(broker).pipe(socket);
  });
  broker.on("error", () => socket.destroy());
  socket.on("close", () => broker.destroy());
}

server.on("upgrade", (request, socket, head) => {
  const path = request.url.split("?")[0];
  socket.on("error", () => {});
  if (path.startsWith("/yjs/")) sockets.handleUpgrade(request, socket, head, ws => setupWSConnection(ws, request));
  else if (path === "/terminal") sockets.handleUpgrade(request, socket, head, terminal);
  else if (path === "/mqtt") relay(mqttPort, request, socket, head);
  else if (path === "/connection/websocket") relay(centrifugoPort, request, socket, head);
  else socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
});
server.listen(port, "127.0.0.1");
