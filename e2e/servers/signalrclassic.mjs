// ASP.NET SignalR 2.4 with one process and no backplane, over WebSockets, as far as a client can tell: written from what PersistentConnection,
// ForeverTransport, TransportHeartbeat, HubDispatcher, MessageBus, DefaultSubscription, Cursor and MessageStore of SignalR/SignalR do.
// /signalr has the hubs Chat and Stocks, /echo is a persistent connection, /secure is /signalr for bearer "good" only, /moved answers negotiate with the address in
// options.moved and the token "good", /nows, /sorry and /core are answers of negotiate that a client cannot use, /page is a page with the official client.
// Options: buffer (messages of a topic that are kept, 1000), keepAlive (ms, 10000; 0 is none), disconnectTimeout (ms, 30000), detailed (errors), late (ms that
// OnConnected takes).
import crypto from "node:crypto";
import fs from "node:fs";
import { createRequire } from "node:module";
import { WebSocketServer } from "ws";
import { answer, body, options, refuse, serve } from "./serve.mjs";

const require = createRequire(import.meta.url);
const buffer = options.buffer ?? 1000;
const keepAlive = options.keepAlive ?? 10000;
const disconnectTimeout = options.disconnectTimeout ?? 30000;
const maxMessages = 10; // of one topic at once

const secret = "the machine's key, which outlives the process";
const seen = { negotiations: [], upgrades: [], connected: [], reconnected: [], disconnected: [], received: [] };

// protect signs a text as a purpose's; unprotect gives it back, undefined when it is none.
const sign = (purpose, text) => crypto.createHmac("sha256", secret).update(purpose + text).digest("base64");
const protect = (purpose, text) => Buffer.from(JSON.stringify([text, sign(purpose, text)])).toString("base64");
function unprotect(purpose, token) {
  try {
    const [text, signature] = JSON.parse(Buffer.from(token, "base64").toString());
    return signature === sign(purpose, text) ? text : undefined;
  } catch {
    return undefined;
  }
}

// Store is a ring of fragments of which the oldest is let go of as a whole.
class Store {
  constructor(capacity) {
    capacity = Math.max(capacity, 32);
    const count = Math.max(4, Math.floor(capacity / 8192));
    this.size = Math.min(Math.ceil(capacity / count), 8192);
    this.fragments = Array(count + 1).fill(undefined);
    this.next = 0;
  }
  slot(id) { return Math.floor(id / this.size) % this.fragments.length; }
  add(message) {
    const number = Math.floor(this.next / this.size);
    const slot = this.slot(this.next);
    if (this.fragments[slot]?.number !== number) this.fragments[slot] = { number, data: [] };
    this.fragments[slot].data.push(message);
    this.next++;
  }
  // get gives at most max messages from an id on, and the id of the first: what is gone is left out.
  get(from, max) {
    if (this.next <= from) return { first: from, messages: [] };
    const fragment = this.fragments[this.slot(from)];
    if (fragment.number === Math.floor(from / this.size)) {
      const at = from % this.size;
      return { first: from, messages: fragment.data.slice(at, at + max) };
    }
    const tail = this.fragments[(this.slot(this.next) + 1) % this.fragments.length];
    return { first: tail.number * this.size, messages: tail.data.slice(0, max) };
  }
}

// Everything that ends with the process.
let prefix, topics, minified, full, connections;
function begin() {
  prefix = "d-" + crypto.randomBytes(4).readUInt32BE().toString(16).toUpperCase() + "-";
  topics = new Map(); // Store by key
  minified = new Map(); // short name by key
  full = new Map(); // and back
  connections = new Map(); // by id
}
begin();
let names = 0;
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_:";
function minify(key) {
  if (!minified.has(key)) {
    let name = "";
    for (let n = names++, more = true; more; n >>= 6, more = n > 0) name = alphabet[n & 63] + name;
    minified.set(key, name);
    full.set(name, key);
  }
  return minified.get(key);
}
function topic(key) {
  if (!topics.has(key)) topics.set(key, new Store(buffer));
  return topics.get(key);
}
// collect forgets a topic that nobody has listened to for long.
function collect(key) {
  topics.delete(key);
  full.delete(minified.get(key));
  minified.delete(key);
}

function publish(key, message) {
  topic(key).add(message);
  for (const c of connections.values()) if (c.transport?.cursors.has(key)) c.transport.schedule();
}

// A message is {value, except} or {command}.
const invocation = (hub, method, args) => ({ value: { H: hub, M: method, A: args } });

