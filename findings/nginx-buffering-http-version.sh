#!/usr/bin/env bash
# Guess: with proxy_buffering on, nginx holds what its upstream sends until a buffer is full or the answer ends, whatever the version of HTTP that
#   it speaks upstream; that is what the directive is for, and why events need it off.
# What happens: over HTTP/1.0, its default, each of ten events of 60 bytes, 200 ms apart, waits for the end. With proxy_http_version 1.1 and nothing
#   else changed each arrives within some ms, although buffering is still on: a chunked answer is passed on as it comes.
# Versions: nginx 1.22.1 (Debian 12), Node 20.
# Why it matters here: the same "proxy_buffering on" is harmless in one location and holds every event in another, depending on a line that is there
#   for WebSockets; who tests one of them learns nothing of the other.
set -euo pipefail
cd "$(mktemp -d)"; trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$PWD"' EXIT
nginx="$(PATH="$PATH:/usr/sbin" command -v nginx)" || { echo "install Debian's nginx-light" >&2; exit 1; }
cat >events.mjs <<'JS'
import { createServer } from "node:http";
createServer((request, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  let n = 0;
  const timer = setInterval(() => {
    response.write("data: " + String(++n).padStart(51, "-") + "\n\n");
    if (n === 10) clearInterval(timer), response.end();
  }, 200);
}).listen(18191, "127.0.0.1", () => console.log("up"));
JS
node events.mjs >up & for _ in $(seq 50); do grep -q up up 2>/dev/null && break; sleep 0.1; done
cat >nginx.conf <<C
daemon off; pid $PWD/pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path $PWD/a; proxy_temp_path $PWD/b; fastcgi_temp_path $PWD/c; uwsgi_temp_path $PWD/d; scgi_temp_path $PWD/e;
  server {
    listen 127.0.0.1:18192;
    proxy_buffering on;
    location /old { proxy_pass http://127.0.0.1:18191; }
    location /new { proxy_pass http://127.0.0.1:18191; proxy_http_version 1.1; }
  }
}
C
"$nginx" -p "$PWD" -c "$PWD/nginx.conf" 2>log &
for _ in $(seq 50); do curl -s -o /dev/null --max-time 0.2 http://127.0.0.1:18192/none && break; (exec 3<>/dev/tcp/127.0.0.1/18192) 2>/dev/null && break; sleep 0.1; done
# when the first event arrives, in tenths of a second since the request
first() { local begun; begun=$(date +%s%N); curl -sN "http://127.0.0.1:18192/$1" | { read -r _; echo $((($(date +%s%N) - begun) / 100000000)); cat >/dev/null; }; }
old="$(first old)" new="$(first new)"
echo "nginx $("$nginx" -v 2>&1 | sed 's/.*nginx.//'): the first event of a stream of 2 s, sent after 0.2 s, arrives after 0.$new s with proxy_http_version 1.1, after $((old / 10)).$((old % 10)) s without"
# Seen: nginx 1.22.1: ... arrives after 0.2 s with proxy_http_version 1.1, after 2.0 s without
[ "$new" -lt 9 ] && [ "$old" -ge 18 ] || { echo "this has changed" >&2; exit 1; }
