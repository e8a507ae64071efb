#!/bin/sh
# record-container.sh [record.py options]: starts a container out of cgroupfs and unshare(1), lets it work for a moment, records the
# host with it to standard output, and takes it away again. Root; cgroup v1 (also hybrid) or v2; runs in bare guests.
# DISK, if set, is an unused block device: it is formatted and holds the container's root file system (overlay). Else /var/tmp
# does. HUGE_PAGES, if set, is how many the host is to have; the container may use half of them (v2). Written is past the page cache, since v1 counts only that for the cgroup that did it.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
NAME=machine.slice/web-1
TOP=/sys/fs/cgroup
WORK=$(mktemp -d /var/tmp/record.XXXXXX)
INIT=

put() { echo "$2" >"$1" || echo "record-container: $1: refused $2" >&2; }

groups() { # the cgroup's folder in each hierarchy
    if [ -e $TOP/cgroup.controllers ]; then echo "$TOP/$NAME"; return; fi
    for hierarchy in "$TOP"/*/; do [ ! -e "$hierarchy/cgroup.procs" ] || echo "$hierarchy$NAME"; done
}

cleanup() {
    [ -z "$INIT" ] || kill -9 "$INIT" 2>/dev/null || :
    sleep 0.5
    for group in $(groups); do rmdir "$group" "${group%/*}" 2>/dev/null || :; done
    umount -l "$WORK/merged" "$WORK/disk" 2>/dev/null || :
    rm -rf "$WORK"
}
trap cleanup EXIT

mkdir "$WORK/disk" "$WORK/merged"
if [ -n "${DISK:-}" ]; then
    mkfs.ext4 -q "$DISK"
    mount "$DISK" "$WORK/disk"
fi
mkdir "$WORK/disk/lower" "$WORK/disk/upper" "$WORK/disk/work"
mkdir "$WORK/disk/lower/bin" "$WORK/disk/lower/dev" "$WORK/disk/lower/proc" "$WORK/disk/lower/sys" "$WORK/disk/lower/tmp"
cp "$(command -v busybox)" "$WORK/disk/lower/bin/"
mount -t overlay -o "lowerdir=$WORK/disk/lower,upperdir=$WORK/disk/upper,workdir=$WORK/disk/work" overlay "$WORK/merged"
# one node under another name than the host's, one that is no block device
mknod "$WORK/merged/dev/null" c 1 3
mknod "$WORK/merged/dev/zero" c 1 5
[ -z "${DISK:-}" ] || mknod "$WORK/merged/dev/xvda" b $((0x$(stat -c %t "$DISK"))) $((0x$(stat -c %T "$DISK")))

[ -z "${HUGE_PAGES:-}" ] || put /proc/sys/vm/nr_hugepages "$HUGE_PAGES"
for group in $(groups); do
    mkdir -p "${group%/*}"
    case $group in
    $TOP/machine.slice/*)
        put "${group%/*}/cgroup.subtree_control" "+cpu +cpuset +memory +io +pids +hugetlb"
        put "${group%/*}/memory.max" 402653184
        ;;
    */cpuset/*) cat "${group%/*/*}/cpuset.cpus" >"${group%/*}/cpuset.cpus"; cat "${group%/*/*}/cpuset.mems" >"${group%/*}/cpuset.mems" ;;
    esac
    mkdir -p "$group"
    case $group in
    $TOP/machine.slice/*)
        put "$group/memory.max" 268435456
        [ ! -e "$group/memory.swap.max" ] || put "$group/memory.swap.max" 67108864
        put "$group/cpu.max" "150000 100000"
        put "$group/cpuset.cpus" 1-2
        [ -z "${HUGE_PAGES:-}" ] || put "$group/hugetlb.2MB.max" $((HUGE_PAGES / 2 << 21))
        ;;
    */cpuset/*) put "$group/cpuset.cpus" 1; cat "${group%/*}/cpuset.mems" >"$group/cpuset.mems" ;;
    */memory/*) put "$group/memory.limit_in_bytes" 268435456 ;;
    */cpu/*) put "$group/cpu.cfs_quota_us" 150000 ;;
    */blkio/*) # Linux 6.10 and later count only where some limit is set
        put "$group/blkio.throttle.read_bps_device" "$(mountpoint -d "$(stat -c %m "$WORK/disk")") 1000000000000"
        ;;
    esac
done

# The container: in its cgroups first, then into namespaces of its own; its init works a little and then waits.
cat >"$WORK/disk/lower/init.sh" <<'END'
busybox mount -t proc proc /proc
busybox dd if=/dev/zero of=/tmp/data bs=1M count=40 oflag=direct 2>/dev/null
busybox sync
busybox sleep 1000 &
if [ "$(busybox wc -l </proc/swaps)" -gt 1 ]; then  # more than the limit: some of it is swapped out
    busybox mount -t tmpfs tmpfs /sys
    busybox dd if=/dev/zero of=/sys/data bs=1M count=270 2>/dev/null
fi
i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done
busybox md5sum /tmp/data >/dev/null
wait
END
sh -c '
    for group in $1; do echo $$ >"$group/cgroup.procs"; done
    exec unshare --mount --pid --fork --cgroup --kill-child chroot "$2/merged" /bin/busybox sh /init.sh
' - "$(groups)" "$WORK" >&2 &
OUTER=$!
tries=0
until [ -n "$INIT" ] && [ "$(wc -w <"/proc/$INIT/task/$INIT/children")" -ge 1 ]; do
    sleep 0.1
    tries=$((tries + 1))
    [ $tries -lt 100 ] || exit 1
    INIT=$(cut -d' ' -f1 "/proc/$OUTER/task/$OUTER/children")
done
sleep "${WAIT:-3}"
PID=$(cut -d' ' -f1 "/proc/$INIT/task/$INIT/children")
"${PYTHON:-python3}" "$HERE/record.py" --init "$INIT" --pid "$PID" "$@"
