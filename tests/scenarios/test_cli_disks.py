# SPDX-License-Identifier: Apache-2.0
"""Disks as a person handles them: attached, locked, checkpointed, restored as new files.

Tiny guests, natively, which never look at their disks; what a guest does with one is
test_disks.  What a checkpoint holds and a restore makes is compared byte by byte.
"""
import os
import random

from cli_fixture import needs_kvm, wait_for

pytestmark = needs_kvm

MIB = 1 << 20


def disk(path, mib, seed):
    """Random content between two holes, and an end that is no whole MiB."""
    rng = random.Random(seed)
    with open(path, "wb") as f:
        f.seek(mib * MIB // 3)
        f.write(rng.randbytes(MIB + 700))
        f.truncate(mib * MIB + 512)
    return path.read_bytes()


def nothing_left(cli):
    wait_for(lambda: not cli.processes(), 10, "the end of all processes")
    assert cli.leftovers() == []


def test_a_restore_makes_new_files_with_the_content_of_the_instant(cli, archive, tmp_path):
    first, second = tmp_path / "a.raw", tmp_path / "b.raw"
    was = disk(first, 8, 1), disk(second, 3, 2)
    cli.run("echo", "web", "--disk", f"{first}", "--disk", f"{second},ro")
    assert cli.machines()["web"]["disks"] == 2
    assert cli.machines()["web"]["disk_bytes"] == sum(map(len, was))
    report = cli.json("checkpoint", "web")
    assert report["disk_bytes"] == sum(map(len, was))
    assert report["disk_read_bytes"] < sum(map(len, was)), "holes were read"
    cli("kill", "web")
    nothing_left(cli)
    first.write_bytes(os.urandom(len(was[0])))     # it went on without us
    later = first.read_bytes()
    r = cli("restore", "web@1", "--detach", code=2)
    assert "--disk-dir" in r.stderr
    new = tmp_path / "new"
    new.mkdir()
    report = cli.json("restore", "web@1", "--detach", "--disk-dir", new)
    assert report["disks"] == [f"{new}/web-disk0.raw", f"{new}/web-disk1.raw"]
    assert [(new / f"web-disk{i}.raw").read_bytes() for i in range(2)] == list(was)
    assert sorted(os.listdir(new)) == ["web-disk0.raw", "web-disk1.raw"]
    assert first.read_bytes() == later, "a restore touched the old disk"
    # Another instant of the same machine, and the same files again: never over them.
    assert cli.json("checkpoint", "web")["disk_bytes"] == sum(map(len, was))
    cli("kill", "web")
    r = cli("restore", "web@2", "--detach", "--disk-dir", new, code=1)
    assert "exists already" in r.stderr
    cli.json("restore", "web@2", "--detach", "--disk-dir", new, "--name", "copy")
    assert (new / "copy-disk0.raw").read_bytes() == was[0]
    cli("kill", "copy")
    nothing_left(cli)


def test_a_disk_belongs_to_one_machine_or_read_only_to_several(cli, tmp_path):
    path = tmp_path / "d.raw"
    disk(path, 1, 3)
    cli.run("echo", "one", "--disk", path)
    for words in (f"{path}", f"{path},ro"):
        r = cli.run("echo", "two", "--disk", words, code=1)
        assert "in use by another machine" in r.stderr
    cli("kill", "one")
    wait_for(lambda: not cli.processes(), 10, "the end of the machine")
    cli.run("echo", "one", "--disk", f"{path},ro")
    cli.run("echo", "two", "--disk", f"{path},ro")
    r = cli.run("echo", "three", "--disk", path, code=1)
    assert "in use" in r.stderr
    cli("kill", "one")
    cli("kill", "two")
    nothing_left(cli)


def test_a_failed_restore_leaves_no_file(cli, archive, tmp_path):
    path, new = tmp_path / "d.raw", tmp_path / "new"
    disk(path, 1, 4)
    new.mkdir()
    cli.run("echo", "web", "--disk", path)
    cli("checkpoint", "web", "--quiet")
    cli("restore", "web@1", "--detach", "--disk-dir", new, code=1)      # it still runs
    assert os.listdir(new) == []
    cli("restore", "web@1", "--detach", "--disk-dir", tmp_path / "nowhere", "--name", "x", code=3)
    # What a killed restore left is nobody's.
    (new / "x-disk0.raw.partial").write_bytes(b"leftover")
    cli.json("restore", "web@1", "--detach", "--disk-dir", new, "--name", "x")
    assert os.listdir(new) == ["x-disk0.raw"]
    cli("kill", "x")
    cli("kill", "web")
    nothing_left(cli)


def test_files_that_are_no_disks_are_named(cli, tmp_path):
    odd, empty = tmp_path / "odd", tmp_path / "empty"
    odd.write_bytes(b"x" * 1000)
    empty.write_bytes(b"")
    cli.run("echo", "x", "--disk", tmp_path / "none.raw", code=3)
    for words, code, said in ((odd, 2, "multiple of 512"), (empty, 2, "multiple of 512"),
                              (f"{odd},cache=some", 2, "cache"), (f"{odd},on-error=so", 2, "on_error"),
                              (f"{tmp_path},ro", 2, "neither a file nor a block device")):
        assert said in cli.run("echo", "x", "--disk", words, code=code).stderr
    nothing_left(cli)


def test_a_vm_file_lists_disks(cli, tmp_path):
    disk(tmp_path / "a.raw", 1, 5)
    disk(tmp_path / "b.raw", 1, 6)
    vm = tmp_path / "vm.yaml"
    vm.write_text(f"name: web\nkernel: {cli.guest('echo')}\nmemory: 32M\n"
                  "disk:\n  - a.raw\n  - b.raw,ro,on-error=pause\n")
    cli("run", vm, "--detach")
    assert cli.machines()["web"]["disks"] == 2
    cli("kill", "web")
    nothing_left(cli)
    cli("run", vm, "--detach", "--disk", tmp_path / "a.raw")     # an option goes before the list
    assert cli.machines()["web"]["disks"] == 1
    cli("kill", "web")
    nothing_left(cli)


def test_a_machine_without_disks_needs_no_directory(cli, archive):
    cli.run("echo", "web")
    report = cli.json("checkpoint", "web")
    assert report["disk_bytes"] == 0
    cli("kill", "web")
    nothing_left(cli)
    assert cli.json("restore", "web@1", "--detach")["disks"] == []
    cli("kill", "web")
    nothing_left(cli)
