// Salesforce's Streaming API (developer.salesforce.com, Streaming API Developer Guide): Bayeux over long polls, with the replay extension: events are kept, and a
// subscription says after which it goes on: an id, -1 for new ones, -2 for all.
import { answer, body, options, serve } from "./serve.mjs";

const channels = ["/event/Order__e", "/data/ChangeEvents"];
const kept = new Map(channels.map((channel) => [channel, []]));
const clients = new Map(); // by id: {channels, queue, held}
const seen = { handshakes: 0, asked: [] };
let replayId = 100, ids = 0;

const refused = (message, error, reconnect = "none") => ({ channel: message.channel, id: message.id, successful: false, error, advice: { reconnect, interval: 0 } });

// flush answers the connect that is held.
function flush(client) {
  clearTimeout(client.timer);
  const { response, answers } = client.held;
  client.held = null;
  answer(response, 200, [...client.queue.splice(0), ...answers]);
}

async function handle(request, response, url) {
  if (!url.pathname.startsWith("/cometd/62.0")) return false;
  const messages = [].concat(JSON.parse(await body(request)));
  const answers = [];
  let connecting = null;
  for (const m of messages) {
    if (!["Bearer ", "OAuth "].some((kind) => request.headers.authorization === kind + options.token)) { answers.push(refused(m, "401::Authentication invalid")); continue; }
    if (m.channel === "/meta/handshake") {
      seen.handshakes++;
      const clientId = `c${Math.random()}${++ids}`;
      clients.set(clientId, { channels: new Set(), queue: [] });
      answers.push({ channel: m.channel, id: m.id, successful: true, version: "1.0", minimumVersion: "1.0", clientId, supportedConnectionTypes: ["long-polling"], ext: { replay: true, "payload.format": true } });
      continue;
    }
    const client = clients.get(m.clientId);
    if (!client) { answers.push(refused(m, "403::Unknown client", m.channel === "/meta/connect" ? "handshake" : "none")); continue; }
    if (m.channel === "/meta/subscribe") {
      if (!kept.has(m.subscription)) { answers.push({ ...refused(m, `403:denied_by_security_policy:create_denied`), subscription: m.subscription }); continue; }
      const after = m.ext?.replay?.[m.subscription] ?? -1;
      seen.asked.push(`${m.subscription} ${after}`);
      client.channels.add(m.subscription);
      if (after !== -1) client.queue.push(...kept.get(m.subscription).filter((e) => after === -2 || e.data.event.replayId > after));
      answers.push({ channel: m.channel, id: m.id, successful: true, subscription: m.subscription });
    } else if (m.channel === "/meta/connect") {
      answers.push({ channel: m.channel, id: m.id, successful: true, advice: { reconnect: "retry", interval: 0, timeout: 110000 } });
      connecting = client;
    } else {
      answers.push({ channel: m.channel, id: m.id, successful: true });
    }
  }
  if (!connecting) return answer(response, 200, answers);
  connecting.held = { response, answers };
  if (connecting.queue.length || messages.length > 1) flush(connecting);
  else connecting.timer = setTimeout(() => flush(connecting), options.timeout ?? 110000);
}

const sockets = new Set();
const server = serve({ handle, upgrade: () => {}, doing: {
  seen: () => ({ ...seen, open: [...clients.values()].filter((c) => c.held).length }),
  event: ({ channel, payload }) => {
    const e = { channel, data: { schema: "s", payload, event: { replayId: ++replayId } } };
    kept.get(channel).push(e);
    const to = [...clients.values()].filter((c) => c.channels.has(channel));
    for (const client of to) { client.queue.push(e); if (client.held) flush(client); }
    return to.length;
  },
  // forget is a node that is replaced: whoever was connected is not known, and what it was sent is lost; what is kept is not.
  forget: () => { clients.clear(); setTimeout(() => { for (const socket of sockets) socket.destroy(); }, 20); },
  expire: ({ token }) => { options.token = token; setTimeout(() => { for (const socket of sockets) socket.destroy(); }, 20); },
} });
server.on("connection", (socket) => { sockets.add(socket); socket.on("close", () => sockets.delete(socket)); });
