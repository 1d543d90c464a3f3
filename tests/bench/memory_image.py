#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""memory_image: the real memory of a stock Debian machine, for benchmarks.

    memory_image.py OUT [--mib 1024]

Boots a test host of that size, lets it read programs and libraries (page cache),
start processes and write to a tmpfs, stops it and saves its physical memory as it
stands.  Takes about two minutes under emulation.  Two runs differ in detail, as real memory does;
comparisons are made on one image in one run.
"""
import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))
from tests.hosts import Host  # noqa: E402

WORK = r"""
find /usr/lib/x86_64-linux-gnu /usr/bin /usr/lib/gcc -xdev -type f \
	-size +64k -size -16000k -printf '%s %p\n' \
	2>/dev/null | awk -v budget="$1" '{ budget -= $1 / 1024; if (budget > 0) print $2 }' |
	xargs cat >/dev/null
mkdir -p /tmp/busy
tar -C /usr/include/linux -cf /tmp/busy/include.tar .
seq 1 200000 >/tmp/busy/numbers
sort -R /tmp/busy/numbers >/tmp/busy/shuffled
for i in 1 2 3 4; do sleep 600 & done
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--mib", type=int, default=1024)
    args = parser.parse_args()
    out = os.path.abspath(args.out)
    with Host("memory", memory_mib=args.mib) as host:
        budget = max(args.mib - 450, 100) * 1024
        host.run(["sh", "-c", WORK, "work", str(budget)], timeout=300, check=False)
        host.qmp("stop")
        temporary = out + ".part"
        host.qmp("pmemsave", val=0, size=args.mib << 20, filename=temporary)
        os.rename(temporary, out)


if __name__ == "__main__":
    main()
