#!/usr/bin/env bash
# Makes what the guest tests run: the native Linux kernel, the test image and Debian's
# qemu-guest-agent beside it, in build/cache/guest-tests. Quick when they are there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=guests/lib/common.sh
. "$here/../../guests/lib/common.sh"

# The test image has no guest agent; a job brings Debian's along, with the libraries it lacks.
fetch_agent() { # FOLDER
  local packages names=(qemu-guest-agent libglib2.0-0 liburing2 libnuma1)
  packages=$(mktemp -d)
  cd "$packages"
  # Lists may be absent, or name versions that the mirror no longer has.
  apt_get download "${names[@]}" || { apt_get update && apt_get download "${names[@]}"; } || return
  for package in "$packages"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$1" --exclude='./usr/share/*' || return
  done
  rm -rf "$packages"
}

if [ "${1:-}" = --fetch-agent ]; then # how `cached` calls this script again
  fetch_agent "$2"
  exit
fi

files=$(cache_dir guest-tests)
need_packages "${GUEST_PACKAGES[@]}"
[ -f "$files/vmlinux" ] || bash "$here/../../guests/native-linux/build.sh" "$files/vmlinux"
image=$(bash "$here/../../guests/pacs/image.sh" tools)
ln -sfn "$image" "$files/tools"
[ -d "$files/agent" ] || run_step "fetching qemu-guest-agent" \
  cached "$files/agent" bash "$here/prepare.sh" --fetch-agent
