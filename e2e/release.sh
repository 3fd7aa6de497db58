#!/usr/bin/env bash
# Makes a release: static binaries, packages for Debian, a bill of materials of each binary, and check sums. The same commit and toolchain come to the same bytes.
#
#   ./e2e/release.sh VERSION FOLDER [TARGET ...]
#
# TARGET is GOOS/GOARCH; all of them where none is named. linux/arm is ARMv7. The commit must be clean. Needs Go, git and Debian's dpkg-dev, zip.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 VERSION FOLDER [TARGET ...]" >&2; exit 2; }
version="$1"
[[ "$version" =~ ^[0-9][0-9A-Za-z.+~-]*$ ]] || { echo "$version is no version, such as 1.2.3" >&2; exit 2; }
mkdir -p "$2"
out="$(cd "$2" && pwd)"
shift 2
targets=("$@")
[ $# -gt 0 ] || targets=(linux/amd64 linux/arm64 linux/arm darwin/amd64 darwin/arm64 windows/amd64)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
programs=(go git)
[[ " ${targets[*]}" != *" linux/"* ]] || programs+=(dpkg-deb)
[[ " ${targets[*]}" != *" windows/"* ]] || programs+=(zip)
for program in "${programs[@]}"; do command -v "$program" >/dev/null || { echo "$program is missing" >&2; exit 1; }; done
changes="$(git status --porcelain)"
[ -z "$changes" ] || { echo "there are changes that are not committed: a release is of a commit" >&2; exit 1; }
revision="$(git rev-parse HEAD)"
SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" # of all files in it
export SOURCE_DATE_EPOCH CGO_ENABLED=0 GOARM=7 TZ=UTC LC_ALL=C
unset GOOS GOARCH GOFLAGS GOEXPERIMENT GOAMD64 GOARM64 GODEBUG # what a release is does not depend on who makes it
umask 022
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
flags=(-trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$version -X main.revision=$revision")
sbom=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0

# What is the same for all: the manual and the completions come from the program's own tables.
go build "${flags[@]}" -o "$work/here" .
mkdir "$work/shared"
for kind in man bash zsh fish; do "$work/here" manual "$kind" >"$work/shared/$kind"; done

# kibibytes FOLDER: what its files have, each rounded up; what they take differs from disk to disk.
kibibytes() {
  local size total=0
  while read -r size; do total=$((total + (size + 1023) / 1024)); done < <(find "$1" -type f -not -path '*/DEBIAN/*' -printf '%s\n')
  echo "$total"
}

stamp() { find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }

# debian FOLDER ARCHITECTURE BINARY: a package with the unit, which is not started: it has nothing to serve until it is configured.
debian() {
  local root="$1" arch="$2"
  mkdir -p "$root"/{DEBIAN,usr/bin,lib/systemd/system,etc,usr/share/{man/man1,doc/sidestream,bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}}
  cp "$3" "$root/usr/bin/sidestream"
  # The token is commented out: systemd starts no unit whose credential is not there.
  sed -e 's|/usr/local/bin/|/usr/bin/|; s|^LoadCredential=|#&|; s|^Environment=SSE_ADMIN_TOKEN_FILE|#&|' -e '1d' e2e/deploy/sidestream.service >"$root/lib/systemd/system/sidestream.service"
  gzip -9n <"$work/shared/man" >"$root/usr/share/man/man1/sidestream.1.gz"
  cp "$work/shared/bash" "$root/usr/share/bash-completion/completions/sidestream"
  cp "$work/shared/zsh" "$root/usr/share/zsh/vendor-completions/_sidestream"
  cp "$work/shared/fish" "$root/usr/share/fish/vendor_completions.d/sidestream.fish"
  gzip -9n <CHANGELOG.md >"$root/usr/share/doc/sidestream/changelog.gz"
  cp LICENSE "$root/usr/share/doc/sidestream/copyright"
  printf '# The configuration of sidestream.service. See man sidestream, and sidestream -env-file /etc/sidestream.env check.\n#SSE_UPSTREAM=http://localhost:3000\n' >"$root/etc/sidestream.env"
  echo /etc/sidestream.env >"$root/DEBIAN/conffiles"
  printf '#!/bin/sh\nset -e\nif [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi\n' >"$root/DEBIAN/postrm"
  # A new version takes the place of one that runs, whose clients come back to it.
  printf '#!/bin/sh\nset -e\nif [ "$1" = configure ] && [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload || true; systemctl try-restart sidestream.service || true; fi\n' >"$root/DEBIAN/postinst"
  printf '#!/bin/sh\nset -e\nif [ "$1" = remove ] && [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then systemctl disable --now sidestream.service || true; fi\n' >"$root/DEBIAN/prerm"
  chmod 755 "$root"/DEBIAN/{postinst,postrm,prerm} "$root/usr/bin/sidestream"
  cat >"$root/DEBIAN/control" <<CONTROL
Package: sidestream
Version: ${version//-/\~}
Architecture: $arch
Maintainer: Sidestream maintainers <maintainers@sidestream.invalid>
Installed-Size: $(kibibytes "$root")
Recommends: ca-certificates
Section: web
Priority: optional
Description: events for browsers in front of a legacy service
 A sidecar proxy that subscribes to a service's WebSocket feeds, or polls its
 JSON endpoints, and re-exposes them as Server-Sent Events.
CONTROL
  stamp "$root"
  dpkg-deb --root-owner-group -Zxz -z6 --build "$root" "$out/sidestream_${version}_$arch.deb" >/dev/null
}

for target in "${targets[@]}"; do
  IFS=/ read -r GOOS GOARCH <<<"$target"
  export GOOS GOARCH
  name="sidestream_${version}_${GOOS}_$GOARCH"
  program=sidestream
  [ "$GOOS" != windows ] || program=sidestream.exe
  folder="$work/$name"
  mkdir -p "$folder/completions"
  go build "${flags[@]}" -o "$folder/$program" .
  cp LICENSE README.md CHANGELOG.md "$folder"
  cp "$work/shared/man" "$folder/sidestream.1"
  cp "$work/shared/"{bash,zsh,fish} "$folder/completions"
  case "$target" in
  linux/amd64) debian "$work/deb-amd64" amd64 "$folder/$program" ;;
  linux/arm64) debian "$work/deb-arm64" arm64 "$folder/$program" ;;
  linux/arm) debian "$work/deb-armhf" armhf "$folder/$program" ;;
  esac
  stamp "$folder"
  if [ "$GOOS" = windows ]; then
    rm -f "$out/$name.zip"
    (cd "$work" && find "$name" | sort | zip -q -X "$out/$name.zip" -@)
  else
    tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --format=gnu --mtime="@$SOURCE_DATE_EPOCH" -c "$name" | gzip -9n >"$out/$name.tar.gz"
  fi
  # By the program of this machine, about the one that was built.
  env -u GOOS -u GOARCH go run "$sbom" bin -json -noserial -version "$version" "$folder/$program" 2>"$work/sbom.log" |
    sed "s/^    \"timestamp\": .*/    \"timestamp\": \"$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)\",/" >"$out/$name.sbom.json" || { cat "$work/sbom.log" >&2; exit 1; }
done
cd "$out"
sha256sum -- "sidestream_${version}_"* >SHA256SUMS # what else is in the folder is of another release
cat SHA256SUMS
