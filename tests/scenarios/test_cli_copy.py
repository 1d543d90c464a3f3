# SPDX-License-Identifier: Apache-2.0
"""Checkpoints from one archive into another, by the command line."""
import filecmp
import os
import signal
import time

import pytest
from campaign import dice

MIB = 1 << 20


def make(path, size):
    path.write_bytes(dice(path.name).randbytes(size))
    return path


@pytest.fixture
def other(cli, archive, tmp_path):
    cli("archive", "init", tmp_path / "other", "--dedup-domain-of", archive)
    return tmp_path / "other"


def listed(cli, archive):
    return {c["checkpoint"]: c for c in cli.json("archive", "ls", "--archive", archive)["checkpoints"]}


def test_a_copy_is_the_same_and_is_made_once(cli, archive, other, tmp_path):
    disk, text = make(tmp_path / "disk", 2 * MIB + 77), make(tmp_path / "text", 5)
    cli("archive", "import", "db", text)
    cli("archive", "import", "web", disk, text, "--label", "grün")
    cli("archive", "import", "web", text, "--archive", other)  # there, web@1 is another
    r = cli("archive", "copy", "web@1", "--to", other)
    assert r.stdout == "web@2\n" and "newly stored" in r.stderr
    mine, copy = listed(cli, archive)["web@1"], listed(cli, other)["web@2"]
    for key in ("label", "created", "logical_bytes", "nonzero_bytes"):
        assert copy[key] == mine[key]
    assert copy["copy_of"] == {"checkpoint": "web@1", "digest": mine["digest"]}
    cli("archive", "export", "web@2", "--output", tmp_path / "back", "--archive", other)
    assert filecmp.cmp(tmp_path / "back/disk", disk, shallow=False)
    assert filecmp.cmp(tmp_path / "back/text", text, shallow=False)
    again = cli("archive", "copy", "web@1", "--to", other)
    assert again.stdout == "web@2\n" and "is there already" in again.stderr
    assert len(listed(cli, other)) == 2
    [d] = cli.json("archive", "copy", "web", "--to", other)["copies"]
    assert d["existed"] and d["checkpoint"] == "web@2" and d["source"] == "web@1"
    assert cli("archive", "copy", "web", "--to", other, "--as", "twin").stdout == "twin@1\n"
    assert listed(cli, other)["twin@1"]["stored_bytes"] == 0
    assert cli.json("archive", "verify", other)["sound"]


def test_copies_of_copies_come_home_as_what_they_were(cli, archive, other, tmp_path):
    third = tmp_path / "third"
    cli("archive", "init", third)
    cli("archive", "import", "web", make(tmp_path / "disk", MIB))
    cli("archive", "copy", "web@1", "--to", other)
    cli("archive", "copy", "web@1", "--archive", other, "--to", third)
    for source in (other, third):
        r = cli("archive", "copy", "web@1", "--archive", source, "--to", archive)
        assert "is there already" in r.stderr
    assert "is there already" in cli("archive", "copy", "web@1", "--to", third).stderr
    assert list(listed(cli, archive)) == ["web@1"]


def test_only_what_the_other_lacks_is_read(cli, archive, tmp_path):
    other = tmp_path / "sharing"
    cli("archive", "init", other, "--dedup-domain-of", archive)
    disk = make(tmp_path / "disk", 2 * MIB + 77)
    data = bytearray(disk.read_bytes())
    cli("archive", "import", "web", disk)
    data[10 * 4096:12 * 4096] = dice("new").randbytes(8192)
    data[100 * 4096:101 * 4096] = data[:4096]
    disk.write_bytes(data)
    cli("archive", "import", "web", disk)
    cli("archive", "copy", "web@1", "--to", other)
    [d] = cli.json("archive", "copy", "web@2", "--to", other)["copies"]
    assert d["pages_known"] == 513 - 2 and d["nonzero_bytes"] == len(data)
    assert 8192 <= d["stored_bytes"] < 20000
    got = cli("archive", "export", "web@2", "disk", "--archive", other, text=False).stdout
    assert got == data
    assert cli.json("archive", "verify", other)["sound"]


