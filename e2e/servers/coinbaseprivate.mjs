// The user channel of Coinbase Exchange's WebSocket feed (docs.cdp.coinbase.com/exchange/websocket-feed/authentication): a signed subscription, whose
// messages of an account have its ids, and heartbeats.
import crypto from "node:crypto";
import { all, feed, options } from "./feed.mjs";

const products = ["BTC-USD", "ETH-USD"];
let sequence = 1000;

// wrong is what is wrong with a subscription to channels, each of which has its products.
function wrong({ key, passphrase, timestamp, signature }, channels) {
  const unknown = channels.flatMap((c) => c.product_ids).find((p) => !products.includes(p));
  if (unknown) return `${unknown} is not a valid product`;
  if (!channels.some((c) => c.name === "user")) return "";
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > 30) return "request timestamp expired";
  if (key !== options.key) return "invalid api key";
  if (passphrase !== options.passphrase) return "invalid passphrase";
  return signature === crypto.createHmac("sha256", Buffer.from(options.secret, "base64")).update(timestamp + "GET/users/self/verify").digest("base64") ? "" : "invalid signature";
}

function connect(peer) {
  peer.opened = () => peer.every(options.heartbeat ?? 1000, () => peer.user && peer.say({ type: "heartbeat", sequence, last_trade_id: 20, product_id: "BTC-USD", time: new Date().toISOString() }));
  return (m) => {
    if (m.type !== "subscribe") return peer.say({ type: "error", message: "Malformed JSON" });
    const channels = m.channels.map((c) => ({ product_ids: m.product_ids, ...(c.name ? c : { name: c }) }));
    const reason = wrong(m, channels);
    if (reason) return peer.say({ type: "error", message: "Authentication Failed", reason });
    peer.user = channels.some((c) => c.name === "user");
    peer.say({ type: "subscriptions", channels });
  };
}

feed({ connect, doing: {
  order: ({ type, order_id }) => all((peer) => peer.say({ type, order_id, product_id: "BTC-USD", side: "buy", sequence: ++sequence, user_id: "not for pages", profile_id: "not for pages" }), (peer) => peer.user),
} });
