# SPDX-License-Identifier: Apache-2.0
"""What a person relies on when things go wrong around the command line: workers that
hang, signals at any moment, outputs that do not take what is written, odd homes."""
import contextlib
import json
import os
import signal
import socket
import subprocess

import pytest
from cli_fixture import needs_kvm, wait_for

pytestmark = needs_kvm


@pytest.fixture
def hung(cli, archive):
    """A machine "web" whose worker does nothing any more; gives the worker's pid."""
    cli.run("echo", "web")
    worker = cli.machines()["web"]["pid"]
    os.kill(worker, signal.SIGSTOP)
    return worker


# ---- workers that do not answer ----

ASKING = [("pause", "web"), ("resume", "web"), ("console", "web"), ("checkpoint", "web", "--quiet")]


@pytest.mark.parametrize("verb", ASKING, ids=lambda v: v[0])
def test_a_worker_that_hangs_is_told_in_one_sentence(cli, hung, verb):
    error = cli(*verb, "--timeout", "300ms", code=6, timeout=30).stderr
    assert "machine web" in error and "no answer within 0.3 s" in error and "lifeboat kill" in error
    assert cli.json("checkpoints")["checkpoints"] == []
    os.kill(hung, signal.SIGCONT)
    assert cli.machines()["web"]["state"] == "running"


@pytest.mark.parametrize("verb", [*ASKING, ("stop", "web")], ids=lambda v: v[0])
def test_waiting_for_a_worker_is_interrupted_at_once(cli, hung, verb):
    p = cli.start(*verb, *([] if verb[0] == "stop" else ["--timeout", "1h"]))
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(0.5)  # it waits
    p.send_signal(signal.SIGINT)
    assert p.wait(8) == 130
    assert p.stderr.read().decode().rstrip().endswith("interrupted")


def test_a_worker_that_hangs_in_mid_request_lets_go_of_the_hold(cli, archive):
    """It stops between two answers; when it goes on, nothing holds the machine."""
    cli.run("fill", "web", "--cmdline", "mem=16")
    worker = cli.machines()["web"]["pid"]
    p = cli.start("checkpoint", "web", "--quiet")
    wait_for(lambda: cli.machines()["web"]["held"] or p.poll() is not None, 20, "the hold")
    os.kill(worker, signal.SIGSTOP)
    p.send_signal(signal.SIGINT)
    assert p.wait(20) in (0, 130)
    os.kill(worker, signal.SIGCONT)
    wait_for(lambda: cli.machines()["web"]["state"] == "running", 10, "the machine to go on")
    assert len(cli.json("checkpoints")["checkpoints"]) == (1 if p.returncode == 0 else 0)


def test_a_queue_of_connections_that_nobody_accepts(cli, hung):
    """More verbs than a listening socket's queue takes: the last ones wait no longer."""
    many = [cli.start("pause", "web", "--timeout", "700ms") for _ in range(24)]
    assert {p.wait(30) for p in many} == {6}


def test_interrupting_the_foreground_ends_a_worker_that_hangs(cli):
    p = cli.start("run", "--kernel", cli.guest("echo"), "--memory", "32M", "--name", "web")
    cli.expect(p, "echo: ready")
    os.kill(cli.machines()["web"]["pid"], signal.SIGSTOP)
    p.send_signal(signal.SIGINT)
    assert p.wait(20) == 130
    assert b"interrupted, and ended" in p.stderr.read()
    wait_for(lambda: not cli.leftovers() and not cli.processes(), 10, "the end of all of it")


# ---- a launcher that dies ----

# Where: the name's directory is new, has a socket, is to be handed over, the machine
# exists, the machine is told to run.
@pytest.mark.parametrize("where", ["unlinkat:1", "bind:1", "listen:1", "sendmsg:1", "sendmsg:2",
                                   "sendmsg:3"])
def test_a_launcher_killed_at_any_step_leaves_nothing(cli, where):
    call, nth = where.split(":")
    env = {**cli.env, "ASAN_OPTIONS": "detect_leaks=0"}  # it cannot run under strace
    r = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}",
         "-e", f"inject={call}:signal=KILL:when={nth}",
         cli.path, "run", "--kernel", cli.guest("echo"), "--memory", "32M", "--name", "web",
         "--detach"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=120)
    assert r.returncode == -signal.SIGKILL  # strace ends as its child did
    wait_for(lambda: not cli.leftovers() and not cli.processes(), 10, "nothing to be left")


# ---- a log that takes nothing ----

