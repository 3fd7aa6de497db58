// The official clients of the feeds: `node feedclient.mjs NAME ADDRESS [JSON options]` prints what each hears, one JSON value
// a line, so that the tests hold our small servers to them.
import { createRequire } from "node:module";
import { WebSocket } from "ws";

const [, , name, address, text] = process.argv;
const options = JSON.parse(text ?? "{}");
const require = createRequire(import.meta.url);
const show = (value) => process.stdout.write(JSON.stringify(value) + "\n");
globalThis.WebSocket = WebSocket;
console.log = () => {}; // the clients' own words

const clients = {
  async homeassistant() {
    const { createConnection, createLongLivedTokenAuth, ERR_INVALID_AUTH } = await import("home-assistant-js-websocket");
    try {
      const connection = await createConnection({ auth: createLongLivedTokenAuth("http://" + address, options.token) });
      await connection.subscribeEvents((event) => show({ event: event.event_type, data: event.data }), "state_changed");
      await connection.ping();
      show("ready");
    } catch (error) {
      show(error === ERR_INVALID_AUTH ? "invalid auth" : { error });
    }
  },

  async discord() {
    const { WebSocketManager, WebSocketShardEvents } = await import("@discordjs/ws");
    const rest = { get: async () => ({ url: "ws://" + address, shards: 1, session_start_limit: { total: 1000, remaining: 1000, reset_after: 0, max_concurrency: 1 } }) };
    const manager = new WebSocketManager({ token: options.token, intents: 513, rest });
    manager.on(WebSocketShardEvents.Ready, () => show("ready"));
    manager.on(WebSocketShardEvents.Resumed, () => show("resumed"));
    manager.on(WebSocketShardEvents.HeartbeatComplete, () => show("beat"));
    manager.on(WebSocketShardEvents.Error, (error) => show({ error: (error.error ?? error).message }));
    manager.on(WebSocketShardEvents.Dispatch, (payload) => show({ event: payload.t, data: payload.d }));
    await manager.connect();
  },

  async mattermost() {
    // The package's own entry needs @mattermost/types as well, which this file does not.
    const { default: WebSocketClient } = require("@mattermost/client/lib/websocket");
    const client = new WebSocketClient({ minWebSocketRetryTime: 100, reconnectJitterRange: 10, clientPingInterval: 200 });
    client.addMessageListener((message) => show({ event: message.event, data: message.data, seq: message.seq }));
    client.addMissedMessageListener(() => show("missed"));
    client.addReconnectListener(() => show("reconnected"));
    client.initialize(`ws://${address}/api/v4/websocket`, options.token);
  },

  async pusher() {
    const Pusher = require("pusher-js");
    const [wsHost, port] = address.split(":");
    const pusher = new Pusher(options.key, { wsHost, wsPort: Number(port), forceTLS: false, enabledTransports: ["ws"], cluster: "", disableStats: true,
      activityTimeout: options.activity * 1000, pongTimeout: 1000,
      channelAuthorization: { customHandler: (_, done) => done(null, { auth: "wrong" }) } });
    pusher.connection.bind("error", (error) => show({ error: error?.data ?? error?.error?.data ?? null }));
    pusher.connection.bind("connected", () => show("connected"));
    pusher.connection.bind("ping", () => show("ping"));
    for (const channel of options.channels ?? []) {
      const subscribed = pusher.subscribe(channel);
      subscribed.bind("pusher:subscription_succeeded", () => show({ subscribed: channel }));
      subscribed.bind("pusher:subscription_error", (error) => show({ refused: channel, status: error.status }));
      subscribed.bind_global((event, data) => event.startsWith("pusher:") || show({ event, data, channel }));
    }
  },
};

await clients[name]();
