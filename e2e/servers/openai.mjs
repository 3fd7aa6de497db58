// The Realtime API in its documented shape (platform.openai.com/docs/api-reference/realtime): a session for each connection, its settings, conversation items,
// and answers in pieces. What it says is the last item's text backwards.
import { all, feed, options, seen } from "./feed.mjs";

let n = 0;

function connect(peer, request, url) {
  if (url.pathname !== "/v1/realtime") return 404;
  if (request.headers.authorization !== "Bearer " + options.key) return 401;
  peer.id = `sess_${++n}`;
  const event = (type, more) => peer.say({ type, event_id: `event_${++n}`, ...more });
  const fails = (event_id, code, message) => event("error", { error: { type: "invalid_request_error", code, message, param: null, event_id } });
  const model = url.searchParams.get("model");
  peer.opened = () => event("session.created", { session: { type: "realtime", object: "realtime.session", id: peer.id, model } });
  return ({ type, event_id, session, item }) => {
    switch (type) {
      case "session.update":
        if (session.type !== "realtime") return fails(event_id, "invalid_value", "Invalid value: session.type");
        (seen.asked ??= []).push({ method: session.instructions ?? "", authorization: peer.id, body: "" });
        return event("session.updated", { session: { ...session, id: peer.id, model } });
      case "conversation.item.create":
        peer.text = item.content[0].text;
        return event("conversation.item.added", { item: { id: `item_${++n}`, ...item } });
      case "response.create": {
        const words = [...peer.text].reverse().join("").split(" ");
        const response_id = `resp_${++n}`;
        event("response.created", { response: { id: response_id, status: "in_progress" } });
        for (const delta of words) event("response.output_text.delta", { response_id, delta });
        return event("response.done", { response: { id: response_id, status: "completed" } });
      }
      default:
        return fails(event_id, "invalid_value", `Invalid value: '${type}'`);
    }
  };
}

feed({ connect, doing: {
  expire: () => all((peer) => { peer.say({ type: "error", event_id: "x", error: { type: "invalid_request_error", code: "session_expired", message: "Your session hit the maximum duration of 60 minutes." } }); peer.ws.close(1001); }),
} });
