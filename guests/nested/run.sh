#!/usr/bin/env bash
# Runs a job inside an emulated AMD computer (L1) whose Linux has a real kvm-amd: stock guests run
# there under pacsvisor on machines that have no AMD-V or VT-x themselves.
#
# usage: run.sh --job SCRIPT --out FOLDER [options]
#   --job SCRIPT         bash script; runs as root in L1's /job, its status is this script's
#   --out FOLDER         what the job leaves in /out arrives here; also console.log, l1-dmesg.log
#   --add FILE[=NAME]    puts FILE beside the job as /job/NAME; a program goes to /job/bin, on the
#                        PATH, with its libraries; repeatable
#   --images NAME=FOLDER makes FOLDER's files writable in /images/NAME (nothing comes back);
#                        repeatable
#   --set NAME=VALUE     an environment variable for the job; repeatable
#   --forward PORT:L1PORT  this host's 127.0.0.1:PORT leads to L1's L1PORT; repeatable
#   --kernel 6.1|6.12    L1's own Debian kernel (6.1)
#   --memory MIB         L1's memory (1536)
#   --without FEATURE    of L1's processor (QEMU's name, such as popcnt); repeatable
#   --cpus N             L1's processors (1; more have shown resets that are the emulation's own)
#   --timeout SECONDS    the whole run's time limit (150)
#   --quiet              the console goes to FOLDER/console.log only
#
# exit status: 0 the job succeeded; 1 it failed, or L1 ended without it; 124 out of time
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../lib/common.sh"

# irqbypass and kvm come with kvm_amd; the rest is how files and networks reach L1 and its guests.
L1_MODULES=(virtio_pci virtio_blk virtio_net virtio_console kvm_amd tun virtiofs vhost_net)

job='' out='' kernel=6.1 memory_mib=1536 cpus=1 timeout_s=150 quiet=no
adds=() images=() settings=() forwards=() without=()

parse_arguments() {
  while [ $# -gt 0 ]; do
    [ "$1" != --quiet ] || {
      quiet=yes
      shift
      continue
    }
    [ $# -ge 2 ] || die "$1 needs a value" "See the head of guests/nested/run.sh."
    case $1 in
      --job) job=$2 ;;
      --out) out=$2 ;;
      --add) adds+=("$2") ;;
      --images) images+=("$2") ;;
      --set) settings+=("$2") ;;
      --forward) forwards+=("$2") ;;
      --kernel) kernel=$2 ;;
      --without) without+=("$2") ;;
      --memory) memory_mib=$2 ;;
      --cpus) cpus=$2 ;;
      --timeout) timeout_s=$2 ;;
      *) die "unknown option $1" "See the head of guests/nested/run.sh." ;;
    esac
    shift 2
  done
  [ -f "$job" ] || die "--job: there is no file '$job'"
  [ -n "$out" ] || die "--out: a folder for the results is needed"
}

# The image of the tools, made once for each state of what goes in.
tools_image() {
  local key dir
  key=$(inputs_hash "$here/tools.sh" "$here/l1" "$here/exit-qemu.c" "$(dpkg-query -W dcmtk curl)")
  dir=$(cache_dir nested)/tools-$key
  cached "$dir" bash "$here/tools.sh" image >"$work/tools.log" 2>&1 || {
    cat "$work/tools.log" >&2
    die "could not collect L1's tools" "The lines above say why."
  }
  printf '%s\n' "$dir/tools.raw"
}

# An initramfs for the kernel, likewise.
l1_initramfs() {
  local kernel_dir=$1 key dir
  key=$(inputs_hash "$here/init" "$here/../lib/initramfs.sh" "$kernel_dir" "${L1_MODULES[*]}")
  dir=$(cache_dir nested)/initramfs-$key
  cached "$dir" bash "$here/run.sh" --make-initramfs "$kernel_dir" >&2 ||
    die "could not make L1's initramfs"
  printf '%s\n' "$dir/initramfs"
}

# Files of a folder as an ext4 image, made again only when a name, size or time differs.
images_image() {
  local folder key dir
  folder=$(realpath "$1")
  key=$(inputs_hash "$here/../lib/ext4.sh" \
    "$(cd "$folder" && find . -type f -printf '%p %s %T@\n' | sort)" "$folder")
  dir=$(cache_dir nested)/images-$key
  cached "$dir" bash "$here/run.sh" --make-images "$folder" >&2 ||
    die "could not pack $folder for the nested machine"
  printf '%s\n' "$dir/images.raw"
}

