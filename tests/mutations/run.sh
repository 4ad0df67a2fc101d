#!/usr/bin/env bash
# Removes one check after the other from a copy of the sources, and shows that a test fails each time:
# a test that passes without the check does not test it. tests/mutations/list says which.
# usage: tests/mutations/run.sh [NAME…]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=guests/lib/common.sh
. "$here/../../guests/lib/common.sh"

# A guest that a missing check brings to a standstill is not waited for longer.
readonly test_seconds=60
tree=$PACSVISOR_ROOT/build/mutations/tree
build=$tree/build/release  # where it would lie in a tree of its own: ccache knows the commands
results=$PACSVISOR_ROOT/build/mutations/results

need_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"

# --- The list --------------------------------------------------------------------------------------

names=()
declare -A file from to program filter
read_list() {
  local key value name=
  while IFS= read -r line; do
    [[ $line =~ ^(name|file|from|to|program|filter):\ (.*)$ ]] || continue
    key=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
    case $key in
      name) name=$value names+=("$value") ;;
      file) file[$name]=$value ;;
      from) from[$name]=$value ;;
      to) to[$name]=$value ;;
      program) program[$name]=$value ;;
      filter) filter[$name]=$value ;;
    esac
  done <"$here/list"
}

# --- One mutation ----------------------------------------------------------------------------------

# Copies what differs from the tree of sources, so that little is compiled anew.
copy_sources() {
  mkdir -p "$tree"
  (cd "$PACSVISOR_ROOT" && git ls-files -z --cached --others --exclude-standard |
    tar --null --ignore-failed-read -T - -cf - 2>/dev/null) | tar -xf - -C "$tree"
  mkdir -p "$tree/build"
  ln -sfn "$PACSVISOR_ROOT/build/cache" "$tree/build/cache"
}

# The text must be there, once.
mutate() {
  local name=$1 path=$tree/${file[$1]} text rest
  text=$(cat "$path" && printf x)
  text=${text%x}
  rest=${text#*"${from[$name]}"}
  [ "$rest" != "$text" ] || die "$name: ${file[$name]} has no '${from[$name]}'"
  [[ $rest != *"${from[$name]}"* ]] || die "$name: '${from[$name]}' is in ${file[$name]} twice"
  printf '%s' "${text%"${from[$name]}$rest"}${to[$name]}$rest" >"$path"
}

restore() { cp "$PACSVISOR_ROOT/${file[$1]}" "$tree/${file[$1]}"; }
# A copy with the source's own time would seem older than what was made of the mutation.
mutated=
trap '[ -z "$mutated" ] || restore "$mutated"' EXIT

build_program() {
  nice ninja -C "$build" -j "${JOBS:-2}" "$1" >"$build/log" 2>&1 ||
    { tail -n 20 "$build/log" >&2; die "$2: the build failed"; }
}

run_test() {
  local path=$build/tests/unit/$1
  [ "$1" != guest_test ] || path=$build/tests/guest/$1
  status=0
  limited "$test_seconds" "$path" "--gtest_filter=$2" --gtest_brief=1 >"$build/output" 2>&1 ||
    status=$?
  # A filter that matches nothing passes.
  if grep -q 'Running 0 tests' "$build/output"; then die "no test is called $2"; fi
}

how_it_failed() {
  case $status in
    124) echo "no end" ;;
    1) echo "failed" ;;
    *) echo "aborted ($status)" ;;
  esac
}

# --- All of them -----------------------------------------------------------------------------------

read_list
[ $# -eq 0 ] || names=("$@")
copy_sources
[ -f "$build/build.ninja" ] ||
  (cd "$tree" && cmake --preset release >/dev/null)
survivors=()
: >"$results"
for name in "${names[@]}"; do
  [ -n "${file[$name]:-}" ] || die "there is no mutation called $name"
  mutated=$name
  mutate "$name"
  build_program "${program[$name]}" "$name"
  run_test "${program[$name]}" "${filter[$name]}"
  if [ "$status" -eq 0 ]; then
    survivors+=("$name")
    outcome="PASSED: nobody misses the check"
  else
    outcome=$(how_it_failed)
  fi
  restore "$name"
  mutated=
  printf '%-28s %-44s %s\n' "$name" "${filter[$name]}" "$outcome" | tee -a "$results"
done
say "${#names[@]} checks removed, ${#survivors[@]} not missed"
[ "${#survivors[@]}" -eq 0 ] || die "no test misses: ${survivors[*]}"