// Transport is one WebSocket of a connection.
class Transport {
  constructor(connection, ws, cursor) {
    Object.assign(this, { connection, ws, alive: true, groupsChanged: connection.groups.size > 0, working: false, initializing: false, aborted: false, shutdown: false });
    const keys = connection.signals();
    this.cursors = this.parse(cursor, keys) ?? new Map(keys.map((key) => [key, topics.get(key)?.next ?? 0]));
    keys.forEach(topic);
    ws.on("message", (data) => connection.received(String(data)));
    ws.on("close", () => { this.alive = false; });
    ws.on("error", () => {});
    if (cursor) this.schedule();
  }
  // parse reads a cursor; undefined: it is another process's, or has a topic that is gone.
  parse(text, keys) {
    if (!text?.startsWith(prefix)) return undefined;
    const cursors = new Map();
    for (const part of text.slice(prefix.length).split("|")) {
      const [name, id] = part.split(",");
      const key = full.get(name);
      if (!key) return undefined;
      if (!keys.includes(key)) continue;
      const store = topics.get(key);
      cursors.set(key, !store || parseInt(id, 16) > store.next ? 0 : parseInt(id, 16));
    }
    return cursors;
  }
  write() { return prefix + [...this.cursors].map(([key, id]) => minify(key) + "," + id.toString(16).toUpperCase()).join("|"); }
  schedule() {
    if (this.working) return;
    this.working = true;
    setImmediate(() => this.work());
  }
  work() {
    this.working = false;
    if (!this.alive || this.ws.readyState !== 1) return;
    if (this.ws.bufferedAmount > 64 << 10) return void setTimeout(() => this.schedule(), 5); // the last one is not written yet
    const messages = [];
    for (const [key, from] of this.cursors) {
      const { first, messages: some } = topic(key).get(from, maxMessages);
      this.cursors.set(key, first + some.length);
      messages.push(...some);
    }
    if (messages.length === 0) return;
    for (const m of messages) if (m.command) this.obey(m);
    if (this.aborted) return this.connection.end(true);
    const response = { C: this.write() };
    if (this.initializing) response.S = 1;
    if (this.shutdown) response.T = 1;
    if (this.groupsChanged) response.G = this.connection.groupsToken();
    response.M = messages.filter((m) => !m.command && !m.except?.includes(this.connection.id)).map((m) => m.value);
    this.initializing = this.groupsChanged = false;
    this.send(response);
    this.schedule();
  }
  obey({ command, group, done }) {
    const c = this.connection;
    if (command === "initialize") this.initializing = true;
    if (command === "abort") this.aborted = true;
    if (command === "add" && !c.groups.has(group)) {
      c.groups.add(group);
      if (!this.cursors.has(c.groupKey(group))) this.cursors.set(c.groupKey(group), topic(c.groupKey(group)).next);
      this.groupsChanged = true;
    }
    if (command === "remove" && c.groups.delete(group)) {
      this.cursors.delete(c.groupKey(group));
      this.groupsChanged = true;
    }
    done?.();
  }
  send(value) {
    this.connection.marked = Date.now();
    this.ws.send(JSON.stringify(value));
  }
  end() {
    if (!this.alive) return;
    this.alive = false;
    this.ws.close(1000);
  }
}

// Connection is a connection to hubs, or to a persistent connection.
class Connection {
  constructor(id, path, hubs, groups) {
    Object.assign(this, { id, path, hubs, groups: new Set(groups), marked: Date.now() });
  }
  signals() {
    const own = this.hubs.length ? this.hubs.flatMap((hub) => ["h-" + hub, "hc-" + hub + "." + this.id]) : ["p-" + this.path];
    return [...own, "c-" + this.id, ...[...this.groups].map((group) => this.groupKey(group))];
  }
  groupKey(group) { return (this.hubs.length ? "hg-" : "pcg-") + group; }
  groupsToken() { return protect("groups", this.id + ":" + JSON.stringify([...this.groups].sort())); }
  command(command, more) { publish("c-" + this.id, { command, ...more }); }
  // join is done once the connection listens to the group.
  join(group) { return new Promise((done) => this.command("add", { group, done })); }
  leave(group) { return new Promise((done) => this.command("remove", { group, done })); }
  received(text) {
    seen.received.push(text);
    if (!this.hubs.length) return publish("p-" + this.path, { value: text });
    const { H, M, A = [], I } = JSON.parse(text);
    const hub = hubNamed(H);
    if (!hub) return; // it is logged, and not answered
    this.invoke(hub, M, A, I);
  }
  async invoke(hub, method, args, id) {
    const response = { I: id };
    try {
      const call = Object.entries(methods).find(([name]) => name.toLowerCase() === method.toLowerCase())?.[1];
      if (call?.length - 2 !== args.length) throw new Error(`'${method}' method could not be resolved. No method found with that name.`);
      const result = await call(this, hub, ...args, (data) => this.transport.send({ I: "P|" + id, P: { I: id, D: data } }));
      if (result !== undefined) response.R = result;
    } catch (error) {
      if (error instanceof HubException) Object.assign(response, { H: true, E: error.message, D: error.data });
      else response.E = options.detailed ? error.message : `There was an error invoking Hub method '${hub.toLowerCase()}.${method}'.`;
    }
    this.transport.send(response);
  }
  // end is what Abort does, and the heartbeat for one that is gone.
  end(stopped) {
    connections.delete(this.id);
    this.transport.end();
    seen.disconnected.push(stopped);
  }
}

