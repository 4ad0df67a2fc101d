#!/usr/bin/env bash
# Runs a PACS under pacsvisor: an unmodified Debian 12 with Orthanc boots, takes a CT study in,
# gives it back, is switched off and on again, and still has it. Installs the packages it misses,
# builds what is missing, and says how long each step took.
#
# usage: bash guests/pacs/run.sh [--native] [--quick] [--keep] [options]
#   (no flag)        Debian's own kernel: on this host's KVM where it has AMD-V or VT-x, otherwise
#                    inside the nested machine, an emulated AMD computer (slower: minutes)
#   --native         the native Linux kernel of guests/native-linux on this host's KVM, which need
#                    not have hardware virtualization; the user space stays Debian's
#   --quick          the small test image (busybox's init) instead of Debian's whole system
#   --keep           stay up at the end and say how to reach the PACS
#   --nested         inside the nested machine in any case
#   --kernel 6.1|6.12  --quick only: the stock kernel's series (6.1)
#   --memory SIZE    the guest's memory (1G; nested 512M)
#   --cpus N         the guest's processors (1)
#   --dicom-port N   this host's port for DICOM (4242)
#   --http-port N    this host's port for HTTP (8042)
#   --pacsvisor FILE a pacsvisor built elsewhere; nothing is compiled then
#
# exit status: 0 the study was there after the second start; 1 something failed; 2 wrong usage
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../lib/common.sh"

kernel_kind=stock stage='' image='main' keep=no series=6.1 memory='' cpus=1 dicom_port=4242
http_port=8042 pacsvisor=''

wrong_usage() {
  printf 'error: %s\n       bash guests/pacs/run.sh --help lists the options\n' "$1" >&2
  exit 2
}

parse_arguments() {
  while [ $# -gt 0 ]; do
    case $1 in
      --help | -h)
        sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
      --native) kernel_kind=native ;;
      --quick) image=test ;;
      --keep) keep=yes ;;
      --nested) stage=nested ;;
      --kernel | --memory | --cpus | --dicom-port | --http-port | --pacsvisor)
        [ $# -ge 2 ] || wrong_usage "$1 needs a value"
        set_option "$1" "$2"
        shift
        ;;
      *) wrong_usage "unknown option $1" ;;
    esac
    shift
  done
  [ "$kernel_kind" != native ] || [ "$stage" != nested ] ||
    wrong_usage "--native is for this host's own KVM; leave out --nested"
  [ "$series" = 6.1 ] || [ "$image" = test ] || wrong_usage "--kernel goes with --quick only"
}

set_option() { # NAME VALUE
  case $1 in
    --kernel) series=$2 ;;
    --memory) memory=$2 ;;
    --pacsvisor) pacsvisor=$2 ;;
    *) [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || wrong_usage "$1: '$2' is not a number" ;;&
    --cpus) cpus=$2 ;;
    --dicom-port) dicom_port=$2 ;;
    --http-port) http_port=$2 ;;
  esac
}

# What kind of KVM this host has: svm, vmx, pvm or none.
kvm_kind() {
  local kind
  if kind=$("$pacsvisor" doctor --json 2>/dev/null | jq -er .kvm.kind 2>/dev/null); then
    printf '%s\n' "$kind"
  elif [ ! -e /dev/kvm ]; then
    echo none
  else
    grep -m 1 -owE 'svm|vmx' /proc/cpuinfo || echo pvm
  fi
}

