#!/bin/busybox sh
# PID 1 of the virtual machine: sends the kernel's files over the serial line, and powers off.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tracefs tracing /sys/kernel/tracing
mount -t debugfs debug /sys/kernel/debug
mount -t tmpfs tmp /tmp
# Nothing of the kernel's own in between.
dmesg -n 1
echo "cowtrace-vm: alive"
cd /
while read -r file; do
    if [ -r "$file" ]; then
        mkdir -p "/tmp/${file%/*}"
        cat "$file" > "/tmp/$file"
    fi
done < files
if [ ! -e /tmp/proc/sys/kernel/arch ]; then
    uname -m > /tmp/proc/sys/kernel/arch
fi
cd /tmp
echo "cowtrace-freeze: begin"
tar -c -f - . | gzip -1 | base64
echo "cowtrace-freeze: end"
poweroff -f
