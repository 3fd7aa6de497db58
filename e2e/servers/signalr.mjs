// A hub of ASP.NET Core SignalR, JSON hub protocol version 1 over WebSockets, as far as HubProtocol.md and
// TransportProtocols.md of dotnet/aspnetcore demand things of a server. Error texts are those of DefaultHubDispatcher.
// Hubs: /hub, /secure (bearer "good" only), /moved (answers negotiate with the address in options.moved and the token
// "good"), /old, /nows, /sorry (answers of negotiate that a client cannot use), /aborting (OnConnectedAsync fails).
import crypto from "node:crypto";
import { WebSocketServer } from "ws";
import { answer, options, refuse, serve } from "./serve.mjs";

const RS = "\x1e";
const clientTimeout = options.clientTimeout ?? 30000;
const keepAlive = options.keepAlive ?? 15000;
const handshakeTimeout = options.handshakeTimeout ?? 15000;

const tokens = new Map(); // connection token -> hub
const connections = new Set();
const seen = { results: [], negotiations: [], upgrades: [], received: [], ends: [] };

const headers = (request) => ({ authorization: request.headers.authorization, cookie: request.headers.cookie, key: request.headers["x-key"], url: request.url });

function negotiate(request, response, url) {
  const hub = /^(.*)\/negotiate$/.exec(url.pathname)?.[1];
  if (!hub || request.method !== "POST") return false;
  seen.negotiations.push(headers(request));
  if (hub === "/secure" && request.headers.authorization !== "Bearer good") return answer(response, 401, "");
  if (hub === "/moved") return answer(response, 200, { negotiateVersion: 0, url: options.moved, accessToken: "good" });
  if (hub === "/sorry") return answer(response, 200, { error: "the hub is full" });
  if (hub === "/old") return answer(response, 200, { Url: "/signalr", ConnectionToken: "x", ConnectionId: "y", ProtocolVersion: "1.5", TryWebSockets: true });
  if (!["/hub", "/secure", "/nows", "/aborting"].includes(hub)) return false;
  const transports = hub === "/nows" ? [] : [{ transport: "WebSockets", transferFormats: ["Text", "Binary"] }];
  const token = crypto.randomBytes(16).toString("base64url");
  tokens.set(token, hub);
  const version = Math.min(1, Number(url.searchParams.get("negotiateVersion") ?? 0));
  const base = { negotiateVersion: version, connectionId: version ? crypto.randomBytes(16).toString("base64url") : token,
    availableTransports: [...transports, { transport: "LongPolling", transferFormats: ["Text", "Binary"] }] };
  answer(response, 200, version ? { ...base, connectionToken: token } : base);
}

const sockets = new WebSocketServer({ noServer: true });

function upgrade(request, socket, head, url) {
  const id = url.searchParams.get("id");
  if (id && tokens.get(id) !== url.pathname) return refuse(socket, 404);
  if (url.pathname === "/secure" && request.headers.authorization !== "Bearer good") return refuse(socket, 401);
  tokens.delete(id);
  seen.upgrades.push(headers(request));
  sockets.handleUpgrade(request, socket, head, (ws) => new Connection(ws, url.pathname));
}

class HubException extends Error {}

const methods = {
  Join: { args: 1, call: (c, group) => void c.groups.add(group) },
  Echo: { args: 1, call: (c, value) => value },
  Broken: { args: 0, call: () => { throw new Error("a null reference"); } },
  Closed: { args: 0, call: () => { throw new HubException("the market is closed"); } },
  Admin: { args: 0, admin: true },
  Forever: { args: 0, call: () => new Promise(() => {}) },
  Counter: { args: 1, stream: async function* (n) { for (let i = 1; i <= n; i++) yield { i }; } },
  Prices: { args: 0, stream: (c, signal) => c.prices(signal) },
};

class Connection {
  constructor(ws, hub) {
    Object.assign(this, { ws, hub, groups: new Set(), streams: new Map(), waiting: [], shaken: false, why: "lost" });
    this.timers = [setTimeout(() => this.shaken || this.fail("Handshake was canceled."), handshakeTimeout)];
    this.heard = Date.now();
    ws.on("message", (data, binary) => this.message(binary ? null : data.toString()));
    ws.on("close", (code) => this.end(code));
    ws.on("error", () => {});
  }

  say(...records) { this.ws.send(records.map((r) => JSON.stringify(r) + RS).join("")); }

