// Supabase Realtime (github.com/supabase/realtime), version 2 of the protocol, as far as changes of the database go: Phoenix's frames, a join with
// a configuration and a token, the system message that the database is listened to, and a token that expires.
import { all, feed, options, seen } from "./feed.mjs";

const expired = new Set();
// A token is a user, or a JWT of one.
const user = (token) => (token?.includes(".") ? JSON.parse(Buffer.from(token.split(".")[1], "base64url")).sub : token);

function connect(peer, request, url) {
  if (url.pathname !== "/realtime/v1/websocket") return 404;
  if (url.searchParams.get("apikey") !== options.key) return 401;
  if (url.searchParams.get("vsn") !== "2.0.0") return 400;
  peer.channels = new Map();
  return (m) => Array.isArray(m) && take(peer, m);
}

function take(peer, [joinRef, ref, topic, event, payload]) {
  const reply = (status, response) => peer.say([joinRef, ref, topic, "phx_reply", { status, response }]);
  if (event === "heartbeat") { seen.beats++; return reply("ok", {}); }
  if (event === "access_token") { // the channel goes on with it
    (seen.acked ??= []).push(payload.access_token);
    const channel = peer.channels.get(topic);
    if (channel) channel.token = payload.access_token;
    return;
  }
  if (event === "phx_leave") { peer.channels.delete(topic); return reply("ok", {}); }
  if (event !== "phx_join") return;
  const changes = payload.config?.postgres_changes ?? [];
  if (payload.access_token === "bad" || expired.has(payload.access_token)) return reply("error", { reason: "InvalidJWTToken: The token provided is not a valid JWT" });
  peer.channels.set(topic, { joinRef, token: payload.access_token, changes });
  (seen.asked ??= []).push({ method: topic, authorization: payload.access_token ?? "", body: JSON.stringify(changes) });
  reply("ok", { postgres_changes: changes.map((change, i) => ({ id: i + 1, ...change })) });
  peer.say([joinRef, null, topic, "presence_state", {}]);
  const bad = changes.find((change) => change.table === "nothing");
  setTimeout(() => peer.say([joinRef, null, topic, "system", { channel: topic.replace("realtime:", ""), extension: "postgres_changes",
    ...(bad ? { status: "error", message: "Unable to subscribe to changes with given parameters" } : { status: "ok", message: "Subscribed to PostgreSQL" }) }]), 100);
}

// change tells those who may see it: a row has an owner, whose the token is.
const change = ({ type, table, record, owner }) => all((peer) => {
  for (const [topic, { joinRef, token, changes }] of peer.channels) {
    if (owner && owner !== user(token) || !changes.some((c) => c.table === table)) continue;
    peer.say([joinRef, null, topic, "postgres_changes", { ids: [1], data: { schema: "public", table, type, commit_timestamp: "2026-11-29T00:00:00Z", columns: [], record, errors: null } }]);
  }
}, (peer) => [...peer.channels.values()].some(({ token, changes }) => (!owner || owner === user(token)) && changes.some((c) => c.table === table)));

feed({ connect, doing: {
  change,
  lapse: ({ token }) => void expired.add(token),
  expire: ({ owner }) => all((peer) => {
    for (const [topic, { joinRef, token }] of peer.channels) {
      if (token !== owner) continue;
      peer.say([joinRef, null, topic, "system", { channel: topic.replace("realtime:", ""), extension: "system", status: "error", message: "Token has expired 1 seconds ago" }]);
      peer.say([joinRef, joinRef, topic, "phx_close", {}]);
      peer.channels.delete(topic);
    }
  }, (peer) => [...peer.channels.values()].some(({ token }) => token === owner)),
} });
