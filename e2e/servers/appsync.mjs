// AWS AppSync as its guides have it: GraphQL subscriptions at /graphql/realtime ("Building a real-time WebSocket client"), and AppSync Events at
// /event/realtime ("Understanding the Event API WebSocket protocol"). An API key is "da2-good", a token "good.user.token", or "Bearer " and that;
// what is signed must be signed with the key of options.iam ({accessKeyId, secretAccessKey, sessionToken}), which is held against the signer of
// AWS's own client library. Options:
//   iam      the key, with which nothing else is let in
//   region   that of the signatures
//   ka       in ms: how often ka is sent; connectionTimeoutMs is twice that
// GraphQL: onTick(room: String!) of what is said in a room. Events: what is published to a channel in the namespace default.
import { createRequire } from "node:module";
import { parse, valueFromASTUntyped } from "graphql";
import { WebSocketServer } from "ws";
import { options, serve } from "./serve.mjs";

const { signRequest } = createRequire(import.meta.url)("@aws-amplify/core/internals/aws-client-utils");
const ka = options.ka ?? 60000;
const peers = new Set();
const seen = { authorized: [], refused: [], frames: [], left: 0 };

const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => ["graphql-ws", "aws-appsync-event-ws"].find((name) => offered.has(name)) ?? false });

// wrong is why an authorization for a POST of body to the API's path is not one; undefined when it is.
function wrong(authorization, host, path, body) {
  if (authorization?.host !== host) return ["BadRequestException", `host is ${authorization?.host}, not ${host}`, 400];
  if (authorization["x-api-key"] === "da2-good" && !options.iam) return;
  if (authorization.Authorization?.replace(/^Bearer /, "") === "good.user.token" && !options.iam) return;
  const signature = authorization.Authorization ?? authorization.authorization; // as the guides have it, and as AWS's own client
  if (options.iam && signature?.startsWith("AWS4-HMAC-SHA256 ")) {
    const names = /SignedHeaders=([^,]*)/.exec(signature)?.[1].split(";") ?? [];
    const rest = Object.fromEntries(names.map((name) => [name, authorization[name]]));
    const date = rest["x-amz-date"]?.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, "$1-$2-$3T$4:$5:$6Z");
    if (!(Math.abs(Date.now() - Date.parse(date)) < 300000)) return ["UnauthorizedException", "Signature expired", 401];
    for (const name of ["x-amz-date", "x-amz-security-token"]) delete rest[name];
    const { headers } = signRequest({ method: "POST", url: new URL(`https://${host}${path}`), headers: rest, body },
      { credentials: options.iam, signingRegion: options.region, signingService: "appsync", signingDate: new Date(date) });
    if (headers.authorization === signature && headers["x-amz-security-token"] === authorization["x-amz-security-token"]) return;
    return ["UnauthorizedException", "The request signature we calculated does not match the signature you provided", 401];
  }
  return ["UnauthorizedException", `Permission denied for ${authorization["x-api-key"] ?? authorization.Authorization ?? "nobody"}`, 401];
}

