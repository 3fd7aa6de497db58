// The real SockJS server: /echo speaks texts, /stomp a broker of ours in the way of Spring's simple one, which the official
// client (official.mjs stomp) agrees with. Options {"heartbeat_delay"} are the server's own.
import sockjs from "sockjs";
import WebSocket from "ws";
import { options, serve } from "./serve.mjs";

const open = new Set();
const topics = new Map(); // connection -> its subscriptions {id, destination}
const seen = { connections: 0, beats: 0, got: [], urls: [], mute: [] };

const http = serve({
  upgrade() {},
  doing: {
    count: ({ topic }) => (topic ? [...topics.values()].flat().filter((s) => s.destination === topic).length : open.size),
    seen: () => seen,
    emit: ({ text }) => void open.forEach((c) => c.write(text)),
    close: ({ code, reason }) => void open.forEach((c) => c.close(code, reason)),
    publish: ({ topic, text, pieces }) => {
      let n = 0;
      for (const [c, list] of topics) {
        for (const { id } of list.filter((s) => s.destination === topic)) {
          const frame = `MESSAGE\ndestination:${topic}\nsubscription:${id}\nmessage-id:${++n}\ncontent-length:${Buffer.byteLength(text)}\n\n${text}\0`;
          const cut = pieces ? Math.floor(frame.length / 2) : frame.length;
          c.write(frame.slice(0, cut));
          if (pieces) c.write(frame.slice(cut) + "\n");
        }
      }
    },
    // A client of ours that does not answer pings.
    mute: ({ path }) => {
      const ws = new WebSocket(`ws://${process.argv[2]}${path}/000/mute/websocket`, { autoPong: false });
      ws.on("message", (frame) => seen.mute.push(frame.toString()));
    },
  },
});

function begin(c) {
  seen.connections++;
  seen.urls.push(c.url);
  open.add(c);
  c.on("close", () => { open.delete(c); topics.delete(c); });
  const { ws } = c._session.recv;
  if (!ws) return; // the raw endpoint
  const ping = ws.ping.bind(ws);
  ws.ping = (text, ponged) => ping(text, () => { seen.beats++; ponged(); });
}

const echo = sockjs.createServer({ ...options, log() {} });
echo.on("connection", (c) => {
  begin(c);
  c.on("data", (text) => { seen.got.push(text); c.write(text); });
});
echo.installHandlers(http, { prefix: "/echo" });

const stomp = sockjs.createServer({ ...options, log() {} });
stomp.on("connection", (c) => {
  begin(c);
  topics.set(c, []);
  let rest = "";
  c.on("data", (text) => {
    const frames = (rest + text).split("\0");
    rest = frames.pop();
    for (const frame of frames) {
      const [command, ...lines] = frame.replace(/^\s+/, "").split("\n\n")[0].split("\n");
      const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)]));
      if (command === "CONNECT" && headers.passcode !== "s3cret") {
        c.write("ERROR\nmessage:Access refused\n\n\0");
        c.close(1002, "refused");
      } else if (command === "CONNECT") c.write("CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0");
      else if (command === "SUBSCRIBE") topics.get(c)?.push({ id: headers.id, destination: headers.destination });
    }
  });
});
stomp.installHandlers(http, { prefix: "/stomp" });
