# SPDX-License-Identifier: Apache-2.0
"""A stock Debian kernel on a synthetic disk, checkpointed and killed in mid-write.

The guest's own driver (hv_storvsc) and file system (ext4) are what is asked: every file
that it was told to be durable is there after kill -9 and restore, its checksums hold, the
file system is clean, and its kernel has nothing to complain about.
"""
import re
import time

import disk_guest
import pytest
from campaign import count, dice
from hosted import CPU, Remote

pytestmark = pytest.mark.host


def durable(out):
    found = re.findall(r"^guest: durable (\d+)", out, re.M)
    return int(found[-1]) if found else -1


def wait_durable(job, least, timeout=400):
    end = time.monotonic() + timeout
    while durable(job.out) < least:
        assert job.running and "FAIL" not in job.out, f"{job.out[-3000:]}\n{job.err}"
        assert time.monotonic() < end, job.out[-3000:]
        time.sleep(0.1)
    return durable(job.out)


def test_killed_in_mid_write_no_acknowledged_file_is_lost(host, tmp_path):
    cycles = count(1, 1, 20)
    rng = dice("disks")
    initrd = tmp_path / "initrd"
    kernel = disk_guest.build(initrd)
    lifeboat = Remote(host)
    lifeboat("archive", "init", lifeboat.env["LIFEBOAT_ARCHIVE"])
    host.run("truncate -s 200M /root/d.raw && mkfs.ext4 -q -F /root/d.raw && mkdir /root/disks")
    job = lifeboat.spawn("run", "--kernel", kernel.image, "--initrd", initrd, "--cpus", 2, "--memory",
                         "384M", "--cpu", CPU, "--disk", "/root/d.raw", "--cmdline",
                         "console=ttyS0 panic=-1 quiet", "--name", "debian")
    at, disk = wait_durable(job, 1), None
    for cycle in range(cycles):
        time.sleep(rng.uniform(0, 2))
        checkpoint = lifeboat("checkpoint", "debian", "--quiet", timeout=300).out.strip()
        time.sleep(rng.uniform(0, 1))
        lifeboat.kill_worker("debian")
        assert job.wait(30, check=False).code != 0
        place = f"/root/disks/{cycle}"
        host.run(["mkdir", place])
        disk = f"{place}/debian-disk0.raw"
        job = lifeboat.spawn("restore", checkpoint, "--disk-dir", place, "--quiet")
        at = wait_durable(job, at + 1)
    job.send("stop\n")
    last = job.wait(900, check=False)
    assert last.code == 0, f"{last.err}\n{last.out[-3000:]}"
    done = re.search(r"^guest: OK files=\d+ of=(\d+)\r?$", last.out, re.M)
    assert done and int(done.group(1)) > at, last.out[-3000:]
    assert "FAIL" not in last.out
    log = last.out.split("KLOG-BEGIN")[1].split("KLOG-END")[0]
    assert not re.search(r"I/O error|storvsc.*(fail|timeout|error)|EXT4-fs error|reset", log), log
    check = host.run(["e2fsck", "-fn", disk], check=False)
    assert check.code == 0, check.out + check.err
    assert "sound" in lifeboat("archive", "verify", timeout=300).out
