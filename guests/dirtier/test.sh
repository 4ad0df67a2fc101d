#!/bin/bash
# Drives the dirtier under QEMU, on KVM and on software emulation, and checks its answers and, from
# outside, its memory.
# usage: test.sh DIRTIER.ELF DIRTIER_CHECK
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: test.sh DIRTIER.ELF DIRTIER_CHECK" >&2; exit 2; }
elf=$1
check=$2
readonly guest_seconds=120 answer_seconds=60
# Guest memory in a file of a disk's file system would be slow: each first touch allocates a block.
folder=${TMPDIR:-/tmp}
[ ! -w /dev/shm ] || folder=/dev/shm
work=$(mktemp -d "$folder/dirtier.XXXXXX")
limiter=
cleanup() {
  [ -z "$limiter" ] || kill -CONT "$qemu" 2>/dev/null || true
  [ -z "$limiter" ] || kill "$limiter" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

fail() {
  echo "FAILED: $machine: $test: $*" >&2
  [ ! -f "$work/log" ] || sed 's/^/    /' "$work/log" | tail -n 20 >&2
  exit 1
}

# --- A guest and its serial port -------------------------------------------------------------------

# start MEMORY-MIB PROCESSORS COMMAND-LINE: boots on $machine. Guest memory is the file $work/ram, so
# that it can be read from outside.
start() {
  local options
  case $machine in
    kvm) options=(-M "microvm,pit=off,pic=off" -accel kvm -cpu "host,-arch-capabilities,-xsave") ;;
    tcg) options=(-M q35 -accel "tcg,thread=multi" -cpu max) ;;
  esac
  rm -f "$work"/*
  mkfifo "$work/com1.in" "$work/com1.out"
  timeout "$guest_seconds" qemu-system-x86_64 "${options[@]}" -m "$1" -smp "$2" -kernel "$elf" \
    -append "$3" -object "memory-backend-file,id=ram,size=$1M,mem-path=$work/ram,share=on" \
    -machine memory-backend=ram -nodefaults -display none -no-reboot \
    -chardev "pipe,id=com1,path=$work/com1" -serial chardev:com1 >"$work/qemu" 2>&1 &
  limiter=$!
  exec {to_guest}<>"$work/com1.in" {from_guest}<>"$work/com1.out"
  line=
  await "event ready"
  qemu=$(cat "/proc/$limiter/task/$limiter/children")
  qemu=${qemu% }
}

read_line() {
  IFS= read -r -t "$answer_seconds" -u "$from_guest" line ||
    fail "no answer within $answer_seconds s: $(cat "$work/qemu")"
  line=${line%$'\r'}
  printf '%s\n' "$line" >>"$work/log"
}

# Reads until a line begins with one of these words; leaves it in $line.
await() {
  local beginning
  while :; do
    read_line
    for beginning in "$@"; do
      [[ $line != "$beginning"* ]] || return 0
    done
    case $line in "event exception"* | "event panic"*) fail "unexpected: $line" ;; esac
  done
}

# ask COMMAND: leaves the answer in $line.
ask() {
  printf '%s\n' "$1" >&"$to_guest"
  await "ok ${1%% *}" "error ${1%% *}"
}

# Waits for QEMU's end; sets $status.
await_end() {
  status=0
  wait "$limiter" || status=$?
  limiter=
  exec {to_guest}>&- {from_guest}>&-
}

end() {
  ask poweroff
  [ "$line" = "ok poweroff" ] || fail "$line"
  await_end
  [ "$status" -eq 0 ] || fail "QEMU ended with status $status"
}

field() {
  [[ " $line " =~ \ $1=([^ ]*)\  ]] || fail "no $1= in: $line"
  printf '%s' "${BASH_REMATCH[1]}"
}
expect() { [ "$(field "$1")" = "$2" ] || fail "expected $1=$2 in: $line"; }

# Stops all of QEMU's threads, the processors among them, and waits until the last has stopped.
freeze() {
  local states
  kill -STOP "$qemu"
  while :; do
    states=$(sed 's/.*) \(.\).*/\1/' /proc/"$qemu"/task/*/stat | sort -u)
    [ "$states" != T ] || return 0
  done
}
thaw() { kill -CONT "$qemu"; }

