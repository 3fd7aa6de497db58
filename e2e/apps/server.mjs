// The applications of the heavy tests that are pages and servers of our own around official packages: a document of Hocuspocus's in Quill,
// GraphiQL with subscriptions, Socket.IO's admin UI beside the server that it looks at, and noVNC, whose websockify is handed through.
//
//   node server.mjs PORT WEBSOCKIFY-PORT
//
// It runs where apps.sh has installed the packages. The pages know nothing of Sidestream.
import { createServer } from "node:http";
import { connect } from "node:net";
import { readFile } from "node:fs/promises";
import { build } from "esbuild";
import { WebSocketServer } from "ws";
import { Hocuspocus } from "@hocuspocus/server";
import { Server as SocketIO } from "socket.io";
import { io as visit } from "socket.io-client";
import { instrument } from "@socket.io/admin-ui";
import { useServer } from "graphql-ws/use/ws";
import { buildSchema, graphql } from "graphql";

const [port, websockify] = process.argv.slice(2).map(Number);
const here = new URL(".", import.meta.url), modules = new URL("node_modules/", here);
const made = await build({
  entryPoints: ["hocuspocus.js", "graphiql.jsx", "novnc.js"].map(name => new URL(name, here).pathname), bundle: true, write: false, outdir: "/lib", format: "esm",
  loader: { ".ttf": "dataurl" }, jsx: "automatic", define: { "process.env.NODE_ENV": '"production"' }, logLevel: "error", target: "es2022",
});
const bundles = Object.fromEntries(made.outputFiles.map(file => [file.path, file.text]));
const page = (title, body) => `<!doctype html><html><head><meta charset="utf-8"><link rel="icon" href="data:,"><title>${title}</title></head><body>${body}</body></html>`;
const pages = {
  "/hocuspocus.html": page("Hocuspocus", `<link rel="stylesheet" href="/modules/quill/dist/quill.snow.css"><div id="editor"></div><script type="module" src="/lib/hocuspocus.js"></script>`),
  "/graphiql.html": page("GraphiQL", `<link rel="stylesheet" href="/lib/graphiql.css"><style>body { margin: 0 } #graphiql { height: 100vh }</style><div id="graphiql"></div><script type="module" src="/lib/graphiql.js"></script>`),
  "/novnc.html": page("noVNC", `<div id="screen" style="width: 800px; height: 600px"></div><script type="module" src="/lib/novnc.js"></script>`),
};
const types = { css: "text/css", js: "text/javascript", html: "text/html", svg: "image/svg+xml", png: "image/png" };

const schema = buildSchema("type Query { hello: String } type Subscription { count(to: Int!): Int }");
async function* count({ to }) {
  for (let n = 0; n <= to; n++) {
    await new Promise(done => setTimeout(done, 50));
    yield { count: n };
  }
}

const server = createServer(async (request, response) => {
  const path = request.url.split("?")[0];
  const send = (type, body) => response.setHeader("Content-Type", types[type] + "; charset=utf-8").end(body);
  try {
    if (pages[path]) send("html", pages[path]);
    else if (bundles[path]) send(path.split(".").at(-1), bundles[path]);
    else if (path === "/graphql") {
      let body = "";
      for await (const part of request) body += part;
      const { query } = JSON.parse(body);
      response.setHeader("Content-Type", "application/json").end(JSON.stringify(await graphql({ schema, source: query, rootValue: { hello: "hello" } })));
    } else if (path === "/visit") {
      await new Promise(done => visit("http://127.0.0.1:" + port, { transports: ["websocket"], forceNew: true }).on("connect", done));
      response.end();
    } else if (path.startsWith("/modules/")) send(path.split(".").at(-1), await readFile(new URL(path.slice("/modules/".length), modules)));
    else if (path.startsWith("/admin/")) send(path.split(".").at(-1) || "html", await readFile(new URL("@socket.io/admin-ui/ui/dist/" + path.slice("/admin/".length), modules)));
    else response.writeHead(404).end();
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
});

const io = new SocketIO(server, { destroyUpgrade: false });
instrument(io, { auth: false, mode: "development" });
io.on("connection", socket => socket.join("a room"));

const documents = new Hocuspocus({ quiet: true });
const sockets = new WebSocketServer({ noServer: true });
const queries = new WebSocketServer({ noServer: true, handleProtocols: () => "graphql-transport-ws" });
useServer({ schema, roots: { subscription: { count } } }, queries);

function relay(to, request, socket, head) {
  const target = connect(to, "127.0.0.1", () => {
    const lines = [`GET ${request.url} HTTP/1.1`];
    for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(request.rawHeaders[i] + ": " + request.rawHeaders[i + 1]);
    target.write(lines.join("\r\n") + "\r\n\r\n");
    target.write(head);
    socket.pipe(target).pipe(socket);
  });
  target.on("error", () => socket.destroy());
  socket.on("close", () => target.destroy());
}

server.on("upgrade", (request, socket, head) => {
  const path = request.url.split("?")[0];
  socket.on("error", () => {});
  if (path.startsWith("/socket.io")) return;
  if (path === "/graphql") queries.handleUpgrade(request, socket, head, ws => queries.emit("connection", ws, request));
  else if (path === "/websockify") relay(websockify, request, socket, head);
  else if (path === "/hocuspocus") sockets.handleUpgrade(request, socket, head, ws => {
    const fetched = new Request("http://localhost" + request.url, { headers: { cookie: request.headers.cookie || "" } });
    const client = documents.handleConnection(ws, fetched);
    ws.on("message", data => client.handleMessage(new Uint8Array(data)));
    ws.on("close", (code, reason) => client.handleClose({ code, reason: String(reason) }));
  });
  else socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
});
server.listen(port, "127.0.0.1");
