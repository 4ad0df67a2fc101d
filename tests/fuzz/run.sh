#!/usr/bin/env bash
# Fuzzes every target for MINUTES each, from the committed corpus on. New inputs stay in
# build/fuzz-corpus; one that crashes is left in build/fuzz-crashes: fix it, then add it to
# tests/fuzz/corpus, so that it replays for ever.
# usage: tests/fuzz/run.sh MINUTES [NAME…]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../../guests/lib/common.sh"

minutes=${1:-}
[[ $minutes =~ ^[0-9]+$ ]] || die "usage: tests/fuzz/run.sh MINUTES [NAME…]"
shift
need_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
build_pacsvisor fuzz pacsvisor_fuzz

names=("$@")
if [ "${#names[@]}" -eq 0 ]; then
  for program in "$PACSVISOR_ROOT"/build/fuzz/tests/fuzz/*_fuzz; do
    name=$(basename "$program")
    names+=("${name%_fuzz}")
  done
fi

crashes=$PACSVISOR_ROOT/build/fuzz-crashes
mkdir -p "$crashes"
failed=()
for name in "${names[@]}"; do
  program=$PACSVISOR_ROOT/build/fuzz/tests/fuzz/${name}_fuzz
  [ -x "$program" ] || die "there is no fuzz target called $name"
  grown=$PACSVISOR_ROOT/build/fuzz-corpus/$name
  mkdir -p "$grown"
  run_step "fuzzing $name for $minutes min" limited $((minutes * 60 + 120)) \
    "$program" -max_total_time=$((minutes * 60)) -timeout=20 -rss_limit_mb=2048 \
    "-artifact_prefix=$crashes/$name-" "$grown" "$here/corpus/$name" || failed+=("$name")
done
[ "${#failed[@]}" -eq 0 ] || die "found something in: ${failed[*]}" "The inputs are in $crashes"
say "fuzzed ${#names[@]} targets, nothing found"
