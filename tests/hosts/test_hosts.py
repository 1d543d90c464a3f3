# SPDX-License-Identifier: Apache-2.0
"""The AMD test host: what scenarios rely on."""
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.hosts import (Cluster, CommandFailed, CommandTimeout, Disk, HostDied, HostError,
                         extract_ext4, klog)
from tests.hosts.guests import qemu_command, reference_console
from tests.hosts.kernels import Kernel
from tests.hosts.proc import PREFIX

pytestmark = pytest.mark.host
ROOT = Path(__file__).resolve().parents[2]


# Commands

def test_exit_code_output_and_errors_come_back_apart(shared_host):
    r = shared_host.run("echo out; echo err >&2; exit 7", check=False)
    assert (r.code, r.out, r.err) == (7, "out\n", "err\n")
    with pytest.raises(CommandFailed, match="exit code 7"):
        shared_host.run("exit 7")


def test_a_list_is_not_a_shell_command(shared_host):
    assert shared_host.run(["echo", "$HOME", "a b"]).out == "$HOME a b\n"


def test_environment_and_directory_are_as_asked(shared_host):
    r = shared_host.run('echo "$WHAT $PWD"', env={"WHAT": "x y"}, cwd="/usr")
    assert r.out == "x y /usr\n"


def test_a_signal_is_told_as_a_shell_does(shared_host):
    r = shared_host.run("kill -SEGV $$", check=False)
    assert r.code == 139 and r.ending == "signal SIGSEGV"


def test_a_missing_program_is_a_clear_error(shared_host):
    with pytest.raises(HostError, match="cannot start `/no/such/program`"):
        shared_host.run(["/no/such/program"])


def test_megabytes_pass_in_both_directions(shared_host):
    data = random.Random(1).randbytes(3 << 20)
    r = shared_host.run("tee /dev/stderr", stdin=data)
    assert r.out_bytes == data and r.err_bytes == data


def test_a_command_that_ignores_its_input_ends_all_the_same(shared_host):
    assert shared_host.run("exit 0", stdin=bytes(1 << 20)).code == 0


def test_commands_run_at_the_same_time(shared_host):
    shared_host.run("rm -f /run/fifo; mkfifo /run/fifo")
    reader = shared_host.spawn("cat /run/fifo")
    shared_host.run("echo through >/run/fifo")
    assert reader.wait(20).out == "through\n"


def test_output_streams_while_a_command_runs(shared_host):
    c = shared_host.spawn("echo one; read x; echo got $x; read y; echo never")
    assert c.read_line(20) == "one"
    c.send("two\n")
    assert c.wait_for("got", 20) == "got two"
    assert c.running
    with pytest.raises(CommandTimeout, match="got two"):
        c.read_line(0.5)
    c.kill()
    assert c.wait(20, check=False).code == 137


def test_a_timeout_kills_the_command_and_its_children(shared_host):
    with pytest.raises(CommandTimeout) as e:
        shared_host.run("echo begun; sleep 4711 & sleep 4711", timeout=2)
    assert e.value.out == b"begun\n"
    left = shared_host.run("ps ax | grep '[s]leep 4711'", check=False)
    assert left.out == ""


def test_what_is_left_in_the_background_lives_on(shared_host):
    pid = shared_host.run("sleep 300 >/dev/null 2>&1 & echo $!", timeout=20).out.strip()
    shared_host.run(f"kill -0 {pid} && kill {pid}")


# The machine

def test_kvm_is_real(shared_host):
    """Not only a device node: with nested paging, and it makes virtual machines."""
    shared_host.run("grep -q Y /sys/module/kvm_amd/parameters/npt")
    program = ("import fcntl,os; k=os.open('/dev/kvm',os.O_RDWR);"
               "v=fcntl.ioctl(k,0xAE00); m=fcntl.ioctl(k,0xAE01,0); c=fcntl.ioctl(m,0xAE41,0);"
               "print(v, m > 0, c > 0)")
    assert shared_host.run(["/usr/bin/python3", "-c", program]).out == "12 True True\n"


def test_the_host_is_complete(shared_host):
    mounts = shared_host.run("cat /proc/mounts").out
    for place in ("/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run", "/sys/fs/cgroup"):
        assert f" {place} " in mounts
    shared_host.run("""
        set -e
        echo x >/tmp/lifeboat-x
        rm /tmp/lifeboat-x
        test "$(stat -c %a /dev/shm)" = 1777
        test "$(nproc)" = 2
        grep -q '^processor' /proc/cpuinfo
        modprobe tun && test -c /dev/net/tun""")
    shared_host.run(["/usr/bin/python3", "-c",
                     "import socket; s=socket.create_server(('127.0.0.1',0));"
                     "socket.create_connection(s.getsockname(), 5)"])


