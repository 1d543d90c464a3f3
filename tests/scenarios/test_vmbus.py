# SPDX-License-Identifier: Apache-2.0
"""Hyper-V's bus with a driver of our own (tests/guests/vmbus): its services, a checkpoint in
mid-conversation, and a guest that breaks every rule.  What stock kernels make of the bus is
in test_debian.py."""
import re
import time

import pytest
from campaign import count, dice
from cli_fixture import needs_kvm, wait_for

pytestmark = needs_kvm


def start(cli, name="bus", words="", cpus=2):
    cli.run("vmbus", name, "--cpus", cpus, "--cmdline", f"cpus={cpus} {words}")
    cli.wait_console(name, "vmbus: ready channels=3 version=5.3", 60)


def sound(cli, name="bus"):
    text = cli.console(name)
    assert "FAIL" not in text, text
    return text


def beats(text):
    return [int(n) for n in re.findall(r"vmbus: beat (\d+)\r?$", text, re.M)]


def test_the_guest_is_known_from_outside(cli):
    start(cli)
    cli("guest", "ping", "bus", "--timeout", "30s")
    info = cli.json("guest", "info", "bus")
    assert info["connected"] and info["bus_version"] == "5.3"
    assert info["channels_offered"] >= 3 and info["channels_open"] == 3
    assert info["heartbeat"] == {"ready": True, "version": "3.0"} and info["healthy"]
    assert info["shutdown"]["version"] == "3.2" and info["time"]["version"] == "4.0"
    assert info["violations"] == 0
    assert cli.json("guest", "ping", "bus")["round_trip_ns"] > 0
    assert "healthy" in cli("guest", "info", "bus").stdout
    before = sound(cli).count("vmbus: time")
    cli("guest", "time", "bus", "--timeout", "30s")
    wait_for(lambda: re.search(rf"vmbus: time {before + 1} 1", sound(cli)) or
             sound(cli).count(" 1\r\n") > 1, 20, "a second sync")
    cli("kill", "bus")


def test_stop_asks_the_guest(cli):
    start(cli)
    r = cli("stop", "bus")
    assert (r.stdout, r.stderr) == ("", "")


def test_a_guest_without_drivers_is_as_before(cli):
    cli.run("echo", "plain")
    cli.wait_console("plain", "ready")
    info = cli.json("guest", "info", "plain")
    assert not info["connected"] and info["channels_open"] == 0 and info["violations"] == 0
    assert "not connected" in cli("guest", "info", "plain").stdout
    assert "no heartbeat service" in cli("guest", "ping", "plain", code=7).stderr
    assert "no time synchronisation" in cli("guest", "time", "plain", code=7).stderr
    cli("kill", "plain")


def test_a_paused_guest_cannot_answer(cli):
    start(cli)
    cli("pause", "bus")
    assert "resume" in cli("guest", "ping", "bus", code=7).stderr
    cli("resume", "bus")
    cli("guest", "ping", "bus", "--timeout", "30s")
    cli("kill", "bus")


@pytest.mark.parametrize("cpus", [1, 2])
def test_the_bus_goes_on_after_checkpoint_and_kill(cli, cpus):
    """No rescind, no lost answer; the clock is set and the generation another."""
    rng = dice(f"vmbus {cpus}")
    cli("archive", "init", cli.archive)
    start(cli, cpus=cpus)
    text = sound(cli)
    generations = re.findall(r"vmbus: generation (\w+)", text)
    for _ in range(count(1, 2, 50)):
        time.sleep(rng.uniform(0, 2.5))
        last = (beats(sound(cli)) or [0])[-1]
        checkpoint = cli("checkpoint", "bus", "--archive", cli.archive, "--quiet").stdout.strip()
        cli("kill", "bus")
        cli("restore", checkpoint, "--archive", cli.archive, "--detach", "--quiet")
        wait_for(lambda: re.search(r"vmbus: time \d+ 1\r?$", sound(cli), re.M), 30, "a time sync")
        wait_for(lambda: (beats(sound(cli)) or [0])[-1] > last, 30, "a heartbeat")
        new = wait_for(lambda: re.findall(r"vmbus: generation (\w+)", sound(cli)), 30, "a generation")
        assert new[-1] not in generations
        generations += new
        assert cli.json("guest", "info", "bus")["channels_open"] == 3
    cli("stop", "bus")


def test_the_driver_comes_and_goes(cli):
    start(cli, words=f"again={count(4, 8, 100)}")
    sound(cli)
    assert cli.json("guest", "info", "bus")["violations"] == 0
    cli("kill", "bus")


def test_a_hostile_guest_harms_only_itself(cli):
    """Malformed messages, page lists, indices and packets; then everything works again."""
    seed = dice("hostile bus").randrange(1 << 31)
    cli.run("vmbus", "bad", "--cmdline", f"mode=hostile seed={seed} count={count(200, 500, 100000)}")
    cli.wait_console("bad", "vmbus: ready channels=3", count(60, 120, 7200))
    assert "FAIL" not in cli.console("bad")
    cli("guest", "ping", "bad", "--timeout", "30s")
    assert cli.json("guest", "info", "bad")["violations"] > 0
    log = (cli.home / "state/bad.log").read_text()
    assert 0 < log.count("vmbus-violation") < 200, "the log is rate-limited"
    cli("stop", "bad")
