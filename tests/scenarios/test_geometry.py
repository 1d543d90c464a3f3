# SPDX-License-Identifier: Apache-2.0
"""Memory of every shape survives a checkpoint: sizes around each boundary and at
random, contents by seed, hashed by the guest before and after."""
import re

import pytest
from campaign import count, dice
from cli_fixture import needs_kvm

pytestmark = needs_kvm

MIB, GIB = 1 << 20, 1 << 30
HASH = re.compile(r"fill: hash ([0-9a-f]+)")


def available():
    with open("/proc/meminfo") as f:
        return int(re.search(r"MemAvailable:\s+(\d+) kB", f.read()).group(1)) * 1024


def boundaries():
    """The smallest, and around the hole below 4 GiB, by a page and by a large one."""
    sizes = [16 * MIB, 16 * MIB + 4096, 18 * MIB - 4096]
    for edge in (3 * GIB, 4 * GIB):
        sizes += [edge - 2 * MIB, edge - 4096, edge, edge + 4096, edge + 2 * MIB]
    return sizes


def sizes():
    rng = dice("geometry")
    edges = boundaries()
    some = count(2, 4, len(edges))
    chosen = [16 * MIB, 3 * GIB + 4096] + rng.sample(edges, some)
    chosen += [rng.randrange(16 * MIB, 5 * GIB, 4096) for _ in range(count(1, 3, 25))]
    chosen += count([], [], [6 * GIB + 4096, 9 * GIB])
    return [(size, rng.choice(["random", "text", "mixed", "file-like"]), rng.randrange(1 << 32))
            for size in sorted(set(chosen))]


@pytest.mark.parametrize("size,pattern,seed", sizes())
def test_memory_is_the_same_after_a_restore(cli, archive, size, pattern, seed):
    if available() < 2 * size:
        pytest.skip("not enough memory on this machine")
    # Above 256 MiB only some pages are touched: the places matter, not the volume.
    touch = max(1, size // (256 * MIB))
    cli("run", "--kernel", cli.guest("fill"), "--name", "fill", "--memory", str(size), "--detach",
        "--cmdline", f"pattern={pattern} seed={seed} touch={touch}")
    before = HASH.findall(cli.wait_console("fill", "fill: hash", 120))
    assert len(before) == 1
    cli("checkpoint", "fill", "--quiet")
    cli("kill", "fill")
    cli("restore", "fill@1", "--detach", "--quiet")
    console = cli.terminal("console", "fill")
    console.type("x")
    console.expect("fill: hash", 120)
    console.expect("\n")
    assert HASH.findall(console.text) == before
