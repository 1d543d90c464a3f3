# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as a person makes, finds, reads, checks and restores them."""
import json
import os
import random
import re
import shutil
import signal
import time

import pytest
from cli_fixture import needs_kvm, wait_for

pytestmark = needs_kvm


def echo(cli, name, words):
    """Say words to the guest on its console and wait for the answer."""
    p = cli.start("console", name, "--no-replay", stdin=-1)
    p.stdin.write(words.encode() + b"\r")
    p.stdin.flush()
    cli.expect(p, "echo: " + words.upper())
    p.terminate()
    p.wait(10)


def test_checkpoint_kill_restore(cli, archive):
    cli.run("echo", "web")
    echo(cli, "web", "before")
    assert cli("checkpoint", "web", "--label", "first one").stdout == "web@1\n"
    echo(cli, "web", "after the checkpoint")
    worker = int((cli.home / "run/web/lock").read_text().split()[1])
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not cli.leftovers(), 10, "the machine's end")

    assert cli("restore", "web@1", "--detach").stdout == "web\n"
    echo(cli, "web", "restored")
    cli("kill", "web")


def test_reports_of_checkpoint_and_restore_have_their_figures(cli, archive):
    cli.run("echo", "web")
    c = cli.json("checkpoint", "web", "--label", "grün & \"quoted\"")
    assert c["checkpoint"] == "web@1" and c["vm"] == "web" and c["number"] == 1
    assert c["label"] == "grün & \"quoted\"" and c["was_running"] is True
    assert c["ram_bytes"] == 32 << 20
    assert 0 < c["pause_ns"] <= c["total_ns"]
    assert 0 < c["nonzero_bytes"] <= c["logical_bytes"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", c["created"])
    cli("kill", "web")
    r = cli.json("restore", "web@1", "--detach")
    assert r["checkpoint"] == "web@1" and r["name"] == "web" and r["paused"] is False
    assert 0 < r["resident_ns"] <= r["running_ns"]
    assert r["ram_bytes"] == 32 << 20
    cli("kill", "web")


def test_lists_name_what_is_there(cli, archive):
    cli.run("echo", "web")
    cli.run("echo", "db")
    for name, label in (("web", "one"), ("web", "two"), ("db", "three")):
        cli("checkpoint", name, "--label", label)
    listed = cli.json("checkpoints")["checkpoints"]
    assert [(c["checkpoint"], c["label"]) for c in listed] == [
        ("db@1", "three"), ("web@1", "one"), ("web@2", "two")]
    assert [c["checkpoint"] for c in cli.json("checkpoints", "web")["checkpoints"]] == ["web@1",
                                                                                      "web@2"]
    text = cli("checkpoints").stdout.splitlines()
    assert len(text) == 4 and text[3].startswith("web@2 ") and text[3].endswith("two")
    stats = cli.json("archive", "stats")
    assert stats["checkpoints"] == 3 and {m["vm"] for m in stats["machines"]} == {"db", "web"}
    assert cli.json("archive", "ls")["checkpoints"] == listed
    digest = listed[2]["digest"]
    assert cli.json("inspect", digest[:12])["checkpoint"] == "web@2"
    assert cli.json("inspect", "web")["checkpoint"] == "web@2"  # the newest
    assert "web@9" in cli("inspect", "web@9", code=3).stderr
    cli("kill", "web")
    cli("kill", "db")


def test_a_label_cannot_talk_to_the_terminal(cli, archive):
    cli.run("echo", "web")
    cli("checkpoint", "web", "--label", "a\x1b[2Jb\nc")
    for verb in (["checkpoints"], ["inspect", "web@1"]):
        assert "\x1b" not in cli(*verb).stdout
    assert len(cli("checkpoints").stdout.splitlines()) == 2
    cli("kill", "web")


def test_inspect_shows_configuration_and_state(cli, archive):
    cli.run("echo", "web", "--cpus", "2", "--cmdline", "some words")
    cli("checkpoint", "web")
    cli("kill", "web")
    d = cli.json("inspect", "web@1")
    assert d["config"]["name"] == "web" and d["config"]["vcpus"] == 2
    assert d["config"]["memory_bytes"] == 32 << 20 and d["config"]["cmdline"] == "some words"
    assert {s["name"] for s in d["streams"]} == {"config", "kernel", "state", "ram"}
    kinds = [(s["kind"], s["instance"]) for s in d["state"]["sections"]]
    assert ("vcpu", 0) in kinds and ("vcpu", 1) in kinds and len(kinds) == len(set(kinds))
    assert set(cli.json("inspect", "web@1", "--stream", "config")) == {"config"}
    assert set(cli.json("inspect", "web@1", "--stream", "state")) == {"state"}
    text = cli("inspect", "web@1").stdout
    assert "checkpoint web@1" in text and "vcpu.0" in text and "vcpu.1" in text
    kernel = cli("inspect", "web@1", "--raw", "kernel", text=False).stdout
    assert kernel == open(cli.guest("echo"), "rb").read()
    assert len(cli("inspect", "web@1", "--raw", "ram", text=False).stdout) == 32 << 20
    assert "nosuch" in cli("inspect", "web@1", "--raw", "nosuch", code=3).stderr


def test_restore_under_another_name_and_paused(cli, archive):
    cli.run("echo", "web")
    echo(cli, "web", "before")
    cli("checkpoint", "web")
    error = cli("restore", "web@1", "--detach", code=1).stderr
    assert "runs already" in error and "--name" in error
    cli("restore", "web@1", "--name", "twin", "--paused", "--detach")
    m = cli.machines()
    assert m["web"]["state"] == "running" and m["twin"]["state"] == "paused"
    cli("resume", "twin")
    echo(cli, "twin", "i am the twin")
    echo(cli, "web", "i am the first")
    assert cli("checkpoint", "twin").stdout == "twin@1\n"
    cli("kill", "web")
    cli("kill", "twin")


def test_a_paused_machine_stays_paused_through_a_checkpoint(cli, archive):
    cli.run("echo", "web")
    cli("pause", "web")
    assert cli.json("checkpoint", "web")["was_running"] is False
    assert cli.machines()["web"]["state"] == "paused"
    cli("kill", "web")


def test_restore_in_the_foreground_goes_on_on_this_console(cli, archive):
    cli.run("echo", "web")
    cli("checkpoint", "web")
    cli("kill", "web")
    p = cli.start("restore", "web", stdin=-1)
    out, err = p.communicate(b"back again\rquit\r", timeout=60)
    assert p.returncode == 0, err
    assert b"echo: BACK AGAIN" in out and out.endswith(b"echo: bye\r\n")
    assert b"goes on from web@1" in err
    assert cli.leftovers() == []


def test_a_restored_machine_reboots_from_the_kernel_it_had(cli, archive):
    cli.run("hello", "web", "--cmdline", "mode=idle")
    cli.wait_console("web", "hello")
    cli("checkpoint", "web")
    cli("kill", "web")
    cli("restore", "web", "--detach")
    cli("checkpoint", "web")
    d1, d2 = (cli("inspect", f"web@{n}", "--raw", "kernel", text=False).stdout for n in (1, 2))
    assert d1 == d2 == open(cli.guest("hello"), "rb").read()
    cli("kill", "web")


def big(cli, name="big"):
    """A machine with some hundred MiB that are not zero and not compressible."""
    cli("run", "--kernel", cli.guest("fill"), "--memory", "256M", "--name", name, "--detach")
    cli.wait_console(name, "fill: hash", 120)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_checkpoint_leaves_guest_and_archive_as_they_were(cli, archive, sig):
    big(cli)
    p = cli.start("checkpoint", "big")
    time.sleep(0.3)
    p.send_signal(sig)
    assert p.wait(60) in (130, -9)
    wait_for(lambda: cli.machines()["big"]["state"] == "running", 5, "the guest to run on")
    assert cli.json("checkpoints") == {"checkpoints": []}
    assert cli.json("archive", "verify")["sound"]
    assert cli("checkpoint", "big").stdout == "big@1\n"
    cli("kill", "big")


def test_a_machine_is_captured_by_one_at_a_time(cli, archive):
    big(cli)
    first = cli.start("checkpoint", "big")
    wait_for(lambda: cli.machines()["big"]["held"], 20, "the checkpoint to hold the machine")
    second = cli.start("checkpoint", "big")
    cli.expect(second, "waiting for its end", stream="stderr")
    cli.run("echo", "web")
    cli("checkpoint", "web")  # another machine, the same archive, at the same time
    assert first.wait(60) == 0 and second.wait(120) == 0
    assert {c["checkpoint"] for c in cli.json("checkpoints")["checkpoints"]} == {"big@1", "big@2", "web@1"}
    cli("kill", "big")
    cli("kill", "web")


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_restore_leaves_nothing(cli, archive, sig):
    big(cli)
    cli("checkpoint", "big")
    cli("kill", "big")
    p = cli.start("restore", "big@1", "--detach")
    wait_for(lambda: cli.leftovers() or p.poll() is not None, 20, "the restore to begin")
    p.send_signal(sig)
    assert p.wait(60) in (130, -9)
    wait_for(lambda: not cli.leftovers(), 10, "nothing to be left")
    wait_for(lambda: not cli.processes(), 10, "the end of all processes")
    assert not (cli.home / "state/big.json").exists() or "killed" in (
        cli.home / "state/big.json").read_text()
    assert cli("restore", "big@1", "--detach").stdout == "big\n"
    cli("kill", "big")


def test_progress_is_shown_in_lines_where_there_is_no_terminal(cli, archive):
    big(cli)
    quiet = cli("checkpoint", "big", "--quiet")
    assert quiet.stderr == ""
    t = cli.terminal("checkpoint", "big")
    assert t.wait(120) == 0
    assert "big@2" in t.text and "stood still for" in t.text
    cli("kill", "big")


# ---- damage ----

def packs(archive):
    return sorted(p for p in archive.rglob("*") if p.is_file() and p.stat().st_size > 100000)


def flip(path, at, bit=0):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ (1 << bit)]))


