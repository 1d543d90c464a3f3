# SPDX-License-Identifier: Apache-2.0
"""fixtures: test hosts for pytest (tests/conftest.py gives them to all tests).

shared_host   one AMD host for the whole session: leave it as you found it
host          a fresh AMD host of your own: cut its power as you like
make_host     make_host(**options): as many fresh hosts as you need, started
disk          a fresh ext4 disk that forgets unflushed writes on a power cut
guest_initrd  the initrd of tests/guests/linux: from $LIFEBOAT_BUILD, else made here
witness       the workload alone
intel         run_intel_host, to run a script on an Intel host
"""
import os
import signal
import subprocess
from pathlib import Path

import pytest

from . import Disk, Host
from .intel import run_intel_host

__all__ = ["disk", "guest_initrd", "host", "intel", "make_host", "pytest_configure",
           "shared_host", "witness"]

GUEST = Path(__file__).resolve().parent.parent / "guests" / "linux"


def pytest_configure(config):
    config.addinivalue_line("markers", "host: boots an AMD test host (QEMU)")
    config.addinivalue_line("markers", "intel: boots an Intel test host (bochs); slow")
    # A test run that is told to end tears its fixtures down like any other.
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))


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


@pytest.fixture(scope="session")
def witness(tmp_path_factory):
    """The path of the static workload of the stock guest."""
    build = os.environ.get("LIFEBOAT_BUILD")
    if build:
        return Path(build).resolve() / "tests" / "guests" / "linux" / "witness"
    program = tmp_path_factory.mktemp("guest") / "witness"
    subprocess.run(["cc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-static", "-pthread",
                    *sorted(GUEST.glob("*.c")), "-o", program], check=True)
    return program


@pytest.fixture(scope="session")
def guest_initrd(witness):
    """The path of the stock guest's initrd, valid in test hosts too."""
    initrd = witness.with_name("guest.cpio.gz")
    if not initrd.exists():
        subprocess.run([GUEST / "build-initrd", witness, initrd], check=True)
    return initrd


@pytest.fixture
def intel():
    return run_intel_host
