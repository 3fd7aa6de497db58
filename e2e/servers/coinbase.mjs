// Coinbase Exchange's WebSocket feed (docs.cdp.coinbase.com/exchange/websocket-feed): a subscription within five seconds, or
// the connection is closed; one answer that lists all subscriptions; errors; a heartbeat for each product every second.
import { all, feed, options } from "./feed.mjs";

const products = ["BTC-USD", "ETH-USD"];
let sequence = 1000;

function connect(peer) {
  peer.subscribed = new Map();
  peer.opened = () => {
    peer.timers.push(setTimeout(() => peer.subscribed.size || peer.kick(1008, "subscribe within 5s"), options.within ?? 5000));
    peer.every(options.heartbeat ?? 1000, () => {
      for (const product_id of peer.subscribed.get("heartbeat") ?? [])
        peer.say({ type: "heartbeat", sequence, last_trade_id: 20, product_id, time: new Date().toISOString() });
    });
  };
  return ({ type, product_ids, channels }) => {
    if (type !== "subscribe") return peer.say({ type: "error", message: "Malformed JSON" });
    const unknown = product_ids.find((p) => !products.includes(p));
    if (unknown) return peer.say({ type: "error", message: "Failed to subscribe", reason: `${unknown} is not a valid product` });
    for (const name of channels) peer.subscribed.set(name, product_ids);
    peer.say({ type: "subscriptions", channels: channels.map((name) => ({ name, product_ids })) });
  };
}

const tick = ({ product_id, price }) => all((peer) => peer.say({ type: "ticker", sequence: ++sequence, product_id, price, time: "2026-11-23T05:00:00.000000Z", trade_id: sequence }),
  (peer) => peer.subscribed.get("ticker")?.includes(product_id));

feed({ connect, doing: { tick } });
