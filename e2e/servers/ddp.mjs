// A service that speaks DDP 1 as Meteor's server does, at /websocket: documents in collections, published by name: "orders" with a state, "prices",
// and "stream" as Rocket.Chat has it, changes of a document that is nowhere. "secret" is for who has logged in, "never" is not ready, "gone" is stopped, "busy" is
// limited. A login is {resume:"good.token"}. The method say puts its parameters into "said". Options:
//   ping   in ms: how often it pings, and leaves who does not answer; 0: never
//   login  everything is for who has logged in
import { WebSocketServer } from "ws";
import { options, serve } from "./serve.mjs";

const sockets = new WebSocketServer({ noServer: true });
const peers = new Set();
const seen = { calls: [], subs: 0, unsubs: 0, pings: 0, pongs: 0 };
const documents = new Map(); // fields by collection and id
const key = (collection, id) => collection + "/" + id;

function upgrade(request, socket, head, url) {
  if (url.pathname !== "/websocket") return socket.end("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  sockets.handleUpgrade(request, socket, head, (ws) => {
    const peer = { ws, subs: new Map(), user: false };
    peers.add(peer);
    ws.on("message", (text) => message(peer, JSON.parse(text.toString())));
    ws.on("close", () => { peers.delete(peer); clearInterval(peer.beat); });
    ws.on("error", () => {});
    say(peer, { server_id: "0" });
  });
}

const say = (peer, m) => peer.ws.send(JSON.stringify(m));
const failed = (error, reason) => ({ isClientSafe: true, error, reason, message: `${reason} [${error}]`, errorType: "Meteor.Error" });

function message(peer, m) {
  switch (m.msg) {
    case "connect":
      if (m.version !== "1" || !m.support.includes("1")) return say(peer, { msg: "failed", version: "1" });
      peer.connected = true;
      if (options.ping) {
        peer.beat = setInterval(() => {
          if (peer.owes) return peer.ws.terminate();
          peer.owes = true;
          say(peer, { msg: "ping" });
        }, options.ping);
      }
      return say(peer, { msg: "connected", session: Math.random().toString(36).slice(2) });
    case "ping": seen.pings++; return say(peer, { msg: "pong", ...(m.id && { id: m.id }) });
    case "pong": seen.pongs++; peer.owes = false; return;
    case "method": return method(peer, m);
    case "sub": return peer.connected ? sub(peer, m) : say(peer, { msg: "error", reason: "Must connect first", offendingMessage: m });
    case "unsub": seen.unsubs++; peer.subs.delete(m.id); return say(peer, { msg: "nosub", id: m.id });
  }
  say(peer, { msg: "error", reason: "Bad request", offendingMessage: m });
}

function method(peer, { id, method, params }) {
  seen.calls.push([method, ...params]);
  const done = (result) => { say(peer, { msg: "result", id, ...(result !== undefined && { result }) }); say(peer, { msg: "updated", methods: [id] }); };
  switch (method) {
    case "login":
      if (params[0].resume !== "good.token") return say(peer, { msg: "result", id, error: failed(403, `You've been logged out by the server. Please log in again, not with ${params[0].resume}`) });
      peer.user = true;
      return done({ id: "u1", token: "good.token", tokenExpires: { $date: 1900000000000 }, type: "resume" });
    case "say": return done(put("said", "s" + seen.calls.length, { params }));
  }
  say(peer, { msg: "result", id, error: failed(404, `Method '${method}' not found`) });
}

const wants = ({ name, params }, collection, fields) =>
  name === collection && (collection !== "orders" || fields.state === params[0]) || name === "prices" && collection === "said" || name === "secret" && collection === "secrets";

function sub(peer, { id, name, params = [] }) {
  seen.subs++;
  const refuse = (...why) => say(peer, { msg: "nosub", id, ...(why.length && { error: failed(...why) }) });
  if (!["orders", "prices", "stream", "secret", "never", "gone", "busy"].includes(name)) return refuse(404, `Subscription '${name}' not found`);
  if ((name === "secret" || options.login) && !peer.user) return refuse("not-authorized", "Log in first");
  if (name === "gone") return refuse();
  if (name === "busy") return refuse("too-many-requests", "Error, too many requests. Please slow down.");
  const one = { id, name, params };
  for (const [at, fields] of documents) {
    const [collection, of] = at.split("/");
    if (wants(one, collection, fields) && ![...peer.subs.values()].some((other) => wants(other, collection, fields))) say(peer, { msg: "added", collection, id: of, fields });
  }
  peer.subs.set(id, one);
  if (name !== "never") say(peer, { msg: "ready", subs: [id] });
}

// put makes a document what fields say, or removes it, and tells everybody what that is for them.
function put(collection, id, fields) {
  const was = documents.get(key(collection, id));
  if (fields) documents.set(key(collection, id), fields);
  else documents.delete(key(collection, id));
  let told = 0;
  for (const peer of peers) {
    const sees = (value) => value !== undefined && value !== null && [...peer.subs.values()].some((one) => wants(one, collection, value));
    const [before, now] = [sees(was), sees(fields)];
    if (before || now) told++;
    if (!before && now) say(peer, { msg: "added", collection, id, fields });
    if (before && !now) say(peer, { msg: "removed", collection, id });
    if (before && now) {
      const changed = Object.fromEntries(Object.entries(fields).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(was[name])));
      const cleared = Object.keys(was).filter((name) => !(name in fields));
      say(peer, { msg: "changed", collection, id, ...(Object.keys(changed).length && { fields: changed }), ...(cleared.length && { cleared }) });
    }
  }
  return told;
}

serve({
  upgrade,
  doing: {
    count: ({ topic }) => [...peers].filter((peer) => [...peer.subs.values()].some((one) => one.name === topic)).length,
    seen: () => seen,
    put: ({ collection, id, fields }) => put(collection, id, fields),
    stream: ({ args }) => [...peers].filter((peer) => [...peer.subs.values()].some((one) => one.name === "stream")).map((peer) => say(peer, { msg: "changed", collection: "stream-notify", id: "id", fields: { eventName: "x", args } })).length,
    stop: ({ topic }) => [...peers].flatMap((peer) => [...peer.subs.values()].filter((one) => one.name === topic).map(({ id }) => { peer.subs.delete(id); say(peer, { msg: "nosub", id }); })).length,
    cut: () => [...peers].map((peer) => peer.ws.terminate()).length,
  },
});
