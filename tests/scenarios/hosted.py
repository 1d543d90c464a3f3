# SPDX-License-Identifier: Apache-2.0
"""hosted: the command line inside a test host, for scenarios."""
import json
import os
from pathlib import Path

from tests.hosts.kernels import Kernel

BUILD = Path(os.environ.get("LIFEBOAT_BUILD", "build/release")).resolve()
LIFEBOAT = BUILD / "cmd/lifeboat/lifeboat"
WORKER = BUILD / "cmd/worker/lifeboat-worker"

# Debian 12's QEMU loses a nested guest's XSAVE state whoever runs it (see
# tests/hosts/README.md), so guests on AMD test hosts get a CPU without it.
CPU = "x86-64-v2"


def kernel_image(name):
    """The stock kernel's bzImage, a path that is valid in test hosts too."""
    return Kernel(name).image


class Remote:
    """`lifeboat` in a host, with a home and an archive there."""

    def __init__(self, host, home="/root/lifeboat", archive="/root/archive", encrypted=True):
        self.host = host
        self.env = {"LIFEBOAT_HOME": home, "LIFEBOAT_ARCHIVE": archive}
        if encrypted:  # the key file is made by `archive init'
            self.env["LIFEBOAT_KEY_FILE"] = home + ".key"

    def __call__(self, *args, timeout=120, check=True):
        return self.host.run([str(a) for a in (LIFEBOAT, *args)], env=self.env, timeout=timeout,
                             check=check)

    def spawn(self, *args):
        return self.host.spawn([str(a) for a in (LIFEBOAT, *args)], env=self.env)

    def json(self, *args):
        return json.loads(self(*args, "--json").out)

    def machine(self, name):
        """Its row of `lifeboat ps`, or None."""
        for row in self.json("ps")["machines"]:
            if row["name"] == name:
                return row
        return None

    def kill_worker(self, name):
        """kill -9: the machine is gone as by an accident."""
        self.host.run(["kill", "-9", str(self.machine(name)["pid"])])