# check_outside ARGUMENT…: runs dirtier_check on the memory; leaves its words in $line and $status.
check_outside() {
  status=0
  line=$("$check" "$@" 2>&1) || status=$?
  printf '%s\n' "$line" >>"$work/log"
}

poweroff_of() {
  case $machine in
    kvm) echo "poweroff=mmio:0xfea00200:0x34" ;;  # microvm's sleep control register
    tcg) echo "poweroff=port:0x604:0x2000:2" ;;   # q35's PM1a control register
  esac
}

# --- Behaviours ------------------------------------------------------------------------------------

memory_map_covers_the_memory_it_was_given() {
  start 512 1 "$(poweroff_of)"
  ask memory
  local ram
  ram=$(field ram_bytes)
  [ "$ram" -gt $((510 << 20)) ] && [ "$ram" -le $((512 << 20)) ] || fail "ram_bytes=$ram"
  expect control 0x200000
  end
}

writes_are_counted_exactly_and_verify_in_every_pattern() {
  local pattern first=0
  start 128 1 "$(poweroff_of)"
  for pattern in sequential random hot; do
    ask "dirty pages=500 first=$first writes=1237 pattern=$pattern seed=11"
    expect processors 1
    await "event done"
    expect writes 1237
    expect end writes
    first=$((first + 250))
  done
  ask verify
  expect bad 0
  end
}

checksum_equals_the_one_computed_outside() {
  start 128 1 "$(poweroff_of)"
  ask "dirty pages=300 writes=1000 pattern=random seed=3"
  await "event done"
  ask "dirty pages=200 first=50 writes=100 pattern=random seed=4 bytes=512"
  await "event done"
  ask "checksum first=0 pages=300"
  local inside
  inside=$(field fnv)
  check_outside --checksum 0:300 "0:$work/ram"
  [ "$status" -eq 0 ] || fail "dirtier_check: $line"
  expect checksum "$inside"
  end
}

memory_is_of_one_instant_whenever_the_guest_is_stopped() {
  local pattern round
  for pattern in sequential random hot; do
    start 128 2 "cpus=2 $(poweroff_of)"
    ask "dirty pages=2000 pattern=$pattern"
    expect processors 2
    for round in 1 2 3 4 5; do
      ask status
      expect running 1
      freeze
      check_outside "0:$work/ram"
      thaw
      [ "$status" -eq 0 ] || fail "round $round: $line"
    done
    ask stop
    await "event done"
    expect end stop
    ask verify
    expect bad 0
    end
  done
}

one_changed_bit_is_found_inside_and_outside() {
  start 128 1 "$(poweroff_of)"
  ask "dirty pages=100 writes=100"
  await "event done"
  ask memory
  local area byte
  area=$(field area)
  byte=$((${area%%+*} + 41 * 4096 + 2048))
  local before
  before=$(od -An -tu1 -j "$byte" -N 1 "$work/ram")
  printf "\\x$(printf %02x $((before ^ 1)))" |
    dd of="$work/ram" bs=1 seek="$byte" conv=notrunc status=none
  ask verify
  expect bad 1
  expect first_bad 41
  check_outside "0:$work/ram"
  [ "$status" -eq 1 ] || fail "dirtier_check: status $status: $line"
  expect first_bad 41
  end
}

counter_runs_while_dirtying_and_gaps_start_anew_when_asked() {
  start 128 1 "$(poweroff_of)"
  ask "dirty pages=1000 seconds=1"
  ask counter
  local begin
  begin=$(field ms)
  await "event done"
  expect end time
  ask counter
  [ $(($(field ms) - begin)) -ge 900 ] || fail "the counter stood still: from $begin: $line"
  freeze
  local stopped=$EPOCHREALTIME
  until [ $((${EPOCHREALTIME/./} - ${stopped/./})) -ge 300000 ]; do :; done
  thaw
  ask gap
  [ "$(field longest_ns)" -ge 250000000 ] || fail "a stop of 300 ms was not seen: $line"
  ask gap
  [ "$(field longest_ns)" -lt 250000000 ] || fail "the gap was not forgotten: $line"
  end
}

