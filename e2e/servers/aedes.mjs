// aedes, an MQTT broker that sends one packet as several WebSocket messages. Commands: {"do":"publish","topic","payload",
// "base64","qos","retain"}, {"do":"clients"}, {"do":"under","client"}: how many messages are under way to a client.
import { createRequire } from "node:module";
import { WebSocketServer, createWebSocketStream } from "ws";
import { serve, options } from "./serve.mjs";

const { Aedes } = createRequire(import.meta.url)("aedes");
const broker = await Aedes.createBroker();
broker.authenticate = (client, username, password, done) =>
  options.password && password?.toString() !== options.password
    ? done(Object.assign(new Error("refused"), { returnCode: 4 }), false)
    : done(null, true);

const sockets = new WebSocketServer({ noServer: true, handleProtocols: offered => (offered.has("mqtt") ? "mqtt" : false) });
serve({
  upgrade: (request, socket, head) => sockets.handleUpgrade(request, socket, head, ws => broker.handle(createWebSocketStream(ws), request)),
  doing: {
    clients: () => broker.connectedClients,
    under: async ({ client }) => (await broker.persistence.outgoingStream({ id: client }).toArray()).length,
    publish: ({ topic, payload, base64, qos = 0, retain = false }) =>
      new Promise((resolve, reject) => broker.publish(
        { topic, payload: base64 === undefined ? payload : Buffer.from(base64, "base64"), qos, retain },
        error => (error ? reject(error) : resolve(null)))),
  },
});
