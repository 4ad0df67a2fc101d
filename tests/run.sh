#!/usr/bin/env bash
# Builds pacsvisor and its guests and passes the tests; installs the Debian packages it misses.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=guests/lib/common.sh
. "$here/../guests/lib/common.sh"

usage() {
  cat <<'EOF'
usage: bash tests/run.sh [--full] [--only PART]…

Builds what is missing, runs the tests, ends with ctest's summary. Status 0: all passed.

  --full        the long set as well: more stock boots, soaks, the main job (an hour)
  --only PART   one of unit, asan, tsan, guest, nested, full (may be given several times)
  --help        this text

examples:
  bash tests/run.sh                       everything that CI runs
  bash tests/run.sh --only unit           the unit tests of the release build
  bash tests/run.sh --only asan --only tsan
EOF
}

parts=()
full=no
while [ $# -gt 0 ]; do
  case $1 in
    --full) full=yes ;;
    --only)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      parts+=("$2")
      shift
      ;;
    --help | -h) usage; exit 0 ;;
    *) printf 'error: unknown argument: %s\n' "$1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
[ "${#parts[@]}" -gt 0 ] || parts=(unit asan tsan guest nested)
[ "$full" = no ] || parts+=(full)
for part in "${parts[@]}"; do
  case $part in
    unit | asan | tsan | guest | nested | full) ;;
    *) printf 'error: there is no part called %s\n' "$part" >&2; usage >&2; exit 2 ;;
  esac
done
wanted() { [[ " ${parts[*]} " == *" $1 "* ]]; }

need_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}" "${GUEST_PACKAGES[@]}" \
  "${NESTED_PACKAGES[@]}"

# run_ctest PRESET LABELS JOBS [OPTION…]: LABELS is a regular expression; more options of ctest.
reports=() failed=0
run_ctest() {
  local report=Testing/report-${#reports[@]}.xml
  say "tests: $1 build, $2"
  reports+=("$1/$report")
  mkdir -p "$PACSVISOR_ROOT/build/$1/Testing"
  rm -f "$PACSVISOR_ROOT/build/$1/$report"
  (cd "$PACSVISOR_ROOT/build/$1" && ctest --label-regex "$2" --no-tests=error \
    --output-on-failure --output-junit "$report" --parallel "$3" "${@:4}") || failed=1
}

# All unit tests run under the address sanitizer; under the thread sanitizer those of folders that
# start threads, or are called from several.
THREAD_TESTS=(
  vmm_base vmm_dirty vmm_memory vmm_disk vmm_store vmm_kvm vmm_snapshot vmm_sandbox vmm_machine
  vmm_control vmm_cli
  devices_bus devices_pci devices_virtio devices_block devices_net devices_console devices_rng
  devices_platform
)

# The unit tests load stock kernels too.
if wanted unit || wanted asan; then
  for series in 6.1 6.12; do
    run_step "Debian's kernel $series" bash "$here/../guests/lib/kernels.sh" "$series"
  done
fi

# The sanitizer builds first: the release build's guests come last and end in the summary.
if wanted asan; then
  build_pacsvisor asan pacsvisor_tests
  run_ctest asan '^(unit|fuzz)$' 2
fi
if wanted tsan; then
  build_pacsvisor tsan "${THREAD_TESTS[@]/%/_test}"
  # A test's name begins with its folder. The other programs are not built.
  folders=$(IFS='|' && printf '%s' "${THREAD_TESTS[*]/_//}")
  run_ctest tsan '^unit$' 2 --tests-regex "^($folders)/"
fi
if wanted unit || wanted guest || wanted nested || wanted full; then
  build_pacsvisor release all
fi
if wanted unit; then
  run_ctest release '^(unit|fuzz|bench|cli)$' 2
fi
if wanted guest; then
  bash "$here/guest/prepare.sh"
  run_ctest release '^guest$' 1
fi
if wanted nested; then
  bash "$here/nested/prepare.sh"
  run_ctest release '^nested$' 1
fi
if wanted full; then
  bash "$here/guest/prepare.sh"
  build_pacsvisor tsan guest_test
  # Not those that copy a guest's memory as it is, or kill what the sanitizer watches.
  TSAN_OPTIONS=suppressions=$here/guest/thread_sanitizer.supp \
    run_ctest tsan '^guest$' 1 --exclude-regex 'Restore|Killed|Snapshot|bench/'
  bash "$here/mutations/run.sh" || failed=1
  bash "$here/nested/prepare.sh"
  run_ctest release '^full$' 1
fi

if [ "$failed" -ne 0 ]; then
  # Of five runs of ctest only the last one's summary is still on the screen.
  (cd "$PACSVISOR_ROOT/build" && python3 "$here/failures.py" "${reports[@]}")
  die "some tests failed" "build/PRESET/Testing/report-*.xml has the output of all of them."
fi
