// The comms of Node-RED's editor (@node-red/editor-api 4.1, lib/editor/comms.js): a token first, answered by an object; then lists alone, gathered for 50 ms, at
// most 50 messages each; states of nodes are kept for who subscribes; a heartbeat after silence.
import { all, feed, options, seen } from "./feed.mjs";

const states = new Map();

function connect(peer, request, url) {
  if (url.pathname !== "/comms") return 404;
  peer.topics = new Set();
  peer.stack = [];
  peer.last = Date.now();
  peer.tell = (topic, data) => {
    peer.stack.push({ topic, data });
    peer.timer ??= setTimeout(() => {
      peer.timer = null;
      peer.last = Date.now();
      if (peer.ws.readyState === 1) peer.say(peer.stack.splice(0, 50));
      if (peer.stack.length) peer.tell(...Object.values(peer.stack.pop()));
    }, 50);
  };
  const every = options.heartbeat ?? 15000;
  peer.opened = () => peer.every(every / 5, () => peer.in && Date.now() - peer.last > every && (seen.beats++, peer.tell("hb", Date.now())));
  return ({ auth, subscribe }) => {
    if (auth !== undefined || !peer.in) {
      peer.in = auth === options.token;
      peer.say({ auth: peer.in ? "ok" : "fail" });
      return peer.in || peer.ws.close();
    }
    peer.topics.add(subscribe);
    if (subscribe === "status/#") for (const [id, data] of states) peer.tell("status/" + id, data);
  };
}

feed({ connect, doing: {
  debug: ({ msg, times = 1 }) => all((peer) => { for (let i = 0; i < times; i++) peer.tell("debug", { id: "d1", name: "out", topic: "prices", property: "payload", msg: times > 1 ? String(i) : msg, format: "string[1]" }); }, (peer) => peer.topics.has("debug")),
  status: ({ id, text }) => { states.set(id, { text, fill: "grey", shape: "dot" }); return all((peer) => peer.tell("status/" + id, states.get(id)), (peer) => peer.topics.has("status/#")); },
  deploy: () => all((peer) => peer.tell("notification/runtime-deploy", { revision: "r" }), (peer) => peer.in),
} });