def test_a_flipped_bit_is_found_and_named_and_not_restored(cli, archive, tmp_path):
    seed = int(os.environ.get("LIFEBOAT_SEED", "1"))
    rng = random.Random(seed)
    cli.run("echo", "web")
    cli("checkpoint", "web", "--label", "whole")
    cli("kill", "web")
    sound = tmp_path / "sound"
    shutil.copytree(archive, sound)
    files = [p.relative_to(archive) for p in sorted(archive.rglob("*"))
             if p.is_file() and p.stat().st_size and "index" not in str(p.relative_to(archive))
             and "lock" not in p.name and p.name != "reserve"]
    assert files
    for i in range(12):
        rel = files[i % len(files)]
        shutil.rmtree(archive)
        shutil.copytree(sound, archive)
        at = rng.randrange((archive / rel).stat().st_size)
        flip(archive / rel, at, rng.randrange(8))
        r = cli("archive", "verify", "--json", code=None)
        assert r.returncode in (5, 8), f"seed {seed}: {rel} at {at}: {r.stdout} {r.stderr}"
        if r.returncode == 5 and r.stdout:
            d = json.loads(r.stdout)
            assert not d["sound"] and d["damages"] and all(x["what"] for x in d["damages"])
        text = cli("archive", "verify", code=r.returncode)
        assert "damage" in text.stderr or str(rel.name) in text.stderr
        # Restored it is either what it was, because the damage hits none of what
        # it needs, or refused; and then nothing is left.
        back = cli("restore", "web@1", "--detach", code=None)
        if back.returncode == 0:
            cli("kill", "web")
        else:
            assert back.returncode in (3, 5, 8), back.stderr
        wait_for(lambda: not cli.processes(), 10, "the end of all processes")
        assert cli.leftovers() == []


