// Slack's Socket Mode (docs.slack.dev/apis/events-api/using-socket-mode): apps.connections.open gives an address that is
// good for one connection; each envelope wants its acknowledgement within three seconds; connections are refreshed.
import crypto from "node:crypto";
import { all, feed, json, options, port, seen } from "./feed.mjs";

const tickets = new Set();
Object.assign(seen, { asked: [], acked: [], late: 0 });
let refuses = "";

function asked(request, response, url, text) {
  if (url.pathname !== "/api/apps.connections.open") return false;
  seen.asked.push({ method: request.method, authorization: request.headers.authorization ?? "", body: text });
  if (refuses) return json(response, 200, { ok: false, error: refuses });
  if (request.method !== "POST" || request.headers.authorization !== "Bearer " + options.token) return json(response, 200, { ok: false, error: "invalid_auth" });
  const ticket = crypto.randomBytes(16).toString("hex");
  tickets.add(ticket);
  json(response, 200, { ok: true, url: `ws://localhost:${port}/link/?ticket=${ticket}&app_id=A1` });
}

function connect(peer, request, url) {
  if (url.pathname !== "/link/" || !tickets.delete(url.searchParams.get("ticket"))) return 408;
  peer.waiting = new Map();
  peer.opened = () => {
    peer.say({ type: "hello", num_connections: 1, debug_info: { host: "applink-1", build_number: 1, approximate_connection_time: 18060 }, connection_info: { app_id: "A1" } });
    peer.ping(options.ping ?? 5000);
  };
  return ({ envelope_id }) => {
    if (!peer.waiting.has(envelope_id)) return;
    clearTimeout(peer.waiting.get(envelope_id));
    peer.waiting.delete(envelope_id);
    seen.acked.push(envelope_id);
  };
}

const doing = {
  send: ({ envelope_id, text }) => all((peer) => {
    peer.waiting.set(envelope_id, setTimeout(() => seen.late++, 3000));
    peer.say({ envelope_id, type: "events_api", accepts_response_payload: false, retry_attempt: 0, retry_reason: "",
      payload: { token: "verification", team_id: "T1", api_app_id: "A1", event: { type: "message", text, ts: "1.1" }, type: "event_callback", event_id: "Ev" + envelope_id } });
  }),
  refresh: () => all((peer) => {
    peer.say({ type: "disconnect", reason: "refresh_requested", debug_info: { host: "applink-1" } });
    setTimeout(() => peer.ws.close(1000), options.grace ?? 10000).unref();
  }),
  refuse: ({ error }) => { refuses = error; },
};

feed({ connect, asked, doing });
