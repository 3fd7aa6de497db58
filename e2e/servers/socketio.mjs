// The real Socket.IO servers, of both versions: options {"version":2} or 4, the server's own, "recovery", "redis", the port of one that
// keeps what is recovered, and "msgpack" for socket.io-msgpack-parser.
import { createRequire } from "node:module";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { Redis } from "ioredis";
import { Server } from "socket.io";
import msgpack from "socket.io-msgpack-parser";
import { options, serve } from "./serve.mjs";

const seen = { connections: 0, beats: 0, ends: [], got: [], recovered: 0 };
const binary = (value) =>
  value?.hex !== undefined ? Buffer.from(value.hex, "hex")
  : value?.date !== undefined ? new Date(value.date)
  : Array.isArray(value) ? value.map(binary)
  : value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, binary(v)]))
  : value;
const sockets = (space) => {
  const all = io.of(space).sockets;
  return all instanceof Map ? [...all.values()] : Object.values(all);
};

const http = serve({
  upgrade() {},
  doing: {
    count: ({ topic }) => sockets(topic ?? "/").length,
    seen: () => seen,
    volatile: ({ topic, name, args }) => void io.of(topic ?? "/").volatile.emit(name, ...args.map(binary)),
    emit: ({ topic, name, args }) => void io.of(topic ?? "/").emit(name, ...args.map(binary)),
    ask: ({ topic, name, args }) => Promise.all(sockets(topic).map((s) => new Promise((done) => s.emit(name, ...args.map(binary), (...answer) => done(answer))))),
    kick: ({ topic }) => sockets(topic).forEach((s) => s.disconnect()),
    // Drops the connections without a word, and emits once nobody is there.
    async miss({ topic, name, args }) {
      for (const s of sockets("/")) s.conn.transport.socket.terminate();
      while (sockets("/").length + sockets(topic).length > 0) await new Promise((done) => setTimeout(done, 1));
      io.of(topic).emit(name, ...args.map(binary));
    },
  },
});

const { version, recovery, redis, msgpack: packed, ...own } = options;
if (packed) own.parser = msgpack;
if (redis) own.adapter = createAdapter(new Redis(redis));
if (recovery) own.connectionStateRecovery = {};
const io = version === 2 ? createRequire(import.meta.url)("sio2")(http, own) : new Server(http, own);

const connected = (s) => {
  if (s.recovered) seen.recovered++;
  s.on("echo", (...args) => { seen.got.push(args); s.emit("echoed", ...args); });
  s.on("disconnect", (why) => seen.ends.push(why));
};
io.on("connection", (s) => {
  seen.connections++;
  s.conn.on("packet", (p) => { if (p.type === "ping" || p.type === "pong") seen.beats++; });
  connected(s);
});
const admin = io.of("/admin");
admin.use((s, next) => {
  const token = s.handshake.auth?.token ?? s.handshake.query.token;
  if (token === "t") return next();
  const refusal = new Error(token === "v" ? "not allowed in here" : "not authorized");
  if (token === "z") refusal.data = { status: 410, message: "moved out" };
  next(refusal);
});
admin.on("connection", connected);
