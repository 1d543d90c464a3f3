# SPDX-License-Identifier: Apache-2.0
"""Disks that come, go and change under a guest that works on one of them; what becomes of it
when the host's file fails.  The guest is tests/guests/vmbus/disk.c, natively; what a stock
kernel makes of it is in test_disks."""
import json
import os
import re
import socket

from cli_fixture import needs_kvm, wait_for

pytestmark = needs_kvm

MIB = 1 << 20
BLOCK = 4096


def empty(path, mib):
    path.write_bytes(b"")
    os.truncate(path, mib * MIB)
    return path


def start(cli, name, *disks, words="work=0", guest="disk"):
    options = [o for d in disks for o in ("--disk", d)]
    cli.run(guest, name, *options, "--cmdline", words)
    cli.wait_console(name, "disk: ready")


def sound(cli, name):
    text = cli.console(name)
    assert "FAIL" not in text, text
    return text


def done(cli, name):
    found = re.findall(r"^disk: done (\d+)$", sound(cli, name), re.M)
    return int(found[-1]) if found else 0


def wait_work(cli, name):
    """Some more of it has been done, and at least one round."""
    least = max(done(cli, name) + 1, 24)
    wait_for(lambda: done(cli, name) >= least, 20, "some work")


def type_key(cli, name, key, answer=None):
    t = cli.terminal("console", name)
    t.expect("disk: ")      # of now or of before: the session is there
    t.type(key)
    if answer:
        t.expect(answer, 30)
    t.type("\x1dd")
    assert t.wait() == 0


def verify(cli, name):
    type_key(cli, name, "v", "disk: sound")
    found = wait_for(lambda: re.findall(r"disk: sound \d+ errors=(\d+)\n", sound(cli, name)), 20, "it")
    return found[-1]


def connect(cli, name):
    s = socket.socket(socket.AF_UNIX)
    here = os.getcwd()  # a socket's path is short, a test's directory is not
    os.chdir(cli.home / "run" / name)
    try:
        s.connect("control")
    finally:
        os.chdir(here)
    s.settimeout(60)
    return s


def ask(s, fds=(), **request):
    socket.send_fds(s, [json.dumps({"id": 1, **request}).encode() + b"\n"], list(fds))
    line = b""
    while not line.endswith(b"\n"):
        piece = s.recv(65536)
        assert piece, "the worker has closed"
        line += piece
    return json.loads(line)


def disks(cli, name):
    return {d["disk"]: d for d in cli.json("disk", "ls", name)["disks"]}


def test_disks_come_go_and_grow_under_a_working_guest(cli, tmp_path):
    a, b = empty(tmp_path / "a.raw", 2), empty(tmp_path / "b.raw", 1)
    start(cli, "web", a)
    assert cli("disk", "add", "web", b).stdout == "disk1\n"
    cli.wait_console("web", "0=4096 1=2048\n")
    assert "in use by another machine" in cli.run("echo", "x", "--disk", b, code=1).stderr
    assert "in use" in cli("disk", "add", "web", b, code=1).stderr
    first = disks(cli, "web")
    assert first["disk1"]["bytes"] == MIB and cli.machines()["web"]["disks"] == 2
    cli("disk", "resize", "web", "disk1", "3M")
    cli.wait_console("web", "0=4096 1=6144\n")
    cli.wait_console("web", "disk: lun 1 sense 6/2a/9\n")
    assert b.stat().st_size == 3 * MIB
    assert "--shrink" in cli("disk", "resize", "web", "1", "1M", code=2).stderr
    cli("disk", "resize", "web", "1", "1M", "--shrink")
    wait_for(lambda: sound(cli, "web").count("0=4096 1=2048\n") >= 2, 20, "the smaller disk")
    cli("disk", "remove", "web", "1")
    wait_for(lambda: re.search(r"disk: scan \d+: 0=4096\n", sound(cli, "web").split("1=6144")[-1]),
             20, "the removal")
    assert list(disks(cli, "web")) == ["disk0"]
    # Its lock is free; in the same place another disk has another serial number.
    cli.run("echo", "x", "--disk", b)
    cli("kill", "x")
    report = cli.json("disk", "add", "web", f"{b},ro,on-error=pause")
    assert (report["disk"], report["bytes"]) == ("disk1", MIB)
    again = disks(cli, "web")
    assert again["disk0"] == first["disk0"] and again["disk1"]["read_only"]
    assert again["disk1"]["serial"] != first["disk1"]["serial"]
    wait_work(cli, "web")
    assert verify(cli, "web") == "0"
    for words, code in ((("remove", "web", "disk7"), 3), (("remove", "web", "sda"), 2),
                        (("resize", "web", "disk64", "1M"), 2), (("resize", "web", "0", "1000"), 2),
                        (("resize", "web", "disk1", "2M"), 10), (("add", "web", tmp_path / "none"), 3),
                        (("add", "nobody", a), 3), (("add", "web", f"{tmp_path},ro"), 2)):
        cli("disk", *words, code=code)
    cli("kill", "web")


def test_the_disk_that_the_guest_works_on_is_pulled(cli, tmp_path):
    a, b = empty(tmp_path / "a.raw", 1), empty(tmp_path / "b.raw", 1)
    start(cli, "web", a, b, words="work=1")
    wait_work(cli, "web")
    cli("disk", "remove", "web", "disk1")
    cli.wait_console("web", "disk: gone")
    assert "sense 2/" not in sound(cli, "web")
    cli("kill", "web")


