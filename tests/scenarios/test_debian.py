# SPDX-License-Identifier: Apache-2.0
"""A stock Debian guest on a test host, checkpointed and killed in mid-work.

Its workload verifies itself (memory, FPU, signals, timers, files) and has one right
answer, which Debian's own QEMU/KVM gives as a reference on the same host.  The
machine is checkpointed, killed with kill -9 and restored again and again; it must
end with that answer, and its kernel must have nothing to say that it does not also
say under QEMU."""
import re
import time

import pytest
from campaign import count, dice
from hosted import CPU, Remote, kernel_image

from tests.hosts import klog
from tests.hosts.guests import reference_console

pytestmark = pytest.mark.host

EXPECTED = {
    # Said once by every kernel on Hyper-V that is given no invariant TSC: its clock is the
    # reference TSC page then (docs/vmbus.md, 8).
    "tsc: Marking TSC unstable due to running on Hyper-V",
    # Said by any guest, QEMU's too, whose emulated host lost its CPU in a timer interrupt.
    "hrtimer: interrupt took # ns",
}

ANSWER = re.compile(r"^witness: OK chain=([0-9a-f]{16}) steps=(\d+)\r?$", re.M)
WORDS = "lb.mode=work witness.seed=11 witness.steps={steps} witness.mem=24"


def answer(console):
    assert "FAIL" not in console, console
    found = ANSWER.search(console)
    assert found, console
    return found.group(1)


class Story:
    """One machine through its lives; every life's console is a file in the host."""

    def __init__(self, lifeboat):
        self.lifeboat, self.lives = lifeboat, []

    def live(self, *verb):
        self.lives.append(self.lifeboat.spawn(*verb))

    def output(self):
        return self.lives[-1].out

    def wait_step(self, least, timeout=400):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            steps = re.findall(r"witness: step (\d+) ", self.output())
            if steps and int(steps[-1]) >= least:
                return int(steps[-1])
            assert self.lives[-1].running, self.output()
            time.sleep(0.1)
        state = self.lifeboat.host.run("ps -eLo pid,tid,comm,stat,wchan | grep lifeboat; "
                                       "cat /root/lifeboat/state/*.log | tail -n 30", check=False)
        raise AssertionError(f"no step {least}: {self.output()[-2000:]}\n{self.lives[-1].err}\n"
                             f"{self.lifeboat('ps', '--json', check=False).out}\n{state.out}")


KERNELS = count(["cloud"], ["cloud"], ["cloud", "standard"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_killed_in_mid_work_it_ends_with_the_right_answer(host, guest_initrd, kernel):
    cycles = count(1, 3, 10)
    rng = dice(f"debian {kernel}")
    steps = 15 * (cycles + 1)
    image, words = kernel_image(kernel), WORDS.format(steps=steps)
    reference = reference_console(host, image, guest_initrd, words + " quiet", memory_mib=256,
                                  timeout=900)
    expected = answer(reference)

    lifeboat = Remote(host)
    lifeboat("archive", "init", lifeboat.env["LIFEBOAT_ARCHIVE"])
    story = Story(lifeboat)
    story.live("run", "--kernel", image, "--initrd", guest_initrd, "--cpus", 2, "--memory", "256M",
               "--cpu", CPU, "--cmdline", f"console=ttyS0 panic=-1 quiet {words}", "--name", "debian")
    at = story.wait_step(1)
    for _ in range(cycles):
        time.sleep(rng.uniform(0, 2))
        checkpoint = lifeboat("checkpoint", "debian", "--quiet").out.strip()
        time.sleep(rng.uniform(0, 0.5))
        lifeboat.kill_worker("debian")
        ended = story.lives[-1].wait(30, check=False)
        assert ended.code != 0, "the end of a killed machine is no success"
        story.live("restore", checkpoint, "--name", "debian", "--quiet")
        at = story.wait_step(at + 1)
    last = story.lives[-1].wait(900, check=False)
    assert last.code == 0, f"{last.err}\n{last.out[-3000:]}"
    assert answer(last.out) == expected
    consoles = "".join(life.out for life in story.lives)
    extra = [c for c in klog.only_in(consoles, reference) if c.key not in EXPECTED]
    assert extra == []
    verified = lifeboat("archive", "verify", timeout=300)
    assert "sound" in verified.out
