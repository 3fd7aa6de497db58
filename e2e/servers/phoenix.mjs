// A Phoenix socket at /socket, serializers of versions 1 and 2, as far as Phoenix.Socket and Phoenix.Channel.Server of
// Phoenix 1.8 demand things of a server. Channels: room:* for everyone, secret:* with the key "k" in the params,
// state:* whose join is answered with something, crash:* whose join raises, full:* which refuses. ?token=bad is refused.
import { WebSocketServer } from "ws";
import { options, refuse, serve } from "./serve.mjs";

const timeout = options.timeout ?? 60000;
const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => (offered.has("phoenix") ? "phoenix" : false) });
const connections = new Set();
const seen = { joins: [], received: [], ends: [], upgrades: [] };

const join = {
  "room:": () => ({}),
  "secret:": (params) => (params.key === "k" ? {} : { reason: "unauthorized" }),
  "state:": () => ({ items: [1, 2.50] }),
  "crash:": () => { throw new Error("join crashed"); },
  "full:": () => ({ reason: "full" }),
};

function upgrade(request, socket, head, url) {
  seen.upgrades.push(url.pathname + url.search);
  const vsn = url.searchParams.get("vsn") ?? "1.0.0";
  if (url.pathname !== "/socket/websocket") return refuse(socket, 404);
  if (url.searchParams.get("token") === "bad" || !["1.0.0", "2.0.0"].includes(vsn)) return refuse(socket, 403);
  sockets.handleUpgrade(request, socket, head, (ws) => new Connection(ws, vsn === "1.0.0" ? v1 : v2));
}

// Each decodes what a client sent, and throws at what the serializer of Phoenix would raise at.
const must = (ok, what) => { if (!ok) throw new Error(what); };
const stringOrNull = (v) => v === null || typeof v === "string";
const v1 = {
  encode: (m) => JSON.stringify({ topic: m.topic, event: m.event, payload: m.payload, ref: m.ref }),
  decode(data, binary) {
    must(!binary, "version 1 has no binary messages");
    const m = JSON.parse(data);
    must(typeof m.topic === "string" && typeof m.event === "string" && typeof m.ref === "string" && "payload" in m, "fields");
    return { ...m, join_ref: m.join_ref ?? null };
  },
};
const v2 = {
  encode(m) {
    if (!Buffer.isBuffer(m.payload?.response ?? m.payload)) return JSON.stringify([m.join_ref, m.ref, m.topic, m.event, m.payload]);
    const fields = m.event === "phx_reply" ? [1, m.join_ref, m.ref, m.topic, m.payload.status]
      : m.join_ref === null ? [2, m.topic, m.event] : [0, m.join_ref, m.topic, m.event];
    const texts = fields.slice(1).map((f) => Buffer.from(f));
    return Buffer.concat([Buffer.from([fields[0], ...texts.map((t) => t.length)]), ...texts, m.payload.response ?? m.payload]);
  },
  decode(data, binary) {
    if (!binary) {
      const m = JSON.parse(data);
      must(Array.isArray(m) && m.length === 5 && stringOrNull(m[0]) && typeof m[1] === "string", "fields");
      return { join_ref: m[0], ref: m[1], topic: m[2], event: m[3], payload: m[4] };
    }
    must(data[0] === 0, "kind");
    let at = 5;
    const [join_ref, ref, topic, event] = [1, 2, 3, 4].map((i) => data.subarray(at, (at += data[i])).toString());
    return { join_ref, ref, topic, event, payload: data.subarray(at) };
  },
};

class Connection {
  constructor(ws, serializer) {
    Object.assign(this, { ws, serializer, channels: new Map(), heard: Date.now(), why: "lost" });
    connections.add(this);
    const late = setInterval(() => {
      if (Date.now() - this.heard < timeout) return;
      this.why = "timeout";
      ws.close(1000);
    }, Math.min(timeout / 4, 1000));
    ws.on("message", (data, binary) => {
      this.heard = Date.now();
      try {
        this.message(serializer.decode(data, binary));
      } catch (e) {
        this.why = e.message;
        ws.close(1011);
      }
    });
    ws.on("close", (code) => { clearInterval(late); connections.delete(this); seen.ends.push({ code, why: this.why }); });
    ws.on("error", () => {});
  }

  say(join_ref, ref, topic, event, payload) { this.ws.send(this.serializer.encode({ join_ref, ref, topic, event, payload })); }

  reply(m, status, response = {}) { this.say(m.join_ref, m.ref, m.topic, "phx_reply", { status, response }); }

  message(m) {
    if (m.topic === "phoenix" && m.event === "heartbeat") return options.deaf || this.reply(m, "ok");
    seen.received.push({ ...m, payload: Buffer.isBuffer(m.payload) ? m.payload.toString("hex") : m.payload });
    if (m.event === "phx_join") return this.join(m);
    const joined = this.channels.get(m.topic);
    if (joined === undefined) return this.reply(m, "error", { reason: "unmatched topic" });
    if (m.join_ref !== null && m.join_ref !== joined) return; // of a join before
    if (m.event === "phx_leave") { this.reply(m, "ok"); return this.close(m.topic, "phx_close"); }
    if (m.event === "shout") { broadcast(m.topic, "shout", m.payload); return this.reply(m, "ok", Buffer.isBuffer(m.payload) ? m.payload : {}); }
    if (m.event === "ask") return this.reply(m, "ok", { answer: m.payload });
    this.close(m.topic, "phx_error"); // no handle_in matches: the channel crashes
  }

  join(m) {
    must(m.payload !== null && typeof m.payload === "object" && !Array.isArray(m.payload), "params");
    const kind = Object.keys(join).find((prefix) => m.topic.startsWith(prefix));
    if (!kind) return this.reply(m, "error", { reason: "unmatched topic" });
    if (this.channels.has(m.topic)) this.close(m.topic, "phx_close");
    let response;
    try {
      response = join[kind](m.payload);
    } catch {
      return this.reply(m, "error", { reason: "join crashed" });
    }
    if (response.reason) return this.reply(m, "error", response);
    seen.joins.push(m.topic);
    this.channels.set(m.topic, m.join_ref ?? m.ref);
    this.reply(m, "ok", response);
    this.say(this.channels.get(m.topic), null, m.topic, "presence_state", {});
  }

  close(topic, event) {
    const ref = this.channels.get(topic);
    this.channels.delete(topic);
    this.say(ref, ref, topic, event, {});
  }
}

const joined = (topic) => [...connections].filter((c) => c.channels.has(topic));
const broadcast = (topic, event, payload) => joined(topic).map((c) => c.say(null, null, topic, event, payload)).length;
const payload = ({ payload, hex }) => (hex === undefined ? payload : Buffer.from(hex, "hex"));

serve({
  upgrade,
  doing: {
    count: ({ topic }) => joined(topic).length,
    seen: () => seen,
    broadcast: (command) => broadcast(command.topic, command.event, payload(command)),
    push: (command) => joined(command.topic).map((c) => c.say(c.channels.get(command.topic), null, command.topic, command.event, payload(command))).length,
    end: ({ topic, event }) => joined(topic).map((c) => c.close(topic, event)).length,
    drain: () => [...connections].map((c) => c.ws.close(1012)).length,
  },
});
