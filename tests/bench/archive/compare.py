#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""compare: Lifeboat's archive beside Debian's restic and borgbackup, on the same files.

    compare.py --lifeboat PROGRAM --work DIRECTORY SETS [SET...]

SETS is what datasets.py made.  For each set every tool stores all generations in turn and
restores the last, each timed by itself with warm sources and a cold destination (sync, then
what it wrote dropped from the page cache).  One and the same configuration for size and speed:
restic with its defaults; borg with blocks of 4 KiB and zstd,1, its best on such data; Lifeboat with
its defaults.  All use a key or passphrase from a file, where Lifeboat has one (--key-file),
and all durable.  Sizes are of everything below the repository, our index apart (it can be made
again) and counted beside it.  Prints a table, and with --json FILE keeps the figures.
Each result is told on standard error when it is there.  On a busy machine compare CPU seconds.
"""
import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time


def tree_bytes(path, without=()):
    total = 0
    for directory, _, files in os.walk(path):
        if any(os.path.relpath(directory, path).split(os.sep)[0] == w for w in without):
            continue
        total += sum(os.lstat(os.path.join(directory, f)).st_blocks * 512 for f in files)
    return total


def settle(path):
    """Written, and out of the page cache."""
    os.sync()
    for directory, _, files in os.walk(path):
        for f in files:
            fd = os.open(os.path.join(directory, f), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def warm(paths):
    for path in paths:
        with open(path, "rb") as f:
            while f.read(1 << 20):
                pass


def nonzero_bytes(paths):
    zero, total = bytes(4096), 0
    for path in paths:
        with open(path, "rb") as f:
            while block := f.read(1 << 20):
                total += sum(4096 for i in range(0, len(block), 4096)
                             if block[i:i + 4096] != zero[:len(block) - i])
    return total


class Tool:
    def __init__(self, work, env=None):
        self.path = os.path.join(work, "archive-" + self.name)
        shutil.rmtree(self.path, ignore_errors=True)
        self.secret = os.path.join(work, "secret")
        with open(self.secret, "w", encoding="ascii") as f:
            f.write("correct horse battery staple\n")
        self.env = dict(os.environ, **(env or {}), **self.environment(work))

    def environment(self, work):
        return {}

    def run(self, *command, cwd=None):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.monotonic()
        subprocess.run(command, check=True, env=self.env, cwd=cwd, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {"seconds": time.monotonic() - start,
                "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}

    def size(self):
        return tree_bytes(self.path)


class Restic(Tool):
    name = "restic"

    def environment(self, work):
        return {"RESTIC_REPOSITORY": self.path, "RESTIC_PASSWORD_FILE": self.secret,
                "RESTIC_CACHE_DIR": os.path.join(work, "restic-cache")}

    def init(self):
        self.run("restic", "init", "-q")

    def store(self, directory, generation):
        return self.run("restic", "backup", "-q", "--host", "h", "ram", "disk0", cwd=directory)

    def restore(self, generation, out):
        return self.run("restic", "restore", "-q", "latest", "--target", out)


class Borg(Tool):
    name = "borg"

    def environment(self, work):
        return {"BORG_REPO": self.path, "BORG_PASSPHRASE": "correct horse battery staple",
                "BORG_BASE_DIR": os.path.join(work, "borg-base"),
                "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}

    def init(self):
        self.run("borg", "init", "-e", "repokey-blake2")

    def store(self, directory, generation):
        return self.run("borg", "create", "--compression", "zstd,1", "--chunker-params",
                        "fixed,4096", f"::g{generation}", "ram", "disk0", cwd=directory)

    def restore(self, generation, out):
        return self.run("borg", "extract", f"::g{generation}", cwd=out)


class Lifeboat(Tool):
    name = "lifeboat"

    def __init__(self, program, work, encrypted):
        self.program, self.encrypted = program, encrypted
        super().__init__(work)

    def environment(self, work):
        key = {"LIFEBOAT_KEY_FILE": os.path.join(work, "key")} if self.encrypted else {}
        return {"LIFEBOAT_ARCHIVE": self.path, **key}

    def init(self):
        if self.encrypted:
            key = self.env["LIFEBOAT_KEY_FILE"]
            if not os.path.exists(key):
                with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
                    f.write(os.urandom(32))
        self.run(self.program, "archive", "init", self.path)

    def store(self, directory, generation):
        return self.run(self.program, "archive", "import", "--quiet", "vm", "ram", "disk0",
                        cwd=directory)

    def restore(self, generation, out):
        total = {"seconds": 0, "cpu_seconds": 0}
        for stream in ("ram", "disk0"):
            part = self.run(self.program, "archive", "export", "--quiet",
                            "--output=" + os.path.join(out, stream), "vm", stream)
            total = {k: total[k] + part[k] for k in total}
        return total

    def size(self):
        return tree_bytes(self.path, without=("index", "reserve"))


def measure(tool, sets, name, work):
    generations = sorted(os.listdir(os.path.join(sets, name)))
    result = {"tool": tool.name, "set": name, "store": [], "size_bytes": []}
    tool.init()
    for g in generations:
        directory = os.path.join(sets, name, g)
        warm([os.path.join(directory, f) for f in ("ram", "disk0")])
        result["store"].append(tool.store(directory, g))
        settle(tool.path)
        result["size_bytes"].append(tool.size())
    out = os.path.join(work, "out-" + tool.name)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    result["restore"] = tool.restore(generations[-1], out)
    for f in ("ram", "disk0"):
        subprocess.run(["cmp", os.path.join(out, f), os.path.join(directory, f)], check=True)
    shutil.rmtree(out)
    shutil.rmtree(tool.path)
    return result


def table(results, nonzero):
    print("| set | tool | first s (CPU) | next s (CPU) | restore s (CPU) "
          "| stored first / all MB | non-zero MB |")
    print("|---|---|---|---|---|---|---|")

    def both(s):
        return f"{s['seconds']:.2f} ({s['cpu_seconds']:.2f})"

    for r in results:
        later = ", ".join(both(s) for s in r["store"][1:])
        print(f"| {r['set']} | {r['tool']} | {both(r['store'][0])} | {later} "
              f"| {both(r['restore'])} "
              f"| {r['size_bytes'][0] / 1e6:.1f} / {r['size_bytes'][-1] / 1e6:.1f} "
              f"| {nonzero[r['set']] / 1e6:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lifeboat", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--no-encryption", action="store_true",
                        help="the archive under test has none")
    parser.add_argument("--json")
    parser.add_argument("sets")
    parser.add_argument("only", nargs="*")
    args = parser.parse_args()
    work = os.path.abspath(args.work)
    os.makedirs(work, exist_ok=True)
    sets = os.path.abspath(args.sets)
    results, nonzero = [], {}
    for name in args.only or sorted(os.listdir(sets)):
        first = os.path.join(sets, name, "1")
        nonzero[name] = nonzero_bytes([os.path.join(first, f) for f in ("ram", "disk0")])
        for tool in (Lifeboat(os.path.abspath(args.lifeboat), work, not args.no_encryption),
                     Restic(work), Borg(work)):
            results.append(measure(tool, sets, name, work))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    table(results, nonzero)
    if args.json:
        with open(args.json, "w", encoding="ascii") as f:
            json.dump({"results": results, "nonzero_bytes": nonzero}, f, indent=1)


if __name__ == "__main__":
    main()
