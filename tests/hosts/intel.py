# SPDX-License-Identifier: Apache-2.0
"""intel: an Intel test host, bochs interpreting a Haswell with VMX and EPT.

It boots Debian's cloud kernel from an ISO with an initrd made for the purpose,
runs one script, and powers off.  There is no other way in or out: files go in
with the initrd, and what the script prints comes out over the serial port.
Slow (about 90 million instructions/s), so: small files, short scripts.
"""
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import proc
from .channel import CommandFailed, CommandTimeout, HostError
from .kernels import Cpio, Kernel, module_bytes

ISOLINUX = "/usr/lib/ISOLINUX/isolinux.bin"
LDLINUX = "/usr/lib/syslinux/modules/bios/ldlinux.c32"
BEGIN, END = "LIFEBOAT-SCRIPT-BEGIN", "LIFEBOAT-SCRIPT-END"

# A root filesystem in memory, but a real one: from the initramfs itself no
# pivot_root is possible, which a sandbox needs.
INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /new /proc /sys /dev /mover
/bin/busybox cp /bin/busybox /mover/
B=/mover/busybox
$B mount -t tmpfs -o size=90% root /new
$B mkdir /new/proc /new/sys /new/dev /new/tmp /new/run /new/root
for d in /*; do
	case $d in /new | /proc | /sys | /dev | /root | /mover | /init) ;;
	/tmp | /run) $B mv $d/* $d/.[!.]* /new$d/ 2>/dev/null ;;
	*) $B mv $d /new/ ;; esac
done
exec $B switch_root /new /start
"""

START = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
/bin/busybox --install -s /bin
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
chmod 1777 /tmp
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts devpts /dev/pts
ln -sf /proc/self/fd /dev/fd
hostname intel
ifconfig lo 127.0.0.1 up
for m in $(cat /modules/order); do insmod /modules/$m || echo "intel host: cannot load $m"; done
# Raw: what the script prints comes out byte for byte.
stty -opost
echo %(begin)s
cd /root
sh /script 2>&1
echo %(end)s $?
# Waits until the serial port has sent it all.
stty opost
poweroff -f
"""

ISOLINUX_CFG = """serial 0 115200
default host
prompt 0
timeout 0
label host
	kernel /vmlinuz
	append initrd=/initrd console=ttyS0 quiet loglevel=4 mitigations=off nokaslr panic=-1 %(append)s
"""

BOCHSRC = """cpu: model=corei7_haswell_4770, count=1, ips=200000000, reset_on_triple_fault=0
memory: guest=%(memory)d, host=%(memory)d
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path="%(iso)s", status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=%(com1)s
display_library: rfb, options="timeout=0"
sound: driver=dummy, waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
clock: sync=none, time0=utc
log: %(log)s
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
"""


@dataclass
class IntelResult:
    """code: the script's exit code; out: what it printed; console: all of it."""
    code: int
    out: str
    console: str
    seconds: float


def libraries(path):
    """The shared libraries and the loader that an ELF program needs."""
    said = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
    return [m.group(1) for m in re.finditer(r"(?:=> |^\s*)(/\S+) \(0x", said.stdout, re.M)]


def _initrd(kernel, files, script):
    image = Cpio()
    busybox = shutil.which("busybox")
    if busybox is None:
        raise HostError("there is no busybox: run tools/setup")
    image.file("bin/busybox", Path(busybox).read_bytes(), 0o755)
    image.link("bin/sh", "busybox")
    modules = kernel.module_files(["kvm-intel"])
    for m in modules:
        image.file(f"modules/{m.name.split('.ko')[0]}.ko", module_bytes(m))
    image.file("modules/order",
               "".join(f"{m.name.split('.ko')[0]}.ko\n" for m in modules).encode())
    for item in files:
        source, target = (item, item) if isinstance(item, (str, os.PathLike)) else item
        for found, place in _walk(str(source), str(target)):
            _add(image, found, place)
    image.file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    image.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    image.file("script", script.encode(), 0o755)
    image.file("start", (START % {"begin": BEGIN, "end": END}).encode(), 0o755)
    image.file("init", INIT.encode(), 0o755)
    return image.bytes()


def _walk(source, target):
    """A file, or all files beneath a directory, with their places in the host."""
    if not os.path.isdir(source):
        yield source, target
        return
    for top, _, names in os.walk(source):
        for name in sorted(names):
            path = os.path.join(top, name)
            yield path, os.path.join(target, os.path.relpath(path, source))


def _add(image, source, target):
    if image.has(target):
        return
    data = Path(source).read_bytes()
    mode = os.stat(source).st_mode & 0o777
    image.file(target, data, mode)
    if data.startswith(b"\x7fELF") and mode & 0o111:
        for library in libraries(source):
            if not image.has(library):
                image.file(library, Path(library).read_bytes(), 0o755)


def _iso(work, kernel, initrd, append):
    tree = Path(work / "iso")
    (tree / "isolinux").mkdir(parents=True)
    for needed in (ISOLINUX, LDLINUX):
        if not os.path.exists(needed):
            raise HostError(f"there is no {needed}: run tools/setup")
        shutil.copy(needed, tree / "isolinux")
    shutil.copy(kernel.image, tree / "vmlinuz")
    (tree / "initrd").write_bytes(initrd)
    (tree / "isolinux" / "isolinux.cfg").write_text(ISOLINUX_CFG % {"append": append})
    iso = work / "host.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", iso, "-R", "-b",
                    "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot",
                    "-boot-load-size", "4", "-boot-info-table", str(tree)],
                   check=True, capture_output=True)
    return iso


def _alone():
    """A command prefix that hides bochs' screen server (a TCP port) in a network of
    its own.  The parent-death signal of proc.start() does not outlast the change
    into a user namespace, so it is asked for again."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-current-user"]
    prefix = ["unshare", *user, "--net", "--", "setpriv", "--pdeathsig", "KILL", "--"]
    tried = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    return prefix if tried.returncode == 0 else []


def run_intel_host(files, script, timeout=300, *, check=True, memory_mib=1024,
                   kernel="cloud", append=""):
    """Run a shell script on a fresh Intel host with KVM on VMX and EPT.

    files: paths, or (path here, path there); directories whole; programs bring
    their libraries.  Raises CommandFailed, CommandTimeout or HostError."""
    work = proc.WorkDir()
    child = None
    began = time.monotonic()
    try:
        stock = Kernel(kernel)
        iso = _iso(work, stock, _initrd(stock, files, script), append)
        com1, log = work / "com1", work / "bochs.log"
        Path(work / "rc").write_text(BOCHSRC % {
            "memory": memory_mib, "iso": iso, "com1": com1, "log": log})
        Path(work / "go").write_text("c\n")
        with open(work / "bochs.out", "wb") as out:
            child = proc.start([*_alone(), "bochs", "-q", "-f", work / "rc", "-rc", work / "go"],
                               stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                               env=dict(os.environ, BXSHARE="/usr/share/bochs"))
        while child.poll() is None and time.monotonic() - began < timeout:
            if _ended(_text(com1)):
                break
            time.sleep(0.2)
        late = time.monotonic() - began >= timeout
        proc.kill(child)
        return _result(_text(com1), late, timeout, time.monotonic() - began, check,
                       _text(work / "bochs.out") + _text(log))
    finally:
        proc.kill(child)
        work.close()


def _ended(console):
    return re.search(rf"^{END} (\d+)\r?\n", console, re.M)


def _result(console, late, timeout, seconds, check, bochs):
    end = _ended(console)
    out = console.partition(BEGIN + "\n")[2].partition(END)[0]
    if end is None:
        if late:
            raise CommandTimeout(f"the Intel host was killed after {timeout} s; its last words: "
                                 f"{console[-1000:]!r}", out.encode())
        raise HostError(f"the Intel host stopped before its script ended\n--- console\n"
                        f"{console[-3000:]}\n--- bochs\n{bochs[-2000:]}")
    result = IntelResult(int(end.group(1)), out, console, seconds)
    if check and result.code != 0:
        raise CommandFailed(_Ending("the script on the Intel host", result.code, out))
    return result


@dataclass
class _Ending:
    """What CommandFailed says of a command, for a script."""
    command: str
    code: int
    out: str
    err: str = ""

    @property
    def ending(self):
        return f"exit code {self.code}"


def _text(path):
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as f:
            return f.read()
    except FileNotFoundError:
        return ""
