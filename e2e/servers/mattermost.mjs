// Mattermost's WebSocket API, as platform/web_conn.go, web_hub.go and websocket_router.go of mattermost/mattermost
// (server 11) have it: authentication by header or challenge, events in one sequence for each connection id, and reliable
// reconnection. A connection that is resumed gets what it missed and no hello; one that cannot be gets a hello with a
// connection id of its own.
import crypto from "node:crypto";
import { all, feed, options, seen } from "./feed.mjs";

const connections = new Map(); // id -> { events, peer }

function connect(peer, request, url) {
  if (url.pathname !== "/api/v4/websocket") return 404;
  peer.opened = () => {
    peer.kept = connections.get(url.searchParams.get("connection_id"));
    peer.next = Number(url.searchParams.get("sequence_number") ?? 0);
    if (request.headers.authorization === "Bearer " + options.token) enter(peer);
    else peer.timers.push(setTimeout(() => peer.in || peer.ws.close(), options.patience ?? 5000));
    if (options.silence) peer.demand(options.silence);
  };
  peer.gone = () => { if (peer.connection?.peer === peer) peer.connection.peer = null; };
  return (message) => take(peer, message);
}

// enter is what follows the authentication.
function enter(peer) {
  peer.in = true;
  const kept = peer.kept && !peer.kept.peer && peer.next <= peer.kept.events.length && peer.kept;
  if (kept) {
    peer.connection = kept;
    kept.peer = peer;
    return peer.say(...kept.events.slice(peer.next));
  }
  const id = crypto.randomBytes(13).toString("hex");
  peer.connection = { events: [], peer };
  connections.set(id, peer.connection);
  emit(peer.connection, "hello", { connection_id: id, server_version: "11.1.0.11.1.0", server_hostname: "here" }, { user_id: "u1" });
}

function emit(connection, event, data, broadcast = {}) {
  const message = { event, data, broadcast: { omit_users: null, user_id: "", channel_id: "", team_id: "", connection_id: "", ...broadcast }, seq: connection.events.length };
  connection.events.push(message);
  connection.peer?.say(message);
}

const failed = (seq, id, status) => ({ status: "FAIL", error: { id, message: id, status_code: status }, seq_reply: seq });

function take(peer, { seq, action, data }) {
  if (!(seq > 0)) return peer.say(failed(seq, "api.web_socket_router.bad_seq.app_error", 400));
  if (action === "authentication_challenge") {
    if (peer.in) return;
    if (data?.token !== options.token) return peer.ws.close();
    enter(peer);
    return peer.say({ status: "OK", seq_reply: seq });
  }
  if (!peer.in) return peer.say(failed(seq, "api.web_socket_router.not_authenticated.app_error", 401));
  if (action !== "ping") return peer.say(failed(seq, "api.web_socket_router.bad_action.app_error", 500));
  seen.beats++;
  peer.say({ status: "OK", data: { text: "pong", version: "11.1.0", server_time: Date.now(), node_id: "" }, seq_reply: seq });
}

const doing = {
  post: ({ id, message }) => {
    for (const connection of connections.values())
      emit(connection, "posted", { channel_type: "O", post: JSON.stringify({ id, message }), sender_name: "@a" }, { channel_id: "c1" });
    return connections.size;
  },
  forget: () => { connections.clear(); return all((peer) => peer.ws.terminate()); },
};

feed({ connect, doing });
