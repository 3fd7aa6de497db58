// Pusher Channels, protocol 7 (pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol), which Laravel
// Reverb and Soketi speak too: the application's key in the address, data that is JSON in a string, public and private
// channels, and pings both ways.
import crypto from "node:crypto";
import { all, feed, json, options, seen } from "./feed.mjs";

const secret = "secret";
const message = (event, data, channel) => ({ event, ...(channel && { channel }), data: JSON.stringify(data) });
const fails = (code, text) => ({ event: "pusher:error", data: { code, message: text } });

function connect(peer, request, url) {
  const key = /^\/app\/([^/]+)$/.exec(url.pathname)?.[1];
  peer.channels = new Set();
  peer.id = `${Math.floor(Math.random() * 1e6)}.${Math.floor(Math.random() * 1e6)}`;
  peer.opened = () => {
    if (key !== options.key) { peer.say(fails(4001, "App key not in this cluster.")); return peer.ws.close(4001); }
    if (url.searchParams.get("protocol") !== "7") { peer.say(fails(4007, "Unsupported protocol version.")); return peer.ws.close(4007); }
    peer.say(message("pusher:connection_established", { socket_id: peer.id, activity_timeout: options.activity ?? 120 }));
    watch(peer);
  };
  return (m) => take(peer, m);
}

// watch pings a client that was silent for the activity timeout, and closes when there is no answer either.
function watch(peer) {
  const ms = (options.activity ?? 120) * 1000;
  peer.every(ms / 4, () => {
    const silent = Date.now() - peer.heard;
    if (silent > ms * 1.5) return peer.kick(4201, "Pong reply not received in time");
    if (silent > ms && !options.mute) peer.say({ event: "pusher:ping", data: {} });
  });
}

function take(peer, { event, data }) {
  switch (event) {
    case "pusher:ping":
      seen.beats++;
      return peer.say({ event: "pusher:pong", data: {} });
    case "pusher:pong":
      seen.pongs = (seen.pongs ?? 0) + 1;
      return;
    case "pusher:unsubscribe":
      return void peer.channels.delete(data.channel);
    case "pusher:subscribe":
      return subscribe(peer, data);
  }
}

function subscribe(peer, { channel, auth }) {
  if (/^(private|presence)-/.test(channel)) {
    const signature = crypto.createHmac("sha256", secret).update(peer.id + ":" + channel).digest("hex");
    if (auth !== options.key + ":" + signature)
      return peer.say({ event: "pusher:subscription_error", channel, data: { type: "AuthError", error: "Auth value is invalid", status: 401 } });
  }
  peer.channels.add(channel);
  peer.say(message("pusher_internal:subscription_succeeded", {}, channel));
}

// asked is the application that signs for private channels, as Laravel does: for who has a session, and with it the token that was set beside it.
function asked(request, response, url, text) {
  if (url.pathname !== "/broadcasting/auth" || request.method !== "POST") return false;
  const session = /(?:^|; )laravel_session=([^;]*)/.exec(request.headers.cookie ?? "")?.[1];
  if (!session) return json(response, 401, { message: "Unauthenticated." });
  if (request.headers["x-xsrf-token"] !== "token=" + session) return json(response, 419, { message: "CSRF token mismatch." });
  const form = new URLSearchParams(text), channel = form.get("channel_name");
  (seen.asked ??= []).push({ method: request.method, authorization: session, body: text });
  if (channel !== "private-orders." + session) return json(response, 403, { message: "This action is unauthorized." });
  json(response, 200, { auth: options.key + ":" + crypto.createHmac("sha256", secret).update(form.get("socket_id") + ":" + channel).digest("hex") });
}

const doing = {
  trigger: ({ channel, event, data }) => all((peer) => peer.say(message(event, data, channel)), (peer) => peer.channels.has(channel)),
  ping: () => all((peer) => peer.say({ event: "pusher:ping", data: {} })),
};

feed({ connect, doing, asked });
