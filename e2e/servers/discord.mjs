// Discord's gateway, version 10 (discord.com/developers/docs/events/gateway), as far as a bot on one shard meets it: hello,
// heartbeats, identify, resume with replay, invalid sessions, reconnect requests, and the close codes.
import crypto from "node:crypto";
import { all, feed, open, options, port, seen } from "./feed.mjs";

const sessions = new Map(); // id -> { events, peer }
let acknowledges = true;

function connect(peer, request, url) {
  if (url.searchParams.get("v") !== "10" || url.searchParams.get("encoding") !== "json") return 400;
  peer.opened = () => {
    peer.beat = Date.now();
    peer.say({ t: null, s: null, op: 10, d: { heartbeat_interval: options.interval, _trace: ["gateway"] } });
    peer.every(options.interval / 4, () => Date.now() - peer.beat > options.interval * 1.75 && peer.kick());
  };
  peer.gone = (code) => {
    const session = sessions.get(peer.session);
    if (session?.peer === peer) session.peer = null;
    if (code === 1000 || code === 1001) sessions.delete(peer.session); // the client has said that it is done
  };
  return (message) => take(peer, message);
}

function take(peer, { op, d }) {
  switch (op) {
    case 1:
      peer.beat = Date.now();
      seen.beats++;
      if (acknowledges) peer.say({ t: null, s: null, op: 11, d: null });
      return;
    case 2:
      return identify(peer, d);
    case 6:
      return resume(peer, d);
  }
  peer.ws.close(peer.session ? 4001 : 4003, peer.session ? "Unknown opcode." : "Not authenticated.");
}

function identify(peer, d) {
  if (peer.session) return peer.ws.close(4005, "Already authenticated.");
  if (d.token !== options.token) return peer.ws.close(4004, "Authentication failed.");
  if (!Number.isInteger(d.intents)) return peer.ws.close(4013, "Invalid intent(s).");
  if (!d.properties) return peer.ws.close(4002, "Error while decoding payload.");
  peer.session = crypto.randomBytes(16).toString("hex");
  const session = { events: [], peer };
  sessions.set(peer.session, session);
  emit(session, "READY", { v: 10, user: { id: "1", username: "bot", bot: true }, guilds: [], session_id: peer.session,
    resume_gateway_url: "ws://localhost:" + port, session_type: "normal", shard: [0, 1], application: { id: "1", flags: 0 } });
}

function resume(peer, d) {
  if (d.token !== options.token) return peer.ws.close(4004, "Authentication failed.");
  const session = sessions.get(d.session_id);
  if (!session) return peer.say({ t: null, s: null, op: 9, d: false });
  if (!(d.seq <= session.events.length)) return peer.ws.close(4007, "Invalid seq.");
  peer.session = d.session_id;
  session.peer = peer;
  peer.say(...session.events.slice(d.seq));
  emit(session, "RESUMED", { _trace: ["gateway"] });
}

// emit keeps the event for a session whose client is away.
function emit(session, t, d) {
  const event = { t, s: session.events.length + 1, op: 0, d };
  session.events.push(event);
  session.peer?.say(event);
}

const doing = {
  dispatch: ({ t, d }) => { for (const session of sessions.values()) emit(session, t, d); return sessions.size; },
  reconnect: () => all((peer) => peer.say({ t: null, s: null, op: 7, d: null })),
  forget: () => { sessions.clear(); return all((peer) => peer.ws.terminate()); },
  expire: () => { sessions.clear(); return all((peer) => peer.ws.close(4009, "Session timed out.")); },
  invalidate: () => { sessions.clear(); return all((peer) => peer.say({ t: null, s: null, op: 9, d: false })); },
  beat: () => all((peer) => peer.say({ t: null, s: null, op: 1, d: null })),
  acknowledge: ({ yes }) => { acknowledges = yes; return open.size; },
  sessions: () => sessions.size,
};

feed({ connect, doing });
