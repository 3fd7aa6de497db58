// OKX's private WebSocket (okx.com/docs-v5/en, WebSocket, Login): a signed login, subscriptions, pings that are text, and silence that ends it.
import crypto from "node:crypto";
import { all, feed, options, seen } from "./feed.mjs";

const fails = (code, msg) => ({ event: "error", code, msg, connId: "c" });

function connect(peer, request, url) {
  if (url.pathname !== "/ws/v5/private") return 404;
  peer.channels = new Set();
  peer.opened = () => peer.demand(options.silence ?? 30000, 4004, "no data received in 30s");
  return (m) => (m === "ping" ? (seen.beats++, peer.ws.send("pong")) : take(peer, m));
}

function login(peer, { apiKey, passphrase, timestamp, sign }) {
  if (!/^[0-9]{10}$/.test(timestamp)) return fails("60004", "Invalid timestamp");
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > 30) return fails("60006", "Timestamp request expired");
  if (apiKey !== options.key) return fails("60005", "Invalid apiKey");
  if (passphrase !== options.passphrase) return fails("60024", "Wrong passphrase");
  const want = crypto.createHmac("sha256", options.secret).update(timestamp + "GET/users/self/verify").digest("base64");
  if (sign !== want) return fails("60007", "Invalid sign");
  peer.in = true;
  return { event: "login", code: "0", msg: "", connId: "c" };
}

function take(peer, { op, args, id }) {
  if (op === "login") return peer.say(login(peer, args[0]));
  if (!peer.in) return peer.say(fails("60011", "Please log in"));
  for (const arg of args) {
    if (!["orders", "account"].includes(arg.channel)) { peer.say(fails("60018", "Wrong URL or channel doesn't exist")); continue; }
    peer.channels.add(arg.channel);
    peer.say({ event: op, arg, connId: "c", ...(id && { id }) });
  }
}

feed({ connect, doing: {
  push: ({ channel, data }) => all((peer) => peer.say({ arg: { channel, uid: "77" }, data }), (peer) => peer.channels.has(channel)),
  notice: () => all((peer) => peer.say({ event: "notice", code: "64008", msg: "The connection will soon be closed for a service upgrade. Please reconnect.", connId: "c" })),
} });
