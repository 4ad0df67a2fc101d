#!/usr/bin/env bash
# Configures Orthanc in a freshly installed Debian tree; called by mmdebstrap as root of the tree.
# usage: setup-common.sh TREE
#
# Orthanc's files are Debian's; four settings differ, each where Debian put it.
set -euo pipefail

tree=$1
orthanc=$tree/etc/orthanc/orthanc.json

set_option() { # NAME VALUE: the option must be there, exactly once
  local name=$1 value=$2
  if [ "$(grep -cE "^ *\"$name\" *:" "$orthanc")" -ne 1 ]; then
    echo "error: Debian's orthanc.json no longer has \"$name\" once" >&2
    exit 1
  fi
  sed -i -E "s/^( *\"$name\" *: *)[^,]*,/\1$value,/" "$orthanc"
}

set_option RemoteAccessAllowed true
# Any viewer of the demonstration may query and fetch, not only modalities listed one by one.
set_option DicomAlwaysAllowFind true
set_option DicomAlwaysAllowGet true
printf '{\n  "RegisteredUsers" : { "pacs" : "pacs" }\n}\n' >"$tree/etc/orthanc/credentials.json"

echo pacs >"$tree/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 pacs\n' >"$tree/etc/hosts"
: >"$tree/etc/resolv.conf"
# Orthanc ends with status 255 where this link is missing.
ln -sf /usr/share/zoneinfo/Etc/UTC "$tree/etc/localtime"
# What mmdebstrap took over from the host's apt (a proxy, for one) is the host's own business.
rm -f "$tree/etc/apt/apt.conf.d/99mmdebstrap"
