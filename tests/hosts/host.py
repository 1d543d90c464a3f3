# SPDX-License-Identifier: Apache-2.0
"""host: a test host, QEMU emulating an AMD machine with SVM and nested paging.

It runs Debian's stock kernel on this machine's own root filesystem (read-only
over 9p, beneath a tmpfs overlay), so that what is built and installed here is
there as well, with a true /dev/kvm.  What it writes is gone when it stops,
except in the share, a directory of ours that it sees as /run/share.

See README.md for how to use it; agent.py is our hand inside.
"""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from . import proc, tsc
from .channel import Channel, HostDied, HostError
from .kernels import Cpio, Kernel, module_bytes

SHARE = "/run/share"

# What the initrd needs to reach the root filesystem and the agent's port.
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console")

# What the running host loads from /lib/modules at once, if it has use for it.
# Everything else is a `modprobe` away, as on any host.
KVM_MODULES = ["kvm-amd"]
DISK_MODULES = ["virtio_blk", "ext4"]
NET_MODULES = ["virtio_net"]

KERNEL_OPTIONS = ("console=ttyS0 panic=-1 mitigations=off loglevel=5 quiet "
                  "random.trust_cpu=on tsc=reliable nowatchdog cryptomgr.notests "
                  # An emulated CPU spends seconds in ACPI bytecode and RCU grace periods.
                  "pci=noacpi rcupdate.rcu_expedited=1 "
                  # On a busy machine too few ticks come while its kernel counts them, and it
                  # takes the timer for broken: "8254 timer not connected", then silence.
                  "no_timer_check")

INIT = """#!/bin/busybox sh
# First process of a test host: finds the root filesystem and changes over to it.
fail() { echo "lifeboat-host: $*" >/dev/console; exec /bin/busybox poweroff -f; }
/bin/busybox mount -t devtmpfs dev /dev || fail "cannot mount /dev"
for m in $(/bin/busybox cat /modules/order); do
	/bin/busybox insmod /modules/$m || fail "cannot load $m"
done
p=version=9p2000.L,trans=virtio,msize=524288
/bin/busybox mount -t 9p -o $p,cache=loose,ro root /lower || fail "cannot mount the root filesystem"
/bin/busybox mount -t tmpfs -o size=75%% upper /upper || fail "cannot mount a tmpfs"
/bin/busybox mkdir /upper/up /upper/work
/bin/busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/up,workdir=/upper/work root /new ||
	fail "cannot overlay the root filesystem"
cd /new
/bin/busybox mkdir -p proc sys dev run tmp
/bin/busybox mount --move /dev dev
/bin/busybox mount -t proc proc proc
/bin/busybox mount -t sysfs sys sys
/bin/busybox mount -t tmpfs -o mode=755 run run
/bin/busybox mkdir run/share run/lifeboat-host run/lock
/bin/busybox mount -t 9p -o $p,cache=none share run/share || fail "cannot mount the share"
/bin/busybox cp /bin/busybox /agent.py /hold /start run/lifeboat-host/
/bin/busybox mkdir -p lib/modules/$(/bin/busybox uname -r)
/bin/busybox mount --bind "/lower%(modules_path)s" lib/modules/$(/bin/busybox uname -r) ||
	fail "cannot bind %(modules_path)s"
exec /bin/busybox switch_root /new /run/lifeboat-host/busybox sh /run/lifeboat-host/start
"""

START = """
# Process 1 of a test host on its real root filesystem.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM=linux
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
hostname %(name)s
printf '127.0.0.1 localhost\\n%(hosts)s' >/etc/hosts
busybox=/run/lifeboat-host/busybox
$busybox ifconfig lo 127.0.0.1 up
(
	modprobe -a %(modules)s || echo "lifeboat-host: cannot load modules" >/dev/console
	%(network)s
	exec /usr/bin/python3 -IS /run/lifeboat-host/hold
) &
/usr/bin/python3 -IS /run/lifeboat-host/agent.py </dev/null >/dev/console 2>&1 &
agent=$!
# A shell that waits also reaps the orphans that fall to process 1.
while kill -0 $agent 2>/dev/null; do wait $agent; done
echo "lifeboat-host: the agent has ended" >/dev/console
$busybox poweroff -f
"""


