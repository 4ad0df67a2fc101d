#!/usr/bin/env bash
# Collects the tools of the nested machine's root file system from the host's own Debian: programs
# with the libraries that the dynamic linker names for them, busybox for the rest.
# usage: tools.sh FOLDER            makes the whole tree in FOLDER
#        tools.sh --add FOLDER FILE… adds programs or files with their libraries to /bin there
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../lib/common.sh"

PROGRAMS=(bash curl jq ip e2fsck dumpe2fs storescu findscu echoscu dump2dcm dcmftest dcmdump)
# Not on every host, and needed by some jobs only.
OPTIONAL_PROGRAMS=(qemu-img iperf3 fio strace)

# Copies what FILE needs to run, to the same paths below ROOT.
add_libraries() {
  local root=$1 file=$2 library
  { ldd "$file" 2>/dev/null || true; } | grep -oE '/[^ ]+' | while read -r library; do
    [ -e "$root$library" ] || install -D -m 755 "$library" "$root$library"
  done
}

add_program() {
  local root=$1 file=$2
  install -D "$file" "$root/bin/$(basename "$file")"
  add_libraries "$root" "$file"
}

make_tree() {
  local root=$1 program path applet
  mkdir -p "$root"/{bin,sbin,lib,lib64,usr,dev,proc,sys,run,tmp,root,etc,job,images,out}
  # As Debian merges them: the linker's names for a library then lead to one file.
  ln -s ../bin ../sbin ../lib ../lib64 "$root/usr/"
  cp "$(command -v busybox)" "$root/bin/busybox"
  for program in "${PROGRAMS[@]}" "${OPTIONAL_PROGRAMS[@]}"; do
    if path=$(command -v "$program"); then
      add_program "$root" "$path"
    elif [[ " ${PROGRAMS[*]} " == *" $program "* ]]; then
      die "this machine has no $program" "Install the packages of guests/lib/common.sh."
    fi
  done
  for applet in $(busybox --list); do
    [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
  done
  cp -L /lib/x86_64-linux-gnu/libnss_files.so.2 "$root/lib/" 2>/dev/null || true
  cp -rL /usr/share/libdcmtk* "$(mkdir -p "$root/usr/share" && echo "$root/usr/share/")"
  [ ! -d /etc/dcmtk ] || cp -rL /etc/dcmtk "$root/etc/"
  printf 'root:x:0:0:root:/root:/bin/bash\n' >"$root/etc/passwd"
  printf 'root:x:0:\n' >"$root/etc/group"
  printf '127.0.0.1 localhost l1\n' >"$root/etc/hosts"
  ln -s /proc/mounts "$root/etc/mtab"
  gcc -O2 -Wall -Wextra -Werror -static -o "$root/bin/exit-qemu" "$here/exit-qemu.c"
  install -m 755 "$here/l1" "$root/sbin/l1"
}

main() {
  if [ "$1" = --add ]; then
    local root=$2 file
    shift 2
    for file in "$@"; do
      add_program "$root" "$file"
    done
  elif [ "$1" = --image ]; then # how `cached` calls this script
    make_tree "$2/tree"
    bash "$here/../lib/ext4.sh" "$2/tools.raw" tools $(($(du -sm "$2/tree" | cut -f 1) + 512)) \
      "$2/tree"
    rm -rf "$2/tree"
  else
    make_tree "$1"
  fi
}

main "$@"
