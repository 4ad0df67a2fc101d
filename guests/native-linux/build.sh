#!/bin/bash
# Provides the native Linux kernel (README.md): a stripped PVH ELF.
# usage: build.sh [--from-source] OUTPUT-FILE
#
# A ready kernel is unpacked while it belongs to the patch and configuration beside this script.
# Otherwise, or with --from-source, it is built from Debian's source: about 8 minutes on 2 cores and
# 3 GiB of disk, once; the result stays in build/cache/native-linux. The ready kernel's folder
# (vmlinux.zst, vmlinux.inputs) is $PACSVISOR_NATIVE_LINUX, or else ../shared/native-linux beside the
# checkout.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../lib/common.sh"

ready=${PACSVISOR_NATIVE_LINUX:-$PACSVISOR_ROOT/../shared/native-linux}
from_source=no

usage() {
  echo "usage: build.sh [--from-source] OUTPUT-FILE" >&2
  exit 2
}

inputs=$(cat "$here/linux-6.12-native.patch" "$here/config" | sha256sum | cut -d ' ' -f 1)

ready_kernel_fits() {
  [ -f "$ready/vmlinux.zst" ] && [ -f "$ready/vmlinux.inputs" ] &&
    [ "$(tr -d '[:space:]' <"$ready/vmlinux.inputs")" = "$inputs" ]
}

if [ "${1:-}" = --from-source ]; then
  from_source=yes
  shift
fi
[ $# -eq 1 ] && [ -n "$1" ] && [ "${1#-}" = "$1" ] || usage
output=$1
[ -d "$(dirname "$output")" ] || die "there is no folder $(dirname "$output")" "Make it first."

# Nobody sees half a kernel: the output appears by a rename.
partial=$(mktemp "$output.XXXXXX")
trap 'rm -f "$partial"' EXIT
if [ "$from_source" = no ] && ready_kernel_fits; then
  need_packages zstd
  zstd -q -d -c "$ready/vmlinux.zst" >"$partial"
  say "native Linux: the ready kernel of $ready"
else
  if [ "$from_source" = no ] && [ -f "$ready/vmlinux.zst" ]; then
    say "native Linux: the ready kernel of $ready belongs to another patch or configuration"
  fi
  kernel=$(cache_dir native-linux)/$inputs
  need_packages "${NATIVE_LINUX_PACKAGES[@]}"
  cached "$kernel" run_step "building the native Linux kernel (about 8 minutes on 2 cores)" \
    "$here/compile.sh" || die "the native Linux kernel could not be built" \
    "It needs Debian's package linux-source-6.12 and 3 GiB in $(dirname "$kernel")."
  cp "$kernel/vmlinux" "$partial"
  say "native Linux: built from $(cat "$kernel/source")"
fi
chmod 644 "$partial"
mv "$partial" "$output"
