# SPDX-License-Identifier: Apache-2.0
"""disk_guest: a stock Debian kernel whose only work is a synthetic disk.

Its initrd holds busybox and Debian's own modules from hv_vmbus to ext4.  The guest mounts
the first disk, then writes files, each with its checksum, and makes each durable before it
says so, until a line is typed on its console; then it checks all of them, unmounts and
powers off.
"""
import shutil
from pathlib import Path

from tests.hosts.kernels import Cpio, Kernel, module_bytes

MODULES = ["hv_vmbus", "hv_storvsc", "sd_mod", "crc32c_generic", "ext4"]

INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /mnt
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
for m in %(modules)s; do
	insmod /modules/$m || echo "guest: FAIL module $m"
done
end() {
	echo KLOG-BEGIN
	dmesg -r | grep -E '^<[0-4]>|BUG|Oops|I/O error|sd |storvsc'
	echo KLOG-END
	stty opost
	poweroff -f
}
n=0
while [ ! -b /dev/sda ] && [ $n -lt 100 ]; do
	usleep 100000
	n=$((n + 1))
done
# 32 hexadecimal digits behind the page's head.
echo "guest: disks $(cd /sys/block && echo sd*) serial $(tail -c 32 /sys/block/sda/device/vpd_pg80)"
mount -t ext4 -o discard /dev/sda /mnt || { echo "guest: FAIL mount"; end; }
cd /mnt
i=0
while ! read -t 1 line; do
	dd if=/dev/urandom of=file$i bs=4k count=$((16 + i %% 64)) 2>/dev/null || echo "guest: FAIL write"
	md5sum file$i >>sums
	[ $((i %% 5)) = 4 ] && rm file$((i - 1)) && sed -i "/file$((i - 1))\\$/d" sums
	sync
	echo "guest: durable $i"
	i=$((i + 1))
done
echo 3 >/proc/sys/vm/drop_caches
if md5sum -c sums >/dev/null; then
	echo "guest: OK files=$(wc -l <sums) of=$i"
else
	echo "guest: FAIL sums"
fi
cd /
umount /mnt || echo "guest: FAIL umount"
end
"""


def build(path, kernel="standard"):
    """The initrd for that stock kernel, written to path; returns the Kernel."""
    k = Kernel(kernel)
    archive = Cpio()
    busybox = shutil.which("busybox")
    assert busybox, "there is no busybox: run tools/setup"
    archive.file("bin/busybox", Path(busybox).read_bytes(), 0o755)
    archive.node("dev/console", 5, 1)
    names = []
    for file in k.module_files(MODULES):
        names.append(file.name.split(".ko")[0] + ".ko")
        archive.file(f"modules/{names[-1]}", module_bytes(file))
    archive.file("init", (INIT % {"modules": " ".join(names)}).encode(), 0o755)
    Path(path).write_bytes(archive.bytes())
    return k