def test_a_log_that_hangs_holds_up_no_machine(cli, archive):
    """Its log is a pipe that nobody reads, as a file on a server that is gone."""
    log = cli.home / "state" / "web.log"
    log.parent.mkdir()
    os.mkfifo(log)
    far_end = os.open(log, os.O_RDWR | os.O_NONBLOCK)
    cli.run("echo", "web")
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(far_end, b"." * size)
    for _ in range(3):  # the log is told of each
        cli("pause", "web")
        cli("resume", "web")
    cli("checkpoint", "web", "--quiet")
    p = cli.start("console", "web", stdin=subprocess.PIPE)
    p.stdin.write(b"still here\n")
    p.stdin.flush()
    cli.expect(p, "still here")
    assert cli.machines()["web"]["state"] == "running"
    reader = subprocess.Popen(["cat", log], stdout=subprocess.PIPE)
    kept = b""  # what the worker had for the log is written once that goes on
    while kept.count(b"worker machine event=paused") < 3:
        kept += cli.expect(reader, "\n")
    os.close(far_end)  # not before: a pipe that nobody reads ends its writers' writing
    cli("kill", "web")
    reader.communicate(timeout=120)


# ---- guests that reboot for ever ----

def test_a_guest_that_reboots_for_ever_is_slowed_down_and_counted(cli, archive):
    cli.run("hello", "loop", "--cmdline", "mode=reset")

    def breathing():
        m = cli.machines()["loop"]
        return m["stop_reason"] == "reboot-delay" and m

    m = wait_for(breathing, 30, "a pause between two reboots")
    assert m["state"] == "paused" and m["resets"] >= 4
    assert "reboots over and over" in (cli.home / "state" / "loop.log").read_text()
    assert " resets" in cli("ps").stdout
    wait_for(lambda: cli.machines()["loop"]["resets"] > m["resets"], 30, "another one")
    wait_for(breathing, 30, "the next pause")
    cli("pause", "loop")  # which then is one
    before = cli.machines()["loop"]
    assert before["stop_reason"] == "request"
    cli("checkpoint", "loop", "--quiet")
    cli("resume", "loop")
    wait_for(lambda: cli.machines()["loop"]["resets"] > before["resets"], 30, "it to go on")
    wait_for(breathing, 30, "the next pause")
    cli("checkpoint", "loop", "--quiet")
    wait_for(lambda: cli.machines()["loop"]["resets"] > before["resets"] + 1, 30, "it to go on")
    assert "forced off" in cli("stop", "loop", "--timeout", "1s", code=7).stderr
    assert '"ended": "killed"' in (cli.home / "state" / "loop.json").read_text()


# ---- checkpoints that meet, guests that answer ----

def test_two_checkpoints_of_a_machine_follow_one_another(cli, archive):
    cli.run("fill", "web", "--cmdline", "mem=16")
    both = [cli.start("checkpoint", "web") for _ in range(3)]
    said = [p.communicate(timeout=120) for p in both]
    assert [p.returncode for p in both] == [0, 0, 0], said
    assert sorted(out for out, _ in said) == [b"web@1\n", b"web@2\n", b"web@3\n"]
    assert cli.machines()["web"]["state"] == "running"
    cli("archive", "verify")


def hold(cli, name):
    """What a checkpoint does first, by hand; it ends with the socket."""
    s = socket.socket(socket.AF_UNIX)
    here = os.getcwd()  # a socket's path is short, a test's directory is not
    os.chdir(cli.home / "run" / name)
    try:
        s.connect("control")
    finally:
        os.chdir(here)
    s.sendall(b'{"id": 1, "op": "pause", "hold": true}\n')
    assert b'"ok":true' in s.recv(4096)
    return s


def test_a_checkpoint_waits_for_another_until_it_is_interrupted(cli, archive):
    cli.run("echo", "web")
    with hold(cli, "web"):
        p = cli.start("checkpoint", "web")
        cli.expect(p, "another checkpoint of it is being taken: waiting", stream="stderr")
        p.send_signal(signal.SIGINT)
        assert p.wait(20) == 130
        p = cli.start("checkpoint", "web")
        cli.expect(p, "waiting", stream="stderr")
    assert p.wait(60) == 0
    assert len(cli.json("checkpoints")["checkpoints"]) == 1


