// Kraken's WebSocket API, version 2 (docs.kraken.com/api/docs/websocket-v2): the status message, one answer for each symbol,
// a snapshot and updates, heartbeats while subscribed and pings. A connection that is idle is closed.
import { all, feed, options, seen } from "./feed.mjs";

const symbols = ["BTC/USD", "ETH/USD"];
const stamp = () => new Date().toISOString().replace("Z", "000Z");

function connect(peer, request, url) {
  if (url.pathname !== "/v2") return 404;
  peer.symbols = new Set();
  peer.opened = () => {
    peer.say({ channel: "status", type: "update", data: [{ version: "2.0.10", system: "online", api_version: "v2", connection_id: 15167459160542133037 }] });
    if (options.silence) peer.demand(options.silence);
    peer.every(options.heartbeat ?? 1000, () => peer.symbols.size && peer.say({ channel: "heartbeat" }));
  };
  return (message) => take(peer, message);
}

function take(peer, { method, params, req_id }) {
  const times = { time_in: stamp(), time_out: stamp(), req_id };
  if (method === "ping") { seen.beats++; return peer.say({ method: "pong", ...times }); }
  if (method !== "subscribe" || params?.channel !== "ticker") return peer.say({ error: "Unknown method", success: false, ...times });
  for (const symbol of params.symbol) {
    if (!symbols.includes(symbol)) { peer.say({ error: "Currency pair not supported " + symbol, method, success: false, symbol, ...times }); continue; }
    peer.symbols.add(symbol);
    peer.say({ method, result: { channel: "ticker", event_trigger: "trades", snapshot: true, symbol }, success: true, ...times });
    peer.say({ channel: "ticker", type: "snapshot", data: [{ symbol, bid: 1, last: 1, volume: 0.5 }] });
  }
}

const tick = ({ symbol, last }) => all((peer) => peer.say({ channel: "ticker", type: "update", data: [{ symbol, bid: last - 1, last, volume: 0.5 }] }), (peer) => peer.symbols.has(symbol));

feed({ connect, doing: { tick } });
