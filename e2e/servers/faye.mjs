// Faye's Bayeux server, with an extension that looks at tokens and channels. A handshake with the token "bad" is refused, a subscription to /secret too.
import faye from "faye";
import { options, serve } from "./serve.mjs";

const seen = { handshakes: 0, connects: 0, disconnects: 0, types: [], tokens: [], published: [] };
const subscribed = new Map(); // by channel: clients
const bayeux = new faye.NodeAdapter({ mount: "/bayeux", timeout: options.timeout ?? 45 });

bayeux.addExtension({
  incoming(message, done) {
    switch (message.channel) {
      case "/meta/handshake":
        seen.handshakes++;
        seen.types.push(...(message.supportedConnectionTypes ?? []));
        seen.tokens.push(message.ext?.token ?? null);
        if (message.ext?.token === "bad") message.error = `403:${message.ext.token}:Forbidden`;
        break;
      case "/meta/connect": seen.connects++; break;
      case "/meta/disconnect": seen.disconnects++; break;
      case "/meta/subscribe":
        if (message.subscription === "/secret") message.error = "403:/secret:Forbidden channel";
        break;
      default:
        if (message.channel === "/readonly") message.error = "403:/readonly:No publications";
        else if (message.data !== undefined) seen.published.push(message.data);
    }
    done(message);
  },
});
const clients = (channel) => subscribed.get(channel) ?? subscribed.set(channel, new Set()).get(channel);
bayeux.on("subscribe", (id, channel) => clients(channel).add(id));
bayeux.on("unsubscribe", (id, channel) => clients(channel).delete(id));

const say = (topic, message) => bayeux.getClient().publish(topic, message).then(() => true);

const sockets = new Set();
const server = serve({
  upgrade: () => {},
  doing: {
    count: ({ topic }) => clients(topic).size + clients(topic.replace(/[^/]+$/, "*")).size,
    say: ({ topic, message }) => say(topic, message),
    // interrupt cuts every connection, that of the command too once it is answered, and says what nobody is there to hear.
    interrupt: ({ topic, message }) => void setTimeout(() => {
      for (const socket of sockets) socket.destroy();
      setTimeout(() => say(topic, message), 30); // before that it would be written to a connection that is gone, and be lost
    }, 20),
    seen: () => seen,
  },
});
server.on("connection", (socket) => {
  sockets.add(socket);
  socket.on("close", () => sockets.delete(socket));
});
bayeux.attach(server);
