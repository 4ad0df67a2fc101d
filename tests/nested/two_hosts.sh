#!/usr/bin/env bash
# A guest with a stock kernel goes from a host with Linux 6.1 to one with 6.12 and back, by a store
# that is carried over, and is refused by a host whose processor lacks what it uses.
# usage: two_hosts.sh PACSVISOR TIMEOUT-S
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../../guests/lib/common.sh"

pacsvisor=$1 timeout_s=$2
out=$PACSVISOR_ROOT/build/nested/two-hosts
rm -rf "$out"
mkdir -p "$out"
kernel_dir=$(bash "$PACSVISOR_ROOT/guests/lib/kernels.sh" 6.1)
bash "$PACSVISOR_ROOT/guests/lib/initramfs.sh" "$out/initrd" "$kernel_dir" "$here/two_hosts_init" \
  virtio_pci virtio_blk

host() { # NAME KERNEL OPTION…
  local name=$1 kernel=$2
  shift 2
  bash "$PACSVISOR_ROOT/guests/nested/run.sh" --job "$here/two_hosts_job.sh" --out "$out/$name" \
    --add "$pacsvisor" --kernel "$kernel" --timeout "$timeout_s" "$@"
}
go_on() { # NAME KERNEL FROM OPTION…
  local name=$1 kernel=$2 from=$out/$3
  shift 3
  host "$name" "$kernel" --set STEP=go-on --set "ID=$(cat "$from/id")" \
    --set "PASS=$(cat "$from/pass")" --add "$from/store" "$@"
}

host first 6.1 --set STEP=start --add "$kernel_dir/vmlinuz=kernel" --add "$out/initrd"
go_on second 6.12 first
go_on third 6.1 second
go_on refused 6.12 third --without popcnt --set REFUSED=POPCNT
