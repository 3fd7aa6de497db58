// An Ethereum node's JSON-RPC 2.0 over WebSockets with its pub/sub (geth.ethereum.org/docs/interacting-with-geth/rpc/pubsub):
// eth_subscribe, notifications and errors. Like the gateways in front of such nodes it closes connections that are idle,
// and takes those with a key in the path only.
import crypto from "node:crypto";
import { all, feed, options, seen } from "./feed.mjs";

function connect(peer, request, url) {
  if (options.key && url.pathname !== "/ws/v3/" + options.key) return 401;
  peer.opened = () => { if (options.silence) peer.demand(options.silence); };
  return ({ id, method, params }) => {
    const error = (code, message) => peer.say({ jsonrpc: "2.0", id, error: { code, message } });
    switch (method) {
      case "net_version":
        seen.beats++;
        return peer.say({ jsonrpc: "2.0", id, result: "1" });
      case "eth_subscribe":
        if (params[0] !== "newHeads") return error(-32602, `no "${params[0]}" subscription in eth namespace`);
        peer.subscription = "0x" + crypto.randomBytes(16).toString("hex");
        return peer.say({ jsonrpc: "2.0", id, result: peer.subscription });
    }
    error(-32601, `the method ${method} does not exist/is not available`);
  };
}

const head = ({ number, hash }) => all((peer) => peer.say({ jsonrpc: "2.0", method: "eth_subscription", params: { subscription: peer.subscription,
  result: { number, hash, parentHash: "0x00", timestamp: "0x6743f1a0", gasUsed: "0x1" } } }), (peer) => peer.subscription);

feed({ connect, doing: { head } });
