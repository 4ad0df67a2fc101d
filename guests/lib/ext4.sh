#!/usr/bin/env bash
# Makes an ext4 image from a folder, without mounting anything.
# usage: ext4.sh IMAGE LABEL SIZE-MIB FOLDER
#
# The same input gives the same layout: UUID and hash seed follow from the label, times from
# SOURCE_DATE_EPOCH. Inode tables are written now, or the guest would do it in the background and
# disturb every measurement of dirty blocks. `-d` copies every file's owner but the top folder's.
set -euo pipefail

image=$1 label=$2 size_mib=$3 folder=$4
seed=$(sha256sum <<<"pacsvisor $label" | cut -c 1-32)
# RFC 4122, section 4.1: version 4 and variant 1 in their places.
uuid=${seed:0:8}-${seed:8:4}-4${seed:13:3}-8${seed:17:3}-${seed:20:12}
options=hash_seed=$uuid,lazy_itable_init=0,lazy_journal_init=0,nodiscard
options+=,root_owner=$(stat -c %u:%g "$folder")
rm -f "$image"
truncate -s "${size_mib}M" "$image"
E2FSPROGS_FAKE_TIME=${SOURCE_DATE_EPOCH:-1735689600} PATH=$PATH:/usr/sbin:/sbin \
  mkfs.ext4 -q -F -L "$label" -U "$uuid" -m 0 -E "$options" -d "$folder" "$image"
