#!/usr/bin/env bash
# Guess: a subscriber has two messages of QoS 2 on their way, and answers PUBREC to the one and the other, in that order and in one segment. The broker answers each with
#   the PUBREL of its number, A and then B, as it does where the second PUBREC comes a moment later.
# What happens: aedes answers with the PUBREL of B twice, and with none of A, on this connection or, though the session lasts, on the next. A client that hands messages on at
#   PUBREL, as section 4.3.3 of MQTT 3.1.1 lets it, never hands A on.
# Versions: npm aedes 1.2.0 with mqtt-packet 9.0.2 on node 20.
# Why it matters here: "exactly once" does not hold for a receiver that waits for PUBREL, nothing tells it, and the number stays taken. Sidestream emits at PUBLISH.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund aedes@1.2.0 mqtt-packet@9.0.2
cat >two.cjs <<'JS'
const net = require("net"), mqtt = require("mqtt-packet"), { Aedes } = require("aedes");
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const seen = [];
const names = new Map(); // by number of a message: what it is
(async () => {
  const broker = await Aedes.createBroker();
  await new Promise((done) => net.createServer(broker.handle).listen(18187, "127.0.0.1", done));
  const open = (client, packet) => new Promise((done) => {
    const socket = net.connect(18187, "127.0.0.1"), parser = mqtt.parser({ protocolVersion: 4 });
    const say = (...packets) => socket.write(Buffer.concat(packets.map((p) => mqtt.generate(p))));
    socket.on("data", (data) => parser.parse(data));
    parser.on("packet", (p) => p.cmd === "connack" ? done({ socket, say, present: p.sessionPresent }) : packet(p, say));
    say({ cmd: "connect", protocolId: "MQTT", protocolVersion: 4, clientId: client, clean: false, keepalive: 0 });
  });
  for (const pause of [200, 0]) {
    const client = pause ? "one by one" : "at once", what = [];
    names.clear();
    const first = await open(client, (p, say) => {
      if (p.cmd === "publish") names.set(p.messageId, String(p.payload));
      if (p.cmd === "pubrel") {
        what.push("PUBREL " + names.get(p.messageId));
        say({ cmd: "pubcomp", messageId: p.messageId });
      }
    });
    first.say({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: client, qos: 2 }] });
    await wait(200);
    for (const payload of ["A", "B"]) await new Promise((done) => broker.publish({ topic: client, payload, qos: 2, retain: false }, done));
    await wait(300);
    const recs = [...names.keys()].map((messageId) => ({ cmd: "pubrec", messageId }));
    if (pause) for (const rec of recs) { first.say(rec); await wait(pause); }
    else first.say(...recs);
    await wait(500);
    first.socket.destroy();
    await wait(200);
    const second = await open(client, (p) => what.push(`again ${p.cmd} ${names.get(p.messageId)}`));
    await wait(500);
    second.socket.destroy();
    seen.push(`${client}: ${what.join(", ")}, session ${second.present}`);
  }
  console.log(`aedes ${JSON.parse(require("fs").readFileSync("node_modules/aedes/package.json")).version}: ${seen.join("; ")}`);
  process.exit();
})();
JS
saw="$(node two.cjs)"
echo "$saw"
# Seen: aedes 1.2.0: one by one: PUBREL A, PUBREL B, session true; at once: PUBREL B, PUBREL B, session true
[ "$saw" = "aedes 1.2.0: one by one: PUBREL A, PUBREL B, session true; at once: PUBREL B, PUBREL B, session true" ] || { echo "this has changed" >&2; exit 1; }
