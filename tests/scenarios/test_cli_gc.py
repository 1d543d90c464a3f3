# SPDX-License-Identifier: Apache-2.0
"""Checkpoints removed, pinned and collected by the command line, also where nothing is free."""
import filecmp
import os
import re
import shutil
import signal
import subprocess
import textwrap
import time

import pytest
from campaign import count, dice

MIB = 1 << 20


def disk(path, seed, size=4 * MIB):
    path.write_bytes(dice(seed).randbytes(size))
    return path


def change(path, seed, parts):
    """Every `parts`th page stays what it was."""
    r = dice(seed)
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 4096):
        if at // 4096 % parts:
            data[at:at + 4096] = r.randbytes(4096)
    path.write_bytes(data[:path.stat().st_size])
    return path


@pytest.fixture
def three(cli, archive, tmp_path):
    """web@1 to web@3, each with a disk of its own that shares a fifth with the one before."""
    path = disk(tmp_path / "disk", "first")
    for n in (1, 2, 3):
        cli("archive", "import", "web", path)
        shutil.copy(path, tmp_path / f"disk{n}")
        change(path, f"change {n}", 5)
    return archive


def used(archive):
    return sum(p.stat().st_size for p in (archive / "packs").iterdir())


def check_same(cli, tmp_path, n):
    back = tmp_path / "back"
    cli("archive", "export", f"web@{n}", "disk", "--output", back, "--force")
    assert filecmp.cmp(back, tmp_path / f"disk{n}", shallow=False)


def test_removing_and_collecting_gives_the_space_back(cli, three, tmp_path):
    before = used(three)
    r = cli("archive", "rm", "web@1-2")
    assert r.stdout.startswith("web@1: removed\nweb@2: removed\n")
    assert "archive gc" in r.stdout
    assert [c["number"] for c in cli.json("checkpoints")["checkpoints"]] == [3]
    plan = cli.json("archive", "gc", "--dry-run")
    assert plan["dry_run"] and used(three) == before
    assert plan["packs_removed"] + plan["packs_rewritten"] == 2
    r = cli.json("archive", "gc")
    assert r["packs_removed"] == plan["packs_removed"]
    assert r["packs_rewritten"] == plan["packs_rewritten"]
    assert r["packs_waiting"] == 0 and r["holders"] == [] and r["checkpoints"] == 1
    assert before - used(three) == r["removed_bytes"] - r["made_bytes"] > 6 * MIB
    assert used(three) < 4.3 * MIB
    check_same(cli, tmp_path, 3)
    assert cli.json("archive", "verify")["sound"]
    assert cli("archive", "gc").stdout.startswith("freed: 0")


def test_a_word_that_names_nothing_removes_nothing(cli, three):
    for words, code in ((("web@1", "web@9"), 3), (("web@1", "db@1"), 3), (("web@4-9",), 3),
                        (("web@1", "web"), 2), (("web@3-1",), 2), (("web@",), 2), (("../x@1",), 3),
                        (("web@1-",), 2), (("web@0",), 2), (("web@99999999999999999999",), 2)):
        cli("archive", "rm", *words, code=code)
    assert len(cli.json("checkpoints")["checkpoints"]) == 3
    digest = cli.json("checkpoints")["checkpoints"][0]["digest"]
    assert cli.json("archive", "rm", digest[:12], "web@1")["removed"] == [
        {"checkpoint": "web@1", "vm": "web", "number": 1}]
    cli("archive", "rm", digest[:12], code=3)


def test_pins(cli, three):
    assert "PIN" in cli("archive", "pins").stdout
    pin = cli("archive", "pins", "add", "web@2", "--owner", "year's \"end\"").stdout.strip()
    assert re.fullmatch(r"[0-9a-f]{16}", pin)
    listed = cli.json("archive", "pins")["pins"]
    assert len(listed) == 1 and listed[0]["pin"] == pin and listed[0]["number"] == 2
    assert listed[0]["owner"] == "year's \"end\"" and listed[0]["damaged"] is False
    r = cli("archive", "rm", "web@1-3", code=1)
    assert pin in r.stderr and "year's" in r.stderr and "nothing was removed" in r.stderr
    assert len(cli.json("checkpoints")["checkpoints"]) == 3
    cli("archive", "pins", "rm", "0" * 16, code=3)
    cli("archive", "pins", "rm", "web@2", code=2)
    cli("archive", "pins", "add", code=2)
    cli("archive", "pins", "add", "web@7", code=3)
    cli("archive", "pins", "rm", pin)
    cli("archive", "rm", "web@1-3")
    assert cli.json("archive", "pins")["pins"] == []


