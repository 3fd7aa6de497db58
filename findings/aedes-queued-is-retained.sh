#!/usr/bin/env bash
# Guess: the RETAIN flag tells a subscriber what is a topic's old value, sent because it has subscribed, from what is published now. So a message that comes by a
#   subscription that stands has 0, whatever its publisher set, when it is sent at once and also when a session had to wait for it (MQTT 3.1.1, 3.3.1.3).
# Instead: aedes clears the flag of what it sends at once. What it keeps for a session whose client is away it sends as it was published, flagged as retained, so
#   that a value that was set three times is three retained messages of one topic, though nobody has subscribed.
# Version: npm aedes 1.2.0 and mqtt 5.16.0, Node 20.
# Why it matters: who takes a retained message for a state, and one that has not changed for none, loses events of a session that was to keep them all.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund aedes@1.2.0 mqtt@5.16.0
cat >away.cjs <<'JS'
const net = require("net"), mqtt = require("mqtt"), { Aedes } = require("aedes");
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
(async () => {
  const broker = await Aedes.createBroker();
  await new Promise((done) => net.createServer(broker.handle).listen(18194, "127.0.0.1", done));
  const got = { there: [], away: [] };
  const open = async (clientId) => {
    const client = mqtt.connect("mqtt://127.0.0.1:18194", { clientId, clean: false, reconnectPeriod: 0, resubscribe: false });
    client.on("message", (topic, payload, { retain }) => got[clientId]?.push(`${payload}${retain ? " retained" : ""}`));
    client.present = await new Promise((done) => client.on("connect", ({ sessionPresent }) => done(sessionPresent)));
    return client;
  };
  const away = await open("away");
  for (const client of [away, await open("there")]) await client.subscribeAsync("door", { qos: 1 });
  const publisher = await open("publisher");
  const publish = async (value, retain) => { await publisher.publishAsync("door", value, { qos: 1, retain }); await wait(200); };
  await publish("open", true);
  away.stream.destroy();
  await wait(300);
  await publish("open", true);
  await publish("open", true);
  await publish("rung", false);
  const back = await open("away");
  await wait(500);
  console.log(`there: ${got.there.join(", ")}`);
  console.log(`away, session present ${back.present}: ${got.away.join(", ")}`);
  process.exit();
})();
JS
saw="$(timeout 60 node away.cjs)"
echo "$saw"
[ "$saw" = "there: open, open, open, rung
away, session present true: open, open retained, open retained, rung" ] || { echo "this has changed" >&2; exit 1; }
