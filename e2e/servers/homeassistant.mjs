// Home Assistant's WebSocket API (developers.home-assistant.io/docs/api/websocket), as far as a subscriber meets it: the
// authentication phase, ids that must increase, subscriptions to events, pings, and messages coalesced into lists.
import { all, feed, options, seen } from "./feed.mjs";

const version = "2026.11.0";
const ok = (id, result = null) => ({ id, type: "result", success: true, result });
const failed = (id, code, message) => ({ id, type: "result", success: false, error: { code, message } });

function connect(peer) {
  Object.assign(peer, { subscriptions: new Map(), last: 0 });
  peer.opened = () => {
    peer.say({ type: "auth_required", ha_version: version });
    peer.timers.push(setTimeout(() => peer.ready || peer.ws.close(), 10000));
  };
  return (message) => (peer.ready ? command(peer, message) : authenticate(peer, message));
}

function authenticate(peer, message) {
  if (message.type !== "auth" || message.access_token !== options.token) {
    peer.say({ type: "auth_invalid", message: "Invalid access token or password" });
    return peer.ws.close();
  }
  peer.ready = true;
  peer.say({ type: "auth_ok", ha_version: version });
  if (options.silence) peer.demand(options.silence);
}

function command(peer, { id, type, ...rest }) {
  if (!(id > peer.last)) return peer.say(failed(id ?? null, "id_reuse", "Identifier values have to increase."));
  peer.last = id;
  switch (type) {
    case "supported_features":
      peer.coalesces = rest.features?.coalesce_messages === 1;
      return peer.say(ok(id));
    case "subscribe_events":
      if (options.forbidden === rest.event_type) return peer.say(failed(id, "unauthorized", "Unauthorized"));
      peer.subscriptions.set(id, rest.event_type);
      return peer.say(ok(id));
    case "unsubscribe_events":
      peer.subscriptions.delete(rest.subscription);
      return peer.say(ok(id));
    case "ping":
      seen.beats++;
      return peer.say({ id, type: "pong" });
  }
  peer.say(failed(id, "unknown_command", "Unknown command."));
}

// fire sends the events to who has subscribed to them, in one list to who takes lists.
function fire({ events }) {
  return all((peer) => {
    const messages = [];
    for (const [id, type] of peer.subscriptions)
      for (const event of events)
        if (!type || type === event.event_type)
          messages.push({ id, type: "event", event: { ...event, origin: "LOCAL", time_fired: "2026-11-23T05:00:00.000000+00:00" } });
    if (peer.coalesces && messages.length > 1) peer.say(messages);
    else peer.say(...messages);
  }, (peer) => peer.subscriptions.size > 0);
}

feed({ connect, doing: { fire } });
