// The unmodified clients, each sending and receiving COUNT messages in order at the same time. result says what has come.
"use strict";
const COUNT = Number(new URLSearchParams(location.search).get("count"));
const address = location.origin.replace("http", "ws");
const result = {}, closes = [], errors = [];
let done = 0;

addEventListener("error", event => errors.push(event.message));
addEventListener("unhandledrejection", event => errors.push(String(event.reason)));

const bytes = n => {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint32(0, n, true);
  view.setUint32(4, n);
  return view.buffer;
};
const numberOf = buffer => {
  const view = new DataView(buffer);
  return view.getUint32(0, true) === view.getUint32(4) ? view.getUint32(0, true) : NaN;
};

// ordered counts numbers that come in order; anything else makes it NaN.
const ordered = () => {
  let next = 0;
  return n => next = n === undefined ? next : n === next ? next + 1 : NaN;
};

// burst calls send with 0 to COUNT-1, some at a time.
async function burst(send) {
  const some = Math.max(1, Math.ceil(COUNT / 24));
  for (let n = 0; n < COUNT;) {
    for (const end = Math.min(COUNT, n + some); n < end; n++) send(n);
    await new Promise(go => setTimeout(go, 125));
  }
}

const until = async ok => {
  while (!ok()) await new Promise(go => setTimeout(go, 20));
};

// play has one client send and receive everything. count asks the server what it has got.
async function play(name, send, seen, count) {
  await burst(send);
  await until(() => !(seen() < COUNT));
  let up = 0;
  while (up < COUNT) up = await count();
  result[name] = { up, down: seen() };
  done++;
}

function socketIO() {
  const socket = window.socketIOClient = io({ transports: ["websocket"], reconnection: false, timeout: 60000 });
  const seen = ordered();
  socket.on("n", (n, blob) => seen(blob ? (numberOf(blob) === n ? n : NaN) : n));
  socket.on("disconnect", reason => closes.push("socket.io: " + reason));
  socket.on("connect_error", error => closes.push("socket.io: " + error.message));
  socket.on("connect", () => {
    socket.emit("burst", COUNT);
    play("socket.io", n => n % 10 ? socket.emit("n", n) : socket.emit("n", n, bytes(n)), seen, () => socket.emitWithAck("count"));
  });
}

function graphql() {
  const client = graphqlWs.createClient({ url: address + "/graphql", retryAttempts: 0, lazy: false, onNonLazyError: error => closes.push("graphql-ws: " + error) });
  const seen = ordered();
  client.on("closed", event => closes.push("graphql-ws: " + event.code));
  const ask = (query, next) => new Promise((end, fail) => client.subscribe({ query }, { next, complete: end, error: fail }));
  client.on("connected", () => {
    ask(`subscription { count(to: ${COUNT}) }`, ({ data }) => seen(data.count));
    play("graphql-ws", n => ask(`mutation { add(n: ${n}) }`, () => {}), seen, () => new Promise(answer => ask("{ added }", ({ data }) => answer(data.added))));
  });
}

function phoenix() {
  const socket = new Phoenix.Socket(address + "/live", { vsn: "2.0.0" });
  const seen = ordered();
  socket.onClose(event => closes.push("phoenix: " + event.code));
  socket.connect();
  const channel = socket.channel("room:1", {});
  channel.on("n", payload => seen(payload instanceof ArrayBuffer ? numberOf(payload) : payload.n));
  channel.join().receive("ok", () => {
    channel.push("burst", { count: COUNT });
    play("phoenix", n => channel.push("n", n % 10 ? { n } : bytes(n)), seen, () => new Promise(answer => channel.push("count", {}).receive("ok", ({ count }) => answer(count))));
  });
}

function stomp() {
  const client = new StompJs.Client({ brokerURL: address + "/ws", connectHeaders: { login: "guest", passcode: "guest" }, reconnectDelay: 0, heartbeatIncoming: 0, heartbeatOutgoing: 0 });
  const seen = ordered(), destination = "/exchange/amq.topic/tunnel." + Math.random().toString(36).slice(2);
  client.onWebSocketClose = event => closes.push("stompjs: " + event.code);
  client.onStompError = frame => closes.push("stompjs: " + frame.body);
  client.onConnect = () => {
    client.subscribe(destination, message => seen(Number(message.body)));
    // What comes back has gone up: the broker keeps the order of one connection. It sends everything as text.
    play("stompjs", n => client.publish(n % 10 ? { destination, body: String(n) } : { destination, binaryBody: new TextEncoder().encode(n) }), seen, seen);
  };
  client.activate();
}

function reconnecting() {
  const socket = new ReconnectingWebSocket(address + "/count?x=%20y", [], { maxRetries: 0, connectionTimeout: 60000 });
  const seen = ordered();
  let counted = 0;
  socket.binaryType = "arraybuffer";
  socket.onclose = event => closes.push("reconnecting-websocket: " + event.code);
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") return seen(numberOf(data));
    const [word, n] = data.split(":");
    if (word === "n") seen(Number(n));
    else counted = Number(n);
  };
  socket.onopen = () => {
    socket.send("burst:" + COUNT);
    play("reconnecting-websocket", n => socket.send(n % 3 ? n % 3 === 1 ? new Blob([bytes(n)]) : bytes(n) : "n:" + n), seen, async () => {
      const before = counted;
      counted = 0;
      socket.send("count");
      await until(() => counted);
      return counted || before;
    });
  };
}

const clients = { socketIO, graphql, phoenix, stomp, reconnecting };
const wanted = new URLSearchParams(location.search).get("only");
for (const name of wanted ? wanted.split(",") : Object.keys(clients)) clients[name]();
