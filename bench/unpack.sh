#!/usr/bin/env bash
# Measures who is sooner at a stock kernel's first line: the host unpacking it (boot.unpack = "host")
# or the kernel unpacking itself in the guest ("guest"). From the start of pacsvisor to "Linux
# version" on the serial port, taking turns. On a host with AMD-V or VT-x it measures there; otherwise
# inside the nested machine, where both sides are emulated by the same translator: the ratio says how
# much work each way is, the milliseconds say nothing of hardware.
#
# usage: bash bench/unpack.sh [--runs N] [--pacsvisor FILE]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=guests/lib/common.sh
. "$here/../guests/lib/common.sh"

runs=3 pacsvisor=''
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --runs | --pacsvisor)
      [ $# -ge 2 ] || { printf 'error: %s needs a value\n' "$1" >&2; exit 2; }
      if [ "$1" = --runs ]; then runs=$2; else pacsvisor=$2; fi
      shift
      ;;
    *) printf 'error: unknown argument: %s\n' "$1" >&2; exit 2 ;;
  esac
  shift
done

need_packages "${BUILD_PACKAGES[@]}" "${GUEST_PACKAGES[@]}" "${NESTED_PACKAGES[@]}"
if [ -z "$pacsvisor" ]; then
  build_pacsvisor release pacsvisor
  pacsvisor=$PACSVISOR_ROOT/build/release/vmm/cli/pacsvisor
fi
old=$(bash "$here/../guests/pacs/test-boot.sh" 6.1)
new=$(bash "$here/../guests/pacs/test-boot.sh" 6.12)

kind=$("$pacsvisor" doctor --json | jq -r .kvm.kind) || kind=none
say "this host's KVM: $kind"
case $kind in
  svm | vmx)
    PATH=$(dirname "$pacsvisor"):$PATH UNPACK_OLD=$old UNPACK_NEW=$new UNPACK_RUNS=$runs \
      bash "$here/unpack_job.sh"
    ;;
  *)
    bash "$here/../guests/nested/run.sh" --job "$here/unpack_job.sh" \
      --out "$PACSVISOR_ROOT/build/bench/unpack" --add "$pacsvisor" --images "old=$old" \
      --images "new=$new" --set UNPACK_OLD=/images/old --set UNPACK_NEW=/images/new \
      --set "UNPACK_RUNS=$runs" --memory 2048 --timeout 600
    ;;
esac
