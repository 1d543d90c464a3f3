# SPDX-License-Identifier: Apache-2.0
"""The workload of the stock guest, natively: it gives one answer, and it notices
every kind of harm that a bad checkpoint could do to it."""
import ctypes
import os
import re
import signal
import subprocess
import time

import pytest

OK = re.compile(r"^witness: OK chain=([0-9a-f]{16}) steps=(\d+)$", re.M)


@pytest.fixture
def run(witness, tmp_path):
    started = []

    def begin(*options):
        (tmp_path / str(len(started))).mkdir()
        p = subprocess.Popen([witness, *options], cwd=tmp_path / str(len(started)),
                             stdout=subprocess.PIPE, text=True)
        started.append(p)
        return p

    yield begin
    for p in started:
        p.kill()
        p.wait()
        p.stdout.close()


def answer(p):
    out = p.communicate(timeout=120)[0]
    assert p.returncode == 0, out
    return OK.search(out).group(1)


def begun(p):
    """Its first step is done: everything is in place and running."""
    assert p.stdout.readline().startswith("witness: step 1 ")
    return p


def failure(p):
    out = p.communicate(timeout=120)[0]
    assert p.returncode == 1 and "OK" not in out
    return re.search(r"^witness: FAIL (.*)$", out, re.M).group(1)


def test_the_answer_depends_on_seed_steps_and_memory_alone(run):
    first = answer(run("seed=7", "steps=12", "mem=8"))
    assert first == answer(run("seed=7", "steps=12", "mem=8", "pace=30"))
    others = {answer(run("seed=8", "steps=12", "mem=8")), answer(run("seed=7", "steps=13", "mem=8")),
              answer(run("seed=7", "steps=12", "mem=9"))}
    assert len(others | {first}) == 4


def test_a_stop_in_between_changes_nothing(run):
    p = begun(run("seed=7", "steps=40", "mem=8", "pace=20"))
    for _ in range(5):
        p.send_signal(signal.SIGSTOP)
        time.sleep(0.15)
        p.send_signal(signal.SIGCONT)
        time.sleep(0.05)
    assert answer(p) == answer(run("seed=7", "steps=40", "mem=8"))


def test_a_changed_byte_of_memory_is_noticed(run):
    p = begun(run("mem=64", "steps=100000"))
    with open(f"/proc/{p.pid}/maps", encoding="ascii") as f:
        sizes = [tuple(int(x, 16) for x in line.split()[0].split("-"))
                 for line in f if len(line.split()) == 5]
    start, end = max(sizes, key=lambda s: s[1] - s[0])
    with open(f"/proc/{p.pid}/mem", "r+b", buffering=0) as f:
        # The first word in use: unused stacks of threads may be neighbours.
        for at in range(start + 12344, end, 1 << 20):
            f.seek(at)
            word = f.read(8)
            if word != bytes(8):
                f.seek(at)
                f.write(bytes([word[0] ^ 1]))
                break
    assert failure(p).startswith("memory: slice ")


def test_a_signal_that_comes_twice_is_noticed(run):
    p = begun(run("steps=100000", "pace=50"))
    os.kill(p.pid, signal.SIGRTMIN + 1)
    assert failure(p).startswith("signals: number 0 came where ")


def test_a_tick_too_many_is_noticed(run):
    p = begun(run("steps=100000", "pace=50"))
    for _ in range(50):
        os.kill(p.pid, signal.SIGRTMIN)
    assert failure(p).startswith("timers: the signal timer ticked ")


def test_a_leap_of_the_clock_is_noticed(run):
    p = begun(run("steps=100000", "jump=1"))
    p.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    p.send_signal(signal.SIGCONT)
    assert failure(p).startswith("clock: leapt ")


def test_a_changed_file_is_noticed(run, tmp_path):
    begun(run("steps=100000", "pace=100"))
    p = begun(run("steps=100000", "pace=100"))
    with open(tmp_path / "1" / "file.1", "r+b") as f:
        f.write(b"\0\0\0\0")
    assert "file.1 has other contents" in failure(p)


def test_a_changed_register_is_noticed(run):
    """By ptrace, on all threads in turn: some are just holding their registers."""
    p = begun(run("steps=100000", "pace=50"))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2
    attach, detach, get, put = 16, 17, 14, 15
    registers = ctypes.create_string_buffer(512)
    end = time.monotonic() + 60
    stopped = True
    while stopped and p.poll() is None and time.monotonic() < end:
        for thread in os.listdir(f"/proc/{p.pid}/task"):
            if libc.ptrace(attach, int(thread), None, None) != 0:
                continue
            stopped = os.WIFSTOPPED(os.waitpid(int(thread), 0x40000000)[1])
            if not stopped:
                break       # that was the end of all of it
            if libc.ptrace(get, int(thread), None, registers) == 0:
                for i in range(160, 416, 16):      # one bit of each xmm register
                    registers[i] = bytes([registers[i][0] ^ 1])
                libc.ptrace(put, int(thread), None, registers)
            libc.ptrace(detach, int(thread), None, None)
    assert re.search("^witness: FAIL (?:fpu|memory|files|processes)", p.stdout.read(), re.M)


@pytest.mark.parametrize("option", ["steps=0", "steps=x", "mem=", "nonsense", "seed=1x"])
def test_bad_options_are_refused(run, option):
    assert option in failure(run(option))
