#!/bin/busybox sh
# PID 1 of the virtual machine: runs the lab and the tests on each backend, and powers off. The console has what they
# print, between lines that begin with "cowtrace-vm:"; the second serial line has the lab's JSON, compressed.
/bin/busybox --install -s /sbin
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm /dev/pts
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
mount -t devpts pts /dev/pts
mount -t tmpfs run /run
mount -t tracefs trace /sys/kernel/tracing
mount -t debugfs debug /sys/kernel/debug
mount -t cgroup2 cgroup /sys/fs/cgroup
chmod 1777 /tmp
ip link set lo up

say() { echo "cowtrace-vm: $* $(cut -d' ' -f1 /proc/uptime)"; }
word() { sed -n "s/.*cowtrace\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
words() { word "$1" | tr , ' '; }

# All tests that are not left out, each by itself: one that hangs costs its own time only, and the time of each is told.
whole_suite() {
    for test in $(/cowtrace/live --list 2>/dev/null | sed -n 's/: test$//p'); do
        if echo "$test" | grep -q -f left-out; then
            say left-out "$test"
        else
            timeout "$(word seconds)" /cowtrace/live --test-threads=1 --exact "$test" 2>&1
            say test $? "$test"
        fi
    done
}

say alive
results=/dev/$(word results)
stty -F "$results" raw
export COWTRACE_SUBJECTS=/cowtrace/subjects COWTRACE_BIN=/usr/local/bin/cowtrace
export COWTRACE_WORKLOAD=/usr/local/bin/cowtrace-workload COWTRACE_ROUNDS=$(word rounds)
cd /tmp
for backend in $(words backends); do
    export COWTRACE_BACKEND=$backend
    say begin "$backend"
    status=0
    if [ -n "$(word lab)" ]; then
        size=$(word size)
        timeout "$(word seconds)" cowtrace lab --backend "$backend" ${size:+--size $size} --format json -o lab.json \
            $(words lab) 2>said
        status=$?
        sed 's/^/cowtrace-vm: said /' said
        say lab $status
        gzip -1 -c lab.json >"$results"
        rm -f lab.json
    fi
    # 3: cowtrace refuses the backend, and has said why.
    if [ $status != 3 ]; then
        # Counts that may not be exact are not compared.
        case ",$(word unsure)," in
        *",$backend,"*)
            unsure=/cowtrace/exact
            export COWTRACE_UNSURE=1
            ;;
        *)
            unset unsure COWTRACE_UNSURE
            ;;
        esac
        if [ -n "$(word suite)" ]; then
            cat /cowtrace/left-out $unsure >left-out
            whole_suite
        else
            skip=${unsure:+$(sed 's/^^/--skip /; s/\$$//' $unsure)}
            timeout "$(word seconds)" /cowtrace/live --test-threads=1 $skip $(words tests) 2>&1
        fi
        say tests $?
    fi
    say end "$backend"
done
poweroff -f
