#!/usr/bin/env bash
# Runs every check and every test. On a Debian machine with Go it installs what is missing: Chromium, Firefox, WebKit, nginx and
# other proxies, Node, and the servers of the protocols that legacy services speak. Nothing is skipped: what cannot run fails. It may be called from anywhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step=""
headline() { step="$1"; printf "\n=== %s (after %s s)\n" "$step" "$SECONDS"; }
logs="$(mktemp -d)"
declare -A beside=() # process ids
trap 'status=$?; for job in "${beside[@]}"; do kill -- "-$job" 2>/dev/null || kill "$job" 2>/dev/null || true; done; rm -rf "$logs"; if [ "$status" -ne 0 ]; then printf "\n!!! FAILED: %s (exit status %s)\n" "$step" "$status" >&2; fi' EXIT

# start NAME COMMAND: it runs beside what follows, until `await NAME`, which shows what it has said and fails where it did.
# With setsid before it, what it has started ends with it where a step fails.
start() {
  "${@:2}" >"$logs/$1" 2>&1 &
  beside[$1]=$!
}
await() {
  local status=0
  wait "${beside[$1]}" || status=$?
  unset "beside[$1]"
  cat "$logs/$1"
  return "$status"
}

# retry COMMAND: networks and package mirrors fail now and then.
retry() {
  local n
  for n in 1 2 3; do
    if "$@"; then return 0; fi
    printf 'attempt %s failed: %s\n' "$n" "$*" >&2
    [ "$n" -eq 3 ] || sleep $((n * 5))
  done
  return 1
}

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

headline "installed programs"
command -v go >/dev/null || { echo "Go is needed: https://go.dev/dl/" >&2; exit 1; }
missing=()
[ -x /usr/bin/chromium ] || missing+=(chromium)
command -v firefox-esr >/dev/null || missing+=(firefox-esr)
[ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || missing+=(nginx-light)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
[ -x /usr/sbin/mosquitto ] || missing+=(mosquitto)
[ -x /usr/sbin/rabbitmq-server ] || missing+=(rabbitmq-server)
command -v puma >/dev/null || missing+=(puma)
ruby -e 'require "action_cable"' 2>/dev/null || missing+=(ruby-actioncable)
[ -x /usr/bin/etcd ] || missing+=(etcd-server)
[ -x /usr/bin/redis-server ] || missing+=(redis-server)
command -v aria2c >/dev/null || missing+=(aria2)
[ -x /usr/bin/prometheus-alertmanager ] || missing+=(prometheus-alertmanager)
[ -x /usr/bin/syncthing ] || missing+=(syncthing)
[ -x /usr/sbin/icinga2 ] || missing+=(icinga2-bin)
[ -x /usr/bin/janus ] || missing+=(janus)
command -v WebKitWebDriver >/dev/null || missing+=(webkit2gtk-driver)
command -v Xvfb >/dev/null || missing+=(xvfb)
[ -x /usr/sbin/haproxy ] || missing+=(haproxy)
[ -x /usr/bin/caddy ] || missing+=(caddy)
[ -x /usr/sbin/apache2 ] || missing+=(apache2)
[ -x /usr/sbin/varnishd ] || missing+=(varnish)
[ -x /usr/sbin/lighttpd ] || missing+=(lighttpd)
[ -x /usr/sbin/squid ] || missing+=(squid)
command -v promtool >/dev/null || missing+=(prometheus)
command -v systemd-analyze >/dev/null || missing+=(systemd)
command -v git >/dev/null || missing+=(git)
command -v zsh >/dev/null || missing+=(zsh)
command -v fish >/dev/null || missing+=(fish)
# The race detector links against C.
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
# It waits for the network and the disk while the sources are looked at, which takes nothing of this.
install() {
  if [ "${#missing[@]}" -gt 0 ]; then
    echo "installing ${missing[*]}"
    command -v apt-get >/dev/null || { echo "install these first, there is no apt-get: ${missing[*]}" >&2; exit 1; }
    retry as_root apt-get update -q
    retry as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
    # Debian's packages start these; the tests start their own, and nothing stays behind.
    if [ -d /run/systemd/system ]; then
      for service in nginx:nginx-light mosquitto rabbitmq-server redis-server etcd:etcd-server haproxy caddy apache2 varnish lighttpd squid prometheus prometheus-alertmanager icinga2:icinga2-bin janus; do
        if [[ " ${missing[*]} " == *" ${service#*:} "* ]]; then as_root systemctl disable --now "${service%:*}.service"; fi
      done
    fi
  fi
  echo "node $(node --version), npm $(npm --version)"
  (cd e2e/clients && retry npm ci --no-audit --no-fund)
  (cd e2e/servers && retry npm ci --no-audit --no-fund)
}
start packages install

headline "Go modules"
go version
retry go mod download

headline "gofmt"
unformatted="$(find . -name node_modules -prune -o -name '*.go' -print0 | xargs -0 gofmt -l)"
if [ -n "$unformatted" ]; then echo "$unformatted"; exit 1; fi

headline "go mod tidy"
go mod tidy -diff

headline "go vet"
# With the tag e2e there is more to look at, and nothing less.
go vet -tags e2e ./...
go vet -tags "e2e apps" ./e2e # which apps.sh runs
go vet -tags portable ./proxy/...

headline "staticcheck"
go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 -tags e2e ./...
go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 -tags portable ./proxy/...

headline "packages of Debian and npm"
await packages

# What later steps run is built while the machine has time: the tests once more, and the servers of the end-to-end tests that are programs in Go.
build_ahead() {
  renice -n 19 "$BASHPID" >/dev/null
  retry env GOTOOLCHAIN=go1.27.3 go version
  go list -race -tags portable -test -deps -export ./proxy/... >/dev/null
  GOTOOLCHAIN=go1.27.3 go list -test -deps -export ./... >/dev/null
  go list -race -tags e2e -test -deps -export ./e2e/... ./proxy/history/redis >/dev/null
  for server in centrifugo:github.com/centrifugal/centrifugo/v6 h2spec:github.com/summerwind/h2spec/cmd/h2spec nats:github.com/nats-io/nats-server/v2; do
    retry go -C "e2e/servers/${server%%:*}" build -o /dev/null "${server#*:}"
  done
}
start ahead build_ahead

headline "go test -race"
go test -race -p 3 -parallel 8 -timeout 8m ./... # much of it waits more than it works

# A count, not a time, and small; by hand it is hours: at the end of a -fuzztime in seconds Go before 1.27 may fail without a finding (golang/go#75804).
# It takes what time the tests leave.
start fuzz setsid env FUZZ_CORPUS= nice -n 19 ./e2e/fuzz 3000x

# The delivery of systems other than Linux, on this one; and what an event's bytes are must not depend on the toolchain. Both wait more than they work.
headline "go test -race of the portable delivery, and go test with Go 1.27"
start portable setsid go test -race -p 3 -parallel 8 -timeout 8m -tags portable ./proxy/deliver ./proxy/... # first what takes longest
GOTOOLCHAIN=go1.27.3 go test -parallel 8 -timeout 8m ./...
await portable

headline "what was built ahead"
await ahead

headline "end to end"
go test -race -tags e2e -timeout 28m -count=1 -parallel 6 ./e2e/... ./proxy/history/redis # they wait more than they work

headline "fuzzing, 3,000 runs a target"
await fuzz

headline "all passed"
