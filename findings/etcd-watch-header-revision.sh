#!/usr/bin/env bash
# Guess: the revision in the header of a watch's answer is how far the watch has come, so that header.revision + 1 is where to go on after a cut.
# What happens: a watch that begins in the past is caught up a thousand revisions at a time, and each of these answers, the first included, has the
#   newest revision of the whole store in its header. Whoever goes on after it when the connection was cut in between skips all that was still to
#   come, without an error. Only the mod_revision of the last event tells how far it has come.
# Versions: etcd 3.4.23 (Debian 12), over its JSON gateway.
# Why it matters here: a cursor that is taken from the header loses events at a cut and never says so; the documentation's recipe had it so.
set -euo pipefail
cd "$(mktemp -d)"; trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$PWD"' EXIT
command -v etcd >/dev/null || { echo "install Debian's etcd-server" >&2; exit 1; }
at=http://127.0.0.1:18183 peer=http://127.0.0.1:18184
ETCD_UNSUPPORTED_ARCH="$(uname -m | sed 's/aarch64/arm64/')" etcd --data-dir data --log-level error --unsafe-no-fsync --listen-client-urls $at --advertise-client-urls $at \
  --listen-peer-urls $peer --initial-advertise-peer-urls $peer --initial-cluster default=$peer >log 2>&1 &
for _ in $(seq 100); do curl -sf -o /dev/null $at/health && break; sleep 0.1; done
# 2500 puts of one key, whose revisions are 2 to 2501, over one connection
{ for _ in $(seq 2500); do printf 'next\nurl = %s/v3/kv/put\nsilent\noutput = /dev/null\ndata = {"key":"Zm9v","value":"YmFy"}\n' $at; done; } | sed 1d >puts
curl -K puts
saw="etcd $(etcd --version | sed -n 's/^etcd Version: //p')
$({ curl -sN -m 3 -d '{"create_request":{"key":"Zm9v","start_revision":"2"}}' $at/v3/watch || true; } | node -e '
  for (const line of require("fs").readFileSync(0, "utf8").trim().split("\n")) {
    const { header, created, events = [] } = JSON.parse(line).result;
    console.log(created ? "created" : events.length + " events to " + events.at(-1).kv.mod_revision, "header", header.revision);
  }')"
echo "$saw"
# Seen: etcd 3.4.23; created header 2501; 1000 events to 1001 header 2501; 1000 events to 2001 header 2501; 500 events to 2501 header 2501
[ "$saw" = "etcd 3.4.23
created header 2501
1000 events to 1001 header 2501
1000 events to 2001 header 2501
500 events to 2501 header 2501" ] || { echo "this has changed" >&2; exit 1; }
