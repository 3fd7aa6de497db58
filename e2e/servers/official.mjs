// The official clients at work against our own small servers, which they hold to the protocols:
// `node official.mjs signalr|phoenix|wamp|stomp|anycable|bayeux|jsonrpc|centrifuge|nats|webpubsub|appsync|ddp|parse URL [JSON options]` prints what its page would see, one JSON object a
// line.
import { createRequire } from "node:module";
import { WebSocket } from "ws";

const [kind, url] = process.argv.slice(2);
const options = JSON.parse(process.argv[4] ?? "{}");
const require = createRequire(import.meta.url);
const saw = (what) => console.log(JSON.stringify(what));

async function signalr() {
  const { HubConnectionBuilder, JsonHubProtocol, LogLevel } = require("@microsoft/signalr");
  const builder = new HubConnectionBuilder().configureLogging(LogLevel.Error).withUrl(url, options.withUrl ?? {})
    .withHubProtocol(options.packed ? new (require("@microsoft/signalr-protocol-msgpack").MessagePackHubProtocol)() : new JsonHubProtocol());
  if (options.stateful) builder.withStatefulReconnect();
  const hub = builder.build();
  hub.keepAliveIntervalInMilliseconds = options.keepAlive ?? 15000;
  for (const name of options.on) hub.on(name, (...args) => saw({ event: name, args }));
  hub.onclose((error) => saw({ closed: error?.message ?? null }));
  try {
    await hub.start();
  } catch (error) {
    return saw({ refused: error.message });
  }
  for (const [method, ...args] of options.invoke ?? []) {
    try {
      saw({ result: await hub.invoke(method, ...args) });
    } catch (error) {
      saw({ error: error.message });
    }
  }
  for (const [method, ...args] of options.stream ?? []) {
    hub.stream(method, ...args).subscribe({ next: (item) => saw({ item }), complete: () => saw({ complete: method }), error: (e) => saw({ error: e.message }) });
  }
  saw({ ready: true });
}

async function phoenix() {
  const { Socket } = require("phoenix");
  const socket = new Socket(url, { transport: WebSocket, params: options.params ?? {}, vsn: options.vsn ?? "2.0.0", heartbeatIntervalMs: options.heartbeat ?? 30000, ...(options.authToken && { authToken: options.authToken }) });
  const shown = (data) => (data instanceof ArrayBuffer ? { hex: Buffer.from(data).toString("hex") } : data);
  socket.onClose((e) => saw({ closed: e.code }));
  socket.connect();
  for (const [topic, params] of Object.entries(options.join)) {
    const channel = socket.channel(topic, params);
    channel.onMessage = (event, data) => { if (!event.startsWith("chan_reply_") && event !== "phx_reply") saw({ topic, event, data: shown(data) }); return data; };
    channel.join(5000)
      .receive("ok", (response) => {
        saw({ joined: topic, response });
        if (options.shout) channel.push("shout", Uint8Array.from(options.shout).buffer).receive("ok", (r) => saw({ reply: shown(r) }));
      })
      .receive("error", (response) => saw({ refused: topic, response }))
      .receive("timeout", () => saw({ timeout: topic }));
  }
}

async function wamp() {
  const { Wampy } = require("wampy");
  const { sign } = await import("wampy/wampcra.js");
  const login = options.ticket !== undefined ? { authmethods: ["ticket"], onChallenge: () => options.ticket }
    : options.secret !== undefined ? { authmethods: ["wampcra"], onChallenge: sign(options.secret) } : {};
  const session = new Wampy(url, { realm: options.realm, ws: WebSocket, maxRetries: 1, ...(options.authid && { authid: options.authid }), ...login });
  try {
    await session.connect();
  } catch (error) {
    return saw({ refused: error.errorUri ?? error.message, message: error.details?.message });
  }
  for (const [topic, how] of options.subscribe ?? []) {
    try {
      await session.subscribe(topic, ({ details, argsList, argsDict }) => saw({ topic: details.topic ?? topic, args: argsList ?? null, kwargs: argsDict ?? null }), how);
      saw({ subscribed: topic });
    } catch (error) {
      saw({ error: error.error ?? error.errorUri, topic });
    }
  }
  for (const [topic, ...args] of options.publish ?? []) saw({ published: typeof (await session.publish(topic, args)).publicationId });
}