def test_who_is_reading_is_named_and_goes_on(cli, three, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = cli.start("archive", "export", "web@1", "disk", "--output", "-", "--quiet")
    first = reader.stdout.read(4096)
    cli("archive", "rm", "web@1-2")
    r = cli.json("archive", "gc")
    assert r["packs_waiting"] == 2 and r["packs_removed"] == 0
    assert [h["pid"] for h in r["holders"]] == [reader.pid] and "web@1" in r["holders"][0]["what"]
    assert f"process {reader.pid}" in cli("archive", "gc").stdout
    rest = reader.stdout.read()
    assert reader.wait(20) == 0
    assert first + rest == (tmp_path / "disk1").read_bytes()
    r = cli.json("archive", "gc")
    assert r["packs_waiting"] == 0 and r["packs_removed"] + r["packs_rewritten"] == 2
    check_same(cli, tmp_path, 3)


def test_killed_at_any_time_the_next_one_finishes(cli, archive, tmp_path):
    r = dice("kill gc")
    path = disk(tmp_path / "disk", "first")
    number = 0
    for i in range(count(2, 8, 100)):
        for _ in range(2):
            cli("archive", "import", "web", path)
            number += 1
            shutil.copy(path, tmp_path / f"disk{number}")
            change(path, f"change {i} {number}", 4)
        cli("archive", "rm", f"web@{number - 1}")
        if number > 2:
            cli("archive", "rm", f"web@{number - 2}")
        p = cli.start("archive", "gc", "--threshold", "90", "--quiet")
        time.sleep(r.random() * 0.25)
        p.send_signal(r.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGINT]))
        assert p.wait(20) in (-signal.SIGKILL, 130, 0)
        check_same(cli, tmp_path, number)
        cli("archive", "gc", "--threshold", "90")
        assert cli.json("archive", "verify")["sound"]
        check_same(cli, tmp_path, number)
        assert used(archive) < 4.5 * MIB


FULL = textwrap.dedent("""\
    set -eu
    mount -t tmpfs -o size=48m none "$1"
    "$2" archive init "$1/a"
    export LIFEBOAT_ARCHIVE="$1/a"
    "$2" archive import web "$3/disk1" --stream-name disk --quiet
    "$2" archive import web "$3/disk2" --stream-name disk --quiet
    if dd if=/dev/urandom of="$1/filler" bs=64k 2>/dev/null; then exit 40; fi
    dd if=/dev/urandom of="$1/filler2" bs=1 count=4096 2>/dev/null && exit 41
    code=0; "$2" archive import web "$3/disk3" --quiet 2>"$3/full" || code=$?
    test $code = 9
    "$2" archive export web@2 disk --output "$3/back2" --quiet --force
    "$2" archive rm web@1
    "$2" archive gc --json > "$3/gc.json"
    "$2" archive export web@2 disk --output "$3/back2" --quiet --force
    "$2" archive verify --quiet
    test "$(stat -c %s "$1/a/reserve")" = 8388608
    "$2" archive import db "$3/small" --quiet
    """)


def test_a_full_file_system_can_be_read_and_freed(cli, tmp_path):
    """On a real one, in mounts of its own."""
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    (tmp_path / "m").mkdir()
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", tmp_path / "m"],
                      stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no mount namespace of one's own here")
    for n in (1, 2, 3):
        disk(tmp_path / f"disk{n}", f"full {n}", 12 * MIB)
    disk(tmp_path / "small", "small", 2 * MIB)
    r = subprocess.run([*unshare, "sh", "-c", FULL, "sh", tmp_path / "m", cli.path, tmp_path],
                       env=cli.env, capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stdout + r.stderr
    assert "space" in (tmp_path / "full").read_text()
    assert filecmp.cmp(tmp_path / "back2", tmp_path / "disk2", shallow=False)
    assert '"packs_removed": 1' in (tmp_path / "gc.json").read_text()
