#!/usr/bin/env bash
# Builds the image of the Dockerfile with buildah and runs it, where no registry of images need be reached: the base of its first stage, golang:1.26-bookworm, is made of
# this machine's Go, busybox and certificate authorities, and takes the modules that this machine has. The final stage is from scratch, and the same wherever it is built.
# By hand, as root; needs Go, and Debian's buildah, busybox-static and ca-certificates. Not part of test.sh: containers in containers do not run everywhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PATH:/usr/sbin:/sbin"
for program in go buildah busybox curl chroot; do command -v "$program" >/dev/null || { echo "$program is missing" >&2; exit 1; }; done
work="$(mktemp -d)"
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
storage=(--root "$work/root" --runroot "$work/run")
sidecar=""
cleanup() {
  kill $sidecar 2>/dev/null || true
  buildah "${storage[@]}" rm -a >/dev/null 2>&1 || true
  chmod -R u+w "$work"
  rm -rf "$work"
}
trap cleanup EXIT

go mod download
base="$work/base"
mkdir -p "$base"/{bin,tmp,root,etc/ssl/certs,usr/local,go/pkg}
cp "$(command -v busybox)" "$base/bin/busybox"
ln -s busybox "$base/bin/sh"
cp -r "$(go env GOROOT)" "$base/usr/local/go"
mkdir -p "$base/go/pkg/mod/cache"
cp -r "$(go env GOMODCACHE)/cache/download" "$base/go/pkg/mod/cache/download"
cp /etc/ssl/certs/ca-certificates.crt "$base/etc/ssl/certs/"
container="$(buildah "${storage[@]}" from scratch)"
buildah "${storage[@]}" copy -q "$container" "$base" / >/dev/null
buildah "${storage[@]}" config --env PATH=/usr/local/go/bin:/bin --env GOPATH=/go --env GOTOOLCHAIN=local --env HOME=/root \
  --env GOPROXY=file:///go/pkg/mod/cache/download --env GONOSUMDB='*' "$container"
buildah "${storage[@]}" commit -q --rm "$container" localhost/golang:1.26-bookworm >/dev/null
rm -rf "$base"

revision="$(git rev-parse HEAD)"
buildah "${storage[@]}" build --pull-never --format docker -q -t localhost/sidestream --build-arg VERSION=1.2.3 --build-arg REVISION="$revision" . >/dev/null

container="$(buildah "${storage[@]}" from --pull-never localhost/sidestream)"
fail() { echo "$*" >&2; exit 1; }
[ "$(buildah "${storage[@]}" inspect --type image --format '{{.OCIv1.Config.User}}' localhost/sidestream)" = 65532:65532 ] || fail "it runs as another user"
# As the user of the image, in its files alone: what a container runtime adds to that, a machine that is a container itself may not have.
files="$(buildah "${storage[@]}" mount "$container")"
has="$(cd "$files" && find . -type f | sort | tr '\n' ' ')"
[ "$has" = "./etc/ssl/certs/ca-certificates.crt ./sidestream " ] || fail "it has other files: $has"
mkdir "$files/dev"
mknod -m 666 "$files/dev/null" c 1 3 # as each runtime has it
run() { exec env -i PATH="$PATH" "${settings[@]}" chroot --userspec=65532:65532 "$files" /sidestream "$@"; }
settings=(SSE_LISTEN=127.0.0.1:18080 SSE_ADMIN_LISTEN=127.0.0.1:19091 SSE_UPSTREAM=http://127.0.0.1:19091 SSE_DRAIN=1s)
said="$(run version)" # each in a shell of its own
[[ "$said" == "sidestream 1.2.3 (revision $revision, go1."* ]] || fail "it says $said"
run &
sidecar=$!
for n in {1..100}; do
  if [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:19091/readyz)" = 200 ]; then break; fi
  [ "$n" -lt 100 ] || fail "it does not become ready"
  sleep 0.1
done
(run healthcheck) || fail "its health check fails"
curl -fsS -o /dev/null http://127.0.0.1:18080/readyz || fail "it does not serve"
(run drain) || fail "it does not drain"
kill "$sidecar"
wait "$sidecar" || fail "it does not end as it should"
sidecar=""
echo "the image is built and runs: $said"