choose_stage() {
  local kind
  kind=$(kvm_kind)
  if [ "$kernel_kind" = native ]; then
    [ "$kind" != none ] || die "there is no /dev/kvm here, which --native needs" \
      "Leave --native out: the nested machine emulates one."
    stage=host
  elif [ "$stage" = nested ]; then
    say "inside the nested machine, as asked"
  elif [ "$kind" = svm ] || [ "$kind" = vmx ]; then
    stage=host
    say "this host has hardware virtualization ($kind)"
  else
    stage=nested
    say "this host has neither AMD-V nor VT-x (its KVM: $kind): the same job runs inside the nested"
    say "machine, an emulated AMD computer; --native shows it at native speed on another kernel"
  fi
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

check_ports() {
  local port
  for port in "$dicom_port" "$http_port"; do
    port_is_free "$port" || die "port $port of 127.0.0.1 is in use" \
      "ss -ltnp 'sport = :$port' names its owner; --dicom-port and --http-port choose others."
  done
}

# Sets `boot`, the folder with the kernel, and prints what is in it.
prepare_kernel() {
  local work=$1 image_dir=$2
  if [ "$kernel_kind" = native ]; then
    boot=$work/boot
    mkdir -p "$boot"
    bash "$here/../native-linux/build.sh" "$boot/kernel"
  elif [ "$image" = main ]; then
    boot=$image_dir
    say "kernel and initrd are the files in the image's /boot, as Debian made them:"
  else
    boot=$(bash "$here/test-boot.sh" "$series")
  fi
  say "kernel sha256 $(sha256sum <"$boot/kernel" | cut -c 1-64)"
  [ ! -f "$boot/initrd" ] || say "initrd sha256 $(sha256sum <"$boot/initrd" | cut -c 1-64)"
}

make_study() {
  rm -rf "$study"
  run_step "making a synthetic CT study, checked by dcmtk" bash "$here/study.sh" "$study"
}

# On copies: the image stays as it was built.
run_on_host() {
  local work=$1 image_dir=$2
  check_ports
  cp --sparse=always "$image_dir/root.raw" "$image_dir/data.raw" "$work"
  PACS_IMAGES=$work PACS_BOOT=$boot PACS_STUDY=$study PACS_PACSVISOR=$pacsvisor PACS_OUT=$work/out \
    PACS_MEMORY=${memory:-1G} PACS_CPUS=$cpus PACS_DICOM_PORT=$dicom_port \
    PACS_HTTP_PORT=$http_port PACS_KEEP=$keep PACS_SNAPSHOTS=yes bash "$here/job.sh"
}

# Straight from the image: what is written in the nested machine goes no further.
run_nested() {
  local image_dir=$1 out=$PACSVISOR_ROOT/build/pacs/nested-out timeout_s=900 forwards=()
  if [ "$keep" = yes ]; then
    check_ports
    timeout_s=86400
    forwards=(--forward "$dicom_port:4242" --forward "$http_port:8042" --set PACS_LISTEN=0.0.0.0)
    say "it will answer at http://127.0.0.1:$http_port and DICOM port $dicom_port; Ctrl-C ends it"
  fi
  bash "$here/../nested/run.sh" --job "$here/job.sh" --out "$out" --add "$study" \
    --add "$here/snapshots.sh" --set PACS_SNAPSHOTS=yes --add "$pacsvisor" --images "pacs=$image_dir" --images "boot=$boot" \
    --set PACS_IMAGES=/images/pacs --set PACS_BOOT=/images/boot --set PACS_STUDY=/job/study \
    --set PACS_OUT=/out \
    --set "PACS_MEMORY=${memory:-512M}" --set "PACS_CPUS=$cpus" --set PACS_TIMEOUT=400 \
    --set PACS_WATCH_MS=10 \
    --set "PACS_KEEP=$keep" --memory 2048 --timeout "$timeout_s" "${forwards[@]}"
}

main() {
  local work=$PACSVISOR_ROOT/build/pacs/work study=$PACSVISOR_ROOT/build/pacs/study image_dir lock
  parse_arguments "$@"
  need_packages "${BUILD_PACKAGES[@]}" "${GUEST_PACKAGES[@]}"
  if [ -z "$pacsvisor" ]; then
    build_pacsvisor release pacsvisor
    pacsvisor=$PACSVISOR_ROOT/build/release/vmm/cli/pacsvisor
  fi
  [ -x "$pacsvisor" ] || die "there is no program $pacsvisor"
  choose_stage
  image_dir=$(bash "$here/image.sh" "$image")
  mkdir -p "$(dirname "$work")"
  exec {lock}>"$(dirname "$work")/lock"
  flock -n "$lock" || die "another guests/pacs/run.sh is at work in this checkout" \
    "Wait for its end, or use another checkout."
  rm -rf "$work"
  mkdir -p "$work"
  prepare_kernel "$work" "$image_dir"
  make_study
  if [ "$stage" = host ]; then
    run_on_host "$work" "$image_dir"
  else
    run_nested "$image_dir"
  fi
  say "done: the PACS took a study in, gave it back, and still had it after a restart"
}

main "$@"
