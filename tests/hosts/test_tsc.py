# SPDX-License-Identifier: Apache-2.0
"""A second in a test host is a second, also when the machine is busy as it starts."""
import platform
import time

import pytest

from tests.hosts import tsc


@pytest.mark.skipif(platform.machine() != "x86_64", reason="another machine has another counter")
def test_the_counter_s_rate_is_the_same_twice():
    one, two = tsc.khz(), tsc.khz()
    assert 100_000 < one < 20_000_000
    assert abs(one - two) < one / 1000


@pytest.mark.host
def test_a_host_s_clock_goes_as_ours(shared_host):
    def ask():
        """Its uptime, and our times around that."""
        before = time.monotonic()
        uptime = float(shared_host.read("/proc/uptime").split()[0])
        return before, uptime, time.monotonic()

    first = ask()
    time.sleep(4)
    last = ask()
    least, most = last[0] - first[2], last[2] - first[0]
    assert 0.95 * least <= last[1] - first[1] <= 1.05 * most