// STOMP over SockJS, as pages of Spring speak it.
async function stomp() {
  const { Client } = await import("@stomp/stompjs");
  const SockJS = require("sockjs-client");
  const client = new Client({ webSocketFactory: () => new SockJS(url, null, { transports: ["websocket"] }), connectHeaders: options.headers ?? {} });
  client.onConnect = () => {
    for (const topic of options.subscribe) client.subscribe(topic, (m) => saw({ topic: m.headers.destination, body: m.body }));
    saw({ connected: true });
  };
  client.onStompError = (frame) => { saw({ refused: frame.headers.message }); client.deactivate(); };
  client.activate();
}

async function anycable() {
  const { createCable } = await import("@anycable/core");
  const cable = createCable(url, { protocol: "actioncable-v1-ext-json", websocketImplementation: WebSocket, pingInterval: options.ping ?? 3000, protocolOptions: { pongs: true } });
  cable.on("connect", (e) => saw({ connected: e }));
  const channel = cable.subscribeTo("ChatChannel", { room: options.room });
  channel.on("connect", () => saw({ subscribed: options.room }));
  channel.on("message", (message, meta) => saw({ message, offset: meta?.offset }));
  channel.on("close", (e) => saw({ closed: e?.constructor?.name }));
}

async function bayeux() {
  require("cometd-nodejs-client").adapt();
  const { CometD } = require("cometd");
  const client = new CometD();
  client.websocketEnabled = options.websocket ?? true;
  client.configure({ url, logLevel: "error" });
  client.handshake({ ext: options.ext ?? {} }, (answer) => {
    if (!answer.successful) return saw({ refused: answer.error });
    for (const channel of options.subscribe ?? []) {
      client.subscribe(channel, (m) => saw({ channel: m.channel, data: m.data }), (m) => saw(m.successful ? { subscribed: channel } : { error: m.error, channel }));
    }
  });
}

// JSON-RPC, with the client that Solana's has inside.
async function jsonrpc() {
  const { Client } = require("rpc-websockets");
  const client = new Client(url, { reconnect: false });
  client.on("open", async () => {
    for (const method of options.on ?? []) client.on(method, (params) => saw({ method, params }));
    for (const [method, params] of options.call ?? []) {
      try {
        saw({ method, result: await client.call(method, params) });
      } catch (error) {
        saw({ method, code: error.code, error: error.message });
      }
    }
    saw({ ready: true });
  });
  client.on("close", (code) => saw({ closed: code }));
}

async function centrifuge() {
  const { Centrifuge } = require("centrifuge");
  const client = new Centrifuge(url, { websocket: WebSocket, token: options.token });
  for (const channel of options.subscribe ?? []) {
    const subscription = client.newSubscription(channel);
    subscription.on("publication", ({ channel, data }) => saw({ channel, data }));
    subscription.on("subscribed", ({ channel }) => saw({ subscribed: channel }));
    subscription.subscribe();
  }
  client.on("disconnected", ({ code, reason }) => saw({ closed: code, reason }));
  client.connect();
}

async function nats() {
  globalThis.WebSocket ??= WebSocket; // which Node has since 22
  const { wsconnect } = require("@nats-io/nats-core");
  const connection = await wsconnect({ servers: url, ...options.connect });
  for (const subject of options.subscribe ?? []) {
    connection.subscribe(subject, { callback: (error, m) => saw({ subject: m.subject, text: m.string() }) });
  }
  await connection.flush();
  saw({ subscribed: options.subscribe ?? [] });
  const error = await connection.closed();
  saw({ closed: error?.message ?? null });
}

async function webpubsub() {
  const { WebPubSubClient } = require("@azure/web-pubsub-client");
  const client = new WebPubSubClient(url);
  client.on("connected", ({ userId }) => saw({ connected: userId }));
  client.on("group-message", ({ message: { group, dataType, data } }) => saw({ group, data: dataType === "binary" ? Buffer.from(data).toString("hex") : data }));
  client.on("server-message", ({ message }) => saw({ server: message.data }));
  client.on("disconnected", ({ message }) => saw({ disconnected: message?.message ?? null }));
  await client.start();
  for (const group of options.subscribe ?? []) {
    try {
      await client.joinGroup(group);
      saw({ joined: group });
    } catch (error) {
      saw({ refused: error.errorDetail });
    }
  }
  for (const [group, data] of options.send ?? []) saw({ sent: await client.sendToGroup(group, data, "json", { noEcho: true }) });
}