def test_each_archive_has_its_key(cli, archive, tmp_path):
    foreign, key, plain = tmp_path / "foreign", tmp_path / "foreign.key", tmp_path / "plain"
    cli("archive", "init", foreign, "--key-file", key)
    disk = make(tmp_path / "disk", 100000)
    cli("archive", "import", "web", disk)
    assert "foreign" in cli("archive", "copy", "web", "--to", foreign, code=10).stderr
    r = cli("archive", "copy", "web", "--to", foreign, "--to-key-file", key)
    assert r.stdout == "web@1\n" and "hashed again" in r.stderr
    pack = max((archive / "packs").iterdir(), key=lambda p: p.stat().st_size)
    with open(pack, "r+b") as f:
        f.seek(5000)
        f.write(b"x")
    cli("archive", "verify", code=5)
    cli("archive", "repair", "--from", foreign, code=10)
    assert cli.json("archive", "repair", "--from", foreign, "--from-key-file", key)["sound"]
    own = cli.env.pop("LIFEBOAT_KEY_FILE")
    cli("archive", "init", plain, "--no-encryption")
    assert cli("archive", "copy", "web", "--to", plain, "--key-file", own).stdout == "web@1\n"
    assert cli.json("archive", "verify", plain)["sound"]


def test_all_and_several_by_name(cli, archive, other, tmp_path):
    for i, name in enumerate(("db", "web", "web", "mail")):
        cli("archive", "import", name, make(tmp_path / f"f{i}", 10000))
    assert cli("archive", "copy", "web", "--to", other).stdout == "web@1\n"
    assert cli("archive", "copy", "web", "mail@1", "--all", "--to", other).stdout.splitlines() == [
        "web@2", "web@1", "mail@1"]
    assert len(cli("archive", "copy", "--all", "--to", other).stdout.splitlines()) == 4
    assert sorted(listed(cli, other)) == ["db@1", "mail@1", "web@1", "web@2"]


@pytest.mark.parametrize("args, code, words", [
    (["copy", "web@1"], 2, "--to PATH"),
    (["copy", "--to", "other"], 2, "--all"),
    (["copy", "web@7", "--to", "other"], 3, "web@7"),
    (["copy", "nosuch", "--all", "--to", "other"], 3, "nosuch"),
    (["copy", "web@1", "--to", "nowhere"], 3, "nowhere"),
    (["copy", "web@1", "--to", "other", "--as", "A"], 2, "no name"),
])
def test_what_cannot_be_copied(cli, archive, other, tmp_path, args, code, words):
    cli("archive", "import", "web", make(tmp_path / "disk", 5000))
    assert words in cli("archive", *args, code=code, cwd=tmp_path).stderr
    assert listed(cli, other) == {}


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_copy_leaves_both_as_they_were(cli, archive, other, tmp_path, sig):
    cli("archive", "import", "web", make(tmp_path / "disk", 24 * MIB))
    p = cli.start("archive", "copy", "web", "--to", other)
    time.sleep(0.4)
    p.send_signal(sig)
    p.wait(60)
    if p.returncode == 0:
        return  # it was faster
    assert p.returncode in (130, -sig)
    if sig == signal.SIGKILL and listed(cli, other):  # killed between the name and the end
        assert cli.json("archive", "verify", other)["sound"]
        return
    assert listed(cli, other) == {}
    assert cli.json("archive", "verify", other)["sound"] and cli.json("archive", "verify")["sound"]
    assert cli("archive", "copy", "web", "--to", other).stdout == "web@1\n"
    packs = sum(os.stat(p).st_size for p in (other / "packs").iterdir())
    assert packs < 25 * MIB  # the left-overs are gone
