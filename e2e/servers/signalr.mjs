// A hub of ASP.NET Core SignalR, hub protocol versions 1 and 2 in JSON and in MessagePack over WebSockets, as far as HubProtocol.md and
// TransportProtocols.md of dotnet/aspnetcore demand things of a server; with {"jsonOnly":true} in JSON alone, with {"stateful":true} with stateful
// reconnect, where a connection that is lost is kept for disconnectTimeout. Error texts are those of DefaultHubDispatcher.
// Hubs: /hub, /secure (bearer "good" only), /moved (answers negotiate with the address in options.moved and the token
// "good"), /old, /nows, /sorry (answers of negotiate that a client cannot use), /aborting (OnConnectedAsync fails).
import crypto from "node:crypto";
import { decode, encode } from "@msgpack/msgpack";
import { WebSocketServer } from "ws";
import { answer, options, refuse, serve } from "./serve.mjs";

const RS = "\x1e";
const clientTimeout = options.clientTimeout ?? 30000;
const keepAlive = options.keepAlive ?? 15000;
const handshakeTimeout = options.handshakeTimeout ?? 15000;
const disconnectTimeout = options.disconnectTimeout ?? 15000;

const tokens = new Map(); // connection token -> hub, or the connection that can be gone on with
const connections = new Set();
const seen = { results: [], negotiations: [], upgrades: [], received: [], ends: [], resumed: 0, acks: 0 };

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
  const stateful = options.stateful && url.searchParams.get("useStatefulReconnect") === "true";
  tokens.set(token, { hub, stateful });
  const version = Math.min(1, Number(url.searchParams.get("negotiateVersion") ?? 0));
  const base = { negotiateVersion: version, connectionId: version ? crypto.randomBytes(16).toString("base64url") : token,
    availableTransports: [...transports, { transport: "LongPolling", transferFormats: ["Text", "Binary"] }] };
  answer(response, 200, { ...base, ...(version && { connectionToken: token }), ...(stateful && { useStatefulReconnect: true }) });
}

const sockets = new WebSocketServer({ noServer: true });