job_image() {
  local tree=$work/job add file name setting
  mkdir -p "$tree/bin" "$tree/lib"
  cp "$job" "$tree/job"
  for add in "${adds[@]}"; do
    file=${add%%=*}
    name=${add#*=}
    [ "$name" != "$add" ] || name=$(basename "$file")
    [ -e "$file" ] || die "--add: there is no file '$file'"
    if [ -x "$file" ] && ldd "$file" >/dev/null 2>&1; then
      bash "$here/tools.sh" add "$tree" "$file"
      [ "$name" = "$(basename "$file")" ] || mv "$tree/bin/$(basename "$file")" "$tree/bin/$name"
    else
      cp -rL "$file" "$tree/$name"
    fi
  done
  for setting in "${settings[@]}"; do
    printf 'export %s=%q\n' "${setting%%=*}" "${setting#*=}"
  done >"$tree/environment"
  # Programs that were added find their libraries here first.
  printf 'export LD_LIBRARY_PATH=/job/lib\n' >>"$tree/environment"
  bash "$here/../lib/ext4.sh" "$work/job.raw" job $(($(du -sm "$tree" | cut -f 1) + 64)) "$tree"
}

# Adds a disk to QEMU's arguments. usage: disk FILE SERIAL SNAPSHOT(on|off)
disk() {
  local id=disk$((disk_count++))
  qemu+=(-drive "id=$id,if=none,format=raw,file=$1,snapshot=$3,cache=unsafe"
    -device "virtio-blk-pci,drive=$id,serial=$2")
}

compose_qemu() {
  local kernel_dir=$1 initramfs tools image file
  # One by one: a failure inside another command's arguments would go unnoticed.
  initramfs=$(l1_initramfs "$kernel_dir")
  tools=$(tools_image)
  disk_count=0
  # -xsave: QEMU 7.2 does not intercept XSETBV under SVM, a guest would lose its XCR0. What needs
  # XSAVE goes with it (Intel SDM volume 1, 13.1): `max` would go on claiming AVX, and a stock
  # kernel believes it: aesni_intel's self-test then ends in an invalid opcode.
  local cpu=max,+svm,-xsave,-avx,-avx2,-fma,-f16c,-vaes,-pku feature
  for feature in "${without[@]}"; do
    cpu+=,-$feature
  done
  qemu=(qemu-system-x86_64 -M q35 -accel "tcg,thread=multi" -cpu "$cpu" -smp "$cpus"
    -m "$memory_mib" -nodefaults -display none -no-reboot -serial stdio
    -device "isa-debug-exit,iobase=0xf4,iosize=1"
    -kernel "$kernel_dir/vmlinuz" -initrd "$initramfs"
    -append "console=ttyS0 panic=-1 quiet i8042.noaux i8042.nokbd mitigations=off")
  disk "$tools" tools on
  disk "$work/job.raw" job on
  truncate -s 4G "$work/out.raw"
  disk "$work/out.raw" out off
  for image in "${images[@]}"; do
    file=$(images_image "${image#*=}")
    disk "$file" "images-${image%%=*}" on
  done
  local network=user,id=network forward
  for forward in "${forwards[@]}"; do
    network+=",hostfwd=tcp:127.0.0.1:${forward%%:*}-:${forward#*:}"
  done
  if [ "${#forwards[@]}" -gt 0 ]; then
    qemu+=(-netdev "$network" -device "virtio-net-pci,netdev=network")
  fi
}

# Runs QEMU; its console goes to the log and, unless --quiet, to our own output line by line.
run_qemu() {
  local status=0
  if [ "$quiet" = yes ]; then
    TMPDIR=$work limited "$timeout_s" "${qemu[@]}" </dev/null >"$out/console.log" 2>&1 || status=$?
  else
    { TMPDIR=$work limited "$timeout_s" "${qemu[@]}" </dev/null 2>&1 || echo $? >"$work/status"; } |
      tee "$out/console.log" | tr -d '\r'
    [ ! -f "$work/status" ] || status=$(cat "$work/status")
  fi
  return "$status"
}

# Only the job's own word counts: QEMU also ends when L1 panics or resets.
collect() {
  local status=$1
  # The rest of the disk after the archive is holes.
  tar -x -f "$work/out.raw" -C "$out" 2>/dev/null || true
  if [ "$status" -eq 1 ] && [ "$(cat "$out/status" 2>/dev/null)" = 0 ]; then
    return 0
  fi
  printf 'error: the job in the nested machine did not succeed (QEMU: %s, job: %s)\n' "$status" \
    "$(cat "$out/status" 2>/dev/null || echo 'no word from it')" >&2
  if [ "$quiet" = yes ]; then
    printf 'the end of %s:\n' "$out/console.log" >&2
    tail -n 40 "$out/console.log" | tr -d '\r' | sed 's/^/    /' >&2
  fi
  [ "$status" -ne 124 ] || return 124
  return 1
}

main() {
  local status=0 kernel_dir
  parse_arguments "$@"
  need_packages "${GUEST_PACKAGES[@]}" "${NESTED_PACKAGES[@]}"
  mkdir -p "$out" "$PACSVISOR_ROOT/build/nested"
  out=$(realpath "$out")
  rm -f "$out/status"
  work=$(mktemp -d "$PACSVISOR_ROOT/build/nested/run.XXXXXX")
  # shellcheck disable=SC2064  # The folder's name is known now.
  trap "rm -rf '$work'" EXIT
  kernel_dir=$(bash "$here/../lib/kernels.sh" "$kernel")
  job_image
  compose_qemu "$kernel_dir"
  run_qemu || status=$?
  collect "$status"
}

# `cached` calls this script again for what it keeps.
case ${1:-} in
  --make-initramfs)
    bash "$here/../lib/initramfs.sh" "$3/initramfs" "$2" "$here/init" "${L1_MODULES[@]}"
    ;;
  --make-images)
    # Those of an earlier state, and of folders that are gone, are of no use any more.
    for source in "$(cache_dir nested)"/images-*/source; do
      if [ -f "$source" ] && { [ ! -d "$(cat "$source")" ] || [ "$(cat "$source")" = "$2" ]; }; then
        rm -rf "$(dirname "$source")"*
      fi
    done
    printf '%s\n' "$2" >"$3/source"
    bash "$here/../lib/ext4.sh" "$3/images.raw" images \
      $(($(du -sm "$2" | cut -f 1) * 5 / 4 + 2048)) "$2"
    ;;
  -h | --help | '') sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" ;;
  *) main "$@" ;;
esac
