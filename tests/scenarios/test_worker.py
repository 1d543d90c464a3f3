# SPDX-License-Identifier: Apache-2.0
"""The worker process itself: what the kernel says it may do, and what becomes of its
machine when those who work on it die, give up, or talk nonsense."""
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest
from campaign import count, dice
from cli_fixture import ROOT, build_dir, needs_kvm, wait_for

pytestmark = needs_kvm


@pytest.fixture
def worker(cli):
    """A running machine "m" with some memory to it; gives its worker's pid."""
    cli("run", "--kernel", cli.guest("fill"), "--name", "m", "--memory", "256M", "--cpus", "2", "--detach",
        "--cmdline", "mem=128")
    cli.wait_console("m", "fill: hash")
    return cli.machines()["m"]["pid"]


def connect(cli):
    s = socket.socket(socket.AF_UNIX)
    here = os.getcwd()  # a socket's path is short, a test's directory is not
    os.chdir(cli.home / "run" / "m")
    try:
        s.connect("control")
    finally:
        os.chdir(here)
    s.settimeout(10)
    return s


def ask(s, **request):
    s.sendall(json.dumps({"id": 1, **request}).encode() + b"\n")
    line = b""
    while not line.endswith(b"\n"):
        piece = s.recv(65536)
        if not piece:
            return None
        line += piece
    return json.loads(line)


def alive(cli):
    """The machine runs and its guest answers."""
    assert cli.machines()["m"]["state"] == "running"
    with connect(cli) as s:
        before = ask(s, op="status")["exits"]
        t = cli.terminal("console", "m", "--no-replay")
        t.type("x")
        t.expect("fill: hash")
        t.type("\x1dd")
        assert t.wait() == 0
        assert ask(s, op="status")["exits"] > before


