// What the small servers of public feeds have in common: `node NAME.mjs ADDRESS [JSON options]` listens there, says so,
// and does what is POSTed to /control as {"do": NAME, ...}, answering with what became of it.
import http from "node:http";
import { WebSocketServer } from "ws";

export const options = JSON.parse(process.argv[3] ?? "{}");
export const address = process.argv[2];
export const port = address.split(":")[1];

// seen is what the tests ask for; a feed adds to it.
export const seen = { dials: [], heard: [], beats: 0, kicked: 0 };
export const open = new Set();

async function body(request) {
  let text = "";
  for await (const part of request) text += part;
  return text;
}

// feed serves WebSockets: connect(peer, request, url) is told of each, and gives it a function that takes its messages, or
// refuses it with a status by returning that. A message that is not JSON is a text. protocols are subprotocols, of which one is chosen. asked answers other requests, or returns false.
export function feed({ connect, doing, asked = () => false, protocols = [] }) {
  const sockets = new WebSocketServer({ noServer: true, ...(protocols.length && { handleProtocols: (offered) => protocols.find((p) => offered.has(p)) ?? false }) });
  const commands = {
    seen: () => ({ ...seen, open: open.size }),
    cut: () => all((peer) => peer.ws.terminate()),
    close: ({ code, reason }) => all((peer) => peer.ws.close(code, reason)),
    raw: ({ message }) => all((peer) => peer.say(message)),
    ...doing,
  };
  const server = http.createServer(async (request, response) => {
    const url = new URL(request.url, "http://" + request.headers.host);
    const text = await body(request);
    if (url.pathname === "/control") {
      const command = JSON.parse(text);
      return json(response, 200, (await commands[command.do](command)) ?? null);
    }
    if (asked(request, response, url, text) === false) json(response, 404, { error: "not found" });
  });
  server.on("upgrade", (request, socket, head) => {
    const url = new URL(request.url, "http://" + request.headers.host);
    seen.dials.push({ url: request.url, host: request.headers.host, origin: request.headers.origin ?? "", authorization: request.headers.authorization ?? "" });
    const peer = new Peer();
    const take = connect(peer, request, url);
    if (typeof take === "number") return socket.end(`HTTP/1.1 ${take} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    sockets.handleUpgrade(request, socket, head, (ws) => peer.start(ws, take));
  });
  const [host] = address.split(":");
  server.listen(Number(port), host, () => console.log("listening"));
}

// Peer is one connection.
class Peer {
  start(ws, take) {
    this.ws = ws;
    this.take = take;
    this.timers = [];
    this.heard = Date.now();
    open.add(this);
    ws.on("message", (data) => {
      this.heard = Date.now();
      const message = parsed(data.toString());
      if (typeof message === "object") seen.heard.push(message);
      this.take(message);
    });
    ws.on("close", (code) => {
      open.delete(this);
      for (const timer of this.timers) clearInterval(timer);
      this.gone?.(code);
    });
    ws.on("error", () => {});
    this.opened?.();
  }

  say(...messages) {
    for (const message of messages) this.ws.send(JSON.stringify(message));
  }

  every(ms, f) {
    if (ms) this.timers.push(setInterval(f, ms));
  }

  kick(code, reason) {
    seen.kicked++;
    if (code) this.ws.close(code, reason);
    else this.ws.terminate();
  }

  // demand kicks the peer when it has sent no message for ms.
  demand(ms, code, reason) {
    this.every(ms / 4, () => Date.now() - this.heard > ms && this.kick(code, reason));
  }

  // ping sends WebSocket pings every ms, each after the answer to the one before, with the same bytes, and kicks the peer when one is not answered for three seconds: machines are busy.
  ping(ms) {
    let sent = "";
    this.ws.on("pong", (data) => {
      if (data.toString() === sent) { sent = ""; seen.beats++; }
    });
    this.every(ms, () => {
      if (sent) return Date.now() - Number(sent) > Math.max(ms, 3000) && this.kick();
      sent = String(Date.now());
      this.ws.ping(sent);
    });
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export function json(response, status, value) {
  response.statusCode = status;
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify(value));
}

// all does f with every peer that which lets through, and returns how many those were.
export function all(f, which = () => true) {
  const peers = [...open].filter(which);
  peers.forEach(f);
  return peers.length;
}
