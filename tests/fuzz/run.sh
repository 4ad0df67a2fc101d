#!/usr/bin/env bash
# Fuzzes the targets beside this file with libFuzzer, and takes what it has found into the corpora.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=guests/lib/common.sh
. "$here/../../guests/lib/common.sh"

usage() {
  cat <<'TEXT'
usage: tests/fuzz/run.sh MINUTES [NAME…] [--jobs N] [--json FILE]
       tests/fuzz/run.sh --minimize [NAME…]
       tests/fuzz/run.sh --list

Fuzzes each target (all without a NAME) for MINUTES, from its committed corpus and what earlier runs
have found on, and ends with a table. Ctrl-C ends early, with the table of what was done.
Status 0: nothing found. 1: something was; its inputs are in build/fuzz-crashes. 130: interrupted.

  --jobs N      targets at a time (2; each takes one processor)
  --json FILE   the table, for programs
  --minimize    takes the inputs that cover something new and are small from build/fuzz-corpus into
                tests/fuzz/corpus; a corpus stays below 300 files and 300 KiB
  --list        the targets
  --help        this text

examples:
  tests/fuzz/run.sh 5                        all targets, five minutes each
  tests/fuzz/run.sh 0.5 virtio_net bus       half a minute each
  tests/fuzz/run.sh 60 --jobs 1 --json fuzz.json
  tests/fuzz/run.sh --minimize virtio_net

An input that crashes: replay it with build/fuzz/tests/fuzz/NAME_fuzz FILE, fix what it shows, add it
to tests/fuzz/corpus/NAME (it replays in every build from then on) and write a unit test.
TEXT
}

readonly CORPUS_FILES=300 CORPUS_BYTES=$((300 * 1024)) INPUT_BYTES=$((16 * 1024))
readonly GROWN=$PACSVISOR_ROOT/build/fuzz-corpus CRASHES=$PACSVISOR_ROOT/build/fuzz-crashes

# Every target of CMakeLists.txt, whether it is built or not.
list_targets() { sed -n 's/^pacsvisor_fuzz_target(\([a-z_]*\) .*/\1/p' "$here/CMakeLists.txt"; }

# ---- arguments

wrong() {
  printf 'error: %s\n' "$1" >&2
  printf '       See tests/fuzz/run.sh --help\n' >&2
  exit 2
}

action=fuzz minutes='' jobs=2 json='' names=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --list) list_targets; exit 0 ;;
    --minimize) action=minimize ;;
    --jobs)
      [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || wrong "--jobs wants a number from 1 on, not '${2:-}'"
      jobs=$2
      shift
      ;;
    --json)
      [ -n "${2:-}" ] || wrong "--json wants a file"
      json=$(realpath -m -- "$2")
      shift
      ;;
    -*) wrong "unknown option $1" ;;
    *)
      if [ "$action" = fuzz ] && [ -z "$minutes" ]; then
        [[ $1 =~ ^[0-9]+(\.[0-9]+)?$ ]] || wrong "MINUTES is a number, not '$1'"
        minutes=$1
      else
        list_targets | grep -qxF -- "$1" ||
          wrong "there is no fuzz target called '$1'; there are: $(list_targets | tr '\n' ' ')"
        names+=("$1")
      fi
      ;;
  esac
  shift
done
[ "$action" != fuzz ] || [ -n "$minutes" ] || wrong "how many minutes?"
[ "${#names[@]}" -gt 0 ] || mapfile -t names < <(list_targets)

need_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
command -v clang++ >/dev/null || die "clang++ is missing: libFuzzer is a part of clang" \
  "Run: apt-get install --no-install-recommends clang libclang-rt-14-dev"
build_pacsvisor fuzz "${names[@]/%/_fuzz}"
program_of() { printf '%s\n' "$PACSVISOR_ROOT/build/fuzz/tests/fuzz/$1_fuzz"; }
count_files() { find "$@" -maxdepth 1 -type f 2>/dev/null | wc -l; }

# ---- minimizing

