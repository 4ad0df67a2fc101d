#!/usr/bin/env bash
# Configures the test image: the same Debian and Orthanc under busybox's init.
# usage: setup-test.sh TREE
set -euo pipefail

tree=$1
ln -sf /bin/busybox "$tree/sbin/init"
mkdir -p "$tree/root" "$tree/run" "$tree/var/lib/orthanc"
