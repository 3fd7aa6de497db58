#!/usr/bin/env bash
# Runs the applications that are too large for test.sh over the tunnel: Jupyter, Node-RED, Hocuspocus, GraphiQL, Socket.IO's admin UI, noVNC,
# WeTTY and Shiny. On a Debian machine with Go, Node 20.19 or later, Chromium and nginx (which test.sh installs) it installs the rest: Debian's
# packages, and npm's as e2e/apps/package-lock.json pins them, in $SIDESTREAM_APPS, by default a folder in the user's cache. It may be called from
# anywhere; arguments are go test's, such as -run TestAppJupyter. Screenshots go to $E2E_ARTIFACTS if that is set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

missing=()
[ -x /usr/bin/jupyter-notebook ] || missing+=(jupyter-notebook)
/usr/bin/python3 -c "import ipykernel" 2>/dev/null || missing+=(python3-ipykernel)
command -v Xtigervnc >/dev/null || missing+=(tigervnc-standalone-server)
command -v websockify >/dev/null || missing+=(websockify)
command -v xterm >/dev/null || missing+=(xterm)
Rscript -e 'library(shiny)' >/dev/null 2>&1 || missing+=(r-cran-shiny)
if [ "${#missing[@]}" -gt 0 ]; then
  echo "installing ${missing[*]}"
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

SIDESTREAM_APPS="${SIDESTREAM_APPS:-${XDG_CACHE_HOME:-$HOME/.cache}/sidestream-apps}"
export SIDESTREAM_APPS
mkdir -p "$SIDESTREAM_APPS" ${E2E_ARTIFACTS:+"$E2E_ARTIFACTS"}
# What is installed is installed anew only when it is to be something else.
if ! cmp -s e2e/apps/package-lock.json "$SIDESTREAM_APPS/installed-lock.json"; then
  rm -f "$SIDESTREAM_APPS/installed-lock.json"
  cp e2e/apps/package.json e2e/apps/package-lock.json e2e/apps/.npmrc "$SIDESTREAM_APPS/"
  (cd "$SIDESTREAM_APPS" && npm ci --no-audit --no-fund)
  cp e2e/apps/package-lock.json "$SIDESTREAM_APPS/installed-lock.json"
fi
cp e2e/apps/*.mjs e2e/apps/*.js e2e/apps/*.jsx "$SIDESTREAM_APPS/"

go test -race -tags "e2e apps" -timeout 20m -count=1 -run '^TestApp' -v "$@" ./e2e
