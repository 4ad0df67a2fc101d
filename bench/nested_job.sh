#!/usr/bin/env bash
# Runs inside the nested machine, for bench/system/nested.py: the measuring guest under pacsvisor,
# snapshotted again and again. Leaves in /out/figures a line for each figure:
#   CASE<tab>WHAT<tab>UNIT<tab>VALUE
#   BENCH_MEMORY  the guests' MiB, a list      BENCH_RUNS  snapshots of each, after the first
#   BENCH_PAGES   pages written before each
set -euo pipefail

figures=/out/figures
console=/tmp/console
: >"$figures"

wait_for() { # PATTERN LINES: so many lines of the console have it
  local left=600
  until [ "$(grep -c -- "$1" "$console" || true)" -ge "$2" ]; do
    ((left-- > 0)) || {
      printf 'error: %s is not on the console\n' "$1" >&2
      tail -n 20 "$console" >&2
      exit 1
    }
    sleep 0.1
  done
}

say() { printf '%s\n' "$1" >&"$keys"; }

figure() { printf '%s\t%s\t%s\t%s\n' "$@" >>"$figures"; }

# The longest time between two of the guest's looks at its clock since last asked.
gaps=0
longest_gap_ms() {
  say gap
  gaps=$((gaps + 1))
  wait_for '^ok gap' "$gaps"
  gap_ms=$(tr -d '\r' <"$console" | sed -n 's/^ok gap longest_ns=\([0-9]*\).*/\1/p' | tail -n 1 |
    awk '{ print $1 / 1e6 }')
}

snapshot() {
  pacsvisor snapshot bench --json >/tmp/snapshot.json || exit 1
}

measure() { # MEMORY-MIB
  local case="nested, $1 MiB" run begun
  cat >/tmp/VM.toml <<END
name = "bench"
memory = "$1M"
[boot]
kernel = "/job/dirtier.elf"
[store]
path = "/tmp/store"
END
  rm -rf /tmp/store /tmp/keys "$console"
  mkfifo /tmp/keys
  # A terminal of its own, since only from one the guest's console is typed at.
  script -q -f -c 'pacsvisor run /tmp/VM.toml' "$console" </tmp/keys >/dev/null 2>&1 &
  local machine=$!
  exec {keys}>/tmp/keys
  wait_for 'event ready' 1
  gaps=0
  snapshot
  for ((run = 1; run <= BENCH_RUNS; run++)); do
    say "dirty pages=$BENCH_PAGES pattern=random writes=$BENCH_PAGES seed=$run"
    wait_for 'event done' "$run"
    longest_gap_ms
    begun=$EPOCHREALTIME
    snapshot
    begun=$((${EPOCHREALTIME/[.,]/} - ${begun/[.,]/}))
    longest_gap_ms
    figure "$case" stall ms "$gap_ms"
    jq -r --arg case "$case" '.result.figures as $told |
      ("pause", "durable", "pause_kick", "pause_state", "pause_harvest", "pause_copy", "pause_flip",
       "pause_resume") | [$case, sub("pause_"; "of the pause: "), "ms", $told[. + "_ns"] / 1e6] | @tsv' \
      /tmp/snapshot.json >>"$figures"
    busybox usleep "$begun"
    longest_gap_ms
    figure "$case" "stall without a snapshot" ms "$gap_ms"
  done
  pacsvisor stop bench --force >/dev/null
  exec {keys}>&-
  wait "$machine" || true
}

for memory_mib in $BENCH_MEMORY; do
  measure "$memory_mib"
done
