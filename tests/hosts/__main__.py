# SPDX-License-Identifier: Apache-2.0
"""A test host by hand:

    tests/hosts/host shell [COMMAND...]      an AMD host, and a shell in it
    tests/hosts/host run COMMAND...          an AMD host, one command, its exit code
    tests/hosts/host intel SCRIPT [FILE...]  an Intel host that runs SCRIPT

Options before the verb's arguments:  --memory MIB  --cpus N  --disk MIB  --append OPTIONS
--disk adds /dev/vda with an ext4 on it.
"""
import argparse
import os
import select
import shlex
import shutil
import signal
import sys
import termios
import tty

from . import Disk, Host, HostError
from .intel import run_intel_host


def interact(host, argv):
    """A terminal session in the host on our own terminal."""
    size = shutil.get_terminal_size()

    def show(data):
        os.write(1, data)

    command = host.spawn(argv, tty=True, rows=size.lines, cols=size.columns,
                         env={"TERM": os.environ.get("TERM", "linux")}, on_output=show)

    def resized(*_):
        now = shutil.get_terminal_size()
        command.resize(now.lines, now.columns)

    signal.signal(signal.SIGWINCH, resized)
    before = termios.tcgetattr(0) if os.isatty(0) else None
    if before:
        tty.setraw(0)
    try:
        eof = False
        while command.running:
            ready = [] if eof else select.select([0], [], [], 0.1)[0]
            if eof:
                select.select([], [], [], 0.1)
            if ready:
                data = os.read(0, 4096)
                eof = not data
                command.send(data or b"\x04")
    finally:
        if before:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
    return command.wait(10, check=False).code


def main():
    parser = argparse.ArgumentParser(prog="host", usage=__doc__)
    parser.add_argument("--memory", type=int, default=3072)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--disk", type=int)
    parser.add_argument("--append", default="")
    parser.add_argument("verb", choices=["shell", "run", "intel"])
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    a = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if a.verb != "shell" and not a.rest:
        parser.error(f"{a.verb} what?")
    try:
        if a.verb == "intel":
            with open(a.rest[0], encoding="utf-8") as f:
                result = run_intel_host(a.rest[1:], f.read(), check=False)
            print(result.out, end="")
            return result.code
        disks = [Disk(a.disk, filesystem="ext4")] if a.disk else []
        with Host("host", memory_mib=a.memory, cpus=a.cpus, disks=disks,
                  append=a.append) as host:
            print(f"host: up in {host.boot_seconds:.1f} s; {host.share} is its /run/share",
                  file=sys.stderr)
            if a.verb == "shell":
                return interact(host, a.rest or ["/bin/bash", "-i"])
            command = host.spawn(shlex.join(a.rest) if len(a.rest) > 1 else a.rest[0],
                                 on_output=lambda data: os.write(1, data))
            command.send_eof()
            result = command.wait(timeout=None, check=False)
            sys.stderr.write(result.err)
            return result.code
    except HostError as e:
        print(f"host: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
