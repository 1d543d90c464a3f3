# SPDX-License-Identifier: Apache-2.0
"""The plug is pulled while a checkpoint is being written.

The archive lies on an ext4 of a disk that loses what was not flushed.  At random
moments an image of what a power cut would leave is taken: it must verify clean, and
every checkpoint that had been reported as done by then must be there and whole; what
is listed must be whole as well.  In the end the power really is cut, and the last
reported checkpoint runs again."""
import os
import re
import subprocess
import threading
import time

import pytest
from campaign import count, dice
from hosted import BUILD, LIFEBOAT, Remote

from tests.hosts.nbd import extract_ext4

pytestmark = pytest.mark.host


class Writer(threading.Thread):
    """Takes one checkpoint after the other; remembers which were reported, and when."""

    def __init__(self, lifeboat):
        super().__init__(daemon=True)
        self.lifeboat, self.done, self.stop, self.error = lifeboat, [], False, None

    def run(self):
        try:
            while not self.stop:
                name = self.lifeboat("checkpoint", "busy", "--quiet", timeout=300).out.strip()
                assert re.fullmatch(r"busy@\d+", name), name
                self.done.append(name)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error


def wait_done(writer, count):
    """Until so many checkpoints were reported; returns the seconds it took."""
    began = time.monotonic()
    while len(writer.done) < count:
        assert writer.error is None, writer.error
        assert time.monotonic() - began < 300
        time.sleep(0.05)
    return time.monotonic() - began


def local(archive, *verb):
    key = archive.parents[2] / "key"
    return subprocess.run([LIFEBOAT, *verb, "--archive", archive, "--key-file", key], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def inspect_cut(disk, seed, done, directory):
    """What a cut now leaves must hold every checkpoint of done, whole."""
    reported = list(done)  # before the image: what was reported by then
    image, files = directory / "cut.img", directory / "files"
    disk.crash_image(image, seed)
    files.mkdir()
    extract_ext4(image, files)
    archive = files / "archive"
    verified = local(archive, "archive", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    listed = local(archive, "checkpoints", "--json")
    assert listed.returncode == 0, listed.stderr
    names = re.findall(r'"(?:checkpoint|name)": "(busy@\d+)"', listed.stdout)
    assert set(reported) <= set(names), (reported, listed.stdout)
    assert len(names) <= len(reported) + 2, names  # being written, or being reported
    subprocess.run(["rm", "-rf", image, files], check=True)


def test_what_was_reported_survives(make_host, disk, tmp_path):
    rng = dice("power cut")
    cuts = count(3, 10, 50)
    host = make_host(disks=[disk])
    mount = "mkdir -p /srv/a && mount -o commit=900 /dev/vda /srv/a"
    host.run(mount)
    lifeboat = Remote(host, archive="/srv/a/archive")
    lifeboat.env["LIFEBOAT_KEY_FILE"] = "/srv/a/key"  # as durable as the archive has to be
    lifeboat("archive", "init", "/srv/a/archive")
    with open(tmp_path / "key", "x", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write(host.run(["cat", lifeboat.env["LIFEBOAT_KEY_FILE"]]).out)
    # A guest that changes its memory all the time: every checkpoint has new pages.
    lifeboat("run", "--kernel", BUILD / "tests/guests/dirty.elf", "--memory", "32M", "--name", "busy",
             "--cmdline", "mem=8 rate=4", "--detach")
    writer = Writer(lifeboat)
    writer.start()
    one = wait_done(writer, 1)
    for cut in range(cuts):
        time.sleep(rng.uniform(0, 0.7 * one))  # at any moment of a checkpoint
        directory = tmp_path / str(cut)
        directory.mkdir()
        # Without a seed everything unflushed is lost; with one, a part of it.
        inspect_cut(disk, None if cut % 3 == 0 else rng.randrange(1 << 30), writer.done, directory)
        assert writer.error is None, writer.error
    wait_done(writer, 2)
    reported = list(writer.done)
    writer.stop = True
    host.power_cut(rng.randrange(1 << 30))
    writer.join(60)

    host.start()
    host.run(mount)
    lifeboat("archive", "verify")
    names = lifeboat("checkpoints").out
    assert all(name in names for name in reported)
    lifeboat("restore", reported[-1], "--detach")
    assert lifeboat.machine("busy")["state"] == "running"
    newer = lifeboat("checkpoint", "busy", "--quiet").out.strip()
    assert int(newer.split("@")[1]) > int(reported[-1].split("@")[1])
    lifeboat("kill", "busy")
