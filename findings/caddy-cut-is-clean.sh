#!/usr/bin/env bash
# Guess: a reverse proxy whose upstream is torn off in the middle of a chunked answer tears its own answer off too, as nginx, HAProxy, Apache
#   and Go's ReverseProxy do: RFC 9112, section 8, has a client take a chunked body without its last chunk for incomplete.
# What happens: Caddy 2.6.2 writes the last chunk itself. curl exits with 0 after half of an answer, and a client by fetch() takes a stream
#   that was lost for one that is complete. Straight to the same server curl exits with 18, "transfer closed with outstanding read data".
# Versions: Caddy 2.6.2 (Debian 12), curl 7.88.
# Why it matters here: a proxy of events ends streams by a cut, so that clients come back; behind this Caddy only an EventSource does.
set -euo pipefail
cd "$(mktemp -d)"; trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$PWD"' EXIT
command -v caddy >/dev/null || { echo "install Debian's caddy" >&2; exit 1; }
cat >half.mjs <<'JS'
import { createServer } from "node:net";
createServer(socket => {
  socket.on("error", () => {});
  socket.once("data", () => {
    socket.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
    setTimeout(() => socket.destroy(), 300); // without the last chunk
  });
}).listen(18181, "127.0.0.1", () => console.log("up"));
JS
node half.mjs >up & for _ in $(seq 50); do grep -q up up 2>/dev/null && break; sleep 0.1; done
cat >Caddyfile <<'C'
{
  admin off
  auto_https off
}
http://127.0.0.1:18182 {
  reverse_proxy 127.0.0.1:18181
}
C
HOME="$PWD" caddy run --adapter caddyfile --config Caddyfile >caddy.log 2>&1 &
for _ in $(seq 100); do curl -s -o /dev/null http://127.0.0.1:18182/ && break; sleep 0.1; done
ask() { local status=0; curl -sN -o body "http://127.0.0.1:$1/" || status=$?; echo "$2: exit status $status after $(wc -c <body) bytes"; }
saw="$(ask 18181 'straight'; ask 18182 "$(caddy version | awk '{ print "Caddy " $1 }')")"
echo "$saw"
# Seen: straight: exit status 18 after 9 bytes; Caddy 2.6.2: exit status 0 after 9 bytes
grep -q '^straight: exit status 18 after 9 bytes$' <<<"$saw" && grep -q '^Caddy v\?2.6.2: exit status 0 after 9 bytes$' <<<"$saw" || { echo "this has changed" >&2; exit 1; }
