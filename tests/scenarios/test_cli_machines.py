# SPDX-License-Identifier: Apache-2.0
"""The life of machines as a person drives it: started, seen, stopped, lost.

Tiny guests, natively.  After each test nothing of a machine may be left.
"""
import json
import os
import re
import signal
import socket
import time

import pytest
from cli_fixture import needs_kvm, wait_for

pytestmark = needs_kvm


def end(cli, name):
    return json.loads((cli.home / "state" / f"{name}.json").read_text())


def pids(cli, name):
    """Monitor and worker."""
    return [int(p) for p in (cli.home / "run" / name / "lock").read_text().split()]


def nothing_left(cli):
    wait_for(lambda: not cli.processes(), 10, "the end of all processes")
    assert cli.leftovers() == []


def ready(cli, p):
    """Until then the guest's serial port may drop what is sent to it, as real ones do."""
    cli.expect(p, "echo: ready")


# ---- in the foreground ----

def test_foreground_shows_all_output_and_ends_with_the_guest(cli):
    r = cli("run", "--kernel", cli.guest("hello"), "--memory", "32M")
    assert r.stdout == "hello from the tiny guest\n"
    assert r.stderr == ""
    nothing_left(cli)
    assert end(cli, "vm-1")["ended"] == "power-off"


def test_foreground_passes_input_that_is_no_terminal(cli):
    p = cli.start("run", "--kernel", cli.guest("echo"), "--memory", "32M", "--name", "echo",
                  stdin=-1)
    ready(cli, p)
    out, err = p.communicate(b"lifeboat\nquit\n", timeout=30)
    assert p.returncode == 0, err
    assert b"echo: LIFEBOAT\r\n" in out and out.endswith(b"echo: bye\r\n")
    nothing_left(cli)


def test_output_into_a_slow_pipe_is_complete_and_in_order(cli):
    """The reader sleeps while the guest writes and switches itself off."""
    n = 1500
    p = cli.start("run", "--kernel", cli.guest("echo"), "--memory", "32M", "--name", "flood",
                  stdin=-1)
    ready(cli, p)
    p.stdin.write(f"flood {n}\nquit\n".encode())
    p.stdin.close()
    out = b""
    wait_for(lambda: not cli.leftovers(), 120, "the guest's end")
    while piece := os.read(p.stdout.fileno(), 4096):
        out += piece
        time.sleep(0.0002)
    assert p.wait(10) == 0
    numbers = [int(x) for x in re.findall(rb"flood (\d+) of", out)]
    assert numbers == list(range(1, n + 1))
    assert b"lost" not in out and out.endswith(b"echo: bye\r\n")


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_the_foreground_ends_the_machine(cli, sig):
    p = cli.start("run", "--kernel", cli.guest("echo"), "--memory", "32M", "--name", "echo")
    ready(cli, p)
    p.send_signal(sig)
    assert p.wait(20) == 130
    assert b"interrupted" in p.stderr.read()
    nothing_left(cli)


def test_a_machine_outlives_its_terminal_and_a_broken_pipe(cli):
    p = cli.start("run", "--kernel", cli.guest("echo"), "--memory", "32M", "--name", "echo")
    ready(cli, p)
    p.send_signal(signal.SIGHUP)
    assert p.wait(20) == 130
    assert cli.machines()["echo"]["state"] == "running"
    cli("kill", "echo")

    p = cli.start("run", "--kernel", cli.guest("echo"), "--memory", "32M", "--name", "echo",
                  stdin=-1)
    ready(cli, p)
    p.stdout.close()
    p.stdin.write(b"more\n")
    p.stdin.flush()
    assert p.wait(20) == 1
    error = p.stderr.read()
    assert b"standard output: Broken pipe" in error and b"goes on" in error
    assert cli.machines()["echo"]["state"] == "running"
    cli("kill", "echo")
    nothing_left(cli)


def test_kill_9_of_the_foreground_leaves_the_machine(cli):
    p = cli.start("run", "--kernel", cli.guest("echo"), "--memory", "32M", "--name", "echo")
    ready(cli, p)
    p.kill()
    p.wait()
    assert cli.machines()["echo"]["state"] == "running"
    cli("kill", "echo")
    nothing_left(cli)


