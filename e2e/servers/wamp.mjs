// A WAMP version 2 router over WebSockets in JSON, broker only, as far as the Basic Profile and ticket, WAMP-CRA and
// pattern-based subscriptions of the Advanced Profile demand things of one. Realms: open (anonymous), staff (authid joe
// with the ticket "secret!!!", authid ann with the WAMP-CRA secret "hunter2"). Topics under com.secret are refused.
import crypto from "node:crypto";
import { WebSocketServer } from "ws";
import { options, refuse, serve } from "./serve.mjs";

const silence = options.silence ?? 60000;
const sockets = new WebSocketServer({
  noServer: true,
  handleProtocols: (offered) => (!options.deaf && offered.has("wamp.2.json") ? "wamp.2.json" : false),
});
const sessions = new Set();
const seen = { hellos: [], received: [], ends: [] };
const id = () => 10 ** 15 + Math.floor(Math.random() * 8 * 10 ** 15); // all of one length, and below 2^53
const salted = { salt: "salt123", keylen: 32, iterations: 100 };
const component = /^[^\s.#]+$/;

const subscriptions = new Map(); // "match topic" -> id
function subscription(topic, match) {
  const key = match + " " + topic;
  if (!subscriptions.has(key)) subscriptions.set(key, id());
  return subscriptions.get(key);
}

const matches = {
  exact: (pattern, topic) => pattern === topic,
  prefix: (pattern, topic) => topic.startsWith(pattern),
  wildcard: (pattern, topic) => {
    const [p, t] = [pattern.split("."), topic.split(".")];
    return p.length === t.length && p.every((part, i) => part === "" || part === t[i]);
  },
};

class Abort extends Error {
  constructor(reason, message) { super(message); this.reason = reason; }
}
const must = (ok, what) => { if (!ok) throw new Abort("wamp.error.protocol_violation", what); };
const isObject = (v) => v !== null && typeof v === "object" && !Array.isArray(v);

class Session {
  constructor(ws) {
    Object.assign(this, { ws, requests: 0, subscribed: new Map(), heard: Date.now(), why: "lost" });
    const late = setInterval(() => {
      if (Date.now() - this.heard < silence) return;
      this.why = "silence";
      ws.terminate();
    }, Math.min(silence / 4, 1000));
    for (const sign of ["message", "ping", "pong"]) ws.on(sign, () => { this.heard = Date.now(); });
    ws.on("message", (data, binary) => this.message(data, binary));
    ws.on("close", (code) => { clearInterval(late); sessions.delete(this); seen.ends.push({ code, why: this.why }); });
    ws.on("error", () => {});
  }

  say(...parts) { this.ws.send(JSON.stringify(parts)); }

  message(data, binary) {
    try {
      must(!binary, "binary");
      this.take(JSON.parse(data));
    } catch (e) {
      const reason = e.reason ?? "wamp.error.protocol_violation";
      this.why = reason;
      this.say(3, { message: e.message }, reason);
      this.ws.close(1000);
    }
  }

  take(m) {
    must(Array.isArray(m) && Number.isInteger(m[0]), "no message");
    if (m[0] !== 5) seen.received.push(m);
    if (m[0] === 1) return this.hello(...m.slice(1));
    if (m[0] === 5) return this.authenticate(...m.slice(1));
    if (m[0] === 6) return this.goodbye(m[2]);
    must(this.open, "no session");
    if (m[0] === 32) return this.subscribe(...m.slice(1));
    if (m[0] === 16) return this.publish(...m.slice(1));
    throw new Abort("wamp.error.protocol_violation", `message ${m[0]}`);
  }

  hello(realm, details) {
    must(!this.open && !this.realm && typeof realm === "string" && isObject(details?.roles) && Object.keys(details.roles).length, "HELLO");
    seen.hellos.push(details);
    if (!["open", "staff"].includes(realm)) throw new Abort("wamp.error.no_such_realm", `no realm "${realm}"`);
    Object.assign(this, { realm, authid: details.authid });
    if (realm === "open") return this.welcome("anonymous");
    const method = (details.authmethods ?? []).find((m) => ["ticket", "wampcra"].includes(m));
    if (!method) throw new Abort("wamp.error.no_matching_auth_method", "ticket or wampcra");
    this.method = options.method ?? method;
    if (this.method === "ticket") return this.say(4, "ticket", {});
    this.challenge = JSON.stringify({ nonce: crypto.randomUUID(), authid: details.authid });
    this.say(4, this.method, { challenge: this.challenge, ...(options.unsalted ? {} : salted) });
  }

  authenticate(signature, extra) {
    must(this.method && isObject(extra), "AUTHENTICATE");
    const key = options.unsalted ? "hunter2" : crypto.pbkdf2Sync("hunter2", salted.salt, salted.iterations, salted.keylen, "sha256").toString("base64");
    const good = this.method === "ticket" ? this.authid === "joe" && signature === "secret!!!"
      : this.authid === "ann" && signature === crypto.createHmac("sha256", key).update(this.challenge).digest("base64");
    if (!good) throw new Abort("wamp.error.authentication_failed", `the signature ${signature} is wrong`);
    this.welcome(this.method);
  }

  welcome(authmethod) {
    this.open = true;
    sessions.add(this);
    this.say(2, id(), { realm: this.realm, authmethod, roles: { broker: { features: { pattern_based_subscription: true } } } });
  }

  goodbye(reason) {
    this.why = reason;
    sessions.delete(this);
    if (!this.parting) this.say(6, {}, "wamp.close.goodbye_and_out");
    this.ws.close(1000);
  }

  request(n) { must(n === ++this.requests, `request ${n} behind ${this.requests - 1}`); }

  subscribe(request, settings, topic) {
    this.request(request);
    must(isObject(settings), "options");
    const match = settings.match ?? "exact";
    if (!matches[match]) return this.say(8, 32, request, {}, "wamp.error.invalid_argument");
    const ok = topic.split(".").every((part) => component.test(part) || (part === "" && match !== "exact"));
    if (!ok) return this.say(8, 32, request, {}, "wamp.error.invalid_uri");
    if (topic.startsWith("com.secret")) return this.say(8, 32, request, {}, "wamp.error.not_authorized");
    this.subscribed.set(subscription(topic, match), { topic, match });
    this.say(33, request, subscription(topic, match));
  }

  publish(request, settings, topic, args, kwargs) {
    this.request(request);
    must(isObject(settings) && typeof topic === "string" && (args === undefined || Array.isArray(args)) && (kwargs === undefined || isObject(kwargs)), "PUBLISH");
    publish(topic, args, kwargs, settings.exclude_me === false ? undefined : this);
    if (settings.acknowledge) this.say(17, request, id());
  }
}

const listeners = (topic) => [...sessions].filter((s) => [...s.subscribed.values()].some(({ topic: pattern, match }) => matches[match](pattern, topic)));

function publish(topic, args, kwargs, except) {
  const publication = id();
  for (const session of sessions) {
    if (session === except) continue;
    for (const [sub, { topic: pattern, match }] of session.subscribed) {
      if (!matches[match](pattern, topic)) continue;
      const rest = kwargs !== undefined ? [args ?? [], kwargs] : args !== undefined ? [args] : [];
      session.say(36, sub, publication, match === "exact" ? {} : { topic }, ...rest);
    }
  }
}

serve({
  upgrade: (request, socket, head, url) => (url.pathname === "/ws" ? sockets.handleUpgrade(request, socket, head, (ws) => new Session(ws)) : refuse(socket, 404)),
  doing: {
    count: ({ topic }) => (topic === undefined ? [...sessions] : listeners(topic)).length,
    seen: () => seen,
    publish: ({ topic, args, kwargs }) => publish(topic, args, kwargs),
    goodbye: ({ reason }) => [...sessions].map((s) => { s.parting = true; s.say(6, {}, reason); sessions.delete(s); }).length,
  },
});
