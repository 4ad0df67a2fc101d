#!/bin/bash
# Builds the kernel from Debian's linux-source-6.12 with the patch and configuration beside this
# script; build.sh calls it with the packages installed.
# usage: compile.sh FOLDER: leaves there vmlinux, and in `source` the package it came from
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../lib/common.sh"
[ $# -eq 1 ] || die "usage: compile.sh FOLDER"
readonly source_name=linux-source-6.12

cd "$1"
apt-get -q download "$source_name" || { apt_get update && apt-get -q download "$source_name"; }
package=$(echo "$source_name"_*.deb)
mkdir work
dpkg-deb -x "$package" work
tarball=work/usr/src/$source_name.tar.xz
# The kernel names the source's date and the project, not this machine and this hour.
KBUILD_BUILD_TIMESTAMP=$(date -u -d "@$(stat -c %Y "$tarball")")
export KBUILD_BUILD_TIMESTAMP KBUILD_BUILD_USER=pacsvisor KBUILD_BUILD_HOST=pacsvisor
tar -C work -x -f "$tarball"
tree=work/$source_name
patch --batch --forward -d "$tree" -p1 <"$here/linux-6.12-native.patch"
cp "$here/config" "$tree/.config"
make -C "$tree" olddefconfig
make -C "$tree" -j "$(nproc)" vmlinux
strip -s -o vmlinux "$tree/vmlinux"
# XEN_ELFNOTE_PHYS32_ENTRY (type 18): without it no PVH loader takes the file.
readelf -n -W vmlinux | grep -q 'Xen .*0x00000012' || die "the kernel has no PVH entry note"
dpkg-deb -f "$package" Package Version | sed 's/^[^:]*: //' | paste -s -d ' ' >source
rm -rf work "$package"
