#!/usr/bin/env bash
# Makes what the nested tests boot, once; the tests' own time limits then hold for the tests alone.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../../guests/lib/common.sh"

need_packages "${GUEST_PACKAGES[@]}" "${NESTED_PACKAGES[@]}"
guests=$PACSVISOR_ROOT/guests
bash "$guests/pacs/image.sh" test >/dev/null
for kernel in 6.1 6.12; do
  bash "$guests/pacs/test-boot.sh" "$kernel" >/dev/null
done
cached "$PACSVISOR_ROOT/build/cache/study" bash "$guests/pacs/study.sh"
