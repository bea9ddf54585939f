#!/bin/busybox sh
# PID 1 of the virtual machine: runs the tests on each backend, prints their results, and powers off.
/bin/busybox --install -s /sbin
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
chmod 1777 /tmp
ip link set lo up
echo "cowtrace-vm: alive"
word() { sed -n "s/.*cowtrace\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
cd /tmp
for backend in $(word backends | tr , ' '); do
    echo "cowtrace-vm: begin $backend"
    COWTRACE_BACKEND=$backend COWTRACE_SUBJECTS=/cowtrace/subjects COWTRACE_BIN=/usr/local/bin/cowtrace \
        COWTRACE_WORKLOAD=/usr/local/bin/cowtrace-workload /cowtrace/live --test-threads=1 $(word tests | tr , ' ') 2>&1
    echo "cowtrace-vm: end $backend $?"
done
poweroff -f
