# SPDX-License-Identifier: Apache-2.0
"""A guest that computes through all of its state, checkpointed at random instants.

Each checkpoint is restored in a new process and run to its end, where its value
must be that of an undisturbed run.  The guest itself fails loudly if a register
is not what it was, or if a timer or a transmitter interrupt is lost; its lines
are numbered, so a lost or doubled one shows.
"""
import contextlib
import os
import re
import signal
import time

import pytest
from campaign import count, dice
from cli_fixture import needs_kvm, wait_for

pytestmark = needs_kvm

STEPS = 200
DONE = re.compile(r"chain: DONE value=([0-9a-f]{16})")
NUMBER = re.compile(r"#(\d+)\r?\n")


def words(cpus):
    return f"cpus={cpus} steps={STEPS} seed=7"


def value_of(text):
    assert "FAIL" not in text, text
    done = DONE.findall(text)
    assert len(done) == 1, text
    return done[0]


def check_lines(before, after):
    """after: what the restored machine wrote; before: all that the first one wrote."""
    got = [int(n) for n in NUMBER.findall(after)]
    assert got and got == list(range(got[0], got[0] + len(got))), after
    known = {int(n) for n in NUMBER.findall(before)}
    # The first whole line that came after the restore follows one that was written
    # before the checkpoint, at least in part.
    assert got[0] == 1 or got[0] - 1 in known, (got[0], before)


class Chain:
    def __init__(self, cli, name, cpus):
        self.cli, self.name = cli, name
        self.file = cli.home.parent / f"{name}.txt"
        cli("run", "--kernel", cli.guest("chain"), "--name", name, "--memory", "32M", "--cpus", cpus,
            "--cmdline", words(cpus), "--console", f"file:{self.file}", "--detach")

    def text(self):
        return self.file.read_text(errors="replace") if self.file.exists() else ""

    def wait_end(self):
        wait_for(lambda: self.name not in self.cli.leftovers(), 120, f"the end of {self.name}")
        return self.text()


@pytest.fixture(scope="module")
def undisturbed():
    """The value of a run without any checkpoint, for each number of CPUs."""
    return {}


def reference(cli, undisturbed, cpus):
    if cpus not in undisturbed:
        start = time.monotonic()
        r = cli("run", "--kernel", cli.guest("chain"), "--memory", "32M", "--cpus", cpus, "--cmdline",
                words(cpus))
        undisturbed[cpus] = (value_of(r.stdout), time.monotonic() - start)
    return undisturbed[cpus]


def run_to_end(cli, checkpoint, name, expected, before, seen):
    """seen: what the first machine had written soon after the checkpoint."""
    r = cli("restore", checkpoint, "--name", name, "--console", "stdio", "--quiet", timeout=300)
    after = r.stdout
    assert "FAIL" not in after, after
    if "chain: DONE" not in after:  # taken within its last words, or behind them
        assert "chain: DONE" in seen and before.endswith(after), f"{after}\n-- seen:\n{seen}"
        return
    check_lines(before, after)
    assert value_of(after) == expected


@pytest.mark.parametrize("cpus", [1, 4])
def test_every_checkpoint_continues_to_the_same_value(cli, archive, undisturbed, cpus):
    expected, seconds = reference(cli, undisturbed, cpus)
    rng = dice(f"chain {cpus}")
    left = count(3, 15, 150)
    machine = 0
    while left:
        machine += 1
        chain = Chain(cli, f"chain{machine}", cpus)
        instants = sorted(rng.uniform(0, 0.9 * seconds) for _ in range(min(left, 5)))
        start, taken = time.monotonic(), []
        for at in instants:
            time.sleep(max(0, start + at - time.monotonic()))
            r = cli("checkpoint", chain.name, "--quiet", code=None)
            if r.returncode:  # only because it was through already
                wait_for(lambda: chain.name not in cli.leftovers(), 20, r.stderr)
                break
            taken.append((r.stdout.strip(), chain.text()))
        text = chain.wait_end()
        assert value_of(text) == expected  # it did not notice its pauses
        seconds = min(seconds, time.monotonic() - start)  # the host is not equally fast always
        assert taken or machine < 20 + count(3, 15, 150)
        for n, (checkpoint, seen) in enumerate(taken):
            run_to_end(cli, checkpoint, f"copy{machine}-{n}", expected, text, seen)
        left -= len(taken)


@pytest.mark.parametrize("cpus", [1, 4])
def test_relay_through_many_processes(cli, archive, undisturbed, cpus):
    """One run, handed from worker to worker: checkpoint, kill -9, restore."""
    expected, seconds = reference(cli, undisturbed, cpus)
    rng = dice(f"relay {cpus}")
    chain = Chain(cli, "relay", cpus)
    hops, texts = count(2, 5, 20), []
    for hop in range(hops):
        time.sleep(rng.uniform(0, seconds / hops))
        machines = cli.machines()
        if "relay" not in machines:
            break
        r = cli("checkpoint", "relay", "--quiet", code=None)
        if r.returncode:
            wait_for(lambda: "relay" not in cli.leftovers(), 20, "the end")
            break
        with contextlib.suppress(ProcessLookupError):  # it may have come to its end meanwhile
            os.kill(machines["relay"]["pid"], signal.SIGKILL)
        wait_for(lambda: "relay" not in cli.leftovers(), 20, "the end of the killed worker")
        texts.append(chain.text())
        chain.file = cli.home.parent / f"relay-{hop}.txt"
        cli("restore", r.stdout.strip(), "--console", f"file:{chain.file}", "--detach", "--quiet")
    last = chain.wait_end()
    if "chain: DONE" in last:
        assert value_of(last) == expected
    else:  # the last hop was within its last words
        assert any(texts[-1].endswith(last[:n]) and f"DONE value={expected} " in texts[-1] + last[n:]
                   for n in range(len(last) + 1)), f"{texts[-1]}\n-- last:\n{last}"
