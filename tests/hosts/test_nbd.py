# SPDX-License-Identifier: Apache-2.0
"""The disk that forgets: its protocol, and what a power cut may do to it."""
import json
import random
import shutil
import socket
import struct
import subprocess

import pytest

from tests.hosts import nbd


@pytest.fixture
def disk():
    with nbd.Disk(8, export="volume") as d:
        d.plug_in()
        yield d


class Client:
    """The least of an NBD client."""

    def __init__(self, disk, name=None, old=False):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(disk.socket_path)
        magic, have, flags = struct.unpack(">QQH", self.recv(18))
        assert (magic, have, flags & 1) == (nbd.NBDMAGIC, nbd.IHAVEOPT, 1)
        self.sock.sendall(struct.pack(">I", 1 if old else 3))
        self.name = (disk.export if name is None else name).encode()
        self.handle = 0

    def recv(self, n):
        data = b""
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def option(self, number, data=b""):
        self.sock.sendall(struct.pack(">QII", nbd.IHAVEOPT, number, len(data)) + data)

    def option_reply(self):
        magic, option, kind, length = struct.unpack(">QIII", self.recv(20))
        assert magic == nbd.REPLY_MAGIC
        return option, kind, self.recv(length)

    def go(self):
        data = struct.pack(">I", len(self.name)) + self.name + struct.pack(">H", 0)
        self.option(nbd.OPT_GO, data)
        option, kind, info = self.option_reply()
        if kind != nbd.REP_INFO:
            return kind, None
        assert self.option_reply()[1] == nbd.REP_ACK
        return kind, struct.unpack(">HQH", info)

    def ask(self, kind, offset=0, length=0, data=b"", flags=0, expect=0):
        self.handle += 1
        self.sock.sendall(nbd.REQUEST.pack(nbd.REQUEST_MAGIC, flags, kind, self.handle, offset,
                                           length or len(data)) + data)
        magic, error, handle = struct.unpack(">IIQ", self.recv(16))
        assert (magic, error, handle) == (nbd.ANSWER_MAGIC, expect, self.handle)
        return self.recv(length) if kind == nbd.READ and not error else b""

    def write(self, offset, data, flags=0):
        self.ask(nbd.WRITE, offset, data=data, flags=flags)

    def read(self, offset, length):
        return self.ask(nbd.READ, offset, length)


@pytest.fixture
def client(disk):
    c = Client(disk)
    c.go()
    yield c
    c.sock.close()


def again(disk):
    disk.plug_in()
    c = Client(disk)
    c.go()
    return c


def test_handshake_go_tells_size_and_flags(disk):
    kind, info = Client(disk).go()
    assert kind == nbd.REP_INFO
    assert info == (0, 8 << 20, nbd.HAS_FLAGS | nbd.SEND_FLUSH | nbd.SEND_FUA | nbd.SEND_TRIM |
                    nbd.SEND_WRITE_ZEROES)


def test_handshake_old_export_name_pads_with_zeroes(disk):
    c = Client(disk, old=True)
    c.option(nbd.OPT_EXPORT_NAME, b"volume")
    answer = c.recv(134)
    assert struct.unpack(">Q", answer[:8]) == (8 << 20,) and answer[10:] == bytes(124)
    c.write(0, b"x" * 512)
    assert c.read(0, 512) == b"x" * 512


def test_handshake_refuses_another_name_and_an_unknown_option(disk):
    c = Client(disk, name="other")
    assert c.go()[0] == nbd.REP_ERR_UNKNOWN
    c.option(99, b"what")
    assert c.option_reply()[1] == nbd.REP_ERR_UNSUP
    c.option(nbd.OPT_GO, b"\0")
    assert c.option_reply()[1] == nbd.REP_ERR_INVALID
    c.option(nbd.OPT_LIST)
    assert c.option_reply()[2][4:] == b"volume"


def test_a_client_of_rubbish_does_not_harm_the_next(disk):
    for rubbish in (b"\xff" * 4, b"\0\0\0\3" + b"\x55" * 16, b""):
        c = Client(disk)
        c.sock.close()
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(disk.socket_path)
        raw.sendall(rubbish)
        raw.close()
    assert Client(disk).go()[0] == nbd.REP_INFO


def test_requests_outside_the_disk_are_errors(disk, client):
    client.ask(nbd.READ, disk.size, 512, expect=nbd.EINVAL)
    client.ask(nbd.WRITE, disk.size - 256, data=b"x" * 512, expect=nbd.ENOSPC)
    client.ask(77, expect=nbd.EINVAL)
    assert client.read(disk.size - 512, 512) == bytes(512)


def test_reads_see_unflushed_writes_and_zeroes(client):
    client.write(4096, b"a" * 8192)
    client.ask(nbd.WRITE_ZEROES, 5120, 1024)
    client.write(4608, b"b" * 100)
    want = b"a" * 512 + b"b" * 100 + b"a" * 412 + bytes(1024) + b"a" * 6144
    assert client.read(4096, 8192) == want


def test_power_cut_loses_what_was_not_flushed(disk, client):
    client.write(0, b"1" * 4096)
    client.ask(nbd.FLUSH)
    client.write(0, b"2" * 4096)
    client.write(8192, b"3" * 4096)
    client.ask(nbd.TRIM, 0, 512)
    assert disk.unsafe_bytes == 8192
    assert disk.power_cut() == 8192
    c = again(disk)
    assert c.read(0, 4096) == b"1" * 4096
    assert c.read(8192, 4096) == bytes(4096)
    assert disk.unsafe_bytes == 0


