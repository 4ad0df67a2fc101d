#!/usr/bin/env bash
# An unmodified Debian kernel under pacsvisor in the nested machine, up to Orthanc and back down.
# usage: stock_boot.sh PACSVISOR KERNEL CPUS MEMORY-MIB user|tap TIMEOUT-S [yes|no]
# The last: with snapshots (guests/pacs/snapshots.sh).
# KERNEL (6.1 or 6.12) is the guest's and L1's alike. Prints what it saw.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../../guests/lib/common.sh"

pacsvisor=$1 kernel=$2 cpus=$3 memory_mib=$4 network=$5 timeout_s=$6 snapshots=${7:-no}
guests=$PACSVISOR_ROOT/guests
# Kept: a failure is read there.
out=$PACSVISOR_ROOT/build/nested/stock-$kernel-$cpus-$memory_mib-$network-$snapshots
rm -rf "$out"

image=$(bash "$guests/pacs/image.sh" test)
boot=$(bash "$guests/pacs/test-boot.sh" "$kernel")
kernel_dir=$(bash "$guests/lib/kernels.sh" "$kernel")
study=$(cache_dir study)
[ -f "$study/instance-uids" ] || die "there is no study" "Run tests/nested/prepare.sh first."

# What L1 itself needs, and the guest's memory as far as it may touch it.
l1_memory_mib=1536
[ "$memory_mib" -le 1024 ] || l1_memory_mib=7168

bash "$guests/nested/run.sh" --job "$here/stock_job.sh" --out "$out" \
  --add "$pacsvisor" --add "$guests/pacs/job.sh" --add "$guests/pacs/snapshots.sh" --add "$study" \
  --images "pacs=$image" --images "boot=$boot" --set PACS_IMAGES=/images/pacs \
  --set PACS_BOOT=/images/boot --set PACS_STUDY=/job/study --set PACS_OUT=/out \
  --set "PACS_SNAPSHOTS=$snapshots" --set PACS_WATCH_MS=10 --set PACS_RESTART=no --set "PACS_CPUS=$cpus" --set "PACS_MEMORY=${memory_mib}M" \
  --set "PACS_TIMEOUT=$timeout_s" --set "NETWORK=$network" \
  --set "EXPECT_RELEASE=$(cat "$kernel_dir/version")" --set "EXPECT_MEMORY_MIB=$memory_mib" \
  --kernel "$kernel" --memory "$l1_memory_mib" --timeout "$timeout_s"