class HubException extends Error {
  constructor(message, data) { super(message); this.data = data; }
}

const hubNames = ["Chat", "Stocks"];
const hubNamed = (name) => hubNames.find((one) => one.toLowerCase() === String(name).toLowerCase());

// Each takes the connection, its hub, arguments, and at last what reports progress.
const methods = {
  Join: (c, hub, group) => c.join(hub + "." + group).then(() => undefined),
  Leave: (c, hub, group) => c.leave(hub + "." + group).then(() => undefined),
  Echo: (c, hub, value) => value,
  Say: (c, hub, text) => publish("h-" + hub, invocation(hub, "said", [text])),
  Others: (c, hub, text) => publish("h-" + hub, { ...invocation(hub, "said", [text]), except: [c.id] }),
  Broken: (c, hub) => { throw new Error("Object reference not set to an instance of an object."); },
  Closed: (c, hub) => { throw new HubException("the market is closed", { until: 9 }); },
  Forever: (c, hub) => new Promise(() => {}),
};
methods.Slow = Object.defineProperty(async (c, hub, n, progress) => { progress(n); return n; }, "length", { value: 3 });

// The connection's id in a request; undefined: its token is none.
const connectionID = (url) => unprotect("token", url.searchParams.get("connectionToken") ?? "")?.split(":")[0];

// The hubs that a request names; undefined: one of them does not exist, which is an exception.
function hubsOf(url) {
  const hubs = JSON.parse(url.searchParams.get("connectionData") || "[]").map(({ name }) => hubNamed(name));
  return hubs.includes(undefined) || new Set(hubs).size < hubs.length ? undefined : hubs;
}

const version = (url) => {
  const [major, minor] = (url.searchParams.get("clientProtocol") ?? "1.2").split(".").map(Number);
  return Math.min(Math.max(major * 10 + minor, 12), 20);
};

const headers = (request) => ({ authorization: request.headers.authorization, cookie: request.headers.cookie, key: request.headers["x-key"], url: request.url });
const barred = (path, request, url) => path === "/secure" && request.headers.authorization !== "Bearer good" && url.searchParams.get("access_token") !== "good";
const paths = ["/signalr", "/echo", "/secure", "/nows"];

async function handle(request, response, url) {
  const [, path, what] = /^(.*)\/([a-z.]+)$/i.exec(url.pathname) ?? [];
  if (path === "" && ["jquery", "signalr"].includes(what)) {
    const file = { jquery: "jquery/dist/jquery.min.js", signalr: "signalr/jquery.signalR.js" }[what];
    response.setHeader("Content-Type", "text/javascript");
    response.end(fs.readFileSync(require.resolve(file)));
    return;
  }
  if (path === "" && what === "page") {
    response.setHeader("Content-Type", "text/html");
    response.end(`<!doctype html><title>classic</title><script>window.saw = []</script><script src="/jquery"></script><script src="/signalr"></script>`);
    return;
  }
  if (what === "negotiate") return negotiate(request, response, url, path);
  if (!paths.includes(path)) return false;
  if (barred(path, request, url)) return answer(response, 401, "");
  if (what === "ping") return answer(response, 200, { Response: "pong" });
  const c = connections.get(connectionID(url));
  if (!connectionID(url)) return answer(response, 400, "The ConnectionId is in the incorrect format.");
  if (what === "start") {
    await connected(c);
    return answer(response, 200, { Response: "started" });
  }
  if (what === "abort") {
    await body(request);
    c?.command("abort");
    return answer(response, 200, "");
  }
  return answer(response, 400, "Protocol error: Unknown transport.");
}

