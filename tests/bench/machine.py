#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""machine: figures of the machine and of paused checkpoints, beside QEMU's.

    machine.py [--build DIR] [--image FILE] [--runs N] [--json FILE] [--compression LEVEL]

Everything is measured in this one run on this one machine: our release build and
Debian's QEMU, with the same tiny guest and the same memory contents.  Rates count
non-zero bytes, and are given for logical bytes too.  --image is a raw image of real
memory (see memory_image.py); without it one is made.  Prints a Markdown table."""
import argparse
import contextlib
import json
import mmap
import os
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MIB = 1 << 20
IMAGE_AT = 16 * MIB  # the tiny guest itself lives below


def median(values):
    return statistics.median(values)


class Lifeboat:
    """Our side: one home, one archive."""

    def __init__(self, build, directory):
        self.cli = build / "cmd/lifeboat/lifeboat"
        self.poke = build / "tests/bench/bench_poke"
        self.state = build / "tests/bench/bench_state"
        self.parts = build / "tests/bench/bench_parts"
        self.guests = build / "tests/guests"
        self.env = dict(os.environ, LIFEBOAT_HOME=str(directory / "home"),
                        LIFEBOAT_KEY_FILE=str(directory / "key"),
                        LIFEBOAT_ARCHIVE=str(directory / "archive"))

    def __call__(self, *args, check=True):
        done = subprocess.run([self.cli, *map(str, args)], env=self.env, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        if check and done.returncode:
            sys.exit(f"lifeboat {' '.join(map(str, args))}: {done.stderr}")
        return done.stdout

    def json(self, *args):
        return json.loads(self(*args, "--json"))

    def worker_pid(self, name):
        for vm in self.json("ps")["machines"]:
            if vm["name"] == name:
                return vm["pid"]
        sys.exit(f"{name} is not running")


def first_byte_seconds(argv, env=None):
    """From the start of argv until its first byte of output; then it is ended."""
    began = time.monotonic()
    child = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, start_new_session=True)
    byte = os.read(child.stdout.fileno(), 1)
    took = time.monotonic() - began
    child.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(2)
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if not byte:
        sys.exit(f"{argv[0]}: no output")
    return took


def qemu_argv(guest, memory, *more, machine=""):
    return ["qemu-system-x86_64", "-accel", "kvm", "-M", "pc" + machine, "-m",
            str(memory), "-display", "none", "-nodefaults", "-no-user-config", "-serial", "stdio",
            "-kernel", str(guest), *more]


def measure_start(boat, runs):
    hello = boat.guests / "hello.elf"
    ours, theirs = [], []
    for n in range(runs + 1):
        name = f"start-{n}"
        ours.append(first_byte_seconds(
            [boat.cli, "run", "--kernel", hello, "--memory", "64M", "--name", name], boat.env))
        theirs.append(first_byte_seconds(qemu_argv(hello, "64M", "-append", "exit=1")))
    return ours[1:], theirs[1:]  # the first of each warms the page cache


def pss_beside_guest(pid, guest_bytes):
    """PSS of all mappings except the guest's RAM, and the RAM's, in bytes."""
    beside = ram = size = 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if found:
            size = int(found[2], 16) - int(found[1], 16)
        elif line.startswith("Pss:"):
            pss = int(line.split()[1]) * 1024
            if size >= guest_bytes:
                ram += pss
            else:
                beside += pss
    return beside, ram


def measure_memory(boat):
    boat("run", "--kernel", boat.guests / "hello.elf", "--cmdline", "mode=idle", "--memory",
         "128M", "--cpus", "4", "--name", "pss", "--detach")
    time.sleep(0.5)
    beside, _ = pss_beside_guest(boat.worker_pid("pss"), 128 * MIB)
    boat("kill", "pss")
    return beside


def measure_state(boat, runs):
    out = subprocess.run([boat.state, boat.guests / "hello.elf", "4", str(runs)], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out)


def measure_parts(boat, image):
    out = subprocess.run([boat.parts, image, "256"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out)


def children_cpu():
    """Seconds of CPU that our ended children, and theirs, have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def process_cpu(pid):
    """Seconds of CPU of a process and its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def nonzero_bytes(image):
    zero, n = bytes(4096), 0
    with open(image, "rb") as f:
        while page := f.read(4096):
            n += page != zero
    return n * 4096


def measure_checkpoint(boat, image, memory, runs):
    """Paused full checkpoints of the image into a fresh archive each, and restores."""
    saves, loads = [], []
    for n in range(runs):
        archive = Path(boat.env["LIFEBOAT_ARCHIVE"])
        shutil.rmtree(archive, ignore_errors=True)
        boat("archive", "init", "--compression", boat.compression, archive)
        boat("run", "--kernel", boat.guests / "hello.elf", "--cmdline", "mode=idle", "--memory",
             f"{memory // MIB}M", "--name", "big", "--detach")
        time.sleep(0.3)
        boat("pause", "big")
        control = Path(boat.env["LIFEBOAT_HOME"]) / "run/big/control"
        subprocess.run([boat.poke, control, image, str(IMAGE_AT)], check=True)
        os.sync()
        began, cpu = time.monotonic(), children_cpu()
        report = boat.json("checkpoint", "big")
        report["wall_s"], report["cpu_s"] = time.monotonic() - began, children_cpu() - cpu
        saves.append(report)
        boat("kill", "big")
        began, cpu = time.monotonic(), children_cpu()
        report = boat.json("restore", "big@1", "--paused", "--detach", "--eager")
        report["wall_s"], report["cpu_s"] = time.monotonic() - began, children_cpu() - cpu
        loads.append(report)
        boat("kill", "big")
        if n == 0:
            size = sum(f.stat().st_size for f in archive.rglob("*") if f.is_file())
    return saves, loads, size


class Qmp:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        for _ in range(200):
            try:
                self.sock.connect(path)
                break
            except OSError:
                time.sleep(0.02)
        self.file = self.sock.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "error" in answer:
                sys.exit(f"qemu: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]


def qemu_migrated(qmp):
    while True:
        info = qmp("query-migrate")
        if info.get("status") == "completed":
            return info
        if info.get("status") == "failed":
            sys.exit(f"qemu: migration failed: {info}")
        time.sleep(0.002)


def qemu_start(guest, memory, ram_file, directory, *more):
    path = str(directory / "qmp")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    child = subprocess.Popen(
        qemu_argv(guest, f"{memory // MIB}M", "-append", "mode=idle", "-qmp",
                  f"unix:{path},server=on,wait=off", "-object",
                  f"memory-backend-file,id=ram,size={memory},mem-path={ram_file},share=on",
                  *more, machine=",memory-backend=ram"),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return child, Qmp(path)


def qemu_end(child, qmp):
    with contextlib.suppress(BrokenPipeError, ValueError):
        qmp("quit")
    child.wait(10)


def measure_qemu(boat, image, memory, directory, runs):
    """The same contents out of QEMU into a file (made durable), and in again."""
    hello = boat.guests / "hello.elf"
    ram_file = Path(f"/dev/shm/lifeboat-bench-{os.getpid()}")
    out = directory / "qemu.image"
    saves, loads, save_cpu, load_cpu = [], [], [], []
    data = Path(image).read_bytes()
    try:
        for _ in range(runs):
            child, qmp = qemu_start(hello, memory, ram_file, directory)
            time.sleep(0.5)
            qmp("stop")
            with open(ram_file, "r+b") as f, mmap.mmap(f.fileno(), memory) as m:
                m[IMAGE_AT:IMAGE_AT + len(data)] = data
            os.sync()
            qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            began, cpu = time.monotonic(), process_cpu(child.pid)
            qmp("migrate", uri=f"exec:cat > {out}")
            qemu_migrated(qmp)
            fd = os.open(out, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            saves.append(time.monotonic() - began)
            save_cpu.append(process_cpu(child.pid) - cpu)
            qemu_end(child, qmp)
            ram_file.unlink()

            began = time.monotonic()
            child, qmp = qemu_start(hello, memory, ram_file, directory, "-S", "-incoming",
                                    f"exec:cat {out}")
            while qmp("query-status")["status"] == "inmigrate":
                time.sleep(0.002)
            loads.append(time.monotonic() - began)
            load_cpu.append(process_cpu(child.pid))
            qemu_end(child, qmp)
            ram_file.unlink()
    finally:
        with contextlib.suppress(FileNotFoundError):
            ram_file.unlink()
    return saves, loads, save_cpu, load_cpu, out.stat().st_size


def cpu_name():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def report(r):
    gb = 1e9
    nz, logical = r["nonzero_bytes"], r["memory_bytes"]

    def rate(seconds):
        return f"{nz / seconds / gb:.2f} GB/s ({logical / seconds / gb:.2f} logical)"

    rows = [
        ("worker memory beside the guest (PSS, 4 vCPUs)", "<= 5 MiB",
         f"{r['pss_bytes'] / MIB:.1f} MiB", ""),
        ("run to first output, tiny guest, median", "<= 50 ms",
         f"{median(r['start_s']) * 1e3:.0f} ms", f"{median(r['qemu_start_s']) * 1e3:.0f} ms"),
        ("machine state save + load, 4 vCPUs, median", "<= 2 ms",
         f"{r['state']['save_ns'] / 1e6:.2f} + {r['state']['load_ns'] / 1e6:.2f} ms", ""),
        ("paused checkpoint, durable, median", ">= 0.4 GB/s", rate(median(r["save_s"])),
         rate(median(r["qemu_save_s"]))),
        ("its CPU", "", f"{median(r['save_cpu_s']):.1f} s", f"{median(r['qemu_save_cpu_s']):.1f} s"),
        ("of that the guest stood", "", f"{median(r['pause_s']) * 1e3:.0f} ms", ""),
        ("restore, all memory resident, median", ">= 1.0 GB/s", rate(median(r["resident_s"])),
         rate(median(r["qemu_load_s"]))),
        ("its CPU", "", f"{median(r['load_cpu_s']):.1f} s", f"{median(r['qemu_load_cpu_s']):.1f} s"),
        ("stored", "", f"{r['stored_bytes'] / 1e6:.0f} MB", f"{r['qemu_stored_bytes'] / 1e6:.0f} MB"),
    ]
    print(f"CPU: {cpu_name()}, {os.cpu_count()} CPUs; image: {logical / MIB:.0f} MiB of memory, "
          f"{nz / MIB:.0f} MiB of it not zero; {r['runs']} runs\n")
    print("| figure | goal | lifeboat | QEMU |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print("\nEach part alone, seconds of CPU a GB that is not zero:\n")
    print("\n".join(f"    {name:20}{value:10}" for name, value in r["parts"].items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--compression", default="default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lifeboat-bench-", dir="/var/tmp") as tmp:
        directory = Path(tmp)
        boat = Lifeboat(args.build.resolve(), directory)
        boat.compression = args.compression
        image = args.image
        if image is None:
            image = directory / "memory.img"
            subprocess.run([HERE / "memory_image.py", image], check=True)
        size = image.stat().st_size
        memory = size + IMAGE_AT
        r = {"runs": args.runs, "memory_bytes": memory, "nonzero_bytes": nonzero_bytes(image)}
        r["start_s"], r["qemu_start_s"] = measure_start(boat, max(args.runs, 5))
        r["pss_bytes"] = measure_memory(boat)
        r["state"] = measure_state(boat, 20)
        saves, loads, r["stored_bytes"] = measure_checkpoint(boat, image, memory, args.runs)
        r["save_s"] = [s["total_ns"] / 1e9 for s in saves]
        r["pause_s"] = [s["memory_ns"] / 1e9 for s in saves]
        r["resident_s"] = [s["resident_ns"] / 1e9 for s in loads]
        r["checkpoint_reports"], r["restore_reports"] = saves, loads
        r["save_cpu_s"], r["load_cpu_s"] = [s["cpu_s"] for s in saves], [s["cpu_s"] for s in loads]
        (r["qemu_save_s"], r["qemu_load_s"], r["qemu_save_cpu_s"], r["qemu_load_cpu_s"],
         r["qemu_stored_bytes"]) = measure_qemu(boat, image, memory, directory, args.runs)
        r["parts"] = measure_parts(boat, image)
        report(r)
        if args.json:
            args.json.write_text(json.dumps(r, indent=1) + "\n")


if __name__ == "__main__":
    main()