def test_a_checkpoint_has_the_disks_of_its_instant(cli, archive, tmp_path):
    files = [empty(tmp_path / f"{n}.raw", 1) for n in "abc"]
    files[1].write_bytes(os.urandom(MIB))
    files[2].write_bytes(was := os.urandom(MIB))
    start(cli, "web", files[0])
    cli("disk", "add", "web", files[1])
    cli("disk", "add", "web", files[2])
    cli("disk", "remove", "web", "disk1")
    cli.wait_console("web", "0=2048 2=2048\n")
    with connect(cli, "web") as s:      # what a checkpoint does
        assert ask(s, op="pause", hold=True)["ok"]
        for words in (("add", "web", files[1]), ("remove", "web", "2"), ("resize", "web", "2", "2M")):
            assert "checkpoint" in cli("disk", *words, code=1).stderr
        assert ask(s, op="release")["ok"]
    # Paused, the disk comes and is saved before the guest has heard of it.
    cli("pause", "web")
    cli("disk", "resize", "web", "disk2", "2M")
    cli("checkpoint", "web", "--quiet")
    cli("kill", "web")
    new = tmp_path / "new"
    new.mkdir()
    report = cli.json("restore", "web@1", "--detach", "--disk-dir", new)
    assert report["disks"] == [f"{new}/web-disk0.raw", f"{new}/web-disk2.raw"]
    assert (new / "web-disk2.raw").read_bytes() == was + bytes(MIB)
    assert sorted(disks(cli, "web")) == ["disk0", "disk2"]
    cli.wait_console("web", "0=2048 2=4096\n")
    cli.wait_console("web", "disk: lun 2 sense 6/2a/9\n")
    wait_work(cli, "web")
    assert verify(cli, "web") == "0"
    cli("disk", "add", "web", files[1])
    cli.wait_console("web", "0=2048 1=2048 2=4096\n")
    cli("disk", "remove", "web", "0")
    cli("disk", "remove", "web", "1")
    cli("disk", "remove", "web", "2")
    # A controller without disks is one too.
    cli("checkpoint", "web", "--quiet")
    cli("kill", "web")
    assert cli.json("restore", "web@2", "--detach")["disks"] == []
    cli("disk", "add", "web", files[1])
    cli.wait_console("web", ": 0=2048\n")
    cli("kill", "web")


def test_sixty_four_disks_and_no_more(cli, tmp_path):
    a, b = empty(tmp_path / "a.raw", 1), empty(tmp_path / "b.raw", 1)
    start(cli, "web", a)
    cli("pause", "web")
    with connect(cli, "web") as s, open(b, "rb") as f:
        for i in range(2, 64):
            r = ask(s, [f.fileno()], op="disk-add", lun=i, identity=f"{i:032x}", read_only=True)
            assert r["ok"] and r["bytes"] == MIB, r
        for lun, fds in ((1, ()), (64, [f.fileno()]), (3, [f.fileno()]), (1, [s.fileno()])):
            assert not ask(s, fds, op="disk-add", lun=lun, identity="0" * 32, read_only=True)["ok"]
        assert not ask(s, [f.fileno()], op="disk-add", lun=1, identity="0" * 32)["ok"], "not writable"
    assert cli("disk", "add", "web", f"{b},ro").stdout == "disk1\n"
    assert "64 disks" in cli("disk", "add", "web", f"{b},ro", code=2).stderr
    assert cli.machines()["web"]["state"] == "paused"
    cli("resume", "web")
    cli.wait_console("web", "62=2048 63=2048\n")
    cli("disk", "remove", "web", "disk17")
    assert cli("disk", "add", "web", f"{b},ro").stdout == "disk17\n"
    cli("kill", "web")


def test_a_machine_without_a_controller_takes_none(cli, tmp_path):
    a = empty(tmp_path / "a.raw", 1)
    cli.run("echo", "web")
    assert "no disk controller" in cli("disk", "add", "web", a, code=2).stderr
    assert cli.json("disk", "ls", "web")["disks"] == []
    cli("kill", "web")


def mended(path, good):
    """What was written since the file broke stays; the rest is as it was."""
    now = path.read_bytes().ljust(len(good), b"\0")
    path.write_bytes(b"".join(n if any(n) else g for n, g in (
        (now[i:i + BLOCK], good[i:i + BLOCK]) for i in range(0, len(good), BLOCK))))


def test_an_error_of_the_host_pauses_and_a_resume_loses_nothing(cli, archive, tmp_path):
    """The file is cut off under the guest: a read finds nothing, which is EIO."""
    a = empty(tmp_path / "a.raw", 1)
    start(cli, "web", f"{a},on-error=pause")
    wait_work(cli, "web")
    cli("pause", "web")
    good = a.read_bytes()
    os.truncate(a, 0)
    cli("resume", "web")
    wait_for(lambda: cli.machines()["web"]["stop_reason"] == "disk-error", 20, "the pause")
    cli("resume", "web")        # it is still so
    wait_for(lambda: cli.machines()["web"]["stop_reason"] == "disk-error", 20, "the second pause")
    mended(a, good)
    assert "waits to be tried again" in cli("checkpoint", "web", code=1).stderr
    cli("resume", "web")
    wait_work(cli, "web")
    assert verify(cli, "web") == "0", "the guest saw an error"
    cli("checkpoint", "web", "--quiet")
    log = (cli.home / "state/web.log").read_text()
    assert "disk-error" in log and "op=read" in log
    cli("kill", "web")


def test_an_error_of_the_host_is_reported(cli, tmp_path):
    a = empty(tmp_path / "a.raw", 1)
    start(cli, "web", a)
    wait_work(cli, "web")
    cli("pause", "web")
    good = a.read_bytes()
    os.truncate(a, 0)
    cli("resume", "web")
    cli.wait_console("web", "disk: work sense 3/11/0\n")
    mended(a, good)
    type_key(cli, "web", "w")
    wait_work(cli, "web")
    cli("kill", "web")
