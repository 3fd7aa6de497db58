// The official clients at work against our own small servers, which they hold to the protocols:
// `node official.mjs signalr|phoenix|wamp|stomp|anycable URL [JSON options]` prints what its page would see, one JSON object a
// line.
import { createRequire } from "node:module";
import { WebSocket } from "ws";

const [kind, url] = process.argv.slice(2);
const options = JSON.parse(process.argv[4] ?? "{}");
const require = createRequire(import.meta.url);
const saw = (what) => console.log(JSON.stringify(what));

async function signalr() {
  const { HubConnectionBuilder, LogLevel } = require("@microsoft/signalr");
  const hub = new HubConnectionBuilder().configureLogging(LogLevel.Error).withUrl(url, options.withUrl ?? {}).build();
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

await { signalr, phoenix, wamp, stomp, anycable }[kind]();