def test_power_cut_keeps_what_fua_or_flush_secured(disk, client):
    client.write(0, b"old" * 1000)
    client.write(0, b"new" * 1000, flags=nbd.FLAG_FUA)
    client.write(65536, b"x" * 512)
    client.ask(nbd.WRITE_ZEROES, 65536, 512, flags=nbd.FLAG_FUA)
    disk.power_cut(seed=7)
    c = again(disk)
    assert c.read(0, 3000) == b"new" * 1000
    assert c.read(65536, 512) == bytes(512)


def test_a_switched_off_host_loses_nothing(disk, client):
    client.write(0, b"x" * 512)
    client.sock.close()
    disk.unplug()
    assert again(disk).read(0, 512) == b"x" * 512


@pytest.mark.parametrize("seed", range(12))
def test_power_cut_with_a_seed_obeys_the_law_of_disks(seed):
    """Against a model: each sector is what the last flush secured or any version
    written since; a sector is never torn; the same seed gives the same bytes."""
    results = []
    for _ in range(2):
        chance = random.Random(seed)
        with nbd.Disk(1, cache_mib=1) as disk:
            disk.plug_in()
            c = Client(disk)
            c.go()
            sectors = 64
            allowed = [{bytes(512)} for _ in range(sectors)]
            for n in range(120):
                first = chance.randrange(sectors)
                count = min(chance.randrange(1, 9), sectors - first)
                data = bytes([n]) * 512 * count
                if chance.random() < 0.1:
                    c.ask(nbd.FLUSH)
                    allowed = [{_last(disk, i)} for i in range(sectors)]
                fua = chance.random() < 0.1
                c.write(first * 512, data, nbd.FLAG_FUA if fua else 0)
                for i in range(first, first + count):
                    allowed[i] = ({bytes([n]) * 512} if fua
                                  else allowed[i] | {bytes([n]) * 512})
            disk.power_cut(seed=seed)
            c = again(disk)
            now = [c.read(i * 512, 512) for i in range(sectors)]
            assert all(now[i] in allowed[i] for i in range(sectors))
            results.append(now)
    assert results[0] == results[1]


def _last(disk, sector):
    with disk.lock:
        return disk.cache.read(sector * 512, 512)


def test_some_seeds_lose_and_some_keep(disk):
    outcomes = set()
    for seed in range(20):
        with nbd.Disk(1) as d:
            d.cache.write(0, b"k" * 512)
            d.cache.power_cut(seed)
            outcomes.add(d.cache.read(0, 512))
    assert outcomes == {bytes(512), b"k" * 512}


def test_a_crash_image_is_what_a_power_cut_would_leave(disk, client, tmp_path):
    for seed in (None, 1, 2):
        client.write(4096, b"d" * 4096)
        client.ask(nbd.FLUSH)
        client.write(8192, bytes([65 + (seed or 0)]) * 32768)
        client.write(0, b"f" * 512, flags=nbd.FLAG_FUA)
        assert disk.crash_image(tmp_path / "image", seed) >= 32768
        assert client.read(8192, 1) != b"d"
        disk.power_cut(seed)
        client = again(disk)
        assert (tmp_path / "image").read_bytes() == client.read(0, disk.size)


def test_files_of_a_crash_image_come_out_without_a_mount(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("inside")
    image = tmp_path / "image"
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-d", tree, image, "16M"], check=True)
    (tmp_path / "out").mkdir()
    nbd.extract_ext4(image, tmp_path / "out")
    assert (tmp_path / "out" / "file").read_text() == "inside"
    with open(image, "r+b") as f:
        f.seek(1024)
        f.write(bytes(1024))
    with pytest.raises(RuntimeError, match="e2fsck"):
        nbd.extract_ext4(image, tmp_path / "out")


def test_the_cache_is_bounded_and_destages_in_order():
    with nbd.Disk(8, cache_mib=1) as d:
        for i in range(8):
            d.cache.write(i << 19, bytes([i + 1]) * (1 << 19))
        assert d.unsafe_bytes <= 1 << 20
        d.cache.power_cut()
        kept = [d.cache.read(i << 19, 1)[0] for i in range(8)]
        assert kept == [1, 2, 3, 4, 5, 6, 0, 0]


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-utils")
def test_qemus_own_client_understands_it(disk):
    client_json = json.dumps({"driver": "nbd", "export": "volume",
                              "server": {"type": "unix", "path": disk.socket_path}})
    info = subprocess.run(["qemu-img", "info", "--output=json", f"json:{client_json}"],
                          check=True, capture_output=True, timeout=30)
    assert json.loads(info.stdout)["virtual-size"] == 8 << 20
    io = subprocess.run(["qemu-io", "-c", "write -P 0x5a 1M 64k", "-c", "write -P 0xa5 -f 2M 4k",
                         "-c", "read -P 0x5a 1M 64k", "-c", "flush", "-c", "write -P 1 3M 4k",
                         f"json:{client_json}"], check=True, capture_output=True, timeout=30)
    assert b"Pattern verification failed" not in io.stdout
    disk.power_cut()
    assert disk.cache.read(1 << 20, 1) == b"\x5a" and disk.cache.read(2 << 20, 1) == b"\xa5"


def test_a_new_disk_can_carry_ext4():
    with nbd.Disk(16, filesystem="ext4") as d:
        assert d.cache.read(1024 + 0x38, 2) == b"\x53\xef"
        d.cache.power_cut()
        assert d.cache.read(1024 + 0x38, 2) == b"\x53\xef"