# An idle VM, there from the start.  The first and the last VM of a host make its kernel
# patch its own running code (preempt notifiers, APIC keys).  QEMU's multi-threaded
# translator sometimes goes on with what stood there before: int3 again and again, so that
# the host stands still, or no notifier, so that its guests lose registers.
HOLD_A_VM = """import fcntl, signal
kvm = open("/dev/kvm", "r+b", buffering=0)
vm = fcntl.ioctl(kvm, 0xAE01, 0)	# KVM_CREATE_VM
fcntl.ioctl(vm, 0xAE60, 0)		# KVM_CREATE_IRQCHIP
fcntl.ioctl(vm, 0xAE41, 0)		# KVM_CREATE_VCPU
open("/run/lifeboat-host/ready", "w").close()
signal.pause()
"""


class Nic:
    """One network card: one end of a cable.  Made by Cable."""

    def __init__(self, mac, address, local, remote):
        self.mac, self.address, self.local, self.remote = mac, address, local, remote


class Cable:
    """A network cable between two hosts, each end with an address in its subnet.
    A host that is off loses what is sent to it, as on a real cable."""

    def __init__(self, directory, number):
        paths = [os.path.join(str(directory), f"cable{number}{e}") for e in "ab"]
        self.ends = [
            Nic(f"52:54:00:4c:{number:02x}:{i + 1:02x}", f"10.77.{number}.{i + 1}",
                paths[i], paths[1 - i]) for i in (0, 1)]


