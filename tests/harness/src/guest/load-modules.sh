#!/bin/busybox sh
# Loads modules with all that they depend on: /lib/modules/NAME.needs lists those in order.
for wanted; do
    if [ ! -e "/lib/modules/$wanted.needs" ]; then
        echo "no module $wanted in the boot image" >&2
        exit 1
    fi
    read -r needs <"/lib/modules/$wanted.needs"
    for name in $needs; do
        [ -d "/sys/module/$name" ] || insmod "/lib/modules/$name.ko" || exit 1
    done
done
