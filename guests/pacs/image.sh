#!/usr/bin/env bash
# Builds a PACS image from the machine's own apt sources and prints the folder it lies in.
# usage: image.sh main|test|tools
#   main    Debian 12 as it is: systemd, Debian's kernel and initrd, Orthanc, qemu-guest-agent
#   test    Debian 12's Orthanc under busybox's init: starts in a tenth of the time
#   tools   the same with fio and iperf3
# The folder holds root.raw and data.raw (ext4, sparse), SHA256SUMS, packages; main also kernel and
# initrd, byte for byte those in the image's /boot. Built once for each state of the recipe; what an
# earlier state left behind is removed then.
# No root needed where user namespaces are allowed; nothing is mounted, no loop device is used.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../lib/common.sh"

export SOURCE_DATE_EPOCH=1735689600
RELEASE=bookworm

MAIN_INCLUDES=(
  systemd-sysv udev dbus kmod iproute2 procps linux-image-cloud-amd64 initramfs-tools busybox zstd
  orthanc qemu-guest-agent
)
TEST_INCLUDES=(busybox-static iproute2 orthanc)
TOOLS_INCLUDES=("${TEST_INCLUDES[@]}" fio iperf3)

# The machine's own Debian sources, as mmdebstrap takes them; other vendors' are left out.
apt_sources() {
  # shellcheck disable=SC2016  # apt's placeholders, not the shell's.
  apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI) $(COMPONENT)' \
    'Created-By: Packages' |
    awk -v release="$RELEASE" '$1 == "Debian" && $2 ~ "^" release && !seen[$0]++ {
      print "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]", $3, $2, $4 }'
}

# How this machine reaches them: proxies, validity of frozen mirrors.
apt_options() {
  apt-config dump --no-empty Acquire | grep -vE '^Acquire::(IndexTargets|Languages|cdrom)' || true
}

# Set-up scripts and files where mmdebstrap's user namespace can read them, whatever the umask or
# the permissions of the checkout.
stage_recipe() {
  local stage=$1 overlay=$2
  cp -R "$here/$overlay" "$stage/overlay"
  install -D -m 755 "$here/gap-watch" "$stage/overlay/usr/local/sbin/gap-watch"
  cp "$here/setup-common.sh" "$stage/setup-common.sh"
  cp "$here/setup-$overlay.sh" "$stage/setup.sh"
  apt_sources >"$stage/sources.list"
  apt_options >"$stage/apt.conf"
  chmod -R u=rwX,go=rX "$stage"
  [ -s "$stage/sources.list" ] || die "apt knows no Debian $RELEASE sources" \
    "The image is Debian 12: add $RELEASE to the apt sources and run apt-get update."
}

install_debian() { # STAGE INCLUDE… -> STAGE/root.tar
  local stage=$1
  shift
  # The overlay's files are to be root's: cp without -p makes them so.
  mmdebstrap --variant=minbase --include="$(
    IFS=,
    printf '%s' "$*"
  )" \
    --aptopt="$stage/apt.conf" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --customize-hook="cp -R '$stage/overlay/.' \"\$1/\"" \
    --customize-hook="bash '$stage/setup-common.sh' \"\$1\"" \
    --customize-hook="bash '$stage/setup.sh' \"\$1\"" \
    "$RELEASE" "$stage/root.tar" "$stage/sources.list"
}

build() {
  local variant=$1 output=$2 stage overlay=test
  local -n includes=${variant^^}_INCLUDES
  [ "$variant" != main ] || overlay=main
  stage=$(mktemp -d "${TMPDIR:-/tmp}/pacs-image.XXXXXX")
  # shellcheck disable=SC2064  # The folder's name is known now.
  trap "rm -rf '$stage'" EXIT
  stage_recipe "$stage" "$overlay"
  install_debian "$stage" "${includes[@]}"
  # Under fakeroot the files' owners are kept without being root.
  fakeroot bash "$here/pack.sh" "$stage/root.tar" "$output"
}

main() {
  local variant=${1:-} self key dir overlay=test
  if [ "$variant" = --build ]; then # how `cached` calls this script again
    build "$2" "$3"
    return
  fi
  case $variant in
    main | test | tools) ;;
    *) die "usage: image.sh main|test|tools" ;;
  esac
  [ "$variant" != main ] || overlay=main
  self=$(realpath "${BASH_SOURCE[0]}")
  mapfile -t recipe < <(find "$here/$overlay" -type f | sort)
  recipe+=("$here/gap-watch" "$here/setup-common.sh" "$here/setup-$overlay.sh" "$here/pack.sh")
  key=$(inputs_hash "$self" "${recipe[@]}" "$here/../lib/ext4.sh" "${recipe[@]#"$here"}")
  dir=$(cache_dir pacs)/$variant-$key
  if [ ! -d "$dir" ]; then
    need_packages "${GUEST_PACKAGES[@]}" >&2
    run_step "building the $variant image (Debian 12, Orthanc)" \
      cached "$dir" bash "$self" --build "$variant" >&2 ||
      die "could not build the $variant image" "The log above says why."
    find "$(dirname "$dir")" -maxdepth 1 -name "$variant-*" ! -name "$(basename "$dir")*" \
      -exec rm -rf {} +
  fi
  printf '%s\n' "$dir"
}

main "$@"
