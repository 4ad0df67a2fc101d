#!/usr/bin/env bash
# Makes what the guest tests run: the native Linux kernel and the test images, in
# build/cache/guest-tests. Quick when they are there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=guests/lib/common.sh
. "$here/../../guests/lib/common.sh"

files=$(cache_dir guest-tests)
need_packages "${GUEST_PACKAGES[@]}"
[ -f "$files/vmlinux" ] || bash "$here/../../guests/native-linux/build.sh" "$files/vmlinux"
image=$(bash "$here/../../guests/pacs/image.sh" tools)
ln -sfn "$image" "$files/tools"