  fail(error) { this.say({ error }); this.why = error; this.ws.close(1000); }

  message(text) {
    if (text === null || !text.endsWith(RS)) { this.why = "incomplete"; return this.ws.terminate(); }
    this.heard = Date.now();
    for (const record of text.slice(0, -1).split(RS).map((r) => JSON.parse(r))) {
      if (!this.shaken) this.shake(record);
      else this.record(record);
    }
  }

  shake({ protocol, version }) {
    if (protocol !== "json") return this.fail(`The protocol '${protocol}' is not supported.`);
    if (version !== 1) return this.fail(`The server does not support version ${version} of the '${protocol}' protocol.`);
    this.shaken = true;
    if (this.hub === "/aborting") {
      this.say({}, { type: 7, error: "Connection closed with an error." });
      this.why = "OnConnectedAsync";
      return this.ws.close(1000);
    }
    connections.add(this);
    this.say({}, { type: 1, target: "Welcome", arguments: [] });
    this.timers.push(setInterval(() => this.say({ type: 6 }), keepAlive));
    this.timers.push(setInterval(() => this.late(), Math.min(clientTimeout / 4, 1000)));
  }

  late() {
    if (Date.now() - this.heard < clientTimeout) return;
    this.why = "client timeout";
    this.say({ type: 7, error: "Connection closed with an error.", allowReconnect: true });
    this.ws.terminate();
  }

  record(r) {
    if (r.type !== 6) seen.received.push(r);
    if (r.type === 1 || r.type === 4) return void this.invoke(r);
    if (r.type === 3) return void seen.results.push(r);
    if (r.type === 5) return void this.streams.get(r.invocationId)?.abort();
    if (r.type === 7) { this.why = "left"; return this.ws.close(1000); }
    if (r.type !== 6) { this.why = "unknown type"; this.ws.terminate(); }
  }

  async invoke({ type, target, invocationId, arguments: args }) {
    const complete = (rest) => invocationId !== undefined && this.say({ type: 3, invocationId, ...rest });
    const method = methods[target];
    if (!method) return complete({ error: `Unknown hub method '${target}'` });
    if (method.admin) return complete({ error: `Failed to invoke '${target}' because user is unauthorized` });
    if (args?.length !== method.args) return complete({ error: `Failed to invoke '${target}' due to an error on the server.` });
    if (type === 4 && !method.stream) return complete({ error: `The client attempted to invoke the non-streaming '${target}' method with a streaming invocation.` });
    if (type === 1 && method.stream) return complete({ error: `The client attempted to invoke the streaming '${target}' method with a non-streaming invocation.` });
    try {
      if (!method.stream) return complete({ result: (await method.call(this, ...args)) ?? null });
      const abort = new AbortController();
      this.streams.set(invocationId, abort);
      const items = target === "Prices" ? method.stream(this, abort.signal) : method.stream(...args);
      for await (const item of items) this.say({ type: 2, invocationId, item });
      complete({});
    } catch (e) {
      const text = `An unexpected error occurred invoking '${target}' on the server.`;
      complete({ error: e instanceof HubException ? `${text} HubException: ${e.message}` : text });
    }
  }

  // prices yields what the control gives, until null.
  async *prices(signal) {
    for (;;) {
      const price = await new Promise((done) => { this.waiting.push(done); signal.addEventListener("abort", () => done(null)); });
      if (price === null) return;
      yield price;
    }
  }

  end(code) {
    for (const t of this.timers) clearInterval(t), clearTimeout(t);
    connections.delete(this);
    seen.ends.push({ hub: this.hub, why: this.why, code });
  }
}

const chosen = (group) => [...connections].filter((c) => group === undefined || c.groups.has(group));

serve({
  handle: negotiate,
  upgrade,
  doing: {
    count: ({ group }) => chosen(group).length,
    seen: () => seen,
    // send invokes on the clients; all of records leave in one message.
    send: ({ group, records }) => chosen(group).map((c) => c.say(...records)).length,
    price: ({ item }) => chosen().filter((c) => c.waiting.length).map((c) => c.waiting.shift()(item)).length,
    close: ({ record }) => chosen().map((c) => { c.why = "closed"; connections.delete(c); c.say(record); c.ws.close(1000); }).length,
    raw: ({ text, hex }) => chosen().map((c) => c.ws.send(hex ? Buffer.from(hex, "hex") : text)).length,
  },
});