function negotiate(request, response, url, path) {
  seen.negotiations.push(headers(request));
  if (barred(path, request, url)) return answer(response, 401, "");
  const protocol = { ProtocolVersion: (version(url) / 10).toFixed(1) };
  if (path === "/moved") return answer(response, 200, { ...protocol, RedirectUrl: options.moved, AccessToken: "good" });
  if (path === "/sorry") return answer(response, 200, { ...protocol, Error: "the hub is full" });
  if (path === "/core") return answer(response, 200, { connectionId: "x", availableTransports: [] });
  if (!paths.includes(path)) return false;
  if (!hubsOf(url)) return answer(response, 500, "Hub could not be resolved.");
  const id = crypto.randomUUID();
  answer(response, 200, { Url: path, ConnectionToken: protect("token", id + ":"), ConnectionId: id, KeepAliveTimeout: keepAlive ? (2 * keepAlive) / 1000 : null,
    DisconnectTimeout: disconnectTimeout / 1000, ConnectionTimeout: 110, TryWebSockets: path !== "/nows", ...protocol, TransportConnectTimeout: 5, LongPollDelay: 0 });
}

// connected is OnConnected.
async function connected(c) {
  if (options.late) await new Promise((done) => setTimeout(done, options.late));
  seen.connected.push(c.id);
  if (c.hubs.length) publish("hc-" + c.hubs[0] + "." + c.id, invocation(c.hubs[0], "welcome", []));
}

const sockets = new WebSocketServer({ noServer: true });

function upgrade(request, socket, head, url) {
  const [, path, what] = /^(.*)\/(connect|reconnect)$/.exec(url.pathname) ?? [];
  seen.upgrades.push(headers(request));
  if (!paths.includes(path) || url.searchParams.get("transport") !== "webSockets") return refuse(socket, 400);
  if (barred(path, request, url)) return refuse(socket, 401);
  const hubs = hubsOf(url);
  if (!hubs) return refuse(socket, 500);
  const id = connectionID(url);
  if (!id) return refuse(socket, 400);
  const [owner, ...groups] = (unprotect("groups", url.searchParams.get("groupsToken") ?? "") ?? "").split(/:(.*)/s);
  sockets.handleUpgrade(request, socket, head, (ws) => {
    const old = connections.get(id);
    old?.transport.end();
    const c = new Connection(id, path, hubs, owner === id ? JSON.parse(groups[0]) : []);
    connections.set(id, c);
    c.transport = new Transport(c, ws, url.searchParams.get("messageId"));
    if (what === "reconnect") {
      seen.reconnected.push(id);
      return;
    }
    const delayed = version(url) >= 14;
    c.opened = delayed ? Promise.resolve() : (old?.opened ?? connected(c));
    c.opened.then(() => c.command("initialize"));
  });
}

// The heartbeat, of which every second is a keep-alive.
let beats = 0;
setInterval(() => {
  beats++;
  for (const c of connections.values()) {
    if (c.transport.alive) {
      if (keepAlive && beats % 2 === 0 && c.transport.ws.readyState === 1) c.transport.ws.send("{}");
      c.marked = Date.now();
    } else if (Date.now() - c.marked >= disconnectTimeout + (options.slack ?? 5000)) {
      c.end(false);
    }
  }
}, keepAlive ? keepAlive / 2 : disconnectTimeout / 6);

serve({
  handle,
  upgrade,
  doing: {
    // publish has a hub's clients, those of a group or one alone, invoked; each is [method, args].
    publish: ({ hub = "Chat", group, calls, to }) => {
      const key = group ? "hg-" + hub + "." + group : to ? "hc-" + hub + "." + to : "h-" + hub;
      for (const [method, args] of calls) publish(key, invocation(hub, method, args));
    },
    broadcast: ({ values }) => values.forEach((value) => publish("p-/echo", { value })),
    count: () => [...connections.values()].filter((c) => c.transport.alive).length,
    seen: () => seen,
    ids: () => [...connections.keys()],
    // drop cuts all WebSockets without a word; missed says things in the same moment.
    drop: () => { for (const c of connections.values()) c.transport.ws.terminate(); },
    missed: ({ count }) => {
      for (const c of connections.values()) c.transport.ws.terminate();
      for (let n = 0; n < count; n++) publish("h-Chat", invocation("Chat", "said", [n]));
    },
    abort: () => { for (const c of connections.values()) c.command("abort"); },
    // restart is another process with the same machine key; T comes with the last message where there is one.
    restart: () => {
      const old = [...connections.values()];
      for (const c of old) {
        c.transport.shutdown = true;
        c.command("initialize");
      }
      return new Promise((done) => setTimeout(() => {
        begin();
        for (const c of old) c.transport.end();
        done();
      }, 50));
    },
    // collect lets go of the connections' own topics, as after a long time without a listener.
    collect: () => { for (const key of [...topics.keys()]) if (key.startsWith("hc-")) collect(key); },
  },
});