function upgrade(request, socket, head, url) {
  const events = url.pathname === "/event/realtime";
  if (!events && url.pathname !== "/graphql/realtime") return socket.end("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(/, */);
  const encoded = offered.find((name) => name.startsWith("header-"))?.slice(7) ?? url.searchParams.get("header") ?? "";
  let header;
  try { header = JSON.parse(Buffer.from(encoded, "base64").toString()); } catch { header = {}; }
  sockets.handleUpgrade(request, socket, head, (ws) => {
    const peer = { ws, events, host: request.headers.host, header, subscriptions: new Map() }; // room or channel by id
    peers.add(peer);
    ws.on("message", (text) => message(peer, JSON.parse(text.toString())));
    ws.on("close", () => { peers.delete(peer); clearInterval(peer.beat); });
    ws.on("error", () => {});
  });
}

const say = (peer, m) => peer.ws.send(JSON.stringify(m));
const errors = ([errorType, message, errorCode]) => [{ errorType, message, ...(errorCode && { errorCode }) }];
// failed is an error in the form that GraphQL or Events have.
const failed = (peer, type, id, why) => say(peer, { ...(id && { id }), type, ...(peer.events ? { errors: errors(why) } : { payload: { errors: errors(why) } }) });

function allowed(peer, authorization, path, body) {
  const why = wrong(authorization, peer.host, path, body);
  (why ? seen.refused : seen.authorized).push({ path, body, names: Object.keys(authorization ?? {}).sort() });
  return why;
}

function message(peer, m) {
  seen.frames.push(m);
  const path = peer.events ? "/event" : "/graphql";
  if (m.type === "connection_init") {
    const why = allowed(peer, peer.header, peer.events ? path : path + "/connect", "{}");
    if (why) return failed(peer, "connection_error", null, why), peer.ws.close(1000);
    const told = { connectionTimeoutMs: 2 * ka };
    say(peer, { type: "connection_ack", ...(peer.events ? told : { payload: told }) });
    peer.beat = setInterval(() => say(peer, { type: "ka" }), ka);
    say(peer, { type: "ka" });
    return;
  }
  (peer.events ? events : graphql)(peer, m, path);
}

function graphql(peer, m, path) {
  if (m.type === "stop") {
    seen.left++;
    peer.subscriptions.delete(m.id);
    return say(peer, { type: "complete", id: m.id });
  }
  if (m.type !== "start") return failed(peer, "error", m.id, ["UnsupportedOperation", `${m.type} not supported through the realtime channel`, 400]);
  const why = allowed(peer, m.payload?.extensions?.authorization, path, m.payload?.data);
  if (why) return failed(peer, "error", m.id, why);
  const { query, variables } = JSON.parse(m.payload.data);
  const field = parse(query).definitions[0].selectionSet.selections[0];
  if (field.name.value !== "onTick") return failed(peer, "error", m.id, ["BadRequestException", `Validation error of type FieldUndefined: Field '${field.name.value}' in type 'Subscription' is undefined`, 400]);
  const room = valueFromASTUntyped(field.arguments[0].value, variables ?? {});
  if (room === "full") return failed(peer, "error", m.id, ["MaxSubscriptionsReachedError", "Max number of 100 subscriptions reached", 400]);
  peer.subscriptions.set(m.id, room);
  say(peer, { id: m.id, type: "start_ack" });
}

function events(peer, m, path) {
  switch (m.type) {
    case "subscribe": {
      const why = allowed(peer, m.authorization, path, JSON.stringify({ channel: m.channel }));
      if (why) return failed(peer, "subscribe_error", m.id, why);
      if (!/^\/?default(\/|$)/.test(m.channel)) return failed(peer, "subscribe_error", m.id, ["BadRequestException", "Invalid channel namespace"]);
      if (m.channel.endsWith("/denied")) return failed(peer, "subscribe_error", m.id, ["Unauthorized", "You shall not listen"]);
      peer.subscriptions.set(m.id, "/" + m.channel.replace(/^\//, ""));
      return say(peer, { id: m.id, type: "subscribe_success" });
    }
    case "unsubscribe":
      seen.left++;
      peer.subscriptions.delete(m.id);
      return say(peer, { id: m.id, type: "unsubscribe_success" });
    case "publish": {
      const why = allowed(peer, m.authorization, path, JSON.stringify({ channel: m.channel, events: m.events }));
      if (why) return failed(peer, "publish_error", m.id, why);
      if (m.channel.endsWith("/readonly")) return failed(peer, "publish_error", m.id, ["Unauthorized", "nobody may publish here"]);
      publish(m.channel, m.events);
      return say(peer, { id: m.id, type: "publish_success", successful: m.events.map((_, index) => ({ identifier: String(index), index })), failed: [] });
    }
  }
  failed(peer, "error", m.id, ["UnsupportedOperation", "Operation not supported"]);
}

const matches = (asked, name) => asked === name || asked.endsWith("/*") && name.startsWith(asked.slice(0, -1));
const all = (name) => [...peers].flatMap((peer) => [...peer.subscriptions].filter(([, asked]) => matches(asked, name)).map(([id]) => ({ peer, id })));
const publish = (channel, texts) => all("/" + channel.replace(/^\//, "")).map(({ peer, id }) => texts.map((event) => say(peer, { id, type: "data", event }))).length;

serve({
  upgrade,
  doing: {
    count: ({ topic }) => (topic ? all(topic).length : peers.size),
    seen: () => seen,
    tick: ({ topic, tick }) => all(topic).map(({ peer, id }) => say(peer, { id, type: "data", payload: { data: { onTick: tick } } })).length,
    publish: ({ topic, events }) => publish(topic, events),
    // raw says m to all subscribers of topic, under their own ids.
    raw: ({ topic, m }) => all(topic).map(({ peer, id }) => say(peer, { id, ...m })).length,
    cut: () => [...peers].map((peer) => peer.ws.terminate()).length,
    mute: () => [...peers].map((peer) => clearInterval(peer.beat)).length,
  },
});
