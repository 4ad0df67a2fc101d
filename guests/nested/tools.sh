#!/usr/bin/env bash
# Collects the nested machine's root file system from the host's own Debian: programs with the
# libraries that the dynamic linker names for them, busybox for the rest.
# usage: tools.sh image FOLDER        makes FOLDER/tools.raw, an ext4 image labelled "tools"
#        tools.sh add TREE FILE…      adds programs with their libraries to TREE/bin and TREE/lib
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../lib/common.sh"

PROGRAMS=(bash curl jq ip e2fsck dumpe2fs storescu findscu echoscu dump2dcm dcmftest dcmdump
  dcmodify)
# Of use to some jobs, and not worth installing for the others.
OPTIONAL_PROGRAMS=(qemu-img iperf3 fio strace)

# Copies FILE to TREE/bin, and the libraries it asks for to TREE/lib, where the linker looks first.
add_program() {
  local tree=$1 file=$2 library
  install -D "$file" "$tree/bin/$(basename "$file")"
  # A static program has none; ldd then fails.
  { ldd "$file" 2>/dev/null || true; } | sed -nE 's,^[^/]*(/[^ :]+) .*,\1,p' |
    while read -r library; do
      [ -e "$tree/lib/$(basename "$library")" ] ||
        install -D -m 755 "$library" "$tree/lib/$(basename "$library")"
    done
}

add_programs() {
  local tree=$1 program path
  for program in "${PROGRAMS[@]}" "${OPTIONAL_PROGRAMS[@]}"; do
    if path=$(command -v "$program"); then
      add_program "$tree" "$path"
    elif [[ " ${PROGRAMS[*]} " == *" $program "* ]]; then
      die "this machine has no $program" "Install the package sets of guests/lib/common.sh."
    fi
  done
  add_program "$tree" "$(command -v busybox)"
  for program in $(busybox --list); do
    [ -e "$tree/bin/$program" ] || ln -s busybox "$tree/bin/$program"
  done
}

add_data() {
  local tree=$1 folder
  # dcmtk looks its dictionaries up at the path it was built with.
  for folder in /usr/share/libdcmtk* /etc/dcmtk; do
    [ ! -d "$folder" ] || (mkdir -p "$tree$folder" && cp -rL "$folder/." "$tree$folder/")
  done
  printf 'root:x:0:0:root:/root:/bin/bash\n' >"$tree/etc/passwd"
  printf 'root:x:0:\n' >"$tree/etc/group"
  printf '127.0.0.1 localhost l1\n' >"$tree/etc/hosts"
  ln -s /proc/mounts "$tree/etc/mtab"
}

make_tree() {
  local tree=$1
  mkdir -p "$tree"/{bin,sbin,lib,usr,dev,proc,sys,run,tmp,root,etc,job,images,out}
  # One folder of libraries, whichever name a program was linked with.
  ln -s lib "$tree/lib64"
  ln -s . "$tree/lib/x86_64-linux-gnu"
  ln -s ../bin ../sbin ../lib ../lib64 "$tree/usr/"
  add_programs "$tree"
  add_data "$tree"
  gcc -O2 -Wall -Wextra -Werror -static -o "$tree/bin/exit-qemu" "$here/exit-qemu.c"
  install -m 755 "$here/l1" "$tree/sbin/l1"
}

case ${1:-} in
  image)
    tree=$2/tree
    make_tree "$tree"
    size_mib=$(($(du -sm "$tree" | cut -f 1) + 512))
    bash "$here/../lib/ext4.sh" "$2/tools.raw" tools "$size_mib" "$tree"
    rm -rf "$tree"
    ;;
  add)
    tree=$2
    for file in "${@:3}"; do
      add_program "$tree" "$file"
    done
    ;;
  *) die "usage: tools.sh image FOLDER | tools.sh add TREE FILE…" ;;
esac
