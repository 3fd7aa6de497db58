// The service behind the tunnel's browser tests: an echo, Socket.IO, graphql-ws and Phoenix on WebSockets of one port, a
// STOMP broker's WebSocket handed through, and the pages with the clients' unmodified browser builds.
//
//   node server.mjs PORT [STOMP-PORT]
//
// Everyone is told the same thing in the same way: "burst" makes a server send COUNT numbers in order, over several
// seconds; what is sent upward as numbers is checked to come in order, and its count is told when asked for.
import { createServer } from "node:http";
import { connect } from "node:net";
import { readFile } from "node:fs/promises";
import { WebSocketServer } from "ws";
import { Server as SocketIO } from "socket.io";
import { makeServer } from "graphql-ws";
import { GraphQLSchema, GraphQLObjectType, GraphQLInt, GraphQLNonNull } from "graphql";

const [port, stompPort] = process.argv.slice(2).map(Number);
const here = new URL(".", import.meta.url), modules = new URL("../node_modules/", import.meta.url);
const files = {
  "/lib/socket.io.js": new URL("socket.io-client/dist/socket.io.js", modules),
  "/lib/graphql-ws.js": new URL("graphql-ws/umd/graphql-ws.js", modules),
  "/lib/phoenix.js": new URL("phoenix/priv/static/phoenix.min.js", modules),
  "/lib/stomp.js": new URL("@stomp/stompjs/bundles/stomp.umd.js", modules),
  "/lib/reconnecting-websocket.js": new URL("reconnecting-websocket/dist/reconnecting-websocket-iife.js", modules),
};
for (const name of ["clients.js", "conform.js", "modes.js", "elsewhere.js", "worker.js", "shared.js"]) files["/" + name] = new URL(name, here);

const page = scripts => `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>tunnel</title><body>${scripts}`;
const classic = ["socket.io", "graphql-ws", "phoenix", "stomp", "reconnecting-websocket"].map(name => `<script src="/lib/${name}.js"></script>`).join("");
const pages = {
  "/clients.html": page(`<script src="/_sidestream/websocket.js"></script>${classic}<script src="/clients.js"></script>`),
  "/conform.html": page(`<script type="module" src="/conform.js"></script>`),
  "/modes.html": page(`<script src="/modes.js"></script>`),
  "/fallback.html": page(`<script src="/_sidestream/websocket.js" data-mode="fallback"></script><script src="/modes.js"></script>`),
  "/always.html": page(`<script src="/_sidestream/websocket.js"></script><script src="/modes.js"></script>`),
  // It says that it has loaded: a browser that is driven elsewhere before that may never answer its driver.
  "/elsewhere.html": page(`<script src="/elsewhere.js"></script>`),
  "/shared.html": page(`<script src="/shared.js"></script>`),
  "/tab.html": page(`<script src="/_sidestream/events.js"></script>`),
};

const server = createServer(async (request, response) => {
  const path = request.url.split("?")[0];
  if (pages[path]) {
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.setHeader("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; worker-src 'self'; frame-src 'self'; img-src data:");
    response.end(pages[path]);
  } else if (files[path]) {
    response.setHeader("Content-Type", "text/javascript; charset=utf-8");
    response.end(await readFile(files[path]));
  } else if (path === "/arrived") {
    farewells.push("arrived " + request.url.split("?")[1]);
    response.end();
  } else if (path === "/farewells") {
    response.end(JSON.stringify(farewells));
  } else {
    response.statusCode = 404;
    response.end();
  }
});

// burst calls send with 0 to count-1, some at a time.
async function burst(count, send) {
  const some = Math.max(1, Math.ceil(count / 24));
  for (let n = 0; n < count;) {
    for (const end = Math.min(count, n + some); n < end; n++) await send(n);
    await new Promise(done => setTimeout(done, 125));
  }
}

// ordered counts numbers that come in order; anything else makes it NaN.
const ordered = () => {
  let next = 0;
  return n => next = n === undefined ? next : n === next ? next + 1 : NaN;
};

const bytes = n => {
  const b = Buffer.alloc(8);
  b.writeUInt32LE(n, 0);
  b.writeUInt32BE(n, 4);
  return b;
};

