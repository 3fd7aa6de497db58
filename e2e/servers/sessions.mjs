// An application with sessions, as people build them with Express: `node sessions.mjs ADDRESS` listens there and says so. It answers /auth
// for forward-auth, and has a WebSocket /feed?user=NAME that sends what is that user's every 20 ms, with the time.
import http from "node:http";
import express from "express";
import session from "express-session";
import { WebSocketServer } from "ws";

const app = express();
app.use(session({ name: "sid", secret: "not a secret", resave: false, saveUninitialized: false }));

app.post("/login", (request, response) => {
  request.session.regenerate(() => {
    request.session.user = request.query.user;
    response.sendStatus(204);
  });
});

app.post("/logout", (request, response) => request.session.destroy(() => response.sendStatus(204)));

app.get("/auth", (request, response) => {
  const { user } = request.session;
  if (user) response.set("X-User-Id", user).sendStatus(204);
  else response.sendStatus(401);
});

app.get("/page.html", (request, response) => response.send(`<!doctype html><link rel="icon" href="data:,"><title>sessions</title>
<script src="/_sidestream/events.js"></script><script>
const saw = [], errors = [];
const listen = source => {
  source.onmessage = e => saw.push(JSON.parse(e.data));
  source.addEventListener("stream.gap", e => saw.push({ gap: e.data }));
  source.onerror = () => errors.push(source.readyState);
  return source;
};
</script>`));

const server = http.createServer(app);
const feed = new WebSocketServer({ server, path: "/feed" });
feed.on("connection", (socket, request) => {
  const user = new URL(request.url, "http://app").searchParams.get("user");
  let n = 0;
  const timer = setInterval(() => socket.send(JSON.stringify({ user, n: ++n, at: Date.now() })), 20);
  socket.on("close", () => clearInterval(timer));
});
const [host, port] = process.argv[2].split(":");
server.listen(Number(port), host, () => console.log("listening"));
