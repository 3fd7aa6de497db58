// Parse Server's own LiveQuery server, by itself: it is told of objects as Parse Server would, and has no database. Its clientKey and javascriptKey are "key". Options: ping, and the session token
// of the user "ann". Commands: {"do":"save","object":{className,objectId,..,ACL?},"original"?}, {"do":"remove","object"}, {"do":"seen"}: clients and subscriptions, {"do":"drop"}: connections.
// The class Secret may not be subscribed to; an object of it with "fails" cannot be told.
import { createRequire } from "node:module";
import { serve, options } from "./serve.mjs";

process.env.PARSE_SERVER_LOGS_FOLDER = "null"; // which is for none: else it keeps files where the tests run
const require = createRequire(import.meta.url);
const { AppCache } = require("parse-server/lib/cache");
const triggers = require("parse-server/lib/triggers");
const { ParseLiveQueryServer } = require("parse-server/lib/LiveQuery/ParseLiveQueryServer");
const { ParseCloudCodePublisher } = require("parse-server/lib/LiveQuery/ParseCloudCodePublisher");
const Parse = require("parse/node");

const appId = "app";
const nothing = { get: async () => null, put() {}, del() {} };
AppCache.put(appId, { appId, auth: {}, requestComplexity: {}, cacheController: { user: nothing, role: nothing }, databaseController: { adapter: { getAllClasses: async () => [], watch() {} } } });

const sockets = new Set();
const server = serve({
  upgrade: (request, socket) => { sockets.add(socket); socket.on("close", () => sockets.delete(socket)); }, // which LiveQuery answers
  doing: {
    save: ({ object, original }) => publish("onCloudCodeAfterSave", object, original),
    remove: ({ object }) => publish("onCloudCodeAfterDelete", object),
    seen: () => ({ clients: live.clients.size, subscriptions: [...live.subscriptions.values()].reduce((n, of) => n + of.size, 0) }),
    drop: () => sockets.forEach((socket) => socket.destroy()),
  },
});
const live = new ParseLiveQueryServer(server, { appId, masterKey: "master", serverURL: "http://127.0.0.1:1/parse", keyPairs: { clientKey: "key", javascriptKey: "key" }, websocketTimeout: options.ping ?? 10000 }, {});
await live.connect();
live.getAuthForSessionToken = async (token) => (token === options.session ? { userId: "ann", auth: { user: { id: "ann" }, getUserRoles: async () => [] } } : {});
triggers.addTrigger("beforeSubscribe", "Secret", () => { throw new Parse.Error(119, "Not for " + (options.session ?? "anybody")); }, appId);
triggers.addTrigger("afterEvent", "Order", ({ object }) => { if (object.get("fails")) throw new Parse.Error(141, "it fails"); }, appId);

const publisher = new ParseCloudCodePublisher({});
function publish(how, object, original) {
  const made = (json) => Parse.Object.fromJSON({ ACL: { "*": { read: true } }, ...json });
  publisher[how]({ object: made(object), original: original && made(original) });
}
