// AnyCable's extended Action Cable protocol with sessions, streams and their history in memory, as its documentation and
// @anycable/core have it. Channels: ChatChannel streams "chat:<room>"; the room "secret" is rejected. Options:
//   ping   ms between pings
//   pongs  who does not answer one by the next is disconnected
//   old    prefers Rails' protocol of those offered
//   keeps  messages kept of each stream
import { WebSocketServer } from "ws";
import { options, refuse, serve } from "./serve.mjs";

const offered = options.old ? ["actioncable-v1-json", "actioncable-v1-ext-json"] : ["actioncable-v1-ext-json", "actioncable-v1-json"];
const epoch = Math.random().toString(36).slice(2, 6);
const streams = new Map(); // name -> [{offset, at, message}]
const offsets = new Map();
const sessions = new Map(); // sid -> identifiers
const sockets = new Set();
const seen = { dials: [], protocols: [], commands: [], ends: [], pings: 0 };

const now = () => Math.floor(Date.now() / 1000);
const streamOf = (identifier) => "chat:" + JSON.parse(identifier).room;

class Session {
  constructor(socket, url) {
    Object.assign(this, { socket, ids: new Set(), ponged: true });
    this.extended = socket.protocol === "actioncable-v1-ext-json";
    const was = url.searchParams.get("sid");
    this.sid = Math.random().toString(36).slice(2);
    if (url.searchParams.get("token") === "bad") return this.disconnect("unauthorized", false);
    const restored = this.extended && sessions.has(was);
    if (restored) this.ids = new Set(sessions.get(was));
    sessions.set(this.sid, this.ids);
    this.send({ type: "welcome", sid: this.sid, ...(restored && { restored, restored_ids: [...this.ids] }) });
    this.beat = setInterval(() => {
      if (options.pongs && !this.ponged) return this.disconnect("no_pong", true);
      this.ponged = false;
      this.send({ type: "ping", message: now() });
      seen.pings++;
    }, options.ping ?? 3000);
  }

  send(message) { this.socket.send(JSON.stringify(message)); }

  disconnect(reason, reconnect) {
    clearInterval(this.beat);
    seen.ends.push(reason);
    this.send({ type: "disconnect", reason, reconnect });
    this.socket.close(1000, reason);
  }

  data(identifier, { offset, message }) {
    const stream_id = streamOf(identifier);
    this.send({ identifier, message, ...(this.extended && { stream_id, epoch, offset }) });
  }

  subscribe({ identifier, history }) {
    if (this.ids.has(identifier)) return;
    if (JSON.parse(identifier).room === "secret") return this.send({ type: "reject_subscription", identifier });
    this.ids.add(identifier);
    this.send({ type: "confirm_subscription", identifier });
    if (history) this.history({ identifier, history });
  }

  history({ identifier, history: { since, streams: positions } }) {
    if (!this.ids.has(identifier)) return;
    const name = streamOf(identifier), kept = streams.get(name) ?? [], from = positions?.[name];
    const lost = from && (from.epoch !== epoch || from.offset < (offsets.get(name) ?? 0) - kept.length);
    if (lost) return this.send({ type: "reject_history", identifier });
    for (const item of kept) if (from ? item.offset > from.offset : item.at >= since) this.data(identifier, item);
    this.send({ type: "confirm_history", identifier });
  }

  heard(command) {
    seen.commands.push(command.command);
    switch (command.command) {
      case "subscribe": return this.subscribe(command);
      case "history": return this.history(command);
      case "message": return say(streamOf(command.identifier), { said: JSON.parse(command.data).text });
      case "pong": this.ponged = true;
    }
  }
}

function keep(name, message) {
  const offset = (offsets.get(name) ?? 0) + 1;
  offsets.set(name, offset);
  const item = { offset, at: now(), message };
  streams.set(name, [...(streams.get(name) ?? []), item].slice(-(options.keeps ?? 100)));
  return item;
}

function say(name, message) {
  const item = keep(name, message);
  for (const { session } of sockets) for (const id of session.ids) if (streamOf(id) === name) session.data(id, item);
}

const wss = new WebSocketServer({ noServer: true, handleProtocols: (asked) => offered.find((p) => asked.has(p)) ?? false });

serve({
  upgrade: (request, socket, head, url) => {
    if (url.pathname !== "/cable") return refuse(socket, 404);
    seen.dials.push(request.url);
    wss.handleUpgrade(request, socket, head, (ws) => {
      seen.protocols.push(ws.protocol);
      const entry = { ws, session: new Session(ws, url) };
      sockets.add(entry);
      ws.on("message", (data) => entry.session.heard(JSON.parse(data)));
      ws.on("close", () => { clearInterval(entry.session.beat); sockets.delete(entry); });
    });
  },
  doing: {
    count: ({ topic }) => [...sockets].filter(({ session }) => [...session.ids].some((id) => streamOf(id) === "chat:" + topic)).length,
    say: ({ topic, message }) => say("chat:" + topic, message),
    // overtake says the last of messages; the others are on their way and do not come.
    overtake: ({ topic, messages }) => {
      for (const message of messages.slice(0, -1)) keep("chat:" + topic, message);
      say("chat:" + topic, messages.at(-1));
    },
    // interrupt cuts every connection and says what nobody is there to hear.
    interrupt: ({ topic, messages, forget }) => {
      for (const entry of sockets) { entry.ws.terminate(); sockets.delete(entry); }
      if (forget) sessions.clear();
      for (const message of messages) say("chat:" + topic, message);
    },
    seen: () => seen,
  },
});
