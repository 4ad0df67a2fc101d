#!/usr/bin/env bash
# The KVM layer's own tests on a real kvm-amd: this machine's KVM may be of another kind, and the
# nested machine's processor has no XSAVE.
# usage: kvm_layer.sh TEST-PROGRAM KERNEL TIMEOUT-S
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../../guests/lib/common.sh"

program=$1 kernel=$2 timeout_s=$3
job=$(mktemp)
trap 'rm -f "$job"' EXIT
# Of the tests of dirty sources one a source: each vCPU exit costs 50 to 90 us there. A source that the
# kernel lacks says SKIPPED.
tests='CpuidTest.*:CpuModelTest.*:KvmVcpuTest.*:DirtyRingTest.*'
tests+=':Kinds/DirtySources.LoseNothingBetweenAPausedHarvestAndTheNext/*-*Compare*:*Memfd'
echo "exec $(basename "$program") --gtest_color=no '--gtest_filter=$tests'" >"$job"
bash "$PACSVISOR_ROOT/guests/nested/run.sh" --job "$job" --add "$program" --kernel "$kernel" \
  --out "$PACSVISOR_ROOT/build/nested/kvm-layer-$kernel" --timeout "$timeout_s"
