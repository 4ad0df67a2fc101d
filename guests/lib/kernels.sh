#!/usr/bin/env bash
# Prints the folder of a stock Debian kernel of the cloud flavour, fetched once and kept:
#   vmlinuz          the package's file, byte for byte
#   version          its release, e.g. the name of the folder under modules/lib/modules
#   modules/lib/modules/RELEASE   with modules.dep made
# usage: kernels.sh 6.1|6.12
#
# Debian renames the package with every security update, so the name is looked up, never written
# down: the newest of the series that the machine's apt sources offer.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

resolve() {
  local series=$1
  apt-cache search --names-only "^linux-image-${series//./\\.}\\.[0-9].*-cloud-amd64\$" |
    cut -d ' ' -f 1 | sort -V | tail -n 1
}

newest_kept() { # What an earlier run fetched, when apt has no lists (or no network) now.
  local series=$1
  find "$(cache_dir kernels)" -maxdepth 1 -type d -name "linux-image-$series.*-cloud-amd64" |
    sort -V | tail -n 1
}

fetch() {
  local package=$1 dir=$2
  cd "$dir"
  # apt's own user cannot write into our folder.
  apt-get -q -o APT::Sandbox::User=root download "$package"
  dpkg-deb -x ./*.deb unpacked
  cp unpacked/boot/vmlinuz-* vmlinuz
  basename unpacked/boot/vmlinuz-* | sed 's/^vmlinuz-//' >version
  mkdir -p modules/lib
  # Releases after 6.1 may ship modules below /usr/lib.
  mv "$(find unpacked -type d -path '*lib/modules' | head -n 1)" modules/lib/modules
  depmod -b modules "$(cat version)"
  rm -rf unpacked ./*.deb
}

main() {
  local series=${1:-} package self
  if [ "$series" = --fetch ]; then # how `cached` calls this script again
    fetch "$2" "$3"
    return
  fi
  case $series in
    6.1 | 6.12) ;;
    *) die "usage: kernels.sh 6.1|6.12" ;;
  esac
  need_packages kmod xz-utils >&2
  package=$(resolve "$series")
  if [ -z "$package" ]; then
    local kept
    kept=$(newest_kept "$series")
    if [ -n "$kept" ]; then
      printf '%s\n' "$kept"
      return
    fi
    run_step "refreshing apt's package lists" apt_get update >&2 || true
    package=$(resolve "$series")
    [ -n "$package" ] || die "apt offers no linux-image-$series.*-cloud-amd64" \
      "Add Debian 12's main and security suites to the apt sources."
  fi
  local dir
  dir=$(cache_dir kernels)/$package
  if [ ! -d "$dir" ]; then
    self=$(realpath "${BASH_SOURCE[0]}")
    run_step "fetching $package" cached "$dir" bash "$self" --fetch "$package" >&2 ||
      die "could not fetch $package" "apt-get update may help."
  fi
  printf '%s\n' "$dir"
}

main "$@"
