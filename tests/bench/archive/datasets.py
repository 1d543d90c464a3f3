#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""datasets: memory and disk of a real Debian machine at several moments, for benchmarks.

    datasets.py DIRECTORY [--mib 384] [--disk-mib 512]

Boots one test host, gives it a disk with programs and libraries on ext4 and works with them,
and keeps its physical memory and its disk, while it is stopped, as DIRECTORY/SET/GENERATION/ram
and disk0:

    idle   1, 2        a booted server with its programs in memory, and half a minute later
    database   1, 2    the same with an SQLite database of some 60 MB at work between the two
    guest  1 .. 5      five generations of one machine that reads, writes and compiles text

Each file is whole.
Takes some three minutes under emulation.
"""
import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..")))
from tests.hosts import Host  # noqa: E402
from tests.hosts.nbd import Disk  # noqa: E402

PREPARE = r"""
set -e
mkdir -p /srv
mount -o commit=900 /dev/vda /srv
mkdir -p /srv/lib /srv/data
find /usr/lib/x86_64-linux-gnu /usr/bin -xdev -type f -size +64k -size -16000k -printf '%s %p\n' |
	awk -v budget="$1" '{ budget -= $1 / 1024; if (budget > 0) print $2 }' |
	xargs cp -t /srv/lib 2>/dev/null || true
sync
echo 3 >/proc/sys/vm/drop_caches
cat /srv/lib/* >/dev/null
for i in 1 2 3 4; do sleep 600 & done
"""

DATABASE = r"""
import os, random, sqlite3
random.seed(int(os.environ["ROUND"]))
d = sqlite3.connect("/srv/data/db.sqlite")
d.execute("create table if not exists t (id integer primary key, name text, body text)")
words = open("/usr/share/common-licenses/GPL-3").read().split()
for i in range(int(os.environ["ROWS"])):
    body = " ".join(random.choices(words, k=150))
    d.execute("insert or replace into t values (?, ?, ?)",
              (random.randrange(1, 60000), "row %d" % i, body))
d.commit()
print(d.execute("select count(*), sum(length(body)) from t").fetchone())
"""

WORK = r"""
tar -C /usr/include/linux -cf /srv/data/include-"$1".tar .
seq "$1"000000 "$1"100000 >/dev/null
seq 1 150000 | sort -R >/srv/data/shuffled
grep -rc define /usr/include/linux >/srv/data/found-"$1" || true
gzip -c /srv/data/include-"$1".tar >/srv/data/include.gz
sync
"""


def keep(host, disk, out, name, generation, mib):
    directory = os.path.join(out, name, str(generation))
    os.makedirs(directory, exist_ok=True)
    host.run("sync")
    host.qmp("stop")
    host.qmp("pmemsave", val=0, size=mib << 20, filename=os.path.join(directory, "ram"))
    disk.crash_image(os.path.join(directory, "disk0"))
    host.qmp("cont")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("--mib", type=int, default=384)
    parser.add_argument("--disk-mib", type=int, default=512)
    args = parser.parse_args()
    out = os.path.abspath(args.directory)
    disk = Disk(args.disk_mib, filesystem="ext4")

    def python(rows, number):
        host.run(["python3", "-c", DATABASE], timeout=300,
                 env={"ROUND": str(number), "ROWS": str(rows)})

    with Host("datasets", memory_mib=args.mib, disks=[disk]) as host:
        budget = min(args.mib // 2, args.disk_mib // 2) * 1024
        host.run(["sh", "-c", PREPARE, "prepare", str(budget)], timeout=300)
        keep(host, disk, out, "idle", 1, args.mib)
        host.run("sleep 30", timeout=60)
        keep(host, disk, out, "idle", 2, args.mib)
        python(30000, 1)
        keep(host, disk, out, "database", 1, args.mib)
        python(5000, 2)
        keep(host, disk, out, "database", 2, args.mib)
        for generation in range(1, 6):
            host.run(["sh", "-c", WORK, "work", str(generation)], timeout=300)
            keep(host, disk, out, "guest", generation, args.mib)


if __name__ == "__main__":
    main()