# ---- how machines end ----

@pytest.mark.parametrize("mode, args, code, ended", [
    ("off", [], 0, "power-off"),
    ("triple", [], 7, "triple-fault"),
    ("reset", ["--on-reboot", "stop"], 0, "reset"),
    ("i8042", ["--on-reboot", "stop"], 0, "reset"),
])
def test_the_exit_code_tells_how_it_ended(cli, mode, args, code, ended):
    r = cli("run", "--kernel", cli.guest("hello"), "--memory", "32M", "--name", "end", "--cmdline",
            f"mode={mode}", *args, code=code)
    assert r.stdout.startswith("hello from the tiny guest\n")
    assert end(cli, "end")["ended"] == ended
    if code:  # registers and instruction bytes, whole, and then the sentence
        details, sentence = r.stderr.splitlines()
        assert re.search(r" rip=[0-9a-f]+ .* r15=[0-9a-f]+ .* code=([0-9a-f]{2})+$", details)
        assert sentence.startswith(f"lifeboat: machine end: it crashed: {ended}")
        assert end(cli, "end")["details"] in details
    nothing_left(cli)


def test_a_reboot_starts_again_from_the_kernel(cli):
    cli.run("hello", "again", "--cmdline", "mode=reset")
    wait_for(lambda: cli.machines()["again"]["resets"] >= 3, 20, "three reboots")
    assert cli.console("again").count("hello from the tiny guest") >= 3
    cli("kill", "again")


def test_a_crash_reboots_where_that_is_asked(cli):
    cli.run("hello", "crash", "--cmdline", "mode=triple", "--on-crash", "reboot")
    wait_for(lambda: cli.machines()["crash"]["resets"] >= 2, 20, "two reboots")
    cli("kill", "crash")


def test_kill(cli):
    cli.run("echo", "web")
    cli("kill", "web")
    assert cli.leftovers() == []  # at once: the name is free when kill returns
    assert end(cli, "web")["ended"] == "killed"
    assert cli.machines() == {}
    nothing_left(cli)


def test_stop_by_the_power_button(cli):
    cli.run("hello", "good", "--cmdline", "mode=idle")
    cli.wait_console("good", "hello")
    begin = time.monotonic()
    r = cli("stop", "good")
    assert (r.stdout, r.stderr) == ("", "") and time.monotonic() - begin < 20
    assert cli.leftovers() == []
    assert end(cli, "good")["ended"] == "power-off"
    nothing_left(cli)


def test_stop_forces_a_guest_that_does_not_listen(cli):
    cli.run("hello", "deaf", "--cmdline", "mode=hlt-off")
    error = cli("stop", "deaf", "--timeout", "500ms", "--no-force", code=7).stderr
    assert "still runs" in error
    assert cli.machines()["deaf"]["state"] == "running"
    error = cli("stop", "deaf", "--timeout", "500ms", code=7).stderr
    assert "forced off" in error
    assert cli.leftovers() == []
    nothing_left(cli)


def test_stop_of_a_paused_machine_gives_advice(cli):
    cli.run("echo", "web")
    cli("pause", "web")
    assert "resume" in cli("stop", "web", code=1).stderr
    cli("kill", "web")


# ---- pause and resume ----

def test_pause_and_resume(cli):
    cli.run("echo", "web")
    cli.wait_console("web", "ready")
    assert cli.machines()["web"]["state"] == "running"
    cli("pause", "web")
    m = cli.machines()["web"]
    assert m["state"] == "paused" and m["memory_bytes"] == 32 << 20 and m["vcpus"] == 1
    assert "paused already" in cli("pause", "web").stderr
    row = cli("ps").stdout.splitlines()[1]
    assert row.split()[:2] == ["web", "paused"]
    cli("resume", "web")
    assert cli.machines()["web"]["state"] == "running"
    cli("kill", "web")
    nothing_left(cli)


# ---- one machine of a name ----

def test_a_name_that_runs_is_refused_with_advice(cli):
    cli.run("echo", "web")
    error = cli("run", "--kernel", cli.guest("hello"), "--name", "web", code=1).stderr
    assert "runs already" in error and "--name" in error
    assert list(cli.machines()) == ["web"]
    cli("kill", "web")
    assert cli("run", "--kernel", cli.guest("hello"), "--name", "web").stdout
    nothing_left(cli)


