#!/usr/bin/env bash
# Guess: acknowledgements are a subscription's own. With "ack:client" an ACK stands for what that subscription was sent before, too; with "ack:client-individual"
#   a message is the client's until that very message is acknowledged, and comes again if the connection is lost before (STOMP 1.2, SUBSCRIBE).
# Instead: in RabbitMQ an ACK for a subscription with "client" acknowledges all that was sent before on the connection, whichever subscription it was for, those
#   with "client-individual" included. After a cut they do not come again: they are lost to all, although nobody has ever acknowledged them.
# Version: RabbitMQ 3.10.8 (Debian 12) with its plugin rabbitmq_web_stomp; npm @stomp/stompjs 7.5.0, ws 8.23.0, Node 20.
# Why it matters: each of two parts of a program that share a connection is right, and the queue of the one is emptied by the other. Sidestream acknowledges in
#   the order in which messages came, when each has become an event, so that nothing is before that has not.
set -euo pipefail
cd "$(mktemp -d)"; trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$PWD"' EXIT
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || { echo "install Debian's rabbitmq-server" >&2; exit 1; }
echo '[rabbitmq_web_stomp].' >plugins
cat >rabbitmq.conf <<C
listeners.tcp.1 = 127.0.0.1:18195
stomp.listeners.tcp = none
web_stomp.tcp.ip = 127.0.0.1
web_stomp.tcp.port = 18196
C
export npm_config_update_notifier=false HOME="$PWD" RABBITMQ_NODENAME=finding18195@localhost RABBITMQ_MNESIA_BASE="$PWD" RABBITMQ_LOG_BASE="$PWD" RABBITMQ_ENABLED_PLUGINS_FILE="$PWD/plugins" \
  RABBITMQ_CONFIG_FILE="$PWD/rabbitmq.conf" RABBITMQ_DIST_PORT=18197 ERL_EPMD_PORT=18198 ERL_EPMD_ADDRESS=127.0.0.1
epmd -port 18198 -address 127.0.0.1 2>/dev/null & # of its own: the one that RabbitMQ would start outlives it
for _ in $(seq 50); do (exec 3<>/dev/tcp/127.0.0.1/18198) 2>/dev/null && break; sleep 0.1; done
/usr/lib/rabbitmq/bin/rabbitmq-server >out 2>&1 &
npm init -y >/dev/null && npm install --silent --no-audit --no-fund @stomp/stompjs@7.5.0 ws@8.23.0 2>/dev/null
for _ in $(seq 600); do grep -q "completed with" out && break; sleep 0.2; done
cat >ack.mjs <<'JS'
import { Client } from "@stomp/stompjs";
import WebSocket from "ws";
Object.assign(globalThis, { WebSocket });
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const open = () => new Promise((done) => {
  const client = new Client({ brokerURL: "ws://127.0.0.1:18196/ws", connectHeaders: { login: "guest", passcode: "guest" }, reconnectDelay: 0, onConnect: () => done(client) });
  client.activate();
});
// what came, in its order, with what acknowledges it
const receive = (client) => {
  const got = [];
  for (const [queue, ack] of [["jobs", "client-individual"], ["news", "client"]]) {
    client.subscribe("/queue/" + queue, (message) => got.push({ body: message.body, ack: () => message.ack() }), { id: queue, ack });
  }
  return got;
};
const told = (got) => got.map(({ body }) => body).sort().join(" ");
const publisher = await open(), first = await open(), got = receive(first);
await wait(1000);
const publish = async (...bodies) => {
  for (const body of bodies) publisher.publish({ destination: "/queue/" + body.slice(0, 4), body });
  await wait(1000);
};
await publish("jobs1", "jobs2");
await publish("news1", "news2");
got.find(({ body }) => body === "news2").ack(); // and no other
await publish("jobs3", "news3");
console.log("received:", told(got));
first.forceDisconnect();
await wait(1000);
const again = receive(await open());
await wait(1000);
console.log("again after a cut:", told(again));
process.exit();
JS
saw="$(timeout 60 node ack.mjs)"
echo "$saw"
[ "$saw" = "received: jobs1 jobs2 jobs3 news1 news2 news3
again after a cut: jobs3 news3" ] || { echo "this has changed" >&2; exit 1; }