def test_it_may_do_next_to_nothing(worker):
    with open(f"/proc/{worker}/status") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    if os.geteuid() == 0:
        assert "0" not in status["Uid"].split() and "0" not in status["Gid"].split()
        assert status["Groups"].strip() == ""
        assert os.listdir(f"/proc/{worker}/root/") == []
        assert os.readlink(f"/proc/{worker}/cwd") == "/"
    for name in ("mnt", "net", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{worker}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
    for task in os.listdir(f"/proc/{worker}/task"):  # vCPU threads too
        with open(f"/proc/{worker}/task/{task}/status") as f:
            assert "Seccomp:\t2\n" in f.read()
    with open(f"/proc/{worker}/limits") as f:
        assert re.search(r"Max core file size +1 +1 ", f.read())


def test_the_filter_lets_through_what_the_machine_calls_and_no_more(cli):
    r = subprocess.run([build_dir() / "cmd/worker/lifeboat-worker", "--syscalls"],
                       capture_output=True, text=True,
                       check=True, timeout=20)
    rows = [line.split("\t") for line in r.stdout.splitlines()]
    assert all(len(row) == 3 and row[0] and row[2] for row in rows), rows
    calls = {row[0] for row in rows}
    assert not calls & {"open", "openat", "socket", "connect", "execve", "clone", "clone3", "fork", "ptrace",
                        "process_vm_readv", "prctl", "seccomp", "kill", "memfd_create", "userfaultfd"}, calls
    restricted = {row[0] for row in rows if row[1]}
    assert {"ioctl", "fcntl", "mmap", "mprotect", "tgkill"} <= restricted
    permitted = {row[1] for row in rows if row[0] == "ioctl"}
    source = "".join(p.read_text() for p in (ROOT / "hv/kvm").glob("*.c"))
    assert permitted <= set(re.findall(r"KVM_\w+", source)), "permitted, but never made"


def test_it_holds_only_what_it_was_handed(worker):
    kinds = set()
    for fd in os.listdir(f"/proc/{worker}/fd"):
        target = os.readlink(f"/proc/{worker}/fd/{fd}")
        kinds.add(re.sub(r"[:\[].*", "", target) if not target.startswith("/") else target)
    files = {k for k in kinds if k.startswith("/")}
    allowed = re.compile(r"^/(dev/kvm|dev/null|memfd:.*|.*/m/lock|.*/m\.log|.*/fill\.elf)( \(deleted\))?$")
    assert all(allowed.match(f) for f in files), files
    assert {k for k in kinds if not k.startswith("/")} <= {"anon_inode", "socket"}, kinds


def test_garbage_and_floods_do_not_reach_the_machine(cli, worker):
    for nonsense in (b"\x00" * 1000 + b"\n", b"{" * 60000 + b"\n", b"[" * 200000, b'{"op":"save"}\n' * 1000,
                     b'{"op":"load","bytes":99999999999999}\n'):
        with connect(cli) as s:
            try:
                s.sendall(nonsense)
                s.recv(1000)
            except OSError:
                pass
    talkers = [connect(cli) for _ in range(100)]
    alive(cli)
    for s in talkers:
        s.close()
    alive(cli)


def test_a_hold_ends_with_its_connection(cli, worker):
    s = connect(cli)
    reply = ask(s, op="pause", hold=True)
    assert reply["ok"] and reply["was_running"]
    assert cli.machines()["m"]["state"] == "paused"
    r = cli("checkpoint", "m", "--archive", cli.home, code=None)  # refused, and nothing breaks
    assert r.returncode != 0
    s.close()
    wait_for(lambda: cli.machines()["m"]["state"] == "running", 5, "the release")
    alive(cli)


def test_killed_checkpoints_leave_the_machine_running_and_the_archive_clean(cli, archive, worker):
    rng = dice("killed checkpoints")
    start = time.monotonic()
    cli("checkpoint", "m", "--quiet")
    usual = time.monotonic() - start
    listed = 1
    for _ in range(count(3, 8, 50)):
        p = cli.start("checkpoint", "m", "--quiet")
        time.sleep(rng.uniform(0, usual))
        p.kill()
        done = p.communicate()[0]
        wait_for(lambda: cli.machines()["m"]["state"] == "running", 5, "the machine to go on")
        checkpoints = cli.json("checkpoints")["checkpoints"]
        assert len(checkpoints) in (listed, listed + 1)
        assert len(checkpoints) == listed + 1 or not done  # what was said to be done is there
        listed = len(checkpoints)
    alive(cli)
    cli("archive", "verify", timeout=300)


def test_an_interrupted_checkpoint_says_so_and_leaves_nothing(cli, archive, worker):
    p = cli.start("checkpoint", "m", "--quiet")
    wait_for(lambda: cli.machines()["m"]["state"] == "paused" or p.poll() is not None, 20, "the pause")
    p.send_signal(signal.SIGINT)
    p.wait(20)
    if p.returncode == 0:
        pytest.skip("it was faster than the signal")
    assert p.returncode == 130
    assert cli.machines()["m"]["state"] == "running"
    assert cli.json("checkpoints")["checkpoints"] == []
    alive(cli)


def test_an_interrupted_restore_leaves_nothing(cli, archive, worker):
    cli("checkpoint", "m", "--quiet")
    cli("kill", "m")
    for signal_ in (signal.SIGINT, signal.SIGKILL):
        p = cli.start("restore", "m@1", "--detach", "--quiet")
        wait_for(lambda: cli.leftovers() == ["m"] or p.poll() is not None, 20, "the start")
        p.send_signal(signal_)
        p.wait(20)
        time.sleep(0.5)
        wait_for(lambda: not cli.leftovers() or cli.machines().get("m", {}).get("state") == "running", 20,
                 "either nothing or a machine")
        if cli.leftovers():  # it was through already: then the machine is whole
            alive(cli)
            cli("kill", "m")
        wait_for(lambda: cli.leftovers() == [] and not cli.processes(), 20, "nothing to be left")


def test_a_killed_worker_is_reported_and_leaves_nothing(cli, worker):
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: cli.leftovers() == [], 10, "the monitor to tidy up")
    assert "how=killed" in (cli.home / "state" / "m.log").read_text()
