#!/usr/bin/env bash
# Makes a small initramfs: busybox, an init, and kernel modules in the order to load them.
# usage: initramfs.sh OUTPUT KERNEL-FOLDER INIT MODULE…
# KERNEL-FOLDER is one of kernels.sh. Modules the kernel has built in are passed over; an unknown
# one is an error. Not compressed: under emulation, unpacking costs more than reading.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Prints the files of the modules and of what they depend on, first things first.
module_files() {
  local kernel=$1 module
  shift
  for module in "$@"; do
    modprobe -d "$kernel/modules" -S "$(cat "$kernel/version")" --show-depends "$module" ||
      die "the kernel in $kernel has no module $module"
  done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++'
}

add_modules() {
  local root=$1 kernel=$2 file number=100
  shift 2
  mkdir -p "$root/modules"
  while read -r file; do
    case $file in
      *.xz) xz -dc "$file" >"$root/modules/$number-$(basename "$file" .xz)" ;;
      *) cp "$file" "$root/modules/$number-$(basename "$file")" ;;
    esac
    number=$((number + 1))
  done < <(module_files "$kernel" "$@")
}

main() {
  local output=$1 kernel=$2 init=$3 root
  shift 3
  root=$(mktemp -d)
  # shellcheck disable=SC2064  # The folder's name is known now and gone at exit.
  trap "rm -rf '$root'" EXIT
  mkdir -p "$root"/{bin,dev,proc,sys,mnt,root}
  cp "$(command -v busybox)" "$root/bin/busybox"
  ln -s busybox "$root/bin/sh"
  install -m 755 "$init" "$root/init"
  add_modules "$root" "$kernel" "$@"
  find "$root" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-1735689600}" {} +
  (cd "$root" && find . | sort | cpio -o -H newc -R 0:0 --reproducible --quiet) >"$output"
}

main "$@"
