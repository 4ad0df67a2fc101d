#!/usr/bin/env bash
# Turns an installed tree (a tar) into a root and a data image. Run under fakeroot.
# usage: pack.sh ROOT.TAR OUTPUT-FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

tar=$1 output=$2
root=$output/root
mkdir "$root"
# Device nodes are the running kernel's business (devtmpfs).
tar -x -f "$tar" -C "$root" --numeric-owner --exclude='./dev/*'

# The same two files the guest has in /boot: what is booted is what is installed.
if [ -d "$root/boot" ] && ls "$root"/boot/vmlinuz-* >/dev/null 2>&1; then
  cp "$root"/boot/vmlinuz-* "$output/kernel"
  cp "$root"/boot/initrd.img-* "$output/initrd"
fi
dpkg-query --admindir="$root/var/lib/dpkg" -W >"$output/packages"

# Orthanc's folder moves to a disk of its own, with its owner; the mount point stays, empty.
mkdir "$output/data"
chown --reference="$root/var/lib/orthanc" "$output/data"
chmod --reference="$root/var/lib/orthanc" "$output/data"
find "$root/var/lib/orthanc" -mindepth 1 -delete

used_mib=$(du -sm "$root" | cut -f 1)
bash "$here/../lib/ext4.sh" "$output/root.raw" root $((used_mib * 5 / 4 + 256)) "$root"
bash "$here/../lib/ext4.sh" "$output/data.raw" orthanc 1024 "$output/data"
rm -rf "$root" "$output/data"
cd "$output"
sha256sum ./* >SHA256SUMS.new
mv SHA256SUMS.new SHA256SUMS
