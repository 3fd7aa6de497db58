// Twitch's EventSub over WebSockets (dev.twitch.tv/docs/eventsub/handling-websocket-events): a welcome with the session's id, subscriptions
// made over HTTP within 10 s, keepalives, and moves to another address, at which the session keeps its id and its subscriptions.
import { all, feed, json, open, options, port, seen } from "./feed.mjs";

let sessions = 0, messages = 0;
const subscribed = new Map(); // by session: type
const moves = new Map(); // by the address's secret: session
const message = (type, payload, more = {}) => ({ metadata: { message_id: `m${++messages}`, message_type: type, message_timestamp: new Date().toISOString(), ...more }, payload });
const session = (id, status, url = null) => ({ session: { id, status, connected_at: new Date().toISOString(), keepalive_timeout_seconds: status === "connected" ? 10 : null, reconnect_url: url } });

function connect(peer, request, url) {
  const secret = url.searchParams.get("id");
  if (url.pathname !== "/ws") return 404;
  peer.id = moves.get(secret) ?? `s${++sessions}`;
  peer.opened = () => {
    if (secret && !moves.has(secret)) return peer.kick(4007, "invalid reconnect");
    if (secret) moves.delete(secret);
    setTimeout(() => {
      // From here on its events come over this connection.
      for (const other of open) if (other !== peer && other.id === peer.id) other.id = null;
      peer.welcomed = true;
      peer.say(message("session_welcome", session(peer.id, "connected")));
    }, options.slow ?? 0);
    peer.every(options.keepalive ?? 10000, () => peer.say(message("session_keepalive", {})));
    setTimeout(() => peer.welcomed && peer.id && !subscribed.has(peer.id) && peer.kick(4003, "connection unused"), options.grace ?? 10000);
  };
  return () => peer.kick(4001, "client sent inbound traffic");
}

function asked(request, response, url, text) {
  if (url.pathname !== "/helix/eventsub/subscriptions" || request.method !== "POST") return false;
  (seen.asked ??= []).push({ method: request.method, authorization: request.headers.authorization ?? "", body: text });
  if (request.headers.authorization !== "Bearer " + options.token || !request.headers["client-id"]) return json(response, 401, { error: "Unauthorized", status: 401, message: "Invalid OAuth token" });
  const { type, version, condition, transport } = JSON.parse(text);
  if (!type || !version || !condition?.broadcaster_user_id || transport?.method !== "websocket") return json(response, 400, { error: "Bad Request", status: 400 });
  if (![...open].some((peer) => peer.id === transport.session_id)) return json(response, 400, { error: "Bad Request", status: 400, message: "websocket transport session does not exist or has already disconnected" });
  if (subscribed.get(transport.session_id) === type) return json(response, 409, { error: "Conflict", status: 409, message: "subscription already exists" });
  subscribed.set(transport.session_id, type);
  json(response, 202, { data: [{ id: "f1", status: "enabled", type, version, condition, transport }], total: 1, total_cost: 0, max_total_cost: 10 });
}

const live = (peer) => peer.id && subscribed.has(peer.id);
const doing = {
  notify: ({ n }) => all((peer) => peer.say(message("notification", { subscription: { type: "stream.online" }, event: { n } }, { subscription_type: "stream.online", subscription_version: "1" })), live),
  // move announces that the server goes away; the old connection is cut after the grace, or when its client has left.
  move: ({ wrong }) => all((peer) => {
    const secret = `r${Math.random()}`;
    if (!wrong) moves.set(secret, peer.id);
    peer.say(message("session_reconnect", session(peer.id, "reconnecting", `ws://localhost:${port}/ws?id=${secret}`)));
    setTimeout(() => peer.ws.close(4004, "reconnect grace time expired"), options.moveGrace ?? 30000);
  }, live),
  revoke: () => all((peer) => peer.say(message("revocation", { subscription: { status: "authorization_revoked", type: "stream.online" } })), live),
};

feed({ connect, doing, asked });
