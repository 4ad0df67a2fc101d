#!/usr/bin/env bash
# Measures pacsvisor as a whole, beside QEMU on the same host, kernel, image and back ends.
#
# usage: bash bench/run.sh [start|memory|density|block|net|snapshot|dirty|restore|tracked|pacs|store|
#                          nested|all] [options]
#   start    from exec and main() to the first guest instruction, to init, to Orthanc answering
#   memory   private dirty memory beside the guest's
#   density  what machines cost that only wait, eight at once
#   block    fio in the guest on a virtio disk
#   net      iperf3 between guest and host over virtio-net: TAP and the user-mode network
#   snapshot the guest's pause, and until durable: incremental snapshots beside QEMU's ways to a file
#   dirty    what pause, the guest's own gap and durable depend on: memory, share written, source, depth
#   restore  to the first instruction and to whole memory: over memory and number of snapshots
#   tracked  what a guest gets done less, tracked and with snapshots every 1, 10, 60 s
#   pacs     C-STORE and HTTP latency of Orthanc, with snapshots and without
#   store    into the store and out of it, growth, verify, prune; over the number of snapshots
#   nested   a few snapshots under a real kvm-amd, which is emulated
#   all      all of them (the default)
#
#   --quick          each part once, with few cases: does it work, and about how long does it take?
#   --runs N         of each VMM, taking turns (5; block, net, tracked, store 3; pacs, density 2; snapshot:
#                    20 of one guest; dirty 20; nested 10)
#   --seconds N      of one fio or iperf3 run (5)
#   --only WORD      only the cases whose name contains WORD (several times: any of them)
#   --cpus N         the guest's processors (1)
#   --json FILE      every single figure with the conditions, as JSON
#   --pacsvisor FILE a pacsvisor built elsewhere; nothing is compiled then
#   --against FILE   a second pacsvisor to compare with, such as the one before a change
#   --unfiltered     with a second run of the same pacsvisor without its system call filters
#   --no-qemu        without Debian's QEMU
#   --qemu FILE      another QEMU as well, such as a newer one
#
# The guest is the native Linux of guests/native-linux, which every KVM runs at native speed, over
# the tools image of guests/pacs. Nothing is asserted on time. Installs the packages it misses.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=guests/lib/common.sh
. "$here/../guests/lib/common.sh"

# A peer that cannot be had is a row that says so.
need_restic() {
  [ -z "$(missing_packages restic)" ] || (need_packages restic) || say "no restic: left out"
}

pacsvisor='' arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --pacsvisor)
      [ $# -ge 2 ] || { printf 'error: --pacsvisor needs a value\n' >&2; exit 2; }
      pacsvisor=$2
      shift
      ;;
    *) arguments+=("$1") ;;
  esac
  shift
done

need_packages "${BUILD_PACKAGES[@]}" "${GUEST_PACKAGES[@]}" qemu-system-x86 qemu-utils iperf3 \
  iproute2 python3
need_restic
if [ -z "$pacsvisor" ]; then
  build_pacsvisor release pacsvisor dirtier bench_vm_floor bench_store
  pacsvisor=$PACSVISOR_ROOT/build/release/vmm/cli/pacsvisor
fi
[ -x "$pacsvisor" ] || die "there is no program $pacsvisor"
bash "$here/../tests/guest/prepare.sh"
study=$(cache_dir)/study
cached "$study" bash "$here/../guests/pacs/study.sh"
# -B: no compiled Python beside the sources.
exec python3 -B "$here/system/main.py" --pacsvisor "$(realpath "$pacsvisor")" \
  --files "$(cache_dir guest-tests)" --study "$study" --work "$PACSVISOR_ROOT/build/bench" "${arguments[@]}"
