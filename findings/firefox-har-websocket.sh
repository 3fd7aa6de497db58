#!/usr/bin/env bash
# Guess: a HAR file holds what the network panel shows: Firefox shows each message of a WebSocket there, and Chromium exports them (_webSocketMessages).
# What happens: Firefox writes the handshake alone, a GET answered with 101, and not one message. The code that writes HAR files, which Firefox ships in its
#   archive, does not know of WebSockets at all.
# Version: Firefox ESR 153 (Debian's firefox-esr).
# Why it matters here: `sidestream learn FILE.har` learns polls of Firefox's files and no feed, and has to say why.
set -euo pipefail
command -v firefox-esr >/dev/null || { echo "install Debian's firefox-esr" >&2; exit 2; }
firefox-esr --version
python3 - "$(dirname "$(readlink -f "$(command -v firefox-esr)")")" <<'PY'
import pathlib, sys, zipfile
archives = [p for root in [sys.argv[1], "/usr/lib/firefox-esr"] for p in pathlib.Path(root).rglob("omni.ja")]
har, panel = [], []
for archive in archives:
    with zipfile.ZipFile(archive) as z:
        for name in z.namelist():
            if "netmonitor/src/" not in name or not name.endswith(".js"):
                continue
            text = z.read(name).decode("utf-8", "replace").lower()
            (har if "/har/" in name else panel).append((name, "websocket" in text))
print(len(har), "files write HAR,", sum(knows for _, knows in har), "of them know of WebSockets;", sum(knows for _, knows in panel), "of the panel's others do")
if not any(name.endswith("har-builder.js") for name, _ in har) or any(knows for _, knows in har) or not any(knows for _, knows in panel):
    sys.exit("that is no longer so")
PY
