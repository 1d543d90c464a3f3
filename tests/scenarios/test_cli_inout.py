# SPDX-License-Identifier: Apache-2.0
"""Files in and out of an archive, by the command line; no machine is needed."""
import contextlib
import filecmp
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from campaign import dice
from cli_fixture import wait_for

MIB = 1 << 20


def make(path, seed, size, holes=()):
    """Random bytes, with holes of the file system at (offset, length)."""
    data = bytearray(dice(f"{path.name}/{seed}").randbytes(size))
    for at, n in holes:
        data[at:at + n] = bytes(len(data[at:at + n]))
    with open(path, "wb") as f:
        f.truncate(size)
        at = 0
        for start, n in [*sorted(holes), (size, 0)]:
            f.seek(at)
            f.write(data[at:start])
            at = start + n
    return bytes(data)


def blocks(path):
    return os.stat(path).st_blocks * 512


def streams(cli, ref):
    [c] = cli.json("archive", "ls", ref, "--streams")["checkpoints"]
    return {s["name"]: s["length_bytes"] for s in c["streams"]}


@pytest.fixture
def disk(tmp_path):
    """A sparse disk that is no whole number of pages."""
    path = tmp_path / "disk.raw"
    make(path, 1, 3 * MIB + 1234, holes=[(MIB, MIB), (2 * MIB + 4096, 8192)])
    return path


def pack_of(archive):
    return max((archive / "packs").iterdir(), key=lambda p: p.stat().st_size)


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 16]))


def test_files_go_in_and_come_out_the_same(cli, archive, disk, tmp_path):
    files = {"disk-raw": disk}
    for name, size in (("empty", 0), ("one.byte", 1), ("page", 4096), ("page+1", 4097)):
        make(tmp_path / name, 2, size)
        files[name.replace(".", "-").replace("+", "-")] = tmp_path / name
    r = cli("archive", "import", "web", *files.values(), "--label", "all kinds")
    assert r.stdout == "web@1\n" and "newly stored" in r.stderr
    assert streams(cli, "web@1") == {n: p.stat().st_size for n, p in files.items()}
    assert cli.json("archive", "ls")["checkpoints"][0]["label"] == "all kinds"
    out = tmp_path / "out"
    cli("archive", "export", "web@1", "--output", out)
    assert sorted(p.name for p in out.iterdir()) == sorted(files)
    for name, path in files.items():
        assert filecmp.cmp(out / name, path, shallow=False), name
    assert blocks(out / "disk-raw") <= blocks(disk)
    assert cli.json("archive", "verify")["sound"]


def test_a_second_import_stores_nothing_again(cli, archive, disk):
    first = cli.json("archive", "import", "web", disk)
    again = cli.json("archive", "import", "web", disk)
    assert first["stored_bytes"] > MIB and again["stored_bytes"] == 0
    assert again["checkpoint"] == "web@2" and again["logical_bytes"] == disk.stat().st_size
    s = cli.json("archive", "stats")
    assert s["logical_bytes"] == 2 * disk.stat().st_size
    by = {c["checkpoint"]: c for c in s["by_checkpoint"]}
    assert by["web@1"]["exclusive_bytes"] == by["web@2"]["exclusive_bytes"] == 0
    assert by["web@1"]["referenced_bytes"] == by["web@2"]["referenced_bytes"] > MIB
    [web] = s["machines"]
    assert web["exclusive_bytes"] == by["web@1"]["referenced_bytes"] and web["checkpoints"] == 2


def test_a_later_state_is_found_by_its_place(cli, archive, disk, tmp_path):
    cli("archive", "import", "web", disk)
    data = bytearray(disk.read_bytes())
    data[5 * 4096:6 * 4096] = dice("later").randbytes(4096)
    disk.write_bytes(data)
    for more, name in ((["--parent", "web@1"], "db"), ([], "web"), (["--parent", "none"], "x")):
        made = cli.json("archive", "import", name, disk, *more)
        assert made["stored_bytes"] < 40000 and made["nonzero_bytes"] > MIB
        got = cli("archive", "export", made["checkpoint"], "disk-raw", text=False).stdout
        assert got == data
    assert "web@7" in cli("archive", "import", "web", disk, "--parent", "web@7", code=3).stderr


