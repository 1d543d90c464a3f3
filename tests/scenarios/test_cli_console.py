# SPDX-License-Identifier: Apache-2.0
"""A console one can really type at: raw terminal, leaving, coming back, scrollback."""
import os
import signal

from cli_fixture import needs_kvm, wait_for

pytestmark = needs_kvm
LEAVE = "\x1dd"


def start(cli):
    t = cli.terminal("run", "--kernel", cli.guest("echo"), "--memory", "32M", "--name", "web")
    t.expect("Ctrl-] d leaves")
    t.expect("echo: ready")
    return t


def test_type_leave_and_come_back(cli):
    t = start(cli)
    assert t.raw()
    t.type("hello there\r")
    t.expect("echo: HELLO THERE")
    t.type(LEAVE)
    assert t.wait() == 0
    assert "goes on" in t.text and not t.raw()
    assert cli.machines()["web"]["state"] == "running"

    t = cli.terminal("console", "web")
    t.expect("echo: HELLO THERE")  # the scrollback
    t.type("second visit\r")
    t.expect("echo: SECOND VISIT")
    t.type(LEAVE)
    assert t.wait() == 0 and not t.raw()

    t = cli.terminal("console", "web", "--no-replay")
    t.type("third\r")
    t.expect("echo: THIRD")
    assert "SECOND" not in t.text
    t.type("quit\r")
    t.expect("echo: bye")
    assert t.wait() == 0
    assert "has ended" in t.text and not t.raw()


def test_keys_that_others_take_reach_the_guest(cli):
    """Ctrl-C, Ctrl-Z, Ctrl-\\ and Ctrl-S are the guest's; Ctrl-] twice is one of them."""
    t = start(cli)
    t.type("a\x03b\x1ac\x1cd\x13e\x11f\r")
    t.expect("echo: A\x03B\x1aC\x1cD\x13E\x11F")
    t.type("x\x1d\x1dy\r")
    t.expect("echo: X\x1dY")
    t.type("p\x1dq\r")  # no command of ours: both bytes pass
    t.expect("echo: P\x1dQ")
    t.type("quit\r")
    assert t.wait() == 0


def test_the_terminal_is_restored_when_the_guest_ends(cli):
    t = start(cli)
    assert t.raw()
    t.type("quit\r")
    assert t.wait() == 0 and not t.raw()


def test_the_terminal_is_restored_by_signals(cli):
    for sig, code in ((signal.SIGTERM, 130), (signal.SIGHUP, 130)):
        t = start(cli)
        assert t.raw()
        os.kill(t.pid, sig)
        assert t.wait() == code and not t.raw()
        if sig == signal.SIGHUP:
            assert cli.machines()["web"]["state"] == "running"
            cli("kill", "web")
    t = start(cli)
    os.kill(t.pid, signal.SIGABRT)
    t.wait()
    assert t.status != 0 and not t.raw()
    cli("kill", "web")


def test_two_sessions_see_the_same_and_both_can_type(cli):
    t = start(cli)
    u = cli.terminal("console", "web")
    u.expect("echo: ready")
    u.type("from the second\r")
    t.expect("echo: FROM THE SECOND")
    t.type("from the first\r")
    u.expect("echo: FROM THE FIRST")
    t.type("quit\r")
    assert t.wait() == 0 and u.wait() == 0


def test_scrollback_keeps_the_end_of_much_output(cli):
    t = start(cli)
    t.type("flood 1500\r")
    t.expect("flood 1500 of 1500", 120)
    t.type(LEAVE)
    assert t.wait() == 0
    text = cli.console("web")
    assert "flood 1 of 1500" in text  # 90 KB: within the 1 MiB
    assert text.index("flood 1499 of") < text.index("flood 1500 of")
    cli("kill", "web")


def test_a_session_without_a_terminal_ends_with_the_machine(cli):
    cli.run("echo", "web")
    p = cli.start("console", "web", stdin=-1)
    p.stdin.write(b"no terminal\n")
    p.stdin.close()  # the end of input is not the end of the session
    cli.expect(p, "echo: NO TERMINAL")
    assert p.poll() is None
    cli("kill", "web")
    assert p.wait(10) == 0
    assert b"has ended" in p.stderr.read()
    wait_for(lambda: not cli.processes(), 10, "the end of all processes")
