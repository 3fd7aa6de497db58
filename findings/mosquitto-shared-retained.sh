#!/usr/bin/env bash
# Guess: who joins a group of a shared subscription gets no retained message (MQTT 5, 4.8.2): each message is some member's once, and what is retained was
#   somebody's long ago.
# Instead: mosquitto sends each member that joins the retained messages of all topics that match, whatever the others of the group have had. Only one that
#   asks for none, with Retain Handling 2, gets none.
# Version: mosquitto 2.0.11 (Debian 12); npm mqtt 5.16.0, Node 20.
# Why it matters: where jobs are retained, each worker does all of them at each of its starts, and at each reconnect without a session. Sidestream asks for none where it may.
set -euo pipefail
cd "$(mktemp -d)"; trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$PWD"' EXIT
mosquitto="$(PATH="$PATH:/usr/sbin" command -v mosquitto)" || { echo "install Debian's mosquitto" >&2; exit 1; }
printf 'listener 18193 127.0.0.1\nallow_anonymous true\n' >conf
"$mosquitto" -c conf >log 2>&1 &
npm init -y >/dev/null && npm install --silent --no-audit --no-fund mqtt@5.16.0
cat >group.cjs <<'JS'
const mqtt = require("mqtt");
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
(async () => {
  const open = () => mqtt.connectAsync("mqtt://127.0.0.1:18193", { protocolVersion: 5 });
  const member = async (rh) => {
    const client = await open();
    client.got = [];
    client.on("message", (topic, payload, { retain }) => client.got.push(`${payload}${retain ? " retained" : ""}`));
    await client.subscribeAsync("$share/workers/jobs/+", { qos: 1, rh });
    await wait(500);
    return client;
  };
  const first = await member(0), publisher = await open();
  await publisher.publishAsync("jobs/a", "A", { qos: 1, retain: true });
  await publisher.publishAsync("jobs/b", "B", { qos: 1, retain: false });
  await wait(500);
  const second = await member(0), third = await member(2);
  console.log([first, second, third].map((client) => client.got.join(", ") || "nothing").join("; "));
  process.exit();
})();
JS
saw="$(timeout 60 node group.cjs)"
echo "mosquitto $("$mosquitto" -h | sed -n 's/^mosquitto version //p'): $saw"
# Seen: mosquitto 2.0.11: A, B; A retained; nothing
[ "$saw" = "A, B; A retained; nothing" ] || { echo "this has changed" >&2; exit 1; }
