#!/usr/bin/env bash
# Guess: a JetStream push consumer delivers to its subject as soon as somebody subscribes to that, whether by the subject itself or by a wildcard, as any
#   message of NATS does: a client that has subscribed to _INBOX.x.* before it makes a consumer for _INBOX.x.d gets the stream's messages.
# What happens: nothing comes, neither messages nor idle heartbeats, and the consumer is confirmed all the same. Only a subscription to the very subject wakes
#   it, and then the wildcard's gets everything too.
# Versions: nats-server 2.15.2.
# Why it matters here: an inbox with a wildcard for answers, which every client has, is not enough for what a consumer delivers; nothing says so.
set -euo pipefail
cd "$(mktemp -d)"; trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$PWD"' EXIT
GOFLAGS=-mod=mod GOBIN="$PWD" go install github.com/nats-io/nats-server/v2@v2.15.2
./nats-server -a 127.0.0.1 -p 18187 -js -sd "$PWD/data" >log 2>&1 &
cat >consumer.cjs <<'JS'
const net = require("net");
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const connect = async () => {
  for (;;) {
    const socket = net.connect(18187, "127.0.0.1");
    if (await new Promise((done) => socket.on("connect", () => done(true)).on("error", () => done(false)))) return socket;
    await wait(100);
  }
};
(async () => {
  const socket = await connect();
  let heard = "";
  socket.on("data", (data) => {
    heard += data;
    if (/^PING\r$/m.test(data)) socket.write("PONG\r\n");
  });
  const publish = (subject, text) => socket.write(`PUB ${subject} ${text.length}\r\n${text}\r\n`);
  const request = (subject, params) => {
    const text = JSON.stringify(params);
    socket.write(`PUB $JS.API.${subject} _INBOX.x.answer ${text.length}\r\n${text}\r\n`);
  };
  const delivered = (sid) => heard.split("\r\n").filter((line) => new RegExp(`^MSG news\\S* ${sid} `).test(line)).length;
  const beats = (sid) => heard.split("\r\n").filter((line) => line.startsWith(`HMSG _INBOX.x.d ${sid} `)).length;
  const tell = (when) => console.log(`${when}: by the wildcard ${delivered(1)} messages and ${beats(1) ? "heartbeats" : "no heartbeat"}, by the subject ${delivered(2)}`);
  socket.write('CONNECT {"verbose":false,"headers":true}\r\nSUB _INBOX.x.* 1\r\n');
  request("STREAM.CREATE.NEWS", { name: "NEWS", subjects: ["news"], storage: "memory" });
  await wait(300);
  for (const text of ["one", "two", "three"]) publish("news", text);
  await wait(300);
  request("CONSUMER.CREATE.NEWS.c", { stream_name: "NEWS", config: { name: "c", deliver_subject: "_INBOX.x.d", deliver_policy: "all", ack_policy: "none", idle_heartbeat: 2e8 } });
  await wait(1500);
  console.log(heard.includes('"name":"c"') ? "the consumer is confirmed" : "no consumer");
  tell("with a wildcard");
  socket.write("SUB _INBOX.x.d 2\r\n");
  await wait(1500);
  tell("and its own subject");
  process.exit();
})();
JS
saw="$(node consumer.cjs)"
echo "$saw"
# Seen: nats-server 2.15.2
[ "$saw" = "the consumer is confirmed
with a wildcard: by the wildcard 0 messages and no heartbeat, by the subject 0
and its own subject: by the wildcard 3 messages and heartbeats, by the subject 3" ] || { echo "this has changed" >&2; exit 1; }
