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

  async supabase() {
    const { RealtimeClient } = require("@supabase/realtime-js");
    const client = new RealtimeClient(`ws://${address}/realtime/v1`, { params: { apikey: options.key }, transport: WebSocket });
    await client.setAuth(options.token);
    client.channel("messages")
      .on("postgres_changes", { event: "*", schema: "public", table: "messages" }, (change) => show({ type: change.eventType, record: change.new }))
      .subscribe((status, error) => show({ status, error: error?.message ?? null }));
  },

  async obs() {
    const { default: OBSWebSocket } = require("obs-websocket-js/json");
    const obs = new OBSWebSocket();
    for (const event of ["CurrentProgramSceneChanged", "StreamStateChanged"]) obs.on(event, (data) => show({ event, data }));
    try {
      const { negotiatedRpcVersion } = await obs.connect("ws://" + address, options.password, { rpcVersion: 1, eventSubscriptions: 2047 });
      show({ ready: negotiatedRpcVersion });
    } catch (error) {
      show({ error: error.code });
    }
  },

  async okx() {
    const { WebsocketClient } = require("okx-api");
    const quiet = () => {};
    const client = new WebsocketClient({ accounts: [{ apiKey: options.key, apiSecret: options.secret, apiPass: options.passphrase }], wsUrl: `ws://${address}/ws/v5/private`, pingInterval: 200, pongTimeout: 1000 },
      { trace: quiet, info: quiet, error: quiet, silly: quiet, debug: quiet, notice: quiet, warning: quiet });
    client.on("update", ({ arg, data }) => show({ channel: arg.channel, data }));
    client.on("response", ({ event }) => show({ event }));
    client.on("exception", (error) => show({ error: error.code ?? error.message ?? "failed" }));
    client.subscribe({ channel: "orders", instType: "ANY" });
  },

  async pusher() {
    const Pusher = require("pusher-js");
    const [wsHost, port] = address.split(":");
    const signed = async (socket_id, channel_name) => {
      const answer = await fetch(`http://${address}/broadcasting/auth`, { method: "POST", body: new URLSearchParams({ socket_id, channel_name }),
        headers: { Cookie: options.cookie, "X-XSRF-TOKEN": options.token } });
      if (!answer.ok) throw new Error(String(answer.status));
      return answer.json();
    };
    const pusher = new Pusher(options.key, { wsHost, wsPort: Number(port), forceTLS: false, enabledTransports: ["ws"], cluster: "", disableStats: true,
      activityTimeout: options.activity * 1000, pongTimeout: 1000,
      channelAuthorization: options.cookie
        ? { customHandler: ({ socketId, channelName }, done) => signed(socketId, channelName).then((auth) => done(null, auth), (error) => done(error, null)) }
        : { customHandler: (_, done) => done(null, { auth: "wrong" }) } });
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
