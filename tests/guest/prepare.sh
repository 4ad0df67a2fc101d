#!/usr/bin/env bash
# Makes what the guest tests run: the native Linux kernel, the test image and Debian's
# qemu-guest-agent and memtester beside it, in build/cache/guest-tests. Quick when they are there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=guests/lib/common.sh
. "$here/../../guests/lib/common.sh"

# What the test image lacks, a job brings along out of Debian's packages.
fetch_packages() { # FOLDER PACKAGE…
  local packages folder=$1 names=("${@:2}")
  packages=$(mktemp -d)
  cd "$packages"
  # Lists may be absent, or name versions that the mirror no longer has.
  apt_get download "${names[@]}" || { apt_get update && apt_get download "${names[@]}"; } || return
  for package in "$packages"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$folder" --exclude='./usr/share/*' || return
  done
  rm -rf "$packages"
}

if [ "${1:-}" = --fetch ]; then # how `cached` calls this script again
  fetch_packages "${@: -1}" "${@:2:$# - 2}"
  exit
fi

files=$(cache_dir guest-tests)
need_packages "${GUEST_PACKAGES[@]}"
[ -f "$files/vmlinux" ] || bash "$here/../../guests/native-linux/build.sh" "$files/vmlinux"
image=$(bash "$here/../../guests/pacs/image.sh" tools)
ln -sfn "$image" "$files/tools"
[ -d "$files/agent" ] || run_step "fetching qemu-guest-agent" \
  cached "$files/agent" bash "$here/prepare.sh" --fetch \
  qemu-guest-agent libglib2.0-0 liburing2 libnuma1
[ -d "$files/memtester" ] || run_step "fetching memtester" \
  cached "$files/memtester" bash "$here/prepare.sh" --fetch memtester