def test_names_are_given_in_order(cli):
    names = [cli("run", "--kernel", cli.guest("echo"), "--memory", "16M", "--detach").stdout.strip()
             for _ in range(3)]
    assert names == ["vm-1", "vm-2", "vm-3"]
    assert sorted(cli.machines()) == names
    cli("kill", "vm-2")
    assert cli("run", "--kernel", cli.guest("echo"), "--memory", "16M", "--detach").stdout == "vm-2\n"
    for n in names:
        cli("kill", n)
    nothing_left(cli)


def test_two_at_once_of_one_name_give_one_machine(cli):
    starts = [cli.start("run", "--kernel", cli.guest("echo"), "--memory", "16M", "--detach",
                        "--name", "one") for _ in range(6)]
    codes = sorted(p.wait(60) for p in starts)
    assert codes == [0, 1, 1, 1, 1, 1]
    assert list(cli.machines()) == ["one"]
    cli("kill", "one")
    nothing_left(cli)


# ---- what is left of the dead ----

def test_a_stale_directory_and_socket_are_recognised_and_cleaned(cli):
    cli("ps")
    dead = cli.home / "run" / "web"
    dead.mkdir()
    (dead / "lock").write_text("1\n1\n")
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(dead / "control"))
    s.listen()
    s.close()
    assert cli.machines() == {}
    assert cli.leftovers() == []
    dead.mkdir()
    socket.socket(socket.AF_UNIX).bind(str(dead / "control"))
    cli("run", "--kernel", cli.guest("hello"), "--memory", "32M", "--name", "web")
    nothing_left(cli)


def test_kill_9_of_the_worker_frees_the_name(cli):
    cli.run("echo", "web")
    _, worker = pids(cli, "web")
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not cli.leftovers(), 10, "the directory's end")
    assert end(cli, "web")["ended"] == "killed"
    nothing_left(cli)


def test_kill_9_of_the_monitor_does_not_touch_the_machine(cli):
    cli.run("echo", "web")
    monitor, worker = pids(cli, "web")
    os.kill(monitor, signal.SIGKILL)
    wait_for(lambda: monitor not in cli.processes(), 10, "the monitor's end")
    assert cli.machines()["web"]["state"] == "running"
    assert "runs already" in cli("run", "--kernel", cli.guest("hello"), "--name", "web", code=1).stderr
    cli("pause", "web")
    cli("resume", "web")
    cli("kill", "web")
    assert cli.machines() == {}
    assert cli.leftovers() == []
    nothing_left(cli)


def test_kill_ends_a_worker_that_answers_nobody(cli):
    cli.run("echo", "web")
    _, worker = pids(cli, "web")
    os.kill(worker, signal.SIGSTOP)
    cli.run("echo", "db")
    begin = time.monotonic()
    m = cli.machines()
    assert m["web"]["state"] == "no-answer" and m["web"]["pid"] == worker
    assert m["db"]["state"] == "running"
    assert "no answer" in cli("ps").stdout
    cli("kill", "db")
    assert time.monotonic() - begin < 15
    begin = time.monotonic()
    cli("kill", "web")
    assert time.monotonic() - begin < 5
    nothing_left(cli)


# ---- descriptions, consoles, places ----

def test_a_vm_file_describes_a_machine_and_options_go_first(cli, tmp_path):
    (tmp_path / "hello.elf").write_bytes(open(cli.guest("hello"), "rb").read())
    file = tmp_path / "web.yaml"
    file.write_text("name: web\nkernel: hello.elf\nmemory: 48M\ncpus: 2\ncmdline: mode=idle\n"
                    "cpu: host\nconsole: none\n'on-crash': stop\n")
    cli("run", str(file), "--memory", "64M", "--detach")
    m = cli.machines()["web"]
    assert m["memory_bytes"] == 64 << 20 and m["vcpus"] == 2
    cli("kill", "web")
    nothing_left(cli)


def test_console_into_a_file_is_appended(cli, tmp_path):
    out = tmp_path / "console.log"
    out.write_text("before\n")
    r = cli("run", "--kernel", cli.guest("hello"), "--memory", "32M", "--console", f"file:{out}")
    assert r.stdout == ""
    assert out.read_text() == "before\nhello from the tiny guest\n"


