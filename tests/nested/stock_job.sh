#!/usr/bin/env bash
# Runs inside the nested machine: a stock kernel of Debian under pacsvisor takes a study in and gives
# it back (guests/pacs/job.sh), then what the guest said of itself is held against what it was given.
# Environment: that of job.sh, and
#   EXPECT_RELEASE     the kernel's release
#   EXPECT_MEMORY_MIB  the guest's memory
#   NETWORK            user or tap
set -euo pipefail

if [ "$NETWORK" = tap ]; then
  ip tuntap add dev tap0 mode tap
  ip address add 10.9.0.1/24 dev tap0
  ip link set tap0 up
  export PACS_TAP=tap0 PACS_ADDRESS=10.9.0.2 PACS_CMDLINE=pacs.address=10.9.0.2/24
fi
bash /job/job.sh

# Read to its end: a reader that leaves early fails the pipe.
said=$(tr -d '\r' <"$PACS_OUT/console.log" |
  awk 'match($0, /pacs: Linux .*/) && !found++ { print substr($0, RSTART) }')
[ -n "$said" ] || {
  echo "error: the guest said nothing of itself on its console" >&2
  exit 1
}
echo "the guest: $said"
read -r release processors memory_mib < <(
  sed -nE 's/.*Linux ([^,]*), ([0-9]+) processors, ([0-9]+) MiB.*/\1 \2 \3/p' <<<"$said"
)
failed=no
expect() { # WHAT CONDITION
  if ! (($2)); then
    echo "error: $1" >&2
    failed=yes
  fi
}
if [ "$release" != "$EXPECT_RELEASE" ]; then
  echo "error: the guest runs $release, not $EXPECT_RELEASE" >&2
  failed=yes
fi
expect "the guest sees $processors processors, not $PACS_CPUS" "processors == PACS_CPUS"
# The kernel keeps some for itself (its image, page descriptors, crash and firmware areas): 8 % and
# 64 MiB. More than was given must never be seen.
expect "the guest sees $memory_mib MiB of $EXPECT_MEMORY_MIB" \
  "memory_mib <= EXPECT_MEMORY_MIB && memory_mib >= EXPECT_MEMORY_MIB * 92 / 100 - 64"
[ "$failed" = no ]
