#!/usr/bin/env bash
# Configures the main image: Debian 12 under systemd. usage: setup-main.sh TREE
set -euo pipefail

tree=$1
# Not needed in an appliance, and each costs start-up time: periodic jobs (a PACS is updated on
# purpose), virtual terminals, modules for hardware that no virtual machine has.
masked=(
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
  e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer getty@tty1.service
  systemd-networkd-wait-online.service systemd-pstore.service sys-kernel-debug.mount
  sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount modprobe@drm.service
  modprobe@efi_pstore.service modprobe@configfs.service sys-kernel-config.mount
  modprobe@fuse.service sys-fs-fuse-connections.mount modprobe@loop.service modprobe@dm_mod.service
  systemd-binfmt.service proc-sys-fs-binfmt_misc.automount
)
for unit in "${masked[@]}"; do
  ln -sf /dev/null "$tree/etc/systemd/system/$unit"
done
chroot "$tree" systemctl enable systemd-networkd.service orthanc.service gap-watch.service

# Empty: systemd makes an identity at the first start, without the first-boot questions.
: >"$tree/etc/machine-id"
rm -f "$tree/var/lib/dbus/machine-id"
# The tree is complete as installed: spare the guest the rebuilding of caches at its first start.
touch "$tree/etc/.updated" "$tree/var/.updated"
# For the serial console: root, password "pacs". Salted by a constant so that images compare equal.
chroot "$tree" usermod -p "$(openssl passwd -6 -salt pacsvisor pacs)" root
