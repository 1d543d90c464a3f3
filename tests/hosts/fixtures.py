# SPDX-License-Identifier: Apache-2.0
"""fixtures: test hosts for pytest.  In a conftest.py or test file:

    from tests.hosts.fixtures import *

shared_host   one AMD host for the whole session: leave it as you found it
host          a fresh AMD host of your own: cut its power as you like
make_host     make_host(**options): as many fresh hosts as you need, started
disk          a fresh ext4 disk that forgets unflushed writes on a power cut
intel         run_intel_host, to run a script on an Intel host
"""
import signal
import sys

import pytest

from . import Disk, Host

__all__ = ["disk", "host", "make_host", "pytest_configure", "shared_host"]


def pytest_configure(config):
    config.addinivalue_line("markers", "host: boots an AMD test host (QEMU)")
    config.addinivalue_line("markers", "intel: boots an Intel test host (bochs); slow")
    # A test run that is told to end tears its fixtures down like any other.
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@pytest.fixture(scope="session")
def shared_host():
    with Host("shared") as h:
        yield h


@pytest.fixture
def make_host():
    hosts = []

    def make(name="host", **options):
        h = Host(name, **options)
        hosts.append(h)
        return h.start()

    yield make
    for h in hosts:
        h.close()


@pytest.fixture
def host(make_host):
    return make_host()


@pytest.fixture
def disk():
    with Disk(512, filesystem="ext4") as d:
        yield d
