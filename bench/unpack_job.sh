#!/usr/bin/env bash
# The measuring part of unpack.sh, on the host or in the nested machine.
# UNPACK_OLD, UNPACK_NEW: folders with a stock kernel each; UNPACK_RUNS: of each.
set -euo pipefail

work=$(mktemp -d /tmp/unpack.XXXXXX)
trap 'rm -rf "$work"' EXIT
export PACSVISOR_RUNTIME_DIR=$work/runtime

# Milliseconds from pacsvisor's start to the kernel's first line.
measure() { # KERNEL WHO
  cat >"$work/VM.toml" <<END
name = "unpack"
memory = "512M"
[boot]
kernel = "$1"
cmdline = "console=ttyS0 earlyprintk=ttyS0 panic=-1"
unpack = "$2"
END
  local begun=${EPOCHREALTIME/./} line ended='' output child
  exec {output}< <(exec pacsvisor run "$work/VM.toml" </dev/null 2>&1)
  child=$!
  while IFS= read -r -t 120 -u "$output" line; do
    if [[ $line == *"Linux version"* ]]; then
      ended=${EPOCHREALTIME/./}
      break
    fi
  done
  kill -KILL "$child" 2>/dev/null || true
  exec {output}<&-
  [ -n "$ended" ] || { printf 'error: no "Linux version"; last line: %s\n' "$line" >&2; exit 1; }
  printf '%d\n' $(((ended - begun) / 1000))
}

for kernel in "$UNPACK_OLD" "$UNPACK_NEW"; do
  # The file is in the page cache before anything is measured.
  cat "$kernel/kernel" >/dev/null
  for run in $(seq "$UNPACK_RUNS"); do
    for who in host guest; do
      printf '%s, unpacked by the %s, run %s: %s ms\n' "$(basename "$kernel")" "$who" "$run" \
        "$(measure "$kernel/kernel" "$who")"
    done
  done
done