def test_a_restore_can_wait_for_the_guests_first_words(cli, archive):
    cli.run("hello", "loud", "--cmdline", "mode=reset")
    cli.run("hello", "quiet", "--cmdline", "mode=idle")
    cli.wait_console("quiet", "hello")
    for name in ("loud", "quiet"):
        cli("checkpoint", name, "--quiet")
        cli("kill", name)
    report = cli.json("restore", "loud", "--detach", "--await-reply", "30s")
    assert report["first_reply_ns"] >= report["running_ns"] > 0
    r = cli("restore", "quiet", "--detach", "--await-reply", "200ms", "--json", code=7)
    assert json.loads(r.stdout)["first_reply_ns"] is None and "wrote nothing within" in r.stderr
    assert cli.machines()["quiet"]["state"] == "running"
    assert cli.json("restore", "quiet", "--detach", "--name", "q2")["first_reply_ns"] is None
    assert "--detach" in cli("restore", "quiet", "--await-reply", "1s", code=2).stderr


# ---- outputs that take nothing ----

def closed(*fds):
    """For Popen: a shell's `>&-' and its like."""
    return {"preexec_fn": lambda: [os.close(fd) for fd in fds]}


WRITING = [("ps",), ("ps", "--json"), ("checkpoints",), ("inspect", "web@1"),
           ("inspect", "web@1", "--raw", "ram"), ("archive", "verify"),
           ("checkpoint", "web"), ("console", "web"), ("restore", "web@1", "--name", "w2", "--detach")]


def test_output_that_does_not_get_out_is_told(cli, archive):
    cli.run("echo", "web")
    cli("checkpoint", "web", "--quiet")
    for verb in WRITING:
        with open("/dev/full", "w") as full:
            assert "standard output: No space" in cli(*verb, stdout=full, code=9, timeout=30).stderr
        if verb[0] == "restore":
            cli("kill", "w2")
        error = cli(*verb, code=1, timeout=30, **closed(1)).stderr
        assert "standard output: Bad file descriptor" in error
    cli("kill", "w2")
    assert cli.machines()["web"]["state"] == "running"


def test_no_file_of_ours_becomes_a_closed_standard_descriptor(cli, archive):
    """Or what is meant for a person would be written into an archive."""
    cli.run("echo", "web")
    for _ in range(3):
        p = cli.start("checkpoint", "web", **closed(0, 1, 2))
        assert p.wait(60) == 1
    assert len(cli.json("checkpoints")["checkpoints"]) == 3
    p = cli.start("run", "--kernel", cli.guest("echo"), "--memory", "32M", "--name", "two", "--detach",
                  **closed(0, 1, 2))
    assert p.wait(60) == 1
    cli("archive", "verify")


# ---- odd homes ----

def at(cli, home):
    cli.home, cli.env["LIFEBOAT_HOME"] = home, str(home)


@pytest.mark.parametrize("name", ["with space", "new\nline", "%s%n", "d\u00fcrr", "-dash"])
def test_a_home_may_have_any_name(cli, tmp_path, name):
    (tmp_path / name).mkdir()
    at(cli, tmp_path / name)
    cli.run("echo", "web")
    assert cli.machines()["web"]["state"] == "running"
    cli("kill", "web")
    assert cli.leftovers() == []


def test_a_home_may_be_relative_or_a_link(cli, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    cli.env["LIFEBOAT_HOME"] = "link"
    cli("run", "--kernel", cli.guest("echo"), "--memory", "32M", "--name", "web", "--detach", cwd=tmp_path)
    at(cli, tmp_path / "real")
    assert cli.machines()["web"]["state"] == "running"
    cli("kill", "web")


def test_a_home_that_others_may_write_to_is_refused(cli, tmp_path):
    for part in ("run", "state"):
        home = tmp_path / f"open-{part}"
        (home / part).mkdir(parents=True)
        (home / part).chmod(0o777)
        at(cli, home)
        assert "chmod go-w" in cli("ps", code=10).stderr
    if os.geteuid() == 0:
        home = tmp_path / "foreign"
        (home / "run").mkdir(parents=True)
        os.chown(home / "run", 12345, 12345)
        at(cli, home)
        assert "another user" in cli("ps", code=10).stderr


@pytest.mark.parametrize("home, code, words", [
    ("/dev/null", 1, "Not a directory"),
    ("/proc/nothing", 3, "No such file"),
    ("/" + "x" * 5000, 2, "too long"),
], ids=["a device", "proc", "long"])
def test_a_home_that_cannot_be_is_told_in_one_sentence(cli, home, code, words):
    cli.env["LIFEBOAT_HOME"] = home
    error = cli("ps", code=code).stderr
    assert words in error and error.count("make directory") <= 1