def test_console_on_a_pty(cli):
    r = cli.run("echo", "web", "--console", "pty")
    path = re.search(r"serial line 1 is at (/dev/pts/\d+)", r.stderr).group(1)
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    os.write(fd, b"over the pty\r")
    text = b""
    wait = time.monotonic() + 20
    while b"echo: OVER THE PTY" not in text and time.monotonic() < wait:
        text += os.read(fd, 4096)
    assert b"echo: OVER THE PTY" in text
    os.close(fd)
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)  # a hang-up in between does not matter
    os.write(fd, b"again\r")
    while b"echo: AGAIN" not in text and time.monotonic() < wait:
        text += os.read(fd, 4096)
    assert b"echo: AGAIN" in text
    os.close(fd)
    cli("kill", "web")
    nothing_left(cli)


def test_a_home_with_a_long_path(cli, tmp_path):
    """A socket's name may have 107 bytes; a directory's may have more."""
    home = tmp_path / ("long-" * 30) / ("name-" * 30)
    home.mkdir(parents=True)
    cli.home, cli.env["LIFEBOAT_HOME"] = home, str(home)
    cli.run("echo", "a" * 63)
    assert cli.machines()["a" * 63]["state"] == "running"
    assert "ready" in cli.wait_console("a" * 63, "ready")
    cli("kill", "a" * 63)
    nothing_left(cli)


def test_two_homes_never_meet(cli, tmp_path):
    cli.run("echo", "web")
    mine, cli.env["LIFEBOAT_HOME"] = cli.env["LIFEBOAT_HOME"], str(tmp_path / "other")
    assert cli.json("ps") == {"machines": []}
    cli("kill", "web", code=3)
    cli.env["LIFEBOAT_HOME"] = mine
    cli("kill", "web")
    nothing_left(cli)


def test_runtime_files_are_nobody_elses(cli):
    cli.run("echo", "web")
    run = cli.home / "run" / "web"
    assert (run / "control").stat().st_mode & 0o777 == 0o600
    assert run.stat().st_mode & 0o777 == 0o700
    cli("kill", "web")


# ---- kernels and memory that cannot be ----

@pytest.mark.parametrize("make, words", [
    (lambda elf: b"MZ this is no kernel at all" * 400, "kernel"),
    (lambda elf: elf[:700], "kernel"),
    (lambda elf: elf[:5000], "kernel"),
    (lambda elf: elf[:3], "kernel"),
])
def test_what_is_no_kernel_is_refused(cli, tmp_path, make, words):
    bad = tmp_path / "bad.elf"
    bad.write_bytes(make(open(cli.guest("hello"), "rb").read()))
    r = cli("run", "--kernel", str(bad), "--memory", "32M", "--name", "bad", code=None)
    assert r.returncode in (1, 2), r.stderr
    assert words in r.stderr
    nothing_left(cli)
    assert not (cli.home / "state" / "bad.json").exists()


def test_an_initrd_that_does_not_fit(cli, tmp_path):
    big = tmp_path / "initrd"
    big.write_bytes(bytes(32 << 20))
    error = cli("run", "--kernel", cli.guest("hello"), "--memory", "32M", "--initrd", str(big),
                code=None)
    assert error.returncode in (1, 2, 9)
    assert "initrd" in error.stderr
    nothing_left(cli)


def test_no_permission_for_kvm(cli):
    """As another user: refused, with what to do; nothing left behind."""
    if os.geteuid() != 0 or os.stat("/dev/kvm").st_mode & 0o006:
        pytest.skip("needs root, and a /dev/kvm that is not for everybody")
    for d in [cli.home, *cli.home.parents][:4]:
        os.chmod(d, 0o777)
    r = cli("run", "--kernel", cli.guest("hello"), "--memory", "32M", code=10, user=65534,
            group=65534, extra_groups=[])
    assert "/dev/kvm" in r.stderr and "kvm" in r.stderr
    assert cli.leftovers() == []
    d = json.loads(cli("host", "check", "--json", code=4, user=65534, group=65534,
                       extra_groups=[]).stdout)
    assert d["kvm"]["status"] == "forbidden" and not d["usable"]