def test_it_sees_this_machines_files_and_cannot_change_them(shared_host):
    ours = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert shared_host.run(["sha256sum", __file__]).out.startswith(ours)
    new = ROOT / "written-in-a-test-host"
    shared_host.run(["touch", str(new)])
    shared_host.run(["rm", "/etc/debian_version"])
    shared_host.run(f"echo spoilt >>{__file__}")
    assert not new.exists() and os.path.exists("/etc/debian_version")
    assert hashlib.sha256(Path(__file__).read_bytes()).hexdigest() == ours
    shared_host.run(["rm", str(new)])


def test_files_and_directories_are_put_and_got(shared_host, tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    data = random.Random(2).randbytes(5 << 20)
    (tree / "sub" / "big").write_bytes(data)
    (tree / "tool").write_text("#!/bin/sh\necho tool\n")
    (tree / "tool").chmod(0o755)
    shared_host.put(tree, "/srv/deep/tree")
    assert shared_host.run("/srv/deep/tree/tool").out == "tool\n"
    shared_host.run("echo more >/srv/deep/tree/sub/small")
    shared_host.get("/srv/deep/tree", tmp_path / "back")
    assert (tmp_path / "back" / "sub" / "big").read_bytes() == data
    assert (tmp_path / "back" / "sub" / "small").read_text() == "more\n"
    shared_host.write("/srv/note", "hello\n", 0o600)
    assert shared_host.read("/srv/note") == b"hello\n"
    assert shared_host.run("stat -c %a /srv/note").out == "600\n"
    assert os.listdir(shared_host.share) == []


def test_the_share_is_seen_from_both_sides(shared_host):
    shared_host.run("echo inside >/run/share/a")
    assert (shared_host.share / "a").read_text() == "inside\n"
    (shared_host.share / "b").write_text("outside\n")
    assert shared_host.run("cat /run/share/b; rm /run/share/[ab]").out == "outside\n"


@pytest.mark.parametrize("kernel", ["cloud", "standard"])
def test_a_stock_guest_ends_with_the_right_answer(shared_host, guest_initrd, kernel):
    """The reference that scenarios compare with: Debian's QEMU on the host's KVM."""
    console = reference_console(shared_host, Kernel(kernel).image, guest_initrd,
                                "quiet witness.steps=6 witness.mem=16", timeout=400)
    assert "witness: OK chain=d0be9901a29c0804 steps=6" in console, console[-3000:]
    assert klog.section(console) != console.splitlines()


BUTTON = """
import socket, time
s = socket.socket(socket.AF_UNIX)
s.connect('/run/qemu-monitor')
s.recv(4096)
s.sendall(b'system_powerdown\\n')
time.sleep(1)
"""


def test_a_stock_guest_ticks_for_people_and_heeds_its_power_button(shared_host, guest_initrd):
    command = qemu_command(Kernel("cloud").image, guest_initrd, "quiet lb.mode=demo")
    guest = shared_host.spawn(command + ["-monitor", "unix:/run/qemu-monitor,server=on,wait=off"])
    assert re.search(r"demo: tick 2 uptime \d+ chain=e0b2890d43f98af0",
                     guest.wait_for("demo: tick 2", 120))
    shared_host.run(["/usr/bin/python3", "-c", BUTTON])
    guest.wait_for("guest: power button", 60)
    assert guest.wait(60).code == 0


def test_a_stock_guest_gives_a_shell_on_its_console(shared_host, guest_initrd):
    guest = shared_host.spawn(qemu_command(Kernel("cloud").image, guest_initrd,
                                           "quiet lb.mode=shell"))
    guest.wait_for("guest: ready", 120)
    guest.send("echo answer=$((6*7)); exit\n")
    guest.wait_for("answer=42", 60)
    assert guest.wait(60).code == 0


# Power

def test_a_host_that_dies_is_told_apart_from_a_command_that_fails(make_host):
    h = make_host()
    waiting = h.spawn("sleep 100")
    h.run("echo 1 >/proc/sys/kernel/sysrq")
    h.spawn("echo c >/proc/sysrq-trigger")
    with pytest.raises(HostDied):
        waiting.wait(60)
    assert "sysrq triggered crash" in h.console
    h.power_cut()
    with pytest.raises(HostDied, match="is off"):
        h.run("true")
    h.start()
    assert h.run("echo again").out == "again\n"


@pytest.fixture
def disk_host(make_host, disk):
    h = make_host(disks=[disk])
    # Without ext4's own commits every few seconds, only sync makes things durable.
    h.run("mkdir /mnt/d && mount -o commit=900,noauto_da_alloc /dev/vda /mnt/d")
    return h, disk


def test_a_power_cut_loses_what_was_not_synced(disk_host):
    h, _ = disk_host
    h.run("echo kept >/mnt/d/kept && sync")
    h.run("echo lost >/mnt/d/lost; head -c 2M /dev/zero >/mnt/d/big; echo changed >/mnt/d/kept")
    h.power_cut()
    assert not h.running
    h.start()
    h.run("mkdir /mnt/d && mount /dev/vda /mnt/d")
    assert h.run("ls /mnt/d; cat /mnt/d/kept").out == "kept\nlost+found\nkept\n"
    h.run("echo more >/mnt/d/more")
    h.power_off()
    h.start()
    h.run("mkdir /mnt/d && mount -o ro /dev/vda /mnt/d")
    assert h.run("cat /mnt/d/more").out == "more\n"


WRITER = """
import os, sys
for n in range(10000):
    name = f'/mnt/d/{n:05}'
    fd = os.open(name + '.new', os.O_CREAT | os.O_WRONLY)
    os.write(fd, (b'%05d' % n) * 4000)
    if sys.argv[1] == 'fsync':
        os.fsync(fd)
    os.close(fd)
    os.rename(name + '.new', name)
    if sys.argv[1] == 'fsync':
        d = os.open('/mnt/d', os.O_RDONLY)
        os.fsync(d)
        os.close(d)
    print(n, flush=True)
"""


def _whole_files(tmp_path, image):
    """The numbers of files that are there with all of their contents."""
    out = tmp_path / f"{image.name}.files"
    out.mkdir()
    extract_ext4(image, out)
    return {int(f.name) for f in out.glob("?????")
            if f.read_bytes() == f.name.encode() * 4000}


def test_power_cuts_at_any_moment_keep_what_was_synced(disk_host, tmp_path):
    """Many cuts of one run: what was reported after its fsync is there, whichever
    part of the cache survives; and a disk full of unsynced files is really at risk."""
    h, disk = disk_host
    writer = h.spawn(["/usr/bin/python3", "-c", WRITER, "fsync"])
    chance = random.Random(5)
    for seed in range(8):
        time.sleep(chance.random())
        reported = len(writer.out.split("\n")) - 1
        image = tmp_path / f"cut{seed}"
        disk.crash_image(image, seed)
        assert set(range(reported)) <= _whole_files(tmp_path, image)
    assert reported > 10
    writer.kill()
    writer.wait(30, check=False)

    h.run("rm /mnt/d/?????; sync")
    h.run(["timeout", "2", "/usr/bin/python3", "-c", WRITER, "none"], check=False)
    disk.crash_image(tmp_path / "lost")
    lost = int(h.run("ls /mnt/d | grep -c '^.....$'").out) - len(
        _whole_files(tmp_path, tmp_path / "lost"))
    assert lost > 0


def test_cables_can_be_pulled(tmp_path):
    with Cluster(2, memory_mib=1024) as cluster:
        a, b = cluster
        ping = "busybox ping -c 1 -W 3 h2"
        assert a.run(ping).code == 0
        assert b.run("busybox ping -c 1 -W 3 h1").code == 0
        cluster.cable(0, 1, up=False)
        assert a.run(ping, check=False).code != 0
        cluster.cable(0, 1, up=True)
        deadline = time.monotonic() + 30
        while a.run(ping, check=False).code != 0:
            assert time.monotonic() < deadline, "the cable does not come back"
        b.power_cut()
        assert a.run(ping, check=False).code != 0
        b.start()
        assert a.run(ping).code == 0


# Tidiness

OWNER = """
import signal, sys, time
sys.path.insert(0, sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
from tests.hosts import Host
with Host() as h:
    print(h.pid, h.work.path, flush=True)
    time.sleep(600)
"""


def _gone(pid, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_tests_are_killed(number):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(ROOT)], stdout=subprocess.PIPE,
                             text=True)
    try:
        pid, work = owner.stdout.readline().split()
        assert Path(work).name.startswith(PREFIX) and Path(f"/proc/{pid}").exists()
        owner.send_signal(number)
        owner.wait(30)
        assert _gone(pid)
        if number == signal.SIGKILL:
            Disk(1).close()     # whoever comes next sweeps
        assert not Path(work).exists()
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()


