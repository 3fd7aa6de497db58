// A service of JSON-RPC 2.0 over WebSockets that notifies: eth_subscribe as geth has it (newHeads, logs), slotSubscribe as Solana, and events of no
// subscription as aria2. A subscription's id is another one on each connection. The path /keyed wants ?key=good.
import crypto from "node:crypto";
import { WebSocketServer } from "ws";
import { refuse, serve } from "./serve.mjs";

const sockets = new WebSocketServer({ noServer: true });
const peers = new Set();
const seen = { calls: [], pings: 0, unsubscribed: 0 };

function upgrade(request, socket, head, url) {
  if (url.pathname === "/keyed" && url.searchParams.get("key") !== "good") return refuse(socket, 401);
  sockets.handleUpgrade(request, socket, head, (ws) => {
    const peer = { ws, subscriptions: new Map() }; // kind by id
    peers.add(peer);
    ws.on("ping", () => seen.pings++);
    ws.on("message", (text) => message(peer, text.toString()));
    ws.on("close", () => peers.delete(peer));
    ws.on("error", () => {});
  });
}

function message(peer, text) {
  let m;
  try { m = JSON.parse(text); } catch { return say(peer, failed(null, -32700, "Parse error")); }
  const answers = [m].flat().map((one) => call(peer, one)).filter((a) => a);
  if (answers.length) say(peer, Array.isArray(m) ? answers : answers[0]);
}

const say = (peer, m) => peer.ws.send(JSON.stringify(m));
const failed = (id, code, message) => ({ jsonrpc: "2.0", id, error: { code, message } });

function call(peer, { id, method, params = [] }) {
  if (method) seen.calls.push({ id: id ?? null, method, params });
  if (!method || id === undefined) return null;
  const done = (result) => ({ jsonrpc: "2.0", id, result });
  const subscribed = (kind, id) => { peer.subscriptions.set(id, kind); return done(id); };
  switch (method) {
    case "net_version": return done("1");
    case "eth_subscribe":
      if (params[0] === "limited") return failed(id, -32005, "limit exceeded");
      if (params[0] === "secret") return failed(id, -32000, "Unauthorized");
      if (!["newHeads", "logs"].includes(params[0])) return failed(id, -32602, `no "${params[0]}" subscription in eth namespace`);
      return subscribed(params[0], "0x" + crypto.randomBytes(16).toString("hex"));
    case "slotSubscribe": return subscribed("slot", crypto.randomInt(1 << 30));
    case "slotUnsubscribe": seen.unsubscribed++; return done(peer.subscriptions.delete(params[0]));
  }
  return failed(id, -32601, `the method ${method} does not exist/is not available`);
}

const named = (kind) => (kind === "slot" ? "slotNotification" : "eth_subscription");
const all = (kind) => [...peers].flatMap((peer) => [...peer.subscriptions].filter(([, k]) => k === kind).map(([subscription]) => ({ peer, subscription })));

serve({
  upgrade,
  doing: {
    count: ({ topic }) => (topic ? all(topic).length : peers.size),
    seen: () => seen,
    // say notifies the subscribers of topic of each of results; in a list where batch is set.
    say: ({ topic, results, batch }) => all(topic).map(({ peer, subscription }) => {
      const ms = results.map((result) => ({ jsonrpc: "2.0", method: named(topic), params: { result, subscription } }));
      if (batch) say(peer, ms);
      else ms.forEach((m) => say(peer, m));
    }).length,
    notify: ({ method, params }) => [...peers].map((peer) => say(peer, { jsonrpc: "2.0", method, params })).length,
    cut: () => [...peers].map((peer) => peer.ws.terminate()).length,
  },
});
