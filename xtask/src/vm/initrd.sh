#!/bin/busybox sh
# PID 1 before the disk is there: loads the modules for it, and goes on there.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
while read -r module; do
    insmod "$module" || echo "cowtrace-vm: no module $module"
done < /order
disk=$(sed -n 's/.*root=\([^ ]*\).*/\1/p' /proc/cmdline)
tries=0
while [ ! -b "$disk" ] && [ $tries -lt 100 ]; do
    tries=$((tries + 1))
    usleep 100000
done
mount -t ext4 "$disk" /disk
umount /dev
umount /proc
exec switch_root /disk /init
