// obs-websocket 5 (github.com/obsproject/obs-websocket, docs/generated/protocol.md), in JSON: a challenge, an answer to it, and events.
import crypto from "node:crypto";
import { all, feed, options } from "./feed.mjs";

const hash = (text) => crypto.createHash("sha256").update(text).digest("base64");

function connect(peer) {
  const salt = crypto.randomBytes(32).toString("base64"), challenge = crypto.randomBytes(32).toString("base64");
  peer.opened = () => {
    if (peer.ws.protocol !== "obswebsocket.json") return peer.kick(4001, "subprotocol");
    peer.say({ op: 0, d: { obsStudioVersion: "30.2.3", obsWebSocketVersion: "5.5.2", rpcVersion: 1, ...(options.password && { authentication: { challenge, salt } }) } });
  };
  return ({ op, d }) => {
    if (op !== 1) return peer.kick(peer.identified ? 4006 : 4007, "not identified");
    if (peer.identified) return peer.kick(4008, "already identified");
    if (d.rpcVersion !== 1) return peer.kick(4010, "unsupported rpc version");
    if (options.password && d.authentication !== hash(hash(options.password + salt) + challenge)) return peer.kick(4009, "Authentication failed.");
    peer.identified = true;
    peer.subscriptions = d.eventSubscriptions ?? 2047;
    peer.say({ op: 2, d: { negotiatedRpcVersion: 1 } });
  };
}

feed({ connect, protocols: ["obswebsocket.json"], doing: {
  emit: ({ type, data, intent }) => all((peer) => peer.say({ op: 5, d: { eventType: type, eventIntent: intent ?? 4, ...(data && { eventData: data }) } }), (peer) => peer.identified && peer.subscriptions & (intent ?? 4)),
} });