// AppSync's client knows TLS alone, so that its WebSockets are made plain here.
async function appsync() {
  globalThis.WebSocket = class extends WebSocket {
    constructor(address, protocols) { super(address.replace(/^wss:/, "ws:"), protocols); }
  };
  const { Amplify, Hub } = require("@aws-amplify/core");
  const { events, GraphQLAPI } = require("@aws-amplify/api-graphql");
  const { region = "eu-central-1", apiKey, token, iam } = options;
  const auth = { apiKey, region, defaultAuthMode: token ? "userPool" : iam ? "iam" : "apiKey" };
  Amplify.configure({ API: { GraphQL: { endpoint: url + "/graphql", ...auth }, Events: { endpoint: url + "/event", ...auth } } }, {
    Auth: {
      credentialsProvider: { getCredentialsAndIdentityId: async () => ({ credentials: iam }), clearCredentialsAndIdentityId() {} },
      tokenProvider: { getTokens: async () => ({ accessToken: { toString: () => token, payload: {} } }) },
    },
  });
  const why = (error) => saw({ refused: (error.errors?.[0] ?? error).message });
  Hub.listen("api", ({ payload }) => { if (payload.event === "Subscription ack") saw({ subscribed: payload.data.variables?.room ?? payload.data.query }); });
  for (const [query, variables] of options.graphql ?? []) {
    GraphQLAPI.graphql(Amplify, { query, variables }).subscribe({ next: (result) => saw({ data: result.data ?? result }), error: why });
  }
  for (const name of options.channels ?? []) {
    try {
      const channel = await events.connect(name);
      channel.subscribe({ next: ({ event }) => saw({ channel: name, event }), error: why });
      if (options.publish) setTimeout(async () => saw({ published: (await channel.publish(options.publish).catch((e) => e.message)) ?? name }), 500);
    } catch (error) {
      why(error);
    }
  }
}

async function ddp() {
  const Client = require("ddp");
  const client = new Client({ url, autoReconnect: false });
  client.on("message", (text) => {
    const m = JSON.parse(text);
    if (["added", "changed", "removed"].includes(m.msg)) saw({ msg: m.msg, id: m.id, now: client.collections[m.collection]?.[m.id] ?? null });
  });
  client.on("socket-close", (code) => saw({ closed: code }));
  client.connect((error) => {
    if (error) return saw({ refused: error });
    const subscribe = () => {
      for (const [name, ...params] of options.subscribe ?? []) client.subscribe(name, params, (error) => saw(error ? { refused: name, error: error.error } : { ready: name }));
    };
    if (!options.login) return subscribe();
    client.call("login", [options.login], (error) => (error ? saw({ refused: error.reason }) : subscribe()));
  });
}

async function parse() {
  const Parse = require("parse/node");
  Parse.initialize("app");
  const client = new Parse.LiveQueryClient({ applicationId: "app", serverURL: url, ...options.connect });
  client.on("error", (error) => saw({ refused: String(error?.message ?? error) }));
  client.open();
  for (const [name, where] of options.subscribe ?? []) {
    const query = new Parse.Query(name);
    for (const [key, value] of Object.entries(where ?? {})) query.equalTo(key, value);
    const subscription = client.subscribe(query, options.connect?.sessionToken);
    subscription.on("open", () => saw({ open: name }));
    subscription.on("error", (error) => saw({ refused: String(error?.message ?? error) }));
    for (const op of ["create", "enter", "update", "leave", "delete"]) {
      subscription.on(op, (object) => saw({ op, object: object.toJSON() }));
    }
  }
}

await { signalr, phoenix, wamp, stomp, anycable, bayeux, jsonrpc, centrifuge, nats, webpubsub, appsync, ddp, parse }[kind]();