function upgrade(request, socket, head, url) {
  const id = url.searchParams.get("id");
  const known = tokens.get(id);
  if (id && known?.hub !== url.pathname) return refuse(socket, 404);
  if (url.pathname === "/secure" && request.headers.authorization !== "Bearer good") return refuse(socket, 401);
  tokens.delete(id);
  seen.upgrades.push(headers(request));
  sockets.handleUpgrade(request, socket, head, (ws) => {
    if (known?.connection) return known.connection.resume(ws);
    const connection = new Connection(ws, url.pathname, known?.stateful ? id : undefined);
    if (known?.stateful) tokens.set(id, { hub: url.pathname, connection });
  });
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

// Records as lists, and back.
const listOf = (r) => {
  const head = [r.type, {}, r.invocationId ?? null];
  switch (r.type) {
    case 1: return [...head, r.target, r.arguments, []];
    case 2: return [...head, r.item];
    case 3: return r.error !== undefined ? [...head, 1, r.error] : r.result !== undefined ? [...head, 3, r.result] : [...head, 2];
    case 7: return [7, r.error ?? null, ...(r.allowReconnect === undefined ? [] : [r.allowReconnect])];
    case 8: case 9: return [r.type, r.sequenceId];
    default: return [r.type];
  }
};
const recordOf = ([type, headers, id, a, b]) => {
  if (type === 8 || type === 9) return { type, sequenceId: headers };
  const rest = type === 1 || type === 4 ? { target: a, arguments: b } : type === 2 ? { item: a } : type === 3 ? { 1: { error: b }, 2: {}, 3: { result: b } }[a] : {};
  return { type, ...(id != null && type < 6 && { invocationId: id }), ...rest };
};

function framed(record) {
  const body = encode(listOf(record));
  const size = [];
  for (let n = body.length; ; n >>>= 7) {
    size.push(n > 127 ? (n & 127) | 128 : n);
    if (n <= 127) return Buffer.concat([Buffer.from(size), body]);
  }
}

function unframed(data) {
  const records = [];
  for (let at = 0; at < data.length;) {
    let size = 0, byte, shift = 0;
    do { byte = data[at++]; size |= (byte & 127) << shift; shift += 7; } while (byte & 128);
    records.push(recordOf(decode(data.subarray(at, at += size))));
  }
  return records;
}

const counts = (r) => r.type >= 1 && r.type <= 5;

class Connection {
  // token is that of a connection that can be gone on with.
  constructor(ws, hub, token) {
    Object.assign(this, { hub, token, groups: new Set(), streams: new Map(), waiting: [], shaken: false, why: "lost" });
    Object.assign(this, { kept: [], said: 0, taken: 0, coming: 1 }); // records that are not acknowledged, and the numbers of the last and the next
    this.timers = [setTimeout(() => this.shaken || this.fail("Handshake was canceled."), handshakeTimeout)];
    this.attach(ws);
  }

  attach(ws) {
    this.ws = ws;
    this.heard = Date.now();
    ws.on("message", (data, binary) => ws === this.ws && this.message(data, binary));
    ws.on("close", (code) => ws === this.ws && this.lost(code));
    ws.on("error", () => {});
  }

  // resume goes on over another WebSocket. The old one may not be known to be lost.
  resume(ws) {
    clearTimeout(this.parting);
    this.ws?.terminate();
    this.attach(ws);
    this.awaiting = true;
    seen.resumed++;
    tokens.set(this.token, { hub: this.hub, connection: this });
    this.say({ type: 9, sequenceId: this.said - this.kept.length + 1 });
    for (const data of this.kept) ws.send(this.packed ? data : data.toString());
  }

  // lost is the end of a WebSocket, and that of the connection unless it can be gone on with: not after a close in order.
  lost(code) {
    this.ws = null;
    if (!this.token || !this.shaken || code !== 1006 || this.why !== "lost") return this.end(code);
    this.parting = setTimeout(() => this.end(code), disconnectTimeout);
  }

  // The handshake's answer, which has no type, is JSON in any case. What counts is kept.
  say(...records) {
    const text = (r) => JSON.stringify(r) + RS;
    const all = records.map((r) => (this.packed && r.type ? framed(r) : Buffer.from(text(r))));
    records.forEach((r, i) => { if (this.stateful && counts(r)) this.kept.push(all[i]), this.said++; });
    this.ws?.send(this.packed ? Buffer.concat(all) : Buffer.concat(all).toString());
  }

  // fresh reports whether a record has not come before, and acknowledges within a second.
  fresh(r) {
    if (this.awaiting && r.type !== 9) return false;
    if (r.type === 9) {
      if (r.sequenceId > this.coming) return this.say({ type: 7, error: "Sequence ID greater than amount of messages we've received." }), (this.why = "sequence"), this.ws?.close(1000), false;
      this.awaiting = false;
      this.coming = r.sequenceId;
      return false;
    }
    if (r.type === 8) return seen.acks++, this.kept.splice(0, Math.max(0, r.sequenceId - (this.said - this.kept.length))), false;
    if (!counts(r)) return true;
    this.acking ??= setTimeout(() => { this.acking = undefined; this.say({ type: 8, sequenceId: this.taken }); }, options.ackAfter ?? 1000);
    if (this.coming++ <= this.taken) return false;
    this.taken++;
    return true;
  }

  fail(error) { this.say({ error }); this.why = error; this.ws.close(1000); }

  message(data, binary) {
    this.heard = Date.now();
    if (binary && this.packed) return unframed(data).forEach((r) => this.record(r));
    const text = data.toString();
    if (binary || this.packed || !text.endsWith(RS)) { this.why = "incomplete"; return this.ws.terminate(); }
    for (const record of text.slice(0, -1).split(RS).map((r) => JSON.parse(r))) {
      if (!this.shaken) this.shake(record);
      else this.record(record);
    }
  }

  shake({ protocol, version }) {
    this.packed = protocol === "messagepack" && !options.jsonOnly;
    if (protocol !== "json" && !this.packed) return this.fail(`The protocol '${protocol}' is not supported.`);
    if (version !== 1 && version !== 2) return this.fail(`The server does not support version ${version} of the '${protocol}' protocol.`);
    this.shaken = true;
    this.stateful = this.token !== undefined && version === 2;
    if (this.token && !this.stateful) return this.fail("Stateful reconnect needs version 2.");
    if (this.hub === "/aborting") {
      this.say({}, { type: 7, error: "Connection closed with an error." });
      this.why = "OnConnectedAsync";
      return this.ws.close(1000);
    }
    connections.add(this);
    const welcome = { type: 1, target: "Welcome", arguments: [] };
    // @microsoft/signalr 10.0.11 begins to count after the answer: in Node, what comes in one packet with it is not counted.
    if (this.stateful) this.say({}), setTimeout(() => this.say(welcome), 50);
    else this.say({}, welcome);
    this.timers.push(setInterval(() => this.ws && this.say({ type: 6 }), keepAlive));
    this.timers.push(setInterval(() => this.late(), Math.min(clientTimeout / 4, 1000)));
  }

  late() {
    if (!this.ws || Date.now() - this.heard < clientTimeout) return;
    this.why = "client timeout";
    this.say({ type: 7, error: "Connection closed with an error.", allowReconnect: true });
    this.ws.terminate();
  }

  record(r) {
    if (this.stateful && !this.fresh(r)) return;
    if (r.type !== 6) seen.received.push(r);
    if (r.type === 1 || r.type === 4) return void this.invoke(r);
    if (r.type === 3) return void seen.results.push({ ...r, who: [...this.groups].join() });
    if (r.type === 5) return void this.streams.get(r.invocationId)?.abort();
    if (r.type === 7) { this.why = "left"; return this.ws?.close(1000); }
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
    for (const t of [...this.timers, this.acking, this.parting]) clearInterval(t), clearTimeout(t);
    tokens.delete(this.token);
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
    cutting: ({ group }) => chosen(group).filter((c) => c.ws).map((c) => c.ws.terminate()).length,
    kept: () => chosen().map((c) => c.kept.length),
    price: ({ item }) => chosen().filter((c) => c.waiting.length).map((c) => c.waiting.shift()(item)).length,
    close: ({ record }) => chosen().map((c) => { c.why = "closed"; connections.delete(c); c.say(record); c.ws?.close(1000); }).length,
    raw: ({ text, hex }) => chosen().map((c) => c.ws?.send(hex ? Buffer.from(hex, "hex") : text)).length,
  },
});
