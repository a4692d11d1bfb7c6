#!/bin/busybox sh
# First and only process of the guest: takes commands from the virtio port named "agent".
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /root
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
/bin/load-modules virtio_pci virtio_console virtio_net
/usr/sbin/ip link set lo up

port=
while [ -z "$port" ]; do
    for name in /sys/class/virtio-ports/*/name; do
        [ -e "$name" ] && [ "$(cat "$name")" = agent ] && port=/dev/$(basename "$(dirname "$name")")
    done
    [ -n "$port" ] && [ -e "$port" ] || { port=; usleep 10000; }
done
exec 3<>"$port"
echo ready >&3

# Requests are one line and, after it, as many bytes as the line says. Answers are the same.
receive() { dd bs="$1" count=1 iflag=fullblock of="$2" <&3 2>/dev/null; }
size() { stat -c %s "$1"; }

while read -r verb bytes path <&3; do
    case $verb in
    run)
        receive "$bytes" /run/script
        /bin/dash /run/script </dev/null >/run/stdout 2>/run/stderr 3>&-
        echo "done $? $(size /run/stdout) $(size /run/stderr)" >&3
        cat /run/stdout /run/stderr >&3
        ;;
    put)
        receive "$bytes" /run/received
        code=0
        cp /run/received "$path" 2>/run/stderr || code=$?
        echo "done $code 0 $(size /run/stderr)" >&3
        cat /run/stderr >&3
        ;;
    get)
        code=0
        cat "$path" >/run/stdout 2>/run/stderr || code=$?
        echo "done $code $(size /run/stdout) $(size /run/stderr)" >&3
        cat /run/stdout /run/stderr >&3
        ;;
    esac
done
