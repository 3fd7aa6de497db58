// Bybit's private WebSocket, V5 (bybit-exchange.github.io/docs/v5/ws/connect): a signed login that expires, subscriptions, pings, and silence that ends it.
import crypto from "node:crypto";
import { all, feed, options, seen } from "./feed.mjs";

const topics = ["order", "execution", "position", "wallet"];

function connect(peer, request, url) {
  if (url.pathname !== "/v5/private") return 404;
  peer.topics = new Set();
  peer.opened = () => peer.demand(options.silence ?? 600000);
  return (m) => take(peer, m);
}

function login(key, expires, sign) {
  if (key !== options.key) return "API key is invalid.";
  if (!Number.isInteger(expires) || expires <= Date.now()) return "Params Error";
  if (expires > Date.now() + 60000) return "too far away"; // of this server's own, so that the clock matters
  return sign === crypto.createHmac("sha256", options.secret).update("GET/realtime" + expires).digest("hex") ? "" : "Error sign, please check your signature generation algorithm.";
}

function take(peer, { op, req_id, args }) {
  const about = { ...(req_id && { req_id }), op, conn_id: "c" };
  if (op === "ping") return seen.beats++, peer.say({ req_id, op: "pong", args: [String(Date.now())], conn_id: "c" });
  if (op === "auth") {
    const ret_msg = login(...args);
    peer.in = !ret_msg;
    return peer.say({ success: peer.in, ret_msg, ...about });
  }
  if (!peer.in) return peer.say({ success: false, ret_msg: "Request not authorized", ...about });
  const unknown = args.find((topic) => !topics.includes(topic));
  if (unknown) return peer.say({ success: false, ret_msg: `error:handler not found,topic:${unknown}`, ...about });
  for (const topic of args) peer.topics.add(topic);
  peer.say({ success: true, ret_msg: "", ...about });
}

feed({ connect, doing: {
  push: ({ topic, data }) => all((peer) => peer.say({ id: "i", topic, creationTime: 1672364262474, data }), (peer) => peer.topics.has(topic)),
} });