class Host:
    """One test host.  Not running until start(); a context manager stops it.

    memory_mib, cpus: its size.  disks: nbd.Disk objects, its /dev/vda, vdb...
    kernel: "standard" (Debian's cloud kernel has no 9p).  append: more kernel
    options.  qemu: more options for QEMU."""

    def __init__(self, name="host", *, memory_mib=3072, cpus=2, disks=(), nics=(),
                 names=(), kernel="standard", append="", cpu="EPYC,+svm,+npt", qemu=()):
        self.name = name
        self.memory_mib, self.cpus, self.cpu = memory_mib, cpus, cpu
        self.disks, self.nics, self.names = list(disks), list(nics), list(names)
        self.kernel = Kernel(kernel)
        self.append = append
        self.qemu_options = list(qemu)
        self.work = proc.WorkDir()
        self.share = Path(self.work / "share")
        self.share.mkdir()
        self.boot_seconds = None
        self._qemu = self._channel = self._qmp = None
        self._lock = threading.Lock()

    def __enter__(self):
        if not self.running:
            self.start()
        return self

    def __exit__(self, *_):
        self.close()

    # Power

    @property
    def running(self):
        return self._qemu is not None and self._qemu.poll() is None

    def start(self, timeout=240):
        """Switch it on; returns when commands can be run."""
        if self._qemu is not None:
            raise HostError(f"test host {self.name} is already on")
        began = time.monotonic()
        Path(self.work / "initrd").write_bytes(self._initrd())
        for disk in self.disks:
            disk.plug_in()
        agent, agent_far = socket.socketpair()
        qmp, qmp_far = socket.socketpair()
        try:
            with open(self.work / "qemu.log", "wb") as log:
                self._qemu = proc.start(
                    self._arguments(agent_far.fileno(), qmp_far.fileno()),
                    pass_fds=(agent_far.fileno(), qmp_far.fileno()),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        finally:
            agent_far.close()
            qmp_far.close()
        self._channel = Channel(agent)
        self._qmp = Qmp(qmp)
        hello = self._channel.hello(timeout)
        if hello is None:
            what = self.explain()
            self._off()
            raise HostError(f"test host {self.name} did not come up within {timeout} s\n{what}")
        self.boot_seconds = time.monotonic() - began
        return self

    def power_cut(self, seed=None):
        """Pull the plug: the host and all that its disks had not yet secured is
        gone.  With a seed, some of it survives instead, chosen by the seed."""
        self._off()
        for disk in self.disks:
            disk.power_cut(seed)

    def power_off(self, timeout=30):
        """Switch it off after its filesystems were synced and unmounted."""
        if not self.running:
            return
        self._channel.start("sync; umount -a -t ext4 2>/dev/null; sync; "
                            "/run/lifeboat-host/busybox poweroff -f")
        end = time.monotonic() + timeout
        while self.running and time.monotonic() < end:
            time.sleep(0.05)
        self._off()
        for disk in self.disks:
            disk.unplug()

    def _off(self):
        proc.kill(self._qemu)
        self._qemu = None
        for part in (self._channel, self._qmp):
            if part is not None:
                part.close()
        self._channel = self._qmp = None

    def close(self):
        """Off, and all that belonged to it is removed (not the disks)."""
        self._off()
        for disk in self.disks:
            disk.unplug()
        self.work.close()

    # Commands and files

    def _on(self):
        if self._channel is None:
            raise HostDied(f"test host {self.name} is off")
        return self._channel

    def run(self, command, *, timeout=240, check=True, stdin=b"", env=None, cwd=None):
        """Run a command (a list, or a string for /bin/sh) to its end: a Result.
        Raises CommandFailed unless check=False, CommandTimeout, HostDied."""
        running = self._on().start(command, env=env, cwd=cwd)
        try:
            if stdin:
                running.send(stdin)
            running.send_eof()
        except HostDied:
            pass    # wait() says it better
        return running.wait(timeout, check)

    def spawn(self, command, *, env=None, cwd=None, tty=False, rows=24, cols=80,
              on_output=None):
        """Start a command and return at once: a channel.Command to talk to."""
        return self._on().start(command, env=env, cwd=cwd, tty=tty, rows=rows,
                                cols=cols, on_output=on_output)

    def write(self, path, data, mode=0o644):
        """Make a small file in the host."""
        if isinstance(data, str):
            data = data.encode()
        self.run('mkdir -p "$(dirname "$F")" && cat >"$F" && chmod %o "$F"' % mode,
                 stdin=data, env={"F": str(path)})

    def read(self, path):
        """The bytes of a small file in the host."""
        return self.run(["cat", str(path)]).out_bytes

    def put(self, local, remote, timeout=300):
        """Copy a file or directory of this machine to the path `remote` in the host."""
        with _bag(self.share) as (outside, inside):
            _copy(local, outside / "it")
            self.run('mkdir -p "$(dirname "$TO")" && cp -a --sparse=always "$FROM" "$TO"',
                     env={"FROM": f"{inside}/it", "TO": str(remote)}, timeout=timeout)

    def get(self, remote, local, timeout=300):
        """Copy a file or directory of the host to the path `local` here."""
        with _bag(self.share) as (outside, inside):
            self.run(["cp", "-a", "--sparse=always", str(remote), f"{inside}/it"],
                     timeout=timeout)
            _copy(outside / "it", local)

    # The rest of the machine

    def set_link(self, nic, up):
        """Plug in (up) or pull the cable of network card number `nic`."""
        self.qmp("set_link", name=f"nic{nic}", up=up)

    def qmp(self, command, **arguments):
        """A command for QEMU itself; returns its answer."""
        if self._qmp is None:
            raise HostDied(f"test host {self.name} is off")
        return self._qmp.call(command, arguments)

    @property
    def console(self):
        """All that the host's kernel has printed since it was switched on."""
        return _text(self.work / "console.log")

    @property
    def pid(self):
        return self._qemu.pid if self._qemu else None

    def explain(self):
        """What is known about a host that misbehaves, for error messages."""
        return (f"--- console\n{self.console[-3000:]}\n"
                f"--- qemu\n{_text(self.work / 'qemu.log')[-2000:]}")

    # How it is put together

    def _initrd(self):
        image = Cpio()
        busybox = shutil.which("busybox")
        if busybox is None:
            raise HostError("there is no busybox: run tools/setup")
        image.file("bin/busybox", Path(busybox).read_bytes(), 0o755)
        for d in ("dev", "lower", "upper", "new"):
            image.dir(d)
        image.node("dev/console", 5, 1)
        files = self.kernel.module_files(MODULES)
        for f in files:
            image.file(f"modules/{_plain(f)}", module_bytes(f))
        image.file("modules/order", "".join(_plain(f) + "\n" for f in files).encode())
        image.file("agent.py", Path(__file__).with_name("agent.py").read_bytes(), 0o755)
        image.file("hold", HOLD_A_VM.encode(), 0o644)
        image.file("start", self._start_script().encode(), 0o755)
        init = INIT % {"modules_path": os.path.realpath(self.kernel.modules)}
        image.file("init", init.encode(), 0o755)
        return image.bytes()

    def _start_script(self):
        network = [f"$busybox ifconfig eth{i} {nic.address} netmask 255.255.255.0 up"
                   for i, nic in enumerate(self.nics)]
        hosts = "".join(f"{address} {name}\\n" for name, address in
                        [(self.name, "127.0.1.1"), *self.names])
        modules = (KVM_MODULES + DISK_MODULES * bool(self.disks)
                   + NET_MODULES * bool(self.nics))
        return START % {"name": self.name, "modules": " ".join(modules), "hosts": hosts,
                        "network": "\n\t".join(network)}

    def _arguments(self, agent_fd, qmp_fd):
        ninep = "local,security_model=none,multidevs=remap"
        khz = tsc.khz()
        options = f"{KERNEL_OPTIONS}{f' tsc_early_khz={khz}' if khz else ''} {self.append}"
        args = [
            "qemu-system-x86_64", "-name", self.name, "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot",
            "-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", self.cpu,
            "-smp", self.cpus, "-m", self.memory_mib,
            "-kernel", self.kernel.elf(), "-initrd", self.work / "initrd",
            "-append", options,
            "-serial", f"file:{self.work / 'console.log'}",
            "-chardev", f"socket,id=qmp,fd={qmp_fd}", "-mon", "chardev=qmp,mode=control",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,fd={agent_fd}",
            "-device", "virtserialport,chardev=agent,name=lifeboat.agent",
            "-fsdev", f"{ninep},id=root,path=/,readonly=on",
            "-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
            "-fsdev", f"{ninep},id=share,path={self.share}",
            "-device", "virtio-9p-pci,fsdev=share,mount_tag=share",
        ]
        for i, disk in enumerate(self.disks):
            args += ["-blockdev", f"driver=nbd,node-name=disk{i},server.type=unix,"
                     f"server.path={disk.socket_path},export={disk.export}",
                     "-device", f"virtio-blk-pci,drive=disk{i},serial=disk{i},write-cache=on"]
        for i, nic in enumerate(self.nics):
            args += ["-netdev", f"dgram,id=net{i},local.type=unix,local.path={nic.local},"
                     f"remote.type=unix,remote.path={nic.remote}",
                     "-device", f"virtio-net-pci,netdev=net{i},id=nic{i},mac={nic.mac},romfile="]
        return [str(a) for a in args + self.qemu_options]


class Qmp:
    """QEMU's own control socket (qemu-qmp-ref): one JSON object a line."""

    def __init__(self, sock):
        self._sock = sock
        self._sock.settimeout(30)
        self._file = sock.makefile("rb")
        self._lock = threading.Lock()
        self._ready = False

    def call(self, command, arguments):
        with self._lock:
            try:
                if not self._ready:
                    self._file.readline()
                    self._ask("qmp_capabilities", {})
                    self._ready = True
                return self._ask(command, arguments)
            except (OSError, ValueError) as e:
                raise HostDied(f"QEMU does not answer: {e}") from None

    def _ask(self, command, arguments):
        ask = {"execute": command, "arguments": arguments}
        self._sock.sendall(json.dumps(ask).encode() + b"\n")
        while True:
            line = self._file.readline()
            if not line:
                raise OSError("its control socket was closed")
            answer = json.loads(line)
            if "error" in answer:
                raise HostError(f"QEMU: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def close(self):
        self._file.close()
        self._sock.close()


class Cluster:
    """2 or 3 test hosts, h1, h2..., a cable between every two of them; each knows
    the others by name.  Starts all of them at once."""

    def __init__(self, count, **options):
        if not 2 <= count <= 3:
            raise ValueError("a cluster has 2 or 3 hosts")
        self.work = proc.WorkDir()
        self._ends = {}             # (a, b) -> the number of a's card towards b
        nics = [[] for _ in range(count)]
        names = [[] for _ in range(count)]
        pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
        for number, (a, b) in enumerate(pairs):
            cable = Cable(self.work.path, number)
            for me, other, end in ((a, b, 0), (b, a, 1)):
                self._ends[me, other] = len(nics[me])
                nics[me].append(cable.ends[end])
                names[me].append((f"h{other + 1}", cable.ends[1 - end].address))
        self.hosts = [Host(f"h{i + 1}", nics=nics[i], names=names[i], **options)
                      for i in range(count)]

    def __enter__(self):
        threads, errors = [], []

        def begin(host):
            try:
                host.start()
            except Exception as e:      # handed on below
                errors.append(e)

        for host in self.hosts:
            threads.append(threading.Thread(target=begin, args=(host,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        if errors:
            self.close()
            raise errors[0]
        return self

    def __exit__(self, *_):
        self.close()

    def __getitem__(self, i):
        return self.hosts[i]

    def cable(self, a, b, up):
        """Plug in or pull the cable between hosts number a and b (from 0)."""
        for me, other in ((a, b), (b, a)):
            if self.hosts[me].running:
                self.hosts[me].set_link(self._ends[me, other], up)

    def close(self):
        for host in self.hosts:
            host.close()
        self.work.close()


class _bag:
    """A fresh directory in the share: (its path here, its path in the host)."""

    def __init__(self, share):
        self._share = share

    def __enter__(self):
        self._path = Path(tempfile.mkdtemp(prefix=".bag", dir=self._share))
        return self._path, f"{SHARE}/{self._path.name}"

    def __exit__(self, *_):
        shutil.rmtree(self._path, ignore_errors=True)


def _copy(source, target):
    if os.path.isdir(source):
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def _plain(module):
    return module.name.removesuffix(".xz").removesuffix(".zst")


def _text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""
