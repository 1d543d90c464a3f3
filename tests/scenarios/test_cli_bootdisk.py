# SPDX-License-Identifier: Apache-2.0
"""A machine that boots what its own disk says (--boot-from-disk), and `lifeboat image build'.

Tiny guests are the kernels, on ext4 file systems that mke2fs fills without root; each says
on its console which one it is.  Whether a Debian made so boots is test_image's.
"""
import shutil
import struct
import subprocess

import pytest
from campaign import count, dice
from cli_fixture import needs_kvm, wait_for

MIB = 1 << 20


def make_disk(path, tree, *options, offset=0, mib=8):
    """A disk with an ext4 that holds tree ({path: bytes}), at an offset."""
    source = path.with_suffix(".tree")
    shutil.rmtree(source, ignore_errors=True)
    for name, data in tree.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    with open(path, "wb") as f:
        f.truncate(offset + mib * MIB)
    subprocess.run(["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={offset}", *options,
                    "-d", source, path, f"{mib}m"], check=True)
    return path


@pytest.fixture
def kernels(cli):
    """Two programs that say who they are."""
    with open(cli.guest("echo"), "rb") as e, open(cli.guest("hello"), "rb") as h:
        return {"echo": e.read(), "hello": h.read()}


def run(cli, disk, *words, code=0):
    return cli("run", "--disk", disk, "--boot-from-disk", "--name", "m", "--memory", "32M", "--detach",
               *words, code=code)


def end(cli):
    if "m" in cli.machines():
        cli("kill", "m", code=None)  # which may have ended by itself meanwhile
    wait_for(lambda: not cli.processes(), 10, "the end of all processes")


def debugfs(disk, command):
    subprocess.run(["/sbin/debugfs", "-w", "-R", command, disk], check=True, capture_output=True)


@needs_kvm
def test_the_newest_kernel_boots_and_after_an_upgrade_the_new_one(cli, kernels, tmp_path):
    disk = make_disk(tmp_path / "d.raw", {"boot/vmlinuz-6.1.0-9": kernels["hello"],
                                          "boot/initrd.img-6.1.0-9": b"initrd",
                                          "boot/vmlinuz-6.1.0-10.old": kernels["hello"],
                                          "etc/kernel/cmdline": b"quiet\n"})
    r = run(cli, disk, "--console", f"file:{tmp_path}/out")
    assert r.stdout == "m\n" and "boots /boot/vmlinuz-6.1.0-9, its newest" in r.stderr
    wait_for(lambda: not cli.processes(), 10, "the end of a guest that says hello and stops")
    assert "hello" in (tmp_path / "out").read_text()
    before = disk.read_bytes()
    new = tmp_path / "new"
    new.write_bytes(kernels["echo"])
    debugfs(disk, f"write {new} /boot/vmlinuz-6.1.0-10")  # as a guest's own upgrade does
    assert disk.read_bytes() != before
    r = run(cli, disk)
    assert "boots /boot/vmlinuz-6.1.0-10," in r.stderr
    cli.wait_console("m", "echo: ready")
    end(cli)


@needs_kvm
def test_a_boot_loaders_configuration_is_followed_and_a_restore_needs_no_disk(cli, archive, kernels,
                                                                             tmp_path):
    menu = b'set default="1"\nmenuentry new {\n linux /boot/vmlinuz-2 root=a\n}\n' \
           b'menuentry old {\n linux /boot/vmlinuz-1 root=b ro\n}\n'
    disk = make_disk(tmp_path / "d.raw", {"boot/vmlinuz-1": kernels["echo"], "boot/grub/grub.cfg": menu,
                                          "boot/vmlinuz-2": kernels["hello"]})
    r = run(cli, disk)
    assert "boots /boot/vmlinuz-1, as its /boot/grub/grub.cfg says" in r.stderr
    cli.wait_console("m", "echo: ready")
    cli("checkpoint", "m")
    config = cli.json("inspect", "m@1", "--stream", "config")
    assert "root=b ro console=ttyS0" in str(config)
    end(cli)
    # Another kernel on the disk since then: the image boots what it holds.
    debugfs(disk, "rm /boot/vmlinuz-1")
    new = tmp_path / "new"
    new.mkdir()
    raw = cli("inspect", "m@1", "--raw", "kernel", text=False).stdout
    assert raw == kernels["echo"]
    cli("restore", "m@1", "--disk-dir", new, "--detach")
    t = cli.terminal("console", "m", "--no-replay")
    t.type("on\r")
    t.expect("echo: ON")
    t.type("\x1dd")
    assert t.wait() == 0
    end(cli)
    # A configuration whose kernel is gone counts as none.
    r = run(cli, disk, "--console", "none")
    assert "boots /boot/vmlinuz-2, its newest" in r.stderr
    end(cli)


def gpt(path, first, sectors):
    """Write a GPT whose second entry is that partition, and its protective MBR."""
    entry = struct.pack("<16s16sQQQ72s", b"L" * 16, b"u" * 16, first, first + sectors - 1, 0, b"")
    head = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, 0, 34, 0, b"d" * 16, 2, 128,
                       128, 0)
    mbr = bytes(446) + struct.pack("<B3sB3sII", 0, b"", 0xEE, b"", 1, first + sectors)
    mbr += bytes(48) + b"\x55\xaa"
    with open(path, "r+b") as f:
        f.write(mbr + head)
        f.seek(1024 + 128)
        f.write(entry)