def test_damage_in_a_page_names_checkpoint_stream_and_offset(cli, archive):
    cli.run("echo", "web")
    cli("checkpoint", "web")
    cli("kill", "web")
    pack = max((p for p in (archive / "packs").iterdir()),
               key=lambda p: p.stat().st_size)
    flip(pack, pack.stat().st_size // 2)
    r = cli("archive", "verify", code=5)
    lines = [x for x in r.stdout.splitlines() if x.startswith("damaged: ")]
    assert any(re.match(r"damaged: web@1 (ram|kernel|state|config) offset \d+ length \d+: ", x)
               for x in lines), r.stdout
    assert "damaged in" in r.stderr
    error = cli("restore", "web@1", "--detach", code=5).stderr
    assert "web@1" in error or pack.name in error
    assert "archive export web@1 --partial" in error
    assert cli.leftovers() == []


def test_an_archive_without_room(cli, archive):
    """A full file system: code 9, the guest goes on, the archive is sound."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    small = cli.home.parent / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=12m none {small}") != 0:
        pytest.skip("cannot mount here")
    try:
        cli("archive", "init", small / "a")
        cli.env["LIFEBOAT_ARCHIVE"] = str(small / "a")
        big(cli)
        assert "No space left" in cli("checkpoint", "big", code=9).stderr
        assert cli.machines()["big"]["state"] == "running"
        assert cli.json("checkpoints") == {"checkpoints": []}
        assert cli.json("archive", "verify")["sound"]
        cli("kill", "big")
    finally:
        os.system(f"umount {small}")


def test_an_archive_that_may_not_be_read(cli, archive):
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    os.chmod(archive, 0o700)
    for d in [cli.home, *cli.home.parents][:4]:
        os.chmod(d, 0o777)
    r = cli("checkpoints", code=10, user=65534, group=65534, extra_groups=[])
    assert "ermission denied" in r.stderr
