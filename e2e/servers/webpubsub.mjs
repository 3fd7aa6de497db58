// A hub of Azure Web PubSub, /client/hubs/chat, in the reliable subprotocol in JSON, as far as the service's reference and its guide to reliable clients say: a
// session outlives its WebSockets, keeps what was not acknowledged, and is taken up by its id and token. access_token=good may do everything,
// access_token=poor may not join the group "closed"; with any other one the upgrade is a 401. Options: keep (ms that a session without a WebSocket is kept, 60000),
// limit (messages that are not acknowledged, 1000).
import crypto from "node:crypto";
import { WebSocketServer } from "ws";
import { options, refuse, serve } from "./serve.mjs";

const protocol = "json.reliable.webpubsub.azure.v1";
const sessions = new Map(); // by connection id
const seen = { connected: 0, recovered: 0, refused: 0, acks: 0, pings: 0, received: [], duplicates: 0 };

class Session {
  constructor(token) {
    Object.assign(this, { id: crypto.randomBytes(16).toString("base64url"), user: token, groups: new Set(), sequence: 0, kept: [], done: new Set(), tokens: new Set() });
    sessions.set(this.id, this);
  }
  attach(ws) {
    this.ws?.terminate();
    clearTimeout(this.timer);
    this.ws = ws;
    const token = crypto.randomBytes(24).toString("base64");
    this.tokens.add(token); // the ones before stay good: nobody knows which one the client has got
    ws.on("message", (data) => this.received(JSON.parse(String(data))));
    ws.on("error", () => {});
    ws.on("close", (code) => {
      if (this.ws !== ws) return;
      if (code === 1000 || code === 1001 || code === 1005) return this.end(); // the client is done
      this.timer = setTimeout(() => this.end(), options.keep ?? 60000);
    });
    this.send({ type: "system", event: "connected", userId: this.user, connectionId: this.id, reconnectionToken: token });
    for (const message of this.kept) this.send(message);
  }
  send(message) {
    if (this.ws.readyState === 1) this.ws.send(JSON.stringify(message));
  }
  end(why) {
    sessions.delete(this.id);
    if (why) this.send({ type: "system", event: "disconnected", message: why });
    this.ws.close(1008);
  }
  deliver(message) {
    const numbered = { sequenceId: ++this.sequence, type: "message", ...message };
    this.kept.push(numbered);
    if (this.kept.length > (options.limit ?? 1000)) return this.end("too many messages are not acknowledged");
    this.send(numbered);
  }
  received(m) {
    if (m.type === "ping") return void (seen.pings++, this.send({ type: "pong" }));
    if (m.type === "sequenceAck") {
      seen.acks++;
      this.kept = this.kept.filter((one) => one.sequenceId > m.sequenceId);
      return;
    }
    seen.received.push(m);
    const fail = (name, message) => this.send({ type: "ack", ackId: m.ackId, success: false, error: { name, message } });
    if (m.ackId !== undefined && this.done.has(m.ackId)) {
      seen.duplicates++;
      return fail("Duplicate", `Message with ack-id: ${m.ackId} has been processed`);
    }
    if (m.group === "closed" && this.user === "poor") return fail("Forbidden", "The client does not have permission to join the group.");
    if (m.group === "broken") return fail("InternalServerError", "Internal server error");
    if (m.ackId !== undefined) this.done.add(m.ackId);
    if (m.type === "joinGroup") this.groups.add(m.group);
    if (m.type === "leaveGroup") this.groups.delete(m.group);
    if (m.type === "sendToGroup") publish(m, m.noEcho ? this : undefined, this.user);
    if (m.ackId !== undefined) this.send({ type: "ack", ackId: m.ackId, success: true });
  }
}

function publish({ group, dataType, data }, except, fromUserId) {
  for (const s of sessions.values()) if (s.groups.has(group) && s !== except) s.deliver({ from: "group", fromUserId, group, dataType, data });
}

const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => (offered.has(protocol) ? protocol : false) });

serve({
  upgrade(request, socket, head, url) {
    const id = url.searchParams.get("awps_connection_id");
    if (url.pathname !== "/client/hubs/chat") return refuse(socket, 404);
    if (!id && !["good", "poor"].includes(url.searchParams.get("access_token"))) return refuse(socket, 401);
    sockets.handleUpgrade(request, socket, head, (ws) => {
      if (!id) {
        seen.connected++;
        return new Session(url.searchParams.get("access_token")).attach(ws);
      }
      const session = sessions.get(id);
      if (!session?.tokens.has(url.searchParams.get("awps_reconnection_token"))) {
        seen.refused++;
        return ws.close(1008, "the connection is not known");
      }
      seen.recovered++;
      session.attach(ws);
    });
  },
  doing: {
    publish: ({ group, dataType = "json", values }) => values.forEach((data) => publish({ group, dataType, data })),
    // tell sends to all from the server.
    tell: ({ dataType = "json", data }) => { for (const s of sessions.values()) s.deliver({ from: "server", dataType, data }); },
    drop: () => { for (const s of sessions.values()) s.ws.terminate(); },
    end: () => { for (const s of [...sessions.values()]) s.end("closed by the server"); },
    // lose forgets the sessions, whose WebSockets are cut.
    lose: () => { for (const s of [...sessions.values()]) { sessions.delete(s.id); s.ws.terminate(); } },
    kept: () => [...sessions.values()].map((s) => s.kept.length),
    seen: () => seen,
  },
});
