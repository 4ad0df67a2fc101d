#!/usr/bin/env bash
# The limits of VM.toml and the rights that are given up, on a host with cgroup version 2 and a real
# kvm-amd: this machine has neither.
# usage: limits.sh PACSVISOR DIRTIER KERNEL TIMEOUT-S
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../../guests/lib/common.sh"

pacsvisor=$1 dirtier=$2 kernel=$3 timeout_s=$4
bash "$PACSVISOR_ROOT/guests/nested/run.sh" --job "$here/limits_job.sh" --add "$pacsvisor" \
  --add "$dirtier=dirtier.elf" --kernel "$kernel" \
  --out "$PACSVISOR_ROOT/build/nested/limits-$kernel" --timeout "$timeout_s"