def test_exclusive_is_what_nothing_else_needs(cli, archive, tmp_path):
    shared, own = make(tmp_path / "shared", 3, MIB), make(tmp_path / "own", 4, MIB // 2)
    (tmp_path / "both").write_bytes(shared + own)
    cli("archive", "import", "web", tmp_path / "shared")
    cli("archive", "import", "db", tmp_path / "both")
    by = {c["checkpoint"]: c for c in cli.json("archive", "stats")["by_checkpoint"]}
    assert by["web@1"]["exclusive_bytes"] == 0
    assert MIB // 2 <= by["db@1"]["exclusive_bytes"] < MIB // 2 + 10000
    text = cli("archive", "stats").stdout
    assert "db@1" in text and "EXCLUSIVE" in text


def test_standard_input_of_unknown_length(cli, archive, disk, tmp_path):
    with open(disk, "rb") as f:
        p = subprocess.run(["cat"], stdin=f, stdout=subprocess.PIPE, check=True)
    data = p.stdout
    r = cli("archive", "import", "web", "-", "--stream-name", "dump", stdin=None, input=data)
    assert r.stdout == "web@1\n"
    assert streams(cli, "web@1") == {"dump": len(data)}
    assert cli("archive", "export", "web@1", "dump", text=False).stdout == data
    cli("archive", "import", "web", "-", stdin=None, input=b"")
    assert streams(cli, "web@2") == {"stdin": 0}
    exactly = bytes(range(256)) * 4096  # ends where a piece does
    cli("archive", "import", "web", "-", stdin=None, input=exactly)
    assert cli("archive", "export", "web@3", "stdin", text=False).stdout == exactly


def test_a_named_pipe_is_read_until_it_ends(cli, archive, tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    p = cli.start("archive", "import", "web", fifo)
    with open(fifo, "wb") as f:
        f.write(b"x" * 10001)
    assert p.wait(60) == 0
    assert streams(cli, "web@1") == {"pipe": 10001}


def test_a_file_far_larger_than_memory_by_its_holes(cli, archive, tmp_path):
    big = tmp_path / "big"
    with open(big, "wb") as f:
        f.truncate(4 << 40)
        f.seek((3 << 40) + 7)
        f.write(b"a needle")
    cli("archive", "import", "web", big)
    got = cli("archive", "export", "web@1", "big", "--range", f"{3 << 40}+4K", text=False).stdout
    assert got == bytes(7) + b"a needle" + bytes(4096 - 15)
    cli("archive", "export", "web@1", "big", "--output", tmp_path / "back")
    back = tmp_path / "back"
    assert back.stat().st_size == 4 << 40 and blocks(back) < MIB


def test_imported_files_are_no_machine_and_no_damage(cli, archive, disk):
    empty = cli("archive", "stats").stdout
    assert "of manifests\n" in empty and "1/" not in empty
    cli("archive", "import", "web", disk)
    assert "1/" in cli("archive", "stats").stdout
    shown = cli("inspect", "web@1")
    assert "stream disk-raw" in shown.stdout and "not a machine's" in shown.stdout
    assert shown.stderr == "" and "config" not in cli.json("inspect", "web@1")
    cli("inspect", "web@1", "--stream", "config", code=3)
    error = cli("restore", "web@1", "--detach", code=2).stderr
    assert error == ("lifeboat: restore web@1: it is no machine's: `lifeboat archive export' gives its "
                     "streams out\n")


def test_ranges(cli, archive, disk, tmp_path):
    data = disk.read_bytes()
    cli("archive", "import", "web", disk)
    for text, start, end in (("0+1", 0, 1), ("4095+2", 4095, 4097), ("1M+64K", MIB, MIB + 65536),
                             ("3M+", 3 * MIB, None), ("2M+1M", 2 * MIB, 3 * MIB), ("7+0", 7, 7)):
        got = cli("archive", "export", "web@1", "disk-raw", "--range", text, text=False).stdout
        assert got == data[start:end], text
    out = tmp_path / "part"
    cli("archive", "export", "web@1", "disk-raw", "--range", "1000000+1000000", "--output", out)
    assert out.read_bytes() == data[1000000:2000000]
    for text, words in (("5", "no range"), ("4M+1", "has only"), ("0+4M", "has only"),
                        ("x+1", "not a size")):
        r = cli("archive", "export", "web@1", "disk-raw", "--range", text, code=2)
        assert "--range" in r.stderr and words in r.stderr


@pytest.mark.parametrize("args, code, words", [
    (["import", "Web", "f"], 2, "no name for a checkpoint"),
    (["import", "web", "nosuch"], 3, "nosuch"),
    (["import", "web", "d"], 2, "is a directory"),
    (["import", "web", "f", "d/f"], 2, "both be stream f"),
    (["import", "web", "f", "--stream-name", "a", "--stream-name", "b"], 2, "2 names for 1 file"),
    (["import", "web", "f", "--stream-name", "A b"], 2, "makes no name"),
    (["import", "web", "+++"], 2, "makes no name"),
    (["import", "web", "-", "-", "--stream-name", "a"], 2, "can be read once"),
    (["export", "web@1"], 3, "no checkpoint web@1"),
    (["export", "x@1", "nosuch"], 3, "no stream nosuch: `lifeboat archive ls --streams'"),
    (["export", "x@1", "--range", "0+1"], 2, "name it"),
    (["export", "x@1", "--output", "-"], 2, "goes into a directory"),
    (["export", "x@1", "f", "--json"], 2, "--output FILE"),
    (["export", "x@1", "f", "--output", "d"], 2, "is a directory"),
    (["export", "x@1", "f", "--output", "no/such/dir"], 3, "no/such/dir"),
    (["export", "x@1", "f", "--output", "f"], 1, "--force"),
    (["export", "x@1", "--output", "d"], 1, "--force"),
    (["export", "x@1", "--output", "f"], 1, "no directory"),
    (["verify", "--sample", "0"], 2, "percentage"),
    (["verify", "--sample", "101"], 2, "percentage"),
    (["verify", "--seed", "1"], 2, "--sample"),
    (["verify", "nosuch"], 3, "nosuch"),
    (["ls", "nosuch"], 3, "nosuch"),
    (["ls", "/nosuch/archive", "--archive", "a"], 2, "named twice"),
])
def test_what_cannot_be_done_is_said_and_nothing_is_left(cli, archive, tmp_path, args, code, words):
    (tmp_path / "f").write_bytes(b"something")
    (tmp_path / "+++").write_bytes(b"something")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"else")
    cli("archive", "import", "x", "f", cwd=tmp_path)
    before = sorted(p for p in tmp_path.rglob("*") if "index" not in str(p))
    r = cli("archive", *args, code=code, cwd=tmp_path)
    assert words in r.stderr, r.stderr
    assert sorted(p for p in tmp_path.rglob("*") if "index" not in str(p)) == before
    assert len(cli.json("archive", "ls")["checkpoints"]) == 1


def test_odd_names_of_files(cli, archive, tmp_path):
    odd = {"Ünï code.IMG": "--n---code-img".lstrip("-"), "-rf": "rf", "a" * 200: "a" * 63,
           "white space\n": "white-space-"}
    for name, stream in odd.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
        made = cli("archive", "import", "odd", path).stdout.strip()
        assert list(streams(cli, made)) == [stream], name
        assert cli("archive", "export", made, stream, text=False).stdout == name.encode()
    out = tmp_path / "in" / "out put\t"
    cli("archive", "export", "odd@1", "--output", f"{out}/")
    assert len(list(out.iterdir())) == 1


def test_existing_outputs_are_replaced_only_by_force(cli, archive, disk, tmp_path):
    cli("archive", "import", "web", disk)
    out = tmp_path / "out"
    out.write_text("precious")
    cli("archive", "export", "web@1", "disk-raw", "--output", out, code=1)
    assert out.read_text() == "precious"
    cli("archive", "export", "web@1", "disk-raw", "--output", out, "--force")
    assert filecmp.cmp(out, disk, shallow=False)
    where = tmp_path / "dir"
    where.mkdir()
    (where / "mine").write_text("precious")
    cli("archive", "export", "web@1", "--output", where, "--force")
    assert filecmp.cmp(where / "disk-raw", disk, shallow=False)
    assert (where / "mine").read_text() == "precious"
    r = cli("archive", "export", "web@1", "disk-raw", "--output", "/dev/full", "--force", code=9)
    assert "/dev/full" in r.stderr and "No space" in r.stderr


def test_a_closed_pipe_is_a_clean_end(cli, archive, tmp_path):
    make(tmp_path / "big", 5, 8 * MIB)
    cli("archive", "import", "web", tmp_path / "big")
    for more in ([], ["--range", "1+7M"]):
        p = cli.start("archive", "export", "web@1", "big", "--quiet", *more)
        assert len(p.stdout.read(10)) == 10
        p.stdout.close()
        assert p.wait(60) == 1
        error = p.stderr.read().decode()
        assert "Broken pipe" in error and error.count("\n") == 1
    assert cli.json("archive", "verify")["sound"]


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_import_leaves_the_archive_as_it_was(cli, archive, sig):
    p = cli.start("archive", "import", "web", "-", stdin=-1)
    p.stdin.write(os.urandom(3 * MIB))
    p.stdin.flush()
    time.sleep(0.2)
    p.send_signal(sig)
    assert p.wait(60) == (-9 if sig == signal.SIGKILL else 130)
    assert cli.json("archive", "ls") == {"checkpoints": []}
    assert cli.json("archive", "verify")["sound"]
    cli("archive", "import", "web", "/etc/hostname")
    assert cli.json("archive", "stats")["pack_bytes"] < MIB  # the left-overs are gone
    assert not list((archive / "manifests").glob("tmp-*"))


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_no_file(cli, archive, tmp_path, sig):
    make(tmp_path / "big", 6, 8 * MIB)
    cli("archive", "import", "web", tmp_path / "big")
    p = cli.start("archive", "export", "web@1", "big")  # nobody reads: it waits in the pipe
    assert len(p.stdout.read(10)) == 10
    time.sleep(0.2)
    p.send_signal(sig)
    assert p.wait(60) == 130
    out = tmp_path / "out"
    p = cli.start("archive", "export", "web@1", "--output", out)
    p.send_signal(sig)
    assert p.wait(60) in (0, 130, -sig)
    if p.returncode == 130:
        assert not out.exists()
    assert not list(tmp_path.glob("*.tmp")) or p.returncode == -sig


def has_open(pid, path):
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            found.append(os.readlink(fd))
    return str(path) in found


def test_a_file_that_changes_while_it_is_read(cli, archive, tmp_path):
    path, fifo = tmp_path / "first", tmp_path / "second"
    make(path, 7, MIB)
    os.mkfifo(fifo)
    for change, code, words in ((lambda f: f.truncate(MIB + 5), 1, "changed its size"),
                                (lambda f: f.truncate(4096), 1, "changed its size"),
                                (lambda f: f.write(b"new"), 0, "written to while")):
        make(path, 7, MIB)
        # It is opened, and its size known, before the pipe lets it be read.
        p = cli.start("archive", "import", "web", fifo, path, "--quiet")
        with open(fifo, "wb") as f:
            wait_for(lambda: has_open(p.pid, path), 20, "the file")
            time.sleep(0.05)
            with open(path, "r+b") as g:
                change(g)
            f.write(b"go")
        assert p.wait(60) == code
        assert words in p.stderr.read().decode()
    assert len(cli.json("archive", "ls")["checkpoints"]) == 1
    assert cli.json("archive", "verify")["sound"]


# ---- damage ----

def test_a_damaged_archive_gives_out_everything_else_and_names_the_loss(cli, archive, disk,
                                                                         tmp_path):
    cli("archive", "import", "web", disk)
    flip(pack_of(archive), 512 + 20 * 4096 + 100)  # past the seal of the group before
    out = tmp_path / "out"
    r = cli("archive", "export", "web@1", "disk-raw", "--output", out, code=5)
    assert "lost: web@1 disk-raw offset 81920 length 4096" in r.stderr and "--partial" in r.stderr
    assert not out.exists() and not list(tmp_path.glob("*.tmp"))
    d = cli("archive", "export", "web@1", "disk-raw", "--output", out, "--partial", "--json", code=5)
    [lost] = json.loads(d.stdout)["lost"]
    assert (lost["stream"], lost["offset_bytes"], lost["length_bytes"]) == ("disk-raw", 81920, 4096)
    want = bytearray(disk.read_bytes())
    want[81920:81920 + 4096] = bytes(4096)
    assert out.read_bytes() == want
    got = cli("archive", "export", "web@1", "disk-raw", "--range", "90000+5000", text=False).stdout
    assert got == want[90000:95000]  # a sound part of it is no trouble
    assert "lost" in cli("archive", "export", "web@1", "disk-raw", "--range", "80000+9000",
                         code=5, text=False).stderr
    pack_of(archive).unlink()
    r = cli("archive", "export", "web@1", "--output", tmp_path / "none", "--partial", code=5)
    assert r.stderr.count("lost: ") == 3  # one for each stretch of data
    none = tmp_path / "none/disk-raw"
    assert none.stat().st_size == len(want) and blocks(none) == 0


def test_verify_of_one_checkpoint_and_of_a_sample(cli, archive, tmp_path):
    make(tmp_path / "a", 8, 4 * MIB)
    make(tmp_path / "b", 9, MIB)
    cli("archive", "import", "one", tmp_path / "a")
    cli("archive", "import", "two", tmp_path / "b")
    [pack] = [p for p in (archive / "packs").iterdir() if p.stat().st_size > 3 * MIB]
    flip(pack, 512 + MIB)
    assert cli.json("archive", "verify", "two@1")["sound"]
    assert cli.json("archive", "verify", "two")["pages"] == 256
    assert "one@1 a offset" in cli("archive", "verify", "one@1", code=5).stdout
    full = cli.json("archive", "verify", code=5)
    assert full["pages"] == 5 * 256 - 1 and len(full["damages"]) == 1
    some = cli.json("archive", "verify", "--sample", "20%", code=None)
    assert 0 < some["pages"] < 1280 and some["sample_millionths"] == 200000
    again = cli.json("archive", "verify", "--sample", "20%", "--seed", some["seed"], code=None)
    assert again == some
    found = [cli.json("archive", "verify", "--sample", "20%", "--seed", n, code=None)["sound"]
             for n in range(30)]
    assert not all(found) and any(found)


def test_the_index_is_made_again(cli, archive, disk):
    cli("archive", "import", "web", disk)
    made = cli.json("archive", "rebuild-index")
    assert made["pages"] > 256 and made["packs"] == 1 and made["index_bytes"] > 0
    assert cli.json("archive", "import", "web", disk)["stored_bytes"] == 0
    shutil.rmtree(archive / "index")
    assert "index:" in cli("archive", "rebuild-index").stdout
    assert cli.json("archive", "verify")["sound"]


# ---- places ----

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def mounted(tmp_path):
    made = []

    def mount(size):
        where = tmp_path / f"mount{len(made)}"
        where.mkdir()
        if os.system(f"mount -t tmpfs -o size={size} none {where}") != 0:
            pytest.skip("cannot mount here")
        made.append(where)
        return where
    yield mount
    for where in made:
        os.system(f"umount {where}")


@needs_root
def test_full_disks(cli, archive, tmp_path, mounted):
    make(tmp_path / "big", 10, 20 * MIB)
    cli("archive", "import", "web", tmp_path / "big")
    small = mounted("16m")
    r = cli("archive", "export", "web@1", "big", "--output", small / "out", code=9)
    assert "No space left" in r.stderr and list(small.iterdir()) == []
    r = cli("archive", "export", "web@1", "--output", small / "dir", code=9)
    assert list(small.iterdir()) == []
    cli("archive", "init", small / "a")
    r = cli("archive", "import", "web", tmp_path / "big", "--archive", small / "a", code=9)
    assert "No space left" in r.stderr
    assert cli.json("archive", "verify", small / "a")["sound"]
    assert cli.json("archive", "ls", small / "a") == {"checkpoints": []}


@needs_root
def test_an_archive_on_a_read_only_medium(cli, disk, tmp_path, mounted):
    where = mounted("32m")
    a = where / "a"
    cli("archive", "init", a)
    cli("archive", "import", "web", disk, "--archive", a)
    assert os.system(f"mount -o remount,ro {where}") == 0
    cli.env["LIFEBOAT_ARCHIVE"] = str(a)
    assert len(cli.json("archive", "ls")["checkpoints"]) == 1
    assert cli.json("archive", "verify")["sound"]
    assert cli.json("archive", "stats")["checkpoints"] == 1
    cli("archive", "export", "web@1", "disk-raw", "--output", tmp_path / "out")
    assert filecmp.cmp(tmp_path / "out", disk, shallow=False)
    for verb in (["import", "web", disk], ["rebuild-index"]):
        r = cli("archive", *verb, code=10)
        assert str(a) in r.stderr and "Read-only file system" in r.stderr
        assert "mount it writable" in r.stderr


def words(path, seed, size):
    """What compresses, and better with more effort."""
    rng, text = dice(f"words/{seed}"), bytearray()
    known = [rng.randbytes(rng.randrange(3, 12)) for _ in range(3000)]
    while len(text) < size:
        text += rng.choice(known)
    path.write_bytes(text[:size])
    return path


def test_compression_is_chosen_for_an_archive_or_for_once(cli, tmp_path):
    text, stored = words(tmp_path / "text", 1, MIB), {}

    def put(path, *how):
        info = cli.json("archive", "import", "web", text, "--archive", path, *how)
        return info["stored_bytes"]
    for level in ("-7", "fast", "default", "best"):
        stored[level] = tmp_path / level
        cli("archive", "init", stored[level], f"--compression={level}")
        stored[level] = put(stored[level])
    cli("archive", "init", tmp_path / "unsaid")
    assert put(tmp_path / "unsaid") == stored["default"]
    assert stored["best"] <= stored["default"] < stored["fast"] < stored["-7"]
    cli("archive", "init", tmp_path / "once", "--compression", "fast")
    assert put(tmp_path / "once", "--compression", "1") == stored["default"]
    cli("archive", "init", tmp_path / "copied")
    cli("archive", "copy", "web", "--archive", tmp_path / "once", "--to", tmp_path / "copied",
        "--compression", "-7")
    [copy] = cli.json("archive", "ls", "web@1", "--archive", tmp_path / "copied")["checkpoints"]
    assert copy["stored_bytes"] == stored["-7"]
    for path in (tmp_path / "best", tmp_path / "copied"):
        assert cli.json("archive", "verify", "--archive", path)["sound"]
        cli("archive", "export", "web", "text", "--archive", path, "--force",
            "--output", tmp_path / "back")
        assert filecmp.cmp(tmp_path / "back", text, shallow=False)


def test_there_are_no_other_levels_of_compression(cli, archive, disk, tmp_path):
    for word in ("0", "20", "-8", "", "1x", "9999999999999999999999"):
        for verb in (("init", tmp_path / "none"), ("import", "web", disk)):
            r = cli("archive", *verb, "--compression=" + word, code=2)
            assert "say fast, default, best, or a level of zstd from -7 to 19" in r.stderr
    assert not (tmp_path / "none").exists()
    assert not cli.json("archive", "ls")["checkpoints"]