@needs_kvm
@pytest.mark.parametrize("table", ["gpt", "mbr", "own boot partition"])
def test_partitions_are_found(cli, kernels, tmp_path, table):
    where = "vmlinuz-1" if table == "own boot partition" else "boot/vmlinuz-1"
    disk = make_disk(tmp_path / "d.raw", {where: kernels["echo"]}, offset=MIB)
    if table == "mbr":
        with open(disk, "r+b") as f:
            f.seek(446 + 16)
            f.write(struct.pack("<B3sB3sII", 0, b"", 0x83, b"", MIB // 512, 8 * MIB // 512))
            f.seek(510)
            f.write(b"\x55\xaa")
    else:
        gpt(disk, MIB // 512, 8 * MIB // 512)
    r = run(cli, disk)
    assert f"boots /{where}, its newest" in r.stderr
    end(cli)


@needs_kvm
def test_what_cannot_be_booted_is_said_in_a_sentence(cli, kernels, tmp_path):
    none = make_disk(tmp_path / "none.raw", {"etc/hostname": b"x\n"})
    assert "no kernel in /boot" in run(cli, none, code=3).stderr
    empty = tmp_path / "empty.raw"
    empty.write_bytes(bytes(MIB))
    assert "no ext4 file system" in run(cli, empty, code=3).stderr
    large = make_disk(tmp_path / "large.raw", {"boot/vmlinuz-1": kernels["echo"],
                                               "boot/initrd.img-1": bytes(33 * MIB)}, mib=64)
    assert "more than fit" in run(cli, large, code=9).stderr
    unknown = make_disk(tmp_path / "unknown.raw", {"boot/vmlinuz-1": kernels["echo"]})
    with open(unknown, "r+b") as f:  # s_feature_incompat of the superblock
        f.seek(1024 + 0x60)
        f.write(b"\xff\xff\xff\x7f")
    assert "file system" in run(cli, unknown, code=None).stderr
    for words in (["--kernel", cli.guest("echo")], ["--initrd", cli.guest("echo")]):
        r = cli("run", "--boot-from-disk", "--disk", none, *words, "--detach", code=2)
        assert "--boot-from-disk takes kernel and initrd from the disk" in r.stderr
    assert "needs a disk" in cli("run", "--boot-from-disk", "--detach", code=2).stderr
    vm = tmp_path / "vm.yaml"
    vm.write_text("disk: [none.raw]\nboot-from-disk: maybe\n")
    assert "neither yes nor no" in cli("run", vm, "--detach", code=2).stderr
    vm.write_text("disk: [none.raw]\nboot-from-disk: yes\n")
    assert "no kernel in /boot" in cli("run", vm, "--detach", code=3).stderr
    assert not cli.machines() and not cli.leftovers()


@needs_kvm
def test_a_hostile_file_system_costs_its_reader_only(cli, kernels, tmp_path):
    """Any bytes changed anywhere: the machine starts, or one sentence says why not."""
    rng = dice("hostile file systems")
    good = make_disk(tmp_path / "good.raw", {"boot/vmlinuz-1": kernels["hello"], "etc/hostname": b"x"},
                     "-O", "^metadata_csum,^has_journal", mib=2).read_bytes()
    used = [i for i in range(0, len(good), 512) if any(good[i:i + 512])]
    disk = tmp_path / "bad.raw"
    for _ in range(count(4, 25, 2000)):
        bad = bytearray(good)
        for _ in range(rng.choice([1, 3, 30])):
            at = rng.choice(used) + rng.randrange(512)
            bad[at:at + 4] = rng.choice([rng.randbytes(4), b"\xff" * 4, bytes(4)])
        disk.write_bytes(bad)
        r = run(cli, disk, "--console", "none", code=None)
        assert r.returncode in range(11), (r.returncode, r.stderr)
        end(cli)  # a kernel with bytes changed in it does anything
        assert not cli.leftovers()


def test_image_build_refuses_what_it_cannot_do(cli, tmp_path):
    there = tmp_path / "there.raw"
    there.write_bytes(b"mine")
    assert "exists already" in cli("image", "build", there, code=1).stderr
    assert there.read_bytes() == b"mine"
    for words, why in ((["--size", "10M"], "1G at least"), (["--kernel", "tiny"], "cloud nor standard"),
                       (["--hostname", "-x"], "no host name"), (["--suite", "a b"], "no suite"),
                       (["--include", "fio;reboot"], "no list of packages"),
                       (["--mirror", "$(id)"], "no address")):
        assert why in cli("image", "build", tmp_path / "new.raw", *words, code=2).stderr
    r = cli("image", "build", tmp_path / "new.raw", "--password-file", tmp_path / "none", code=3)
    assert "no such file" in r.stderr
    # A mirror that does not answer: told, and nothing is left.
    r = cli("image", "build", tmp_path / "new.raw", "--mirror", f"file://{tmp_path}/none", "--quiet",
            code=1)
    assert "mmdebstrap failed" in r.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "there.raw"]
