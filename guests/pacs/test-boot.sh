#!/usr/bin/env bash
# Prints a folder with what boots the test and tools images under a stock Debian kernel of the cloud
# flavour: kernel, the package's vmlinuz byte for byte, and initrd, busybox with the virtio drivers.
# usage: test-boot.sh 6.1|6.12
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../lib/common.sh"

# button and evdev carry the power button to acpid.
MODULES=(virtio_pci virtio_blk virtio_net virtio_rng virtio_console button evdev)

build() {
  local kernel_dir=$1 dir=$2
  cp "$kernel_dir/vmlinuz" "$dir/kernel"
  bash "$here/../lib/initramfs.sh" "$dir/initrd" "$kernel_dir" "$here/test-initramfs" \
    "${MODULES[@]}"
}

if [ "${1:-}" = --build ]; then # how `cached` calls this script again
  build "$2" "$3"
  exit
fi
need_packages "${GUEST_PACKAGES[@]}" >&2
kernel_dir=$(bash "$here/../lib/kernels.sh" "${1:-}")
key=$(inputs_hash "$here/test-initramfs" "$here/../lib/initramfs.sh" "${MODULES[*]}")
dir=$(cache_dir pacs)/boot-$(basename "$kernel_dir")-$key
cached "$dir" bash "$(realpath "${BASH_SOURCE[0]}")" --build "$kernel_dir" >&2 ||
  die "could not make the initramfs of the test image"
printf '%s\n' "$dir"