rate_limits_the_writes() {
  start 128 1 "$(poweroff_of)"
  ask "dirty pages=1000 seconds=2 rate=1000"
  await "event done"
  # Never more than asked for; a busy host may make it fewer.
  [ "$(field writes)" -le 2051 ] && [ "$(field writes)" -gt 0 ] || fail "$line"
  end
}

a_command_on_the_command_line_runs_at_once() {
  start 128 1 "$(poweroff_of) run=dirty,pages=64,writes=64,seed=0x10"
  await "event done"
  expect writes 64
  ask verify
  expect written 64
  expect bad 0
  end
}

wrong_commands_are_refused_with_a_reason() {
  start 128 1 "$(poweroff_of)"
  local command
  for command in "nonsense" "dirty" "dirty pages=1" "dirty pages=99999999" "dirty pages=10 rate=x" \
    "dirty pages=10 pattern=round" "dirty pages=10 bytes=12" "dirty pages=10 colour=red" \
    "checksum" "stop" "fault kind=none" "gap now" "dirty pages=18446744073709551616"; do
    ask "$command"
    [[ $line == "error "* ]] || fail "$command was taken: $line"
  done
  printf '%0300d\n' 0 >&"$to_guest"
  await "error line"
  ask counter
  end
}

exceptions_are_reported_and_end_the_machine() {
  local kind
  for kind in ud:6 de:0 gp:13 pf:14; do
    start 128 1 ""
    printf 'fault kind=%s\n' "${kind%:*}" >&"$to_guest"
    until [[ $line == "event exception"* ]]; do read_line; done
    expect vector "${kind#*:}"
    expect cs 0x33
    [ "$kind" != pf:14 ] || expect cr2 0x10000000000
    await_end
  done
}

memory_on_both_sides_of_the_hole_is_dirtied() {
  local mib=5120 low pages
  start "$mib" 1 "$(poweroff_of)"
  ask memory
  pages=$(field area_pages)
  [[ $(field area) == *,0x100000000+* ]] || fail "no memory above 4 GiB: $line"
  # QEMU's memory file holds what lies below the hole, then what lies above.
  low=$(((mib << 20) - $(field area | sed 's/.*0x100000000+//') * 4096))
  ask "dirty pages=all pattern=random writes=20000 bytes=64"
  await "event done"
  ask "dirty first=$((pages - 1000)) pages=1000 writes=1500"
  await "event done"
  check_outside "0:$work/ram@0+$low" "0x100000000:$work/ram@$low+$(((mib << 20) - low))"
  [ "$status" -eq 0 ] || fail "dirtier_check: $line"
  ask "checksum first=$((pages - 1000)) pages=1000"
  end
}

processors_share_the_pages() {
  start 128 4 "cpus=4 $(poweroff_of)"
  ask "dirty pages=4001 writes=9001 pattern=random"
  expect processors 4
  await "event done"
  expect writes 9001
  ask status
  expect runs 4
  expect writes 9001
  ask verify
  expect bad 0
  expect written 4001
  end
}

# --- All of them, on each machine ------------------------------------------------------------------

behaviours=(
  memory_map_covers_the_memory_it_was_given
  writes_are_counted_exactly_and_verify_in_every_pattern
  checksum_equals_the_one_computed_outside
  memory_is_of_one_instant_whenever_the_guest_is_stopped
  one_changed_bit_is_found_inside_and_outside
  counter_runs_while_dirtying_and_gaps_start_anew_when_asked
  rate_limits_the_writes
  a_command_on_the_command_line_runs_at_once
  wrong_commands_are_refused_with_a_reason
  exceptions_are_reported_and_end_the_machine
  memory_on_both_sides_of_the_hole_is_dirtied
  processors_share_the_pages
)
machines=(tcg)
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
  machines=(kvm tcg)
else
  echo "SKIPPED kvm: /dev/kvm is not usable here"
fi
for machine in "${machines[@]}"; do
  for test in "${behaviours[@]}"; do
    begun=$EPOCHREALTIME
    "$test"
    echo "passed: $machine: $test ($(((${EPOCHREALTIME/./} - ${begun/./}) / 1000)) ms)"
  done
done
