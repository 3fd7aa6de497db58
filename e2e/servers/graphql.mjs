// The real servers of GraphQL subscriptions, graphql-ws and subscriptions-transport-ws, over one small schema. Options:
//   legacy     subscriptions-transport-ws
//   accepting  chooses the first subprotocol offered, whatever it is
//   ws         WebSocket pings, in ms
//   pings      in ms: graphql-ws's message pings, or ka; who does not answer the former is cut
//   noping     connections that ping are closed as servers older than pings do
// A token of "bad" is forbidden, one of "none" not authorized.
import { buildSchema, execute, GraphQLError, subscribe } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { SubscriptionServer } from "subscriptions-transport-ws";
import { WebSocketServer } from "ws";
import { options, serve } from "./serve.mjs";

const rooms = new Map(); // name -> subscribers
const connections = new Set();
const seen = { connects: [], terminated: 0, completed: 0, answered: 0, subscribed: 0 };

// follow yields what the control emits to a room.
function follow(name) {
  const queue = [], waiting = [];
  const give = (step) => (waiting.length ? waiting.shift()(step) : queue.push(step));
  if (!rooms.has(name)) rooms.set(name, new Set());
  rooms.get(name).add(give);
  seen.subscribed++;
  return {
    [Symbol.asyncIterator]() { return this; },
    async next() {
      const step = queue.length ? queue.shift() : await new Promise((resolve) => waiting.push(resolve));
      if (step.fail || step.done) rooms.get(name).delete(give);
      if (step.fail) throw new Error(step.fail);
      return step;
    },
    async return() {
      rooms.get(name).delete(give);
      seen.completed++;
      give({ done: true });
      return { done: true };
    },
  };
}

const schema = buildSchema(`
  type Tick { room: String! n: Float text: String broken: String }
  type Query { rooms: Int }
  type Mutation { say(room: String!, text: String!): Int }
  type Subscription { tick(room: String = "a"): Tick denied(code: String): Int }
`);
const say = (room, tick) => {
  const to = rooms.get(room) ?? new Set();
  for (const give of to) give({ value: { tick: { room, ...tick } } });
  return to.size;
};
const subscription = schema.getSubscriptionType().getFields();
subscription.tick.subscribe = (_, { room }) => follow(room);
subscription.denied.subscribe = (_, { code }) => { throw new GraphQLError("denied to you", { extensions: { code } }); };
schema.getMutationType().getFields().say.resolve = (_, { room, text }) => say(room, { text });
schema.getQueryType().getFields().rooms.resolve = () => rooms.size;

const wss = new WebSocketServer({ noServer: true });
wss.on("connection", (socket) => {
  connections.add(socket);
  socket.on("close", () => connections.delete(socket));
  socket.on("message", (data) => {
    const { type } = JSON.parse(data);
    if (type === "connection_terminate") seen.terminated++;
    if (type === "ping" && options.noping) socket.close(4400, "Invalid message received");
  });
});

if (options.legacy) {
  const onConnect = (params) => {
    seen.connects.push(params);
    if (params.token === "bad") throw new Error("nope");
    return true;
  };
  SubscriptionServer.create({ schema, execute, subscribe, onConnect, keepAlive: options.pings }, wss);
} else {
  const onConnect = (ctx) => {
    const { socket } = ctx.extra;
    seen.connects.push(ctx.connectionParams ?? null);
    if (ctx.connectionParams?.token === "none") return socket.close(4401, "Unauthorized");
    if (options.pings) {
      let n = 0;
      ctx.extra.answered = 0;
      const beat = setInterval(() => {
        if (ctx.extra.answered !== n) socket.terminate();
        else socket.send(JSON.stringify({ type: "ping", payload: { n: ++n } }));
      }, options.pings);
      socket.on("close", () => clearInterval(beat));
    }
    return ctx.connectionParams?.token !== "bad";
  };
  const onPong = (ctx, payload) => { ctx.extra.answered = payload.n; seen.answered++; };
  useServer({ schema, onConnect, onPong }, wss, options.ws ?? 12000);
  if (options.accepting) wss.options.handleProtocols = (offered) => [...offered][0];
}

serve({
  upgrade: (request, socket, head) => wss.handleUpgrade(request, socket, head, (ws) => wss.emit("connection", ws, request)),
  doing: {
    count: ({ topic }) => rooms.get(topic)?.size ?? 0,
    say: ({ topic, tick }) => say(topic, tick),
    end: ({ topic }) => { for (const give of rooms.get(topic)) give({ done: true }); },
    fail: ({ topic, why }) => { for (const give of rooms.get(topic)) give({ fail: why }); },
    seen: () => seen,
  },
});