INNER_TEST = """
import time
from tests.hosts.fixtures import *

def test_sleeps(host):
    print(host.pid, host.work.path, flush=True)
    time.sleep(600)

def test_must_not_begin():
    print("begun", flush=True)
"""


def test_a_terminated_pytest_tears_its_hosts_down_and_ends(tmp_path):
    (tmp_path / "conftest.py").write_text("from tests.hosts.fixtures import *\n")
    (tmp_path / "test_inner.py").write_text(INNER_TEST)
    inner = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(tmp_path)],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    try:
        words = next(line.split() for line in inner.stdout if PREFIX in line)
        inner.terminate()
        said = inner.communicate(timeout=60)[0]
        assert inner.returncode == 143 and "begun" not in said
        assert _gone(int(words[0])) and not Path(words[1]).exists()
    finally:
        inner.kill()
        inner.wait()


def test_a_host_started_in_a_thread_outlives_the_thread(make_host):
    hosts = []
    thread = threading.Thread(target=lambda: hosts.append(make_host()))
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert hosts[0].run("echo alive").out == "alive\n"


def test_a_host_that_cannot_boot_says_why(make_host):
    with pytest.raises(HostError, match="did not come up(?s:.*)Kernel panic"):
        make_host(append="rdinit=/no/such/init root=/dev/none")
