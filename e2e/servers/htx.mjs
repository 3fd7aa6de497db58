// HTX's (Huobi's) market data (huobiapi.github.io/docs/spot/v1/en, wss://api.huobi.pro/ws): whatever it sends is gzip in binary messages, what it is sent is
// text. A ping comes every five seconds, and a connection that leaves two unanswered is closed.
import { gzipSync } from "node:zlib";
import { all, feed, options, seen } from "./feed.mjs";

const channels = ["market.btcusdt.ticker", "market.ethusdt.ticker"];
const failed = (id, message) => ({ ts: Date.now(), status: "error", ...(id && { id }), "err-code": "bad-request", "err-msg": message });

function connect(peer, request, url) {
  if (url.pathname !== "/ws") return 404;
  peer.channels = new Set();
  peer.say = (...messages) => messages.forEach((message) => peer.ws.send(gzipSync(JSON.stringify(message))));
  let owed = 0, last;
  peer.opened = () => peer.every(options.ping ?? 5000, () => {
    if (owed++ === 2) return peer.kick();
    peer.say({ ping: (last = Date.now()) });
  });
  peer.pong = (n) => {
    if (n !== last) return peer.say(failed(undefined, "invalid pong"));
    owed = 0;
    seen.beats++;
  };
  return (message) => take(peer, message);
}

function take(peer, { pong, sub, id }) {
  if (pong !== undefined) return peer.pong(pong);
  if (!channels.includes(sub)) return peer.say(failed(id, "invalid topic " + sub));
  peer.channels.add(sub);
  peer.say({ id, status: "ok", subbed: sub, ts: Date.now() });
}

// The count has more digits than a JavaScript number.
const tick = ({ symbol, close }) => all((peer) => peer.ws.send(gzipSync(`{"ch":"market.${symbol}.ticker","ts":${Date.now()},"tick":{"close":${close},"count":9007199254740993}}`)),
  (peer) => peer.channels.has(`market.${symbol}.ticker`));

// Two messages that do not decode.
const damage = () => all((peer) => {
  peer.ws.send(gzipSync(JSON.stringify({ ch: "market.btcusdt.ticker", tick: { close: 0 } })).subarray(0, 30));
  peer.ws.send(Buffer.from("not gzip at all"));
});

feed({ connect, doing: { tick, damage } });
