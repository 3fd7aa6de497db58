// Binance's market streams (developers.binance.com, WebSocket streams): combined streams, SUBSCRIBE by message, pings of the
// WebSocket that want a pong with the same bytes, and a farewell before the server stops.
import { all, feed, options } from "./feed.mjs";

function connect(peer, request, url) {
  if (url.pathname !== "/stream" && url.pathname !== "/ws") return 404;
  peer.streams = new Set((url.searchParams.get("streams") ?? "").split("/").filter(Boolean));
  peer.opened = () => peer.ping(options.ping ?? 20000);
  return ({ method, params, id }) => {
    if (method !== "SUBSCRIBE") return peer.say({ error: { code: 2, msg: "Invalid request: unknown variant" }, id });
    if (params.some((name) => !/^[a-z0-9]+@[a-zA-Z0-9_@]+$/.test(name))) return peer.say({ error: { code: 2, msg: "Invalid request: params must be stream names" }, id });
    params.forEach((name) => peer.streams.add(name));
    peer.say({ result: null, id });
  };
}

const doing = {
  trade: ({ stream, p }) => all((peer) => peer.say({ stream, data: { e: "trade", E: 1672515782136, s: "BTCUSDT", t: 9007199254740, p, q: "1" } }), (peer) => peer.streams.has(stream)),
  shutdown: () => all((peer) => peer.say({ e: "serverShutdown", E: Date.now() })),
};

feed({ connect, doing });
