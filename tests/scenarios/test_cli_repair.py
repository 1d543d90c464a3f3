# SPDX-License-Identifier: Apache-2.0
"""Damaged archives made whole again, by the command line."""
import filecmp
import shutil
import signal
import time

import pytest
from campaign import count, dice

MIB = 1 << 20


def flip(path, at, bit=4):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1 << bit]))


def packs(archive):
    return sorted((archive / "packs").iterdir(), key=lambda p: -p.stat().st_size)


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(dice("disk").randbytes(3 * MIB + 99))
    return path


@pytest.fixture
def filled(cli, archive, disk):
    cli("archive", "import", "web", disk)
    return archive


def check_same(cli, disk, tmp_path):
    assert cli.json("archive", "verify")["sound"]
    cli("archive", "export", "web@1", "disk", "--output", tmp_path / "back", "--force")
    assert filecmp.cmp(tmp_path / "back", disk, shallow=False)


def test_a_sound_archive_needs_nothing(cli, filled):
    r = cli("archive", "repair")
    assert r.stdout.startswith("sound: healed: 0,")


def test_live_data_heals_what_was_stored_of_it(cli, filled, disk, tmp_path):
    flip(packs(filled)[0], 512 + 10 * 4096)
    flip(packs(filled)[0], 512 + 200 * 4096)
    r = cli("archive", "repair", code=5)
    assert "lost: web@1 disk offset 40960 length 4096" in r.stdout
    assert "could not be healed" in r.stderr
    r = cli("archive", "repair", "--from-file", "/dev/null", "--from-file", disk)
    assert "made again" in r.stdout and "sound: healed: 1," in r.stdout
    check_same(cli, disk, tmp_path)


@pytest.mark.parametrize("level", ["-3", "9"])
def test_a_pack_is_made_again_at_its_own_level(cli, archive, tmp_path, level):
    rng, text = dice("level"), bytearray()
    known = [rng.randbytes(rng.randrange(3, 12)) for _ in range(3000)]
    while len(text) < MIB:
        text += rng.choice(known)
    (tmp_path / "text").write_bytes(text)
    cli("archive", "import", "web", tmp_path / "text", "--compression", level)
    flip(packs(archive)[0], 512 + 3 * 4096)
    d = cli.json("archive", "repair", "--from-file", tmp_path / "text")
    assert d["sound"] and d["healed"] == 1 and d["pages_lost"] == 0


def test_another_archive_heals(cli, filled, disk, tmp_path):
    cli("archive", "init", tmp_path / "other")
    cli("archive", "copy", "web", "--to", tmp_path / "other")
    flip(packs(filled)[0], 512 + MIB)
    d = cli.json("archive", "repair", "--from", tmp_path / "other")
    assert d["sound"] and d["healed"] == 1 and d["damages"] == [] and d["pages_lost"] == 0
    check_same(cli, disk, tmp_path)


def test_a_copy_of_the_directory_heals_everything(cli, filled, disk, tmp_path):
    mirror, rng = tmp_path / "mirror", dice("repair")
    shutil.copytree(filled, mirror)
    for i in range(count(4, 12, 200)):
        kinds = ("packs", "manifests", "numbers", "pins", "forwards", "keys")
        files = [filled / "archive", *(p for k in kinds for p in sorted((filled / k).glob("*"))
                                       if p.stat().st_size)]
        hit = rng.choice(files)
        if i % 4 == 3 and hit.parent.name == "packs":
            hit.unlink()
        else:
            flip(hit, rng.randrange(hit.stat().st_size), rng.randrange(8))
        cli("archive", "verify", code=5)
        assert cli.json("archive", "repair", "--from", mirror)["sound"], hit
        check_same(cli, disk, tmp_path)


def test_a_lost_configuration(cli, filled, disk, tmp_path):
    mirror, stranger = tmp_path / "mirror", tmp_path / "stranger"
    shutil.copytree(filled, mirror)
    cli("archive", "init", stranger)
    (filled / "archive").unlink()
    assert "no archive" in cli("archive", "repair", code=3).stderr
    assert "is a copy of it" in cli("archive", "repair", "--from", stranger, code=5).stderr
    assert "is there again" in cli("archive", "repair", "--from", mirror).stdout
    check_same(cli, disk, tmp_path)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_repair_makes_nothing_worse(cli, filled, disk, tmp_path, sig):
    big = tmp_path / "big"
    big.write_bytes(dice("big").randbytes(24 * MIB))
    cli("archive", "import", "db", big)
    flip(packs(filled)[0], 512 + 5 * MIB)
    p = cli.start("archive", "repair", "--from-file", big)
    time.sleep(0.3)
    p.send_signal(sig)
    assert p.wait(60) in (0, 130, -sig)
    check_before = cli.json("archive", "verify", code=None)
    assert len(check_before["damages"]) <= 1
    assert cli.json("archive", "repair", "--from-file", big)["sound"]
    assert not list(filled.rglob("*.tmp"))
    check_same(cli, disk, tmp_path)


def test_what_cannot_be_repaired(cli, filled, tmp_path):
    assert "nosuch" in cli("archive", "repair", "--from", tmp_path / "nosuch", code=3).stderr
    flip(packs(filled)[0], 600)
    assert "nosuch" in cli("archive", "repair", "--from-file", tmp_path / "nosuch", code=3).stderr
    (filled / "manifests/web@1").write_bytes(b"nonsense")
    r = cli("archive", "repair", code=5)
    assert "web@1: its root is damaged" in r.stdout and "damaged: web@1" in r.stdout


def test_a_machine_that_cannot_be_restored_is_told_what_can_be_saved(cli, archive, tmp_path):
    (tmp_path / "config").write_bytes(dice("config").randbytes(4000))
    cli("archive", "import", "web", tmp_path / "config")
    flip(packs(archive)[0], 512 + 100)
    r = cli("restore", "web", "--detach", code=5)
    assert "archive repair" in r.stderr and "archive export web@1 --partial" in r.stderr
    cli("archive", "export", "web@1", "config", "--partial", "--output", tmp_path / "saved", code=5)
    assert (tmp_path / "saved").stat().st_size == 4000


@pytest.mark.parametrize("lost", ("manifests", "packs", "numbers"))
def test_directories_that_a_copy_left_out_because_they_were_empty(cli, archive, disk, tmp_path, lost):
    (archive / lost).rmdir()
    r = cli("archive", "import", "web", disk, code=5)
    assert f"{lost} is missing" in r.stderr and "archive repair" in r.stderr
    assert "is there again" in cli("archive", "repair").stdout
    cli("archive", "import", "web", disk)
    check_same(cli, disk, tmp_path)


def test_lost_keys_are_not_asked_for(cli, filled):
    shutil.rmtree(filled / "keys")
    for verb in ("ls", "repair"):
        assert "keys" in cli("archive", verb, code=5).stderr