# minimize NAME: what covers edges that the committed corpus does not, the smallest first.
minimize() {
  local name=$1 corpus=$here/corpus/$1 stage added=0 left=0 files bytes file size
  stage=$(mktemp -d)
  mkdir -p "$GROWN/$name" "$corpus"
  cp "$corpus"/* "$stage"/ 2>/dev/null || true
  run_step "merging $name" limited 1800 "$(program_of "$name")" \
    -set_cover_merge=1 -use_counters=0 -timeout=20 \
    -rss_limit_mb=2048 "-artifact_prefix=$CRASHES/$name-" "$stage" "$GROWN/$name"
  files=$(count_files "$corpus")
  bytes=$(find "$corpus" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }')
  while read -r size file; do
    [ ! -e "$corpus/$file" ] || continue
    if [ "$size" -gt "$INPUT_BYTES" ] || [ $((files + 1)) -ge "$CORPUS_FILES" ] ||
      [ $((bytes + size)) -ge "$CORPUS_BYTES" ]; then
      left=$((left + 1))
      continue
    fi
    cp "$stage/$file" "$corpus/$file"
    added=$((added + 1)) files=$((files + 1)) bytes=$((bytes + size))
  done < <(find "$stage" -type f -printf '%s %f\n' | sort -n)
  rm -rf "$stage"
  say "$name: $added inputs added, $left left out for size; $files files, $((bytes / 1024)) KiB"
}

if [ "$action" = minimize ]; then
  mkdir -p "$CRASHES"
  for name in "${names[@]}"; do
    minimize "$name"
  done
  exit 0
fi

# ---- fuzzing

# Disks of the targets: their sync is not what is looked for.
[ ! -w /dev/shm ] || export TMPDIR=/dev/shm
seconds=$(awk -v m="$minutes" 'BEGIN { printf "%d", m * 60 }')
[ "$seconds" -ge 1 ] || wrong "MINUTES of $minutes is no second"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$CRASHES"
touch "$work/begun"
declare -A running=()  # process id: name
interrupted=no

begin() {
  local name=$1
  mkdir -p "$GROWN/$name"
  count_files "$GROWN/$name" >"$work/$name.before"
  date +%s >"$work/$name.at"
  say "fuzzing $name for $minutes min …"
  # libFuzzer looks at its time between inputs only.
  timeout --signal=TERM --kill-after=10 $((seconds + 120)) "$(program_of "$name")" \
    "-max_total_time=$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    "-artifact_prefix=$CRASHES/$name-" "$GROWN/$name" "$here/corpus/$name" \
    >"$work/$name.log" 2>&1 </dev/null &
  running[$!]=$name
}

interrupt() {
  interrupted=yes
  [ "${#running[@]}" -eq 0 ] || kill -TERM "${!running[@]}" 2>/dev/null || true
}
trap interrupt INT TERM

# Waits until one of those that run has ended.
await_one() {
  local process
  wait -n "${!running[@]}" 2>/dev/null || true
  for process in "${!running[@]}"; do
    if ! kill -0 "$process" 2>/dev/null; then
      wait "$process" 2>/dev/null || true
      unset "running[$process]"
    fi
  done
}

for name in "${names[@]}"; do
  while [ "${#running[@]}" -ge "$jobs" ]; do
    await_one
  done
  [ "$interrupted" = no ] || break
  begin "$name"
done
while [ "${#running[@]}" -gt 0 ]; do
  await_one
done
trap - INT TERM

# ---- the report

# number PATTERN LOG: the last number behind PATTERN.
number() { { grep -oE "$1 *[0-9]+" "$2" || true; } | tail -n 1 | grep -oE '[0-9]+$' || echo 0; }

found=0 rows=()
printf '\n%-16s %12s %8s %8s %8s %8s %8s\n' target executions exec/s cov ft new crashes
for name in "${names[@]}"; do
  log=$work/$name.log
  [ -e "$log" ] || continue
  executions=$(number 'stat::number_of_executed_units:' "$log")
  [ "$executions" -gt 0 ] || executions=$(number '^#' "$log")
  elapsed=$(($(stat -c %Y "$log") - $(cat "$work/$name.at")))
  rate=$((executions / (elapsed > 0 ? elapsed : 1)))
  cov=$(number 'cov:' "$log") ft=$(number 'ft:' "$log")
  new=$(($(count_files "$GROWN/$name") - $(cat "$work/$name.before")))
  crashes=$(find "$CRASHES" -newer "$work/begun" -name "$name-*" ! -name '*slow-unit*' | wc -l)
  found=$((found + crashes))
  if [ "$executions" -eq 0 ]; then
    found=$((found + 1))
    say "$name did not run; the end of its output:"
    tail -n 20 "$log" | sed 's/^/    /'
  fi
  printf '%-16s %12d %8d %8d %8d %8d %8d\n' "$name" "$executions" "$rate" "$cov" "$ft" "$new" \
    "$crashes"
  rows+=("$(printf '{"target":"%s","executions":%d,"executions_per_second":%d,"cov":%d,"ft":%d,"new_inputs":%d,"crashes":%d}' \
    "$name" "$executions" "$rate" "$cov" "$ft" "$new" "$crashes")")
done
if [ -n "$json" ]; then
  printf '{"minutes_each":%s,"jobs":%d,"targets":[%s]}\n' "$minutes" "$jobs" \
    "$(IFS=,; printf '%s' "${rows[*]:-}")" >"$json"
fi
printf '\n'
if [ "$found" -gt 0 ]; then
  for input in "$CRASHES"/*; do
    [ "$input" -nt "$work/begun" ] && printf '    %s\n' "${input#"$PACSVISOR_ROOT"/}"
  done
  die "$found findings" "What to do with them: tests/fuzz/run.sh --help"
fi
[ "$interrupted" = no ] || exit 130
say "fuzzed ${#rows[@]} targets for $minutes min each, nothing found"