const plain = new WebSocketServer({ noServer: true, handleProtocols: offered => offered.has("b") ? "b" : false });
const farewells = []; // of /farewell: what was said last, and the code; and who arrived elsewhere
const hung = new Set(); // queries of /hang that were not answered
plain.on("connection", (ws, request) => {
  const url = new URL(request.url, "http://x"), seen = ordered();
  ws.on("error", () => {});
  let last = "";
  if (url.pathname === "/farewell") ws.on("close", code => farewells.push(last + " " + code));
  if (url.searchParams.has("die")) return ws.terminate();
  ws.on("message", (data, binary) => {
    const [word, a, b] = binary ? [] : String(data).split(":");
    last = String(data);
    switch (word) {
      case "close": return a ? ws.close(Number(a), b) : ws.close();
      case "deaf": return ws.pause();
      case "terminate": return ws.terminate();
      case "burst": return void burst(Number(a), n => ws.send(n % 2 ? bytes(n) : "n:" + n));
      case "count": return ws.send("count:" + seen());
      case "n": return void seen(Number(a));
      case "headers": return ws.send(JSON.stringify(request.headers));
    }
    if (url.pathname === "/count" && binary) return void seen(data.readUInt32LE(0) === data.readUInt32BE(4) ? data.readUInt32LE(0) : NaN);
    ws.send(data, { binary });
  });
});
const io = new SocketIO({ transports: ["websocket"], serveClient: false });
io.on("connection", socket => {
  const seen = ordered();
  socket.on("n", (n, blob) => seen(blob ? (Buffer.isBuffer(blob) && blob.readUInt32LE(0) === n ? n : NaN) : n));
  socket.on("count", answer => answer(seen()));
  socket.on("burst", count => burst(count, n => n % 10 ? socket.emit("n", n) : socket.emit("n", n, bytes(n))));
});
io.attach(server, { destroyUpgrade: false });

const count = { type: GraphQLInt, args: { to: { type: new GraphQLNonNull(GraphQLInt) } } };
const schema = new GraphQLSchema({
  query: new GraphQLObjectType({ name: "Query", fields: { added: { type: GraphQLInt, resolve: (_, __, seen) => seen() } } }),
  mutation: new GraphQLObjectType({ name: "Mutation", fields: { add: { type: GraphQLInt, args: { n: { type: GraphQLInt } }, resolve: (_, { n }, seen) => seen(n) } } }),
  subscription: new GraphQLObjectType({ name: "Subscription", fields: { count: { ...count,
    async *subscribe(_, { to }) {
      for (let n = 0; n < to; n++) {
        if (n % 400 === 0) await new Promise(done => setTimeout(done, 125));
        yield { count: n };
      }
    } } } }),
});
const graphql = makeServer({ schema, connectionInitWaitTimeout: 60_000, context: ({ extra }) => extra.seen });
const graphqlSockets = new WebSocketServer({ noServer: true, handleProtocols: () => "graphql-transport-ws" });
graphqlSockets.on("connection", (ws, request) => {
  const closed = graphql.opened({
    protocol: ws.protocol,
    send: text => new Promise((done, fail) => ws.send(text, error => error ? fail(error) : done())),
    close: (code, reason) => ws.close(code, reason),
    onMessage: take => ws.on("message", text => take(String(text)).catch(error => ws.close(1011, String(error.message).slice(0, 100)))),
  }, { request, seen: ordered() });
  ws.on("close", closed);
});

// Phoenix: [join_ref, ref, topic, event, payload], answered with phx_reply; binary pushes are
// 0, four lengths of join_ref, ref, topic and event, these, and the payload (phoenix 1.8, serializer.js).
const phoenix = new WebSocketServer({ noServer: true });
phoenix.on("connection", ws => {
  const seen = ordered();
  ws.on("message", (data, binary) => {
    if (binary) {
      const lengths = [...data.subarray(1, 5)], end = 5 + lengths.reduce((a, b) => a + b);
      const fields = lengths.map((length, i) => String(data.subarray(5 + lengths.slice(0, i).reduce((a, b) => a + b, 0)).subarray(0, length)));
      return void (data[0] === 0 && fields[3] === "n" && seen(data.readUInt32LE(end)));
    }
    const [joinRef, ref, topic, event, payload] = JSON.parse(data);
    const reply = response => ws.send(JSON.stringify([joinRef, ref, topic, "phx_reply", { status: "ok", response }]));
    if (event === "n") return void seen(payload.n);
    reply(event === "count" ? { count: seen() } : {});
    // A binary broadcast: 2, the lengths of topic and event, these, and the payload.
    if (event === "burst") burst(payload.count, n => ws.send(n % 10 ? JSON.stringify([null, null, topic, "n", { n }]) :
      Buffer.concat([Buffer.from([2, topic.length, 1]), Buffer.from(topic + "n"), bytes(n)])));
  });
});

server.on("upgrade", (request, socket, head) => {
  const path = request.url.split("?")[0];
  const to = { "/echo": plain, "/count": plain, "/farewell": plain, "/hang": plain, "/graphql": graphqlSockets, "/live/websocket": phoenix }[path];
  socket.on("error", () => {});
  if (path === "/hang" && !hung.has(request.url)) {
    hung.add(request.url); // and never an answer
  } else if (path === "/ws" && stompPort) {
    const broker = connect(stompPort, "127.0.0.1", () => {
      const lines = [`GET ${request.url} HTTP/1.1`];
      for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(request.rawHeaders[i] + ": " + request.rawHeaders[i + 1]);
      broker.write(lines.join("\r\n") + "\r\n\r\n");
      broker.write(head);
      socket.pipe(broker).pipe(socket);
    });
    broker.on("error", () => socket.destroy());
    socket.on("close", () => broker.destroy());
  } else if (to) {
    to.handleUpgrade(request, socket, head, ws => to.emit("connection", ws, request));
  } else if (path !== "/socket.io/") {
    socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  }
});
server.listen(port, "127.0.0.1");
