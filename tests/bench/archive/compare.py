#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""compare: Lifeboat's archive beside Debian's restic and borgbackup, on the same files.

    compare.py --lifeboat PROGRAM --work DIRECTORY SETS [SET...]

SETS is what datasets.py made.  For each set every tool stores all generations in turn and
restores the last, each timed by itself, on the wall and in CPU seconds.  The page cache is treated
alike: sources are read before, what a tool wrote is made durable and dropped after each step (a
restore ends when what it wrote is durable: for all three the time of a sync of the file system is
added), and so the repository is cold whenever it is read.  One and the same
configuration for size and speed: restic with its defaults; borg with blocks of 4 KiB and zstd,1, its
best on such data; Lifeboat with its defaults, or --compression.  All encrypt, each with its secret in
a file: a passphrase for restic, a key file for borg (keyfile-blake2, empty passphrase) and Lifeboat.
All imports are durable.  Sizes are blocks on disk of everything below the repository; Lifeboat's
index, which can be made again, and its reserve of 8 MiB, which holds nothing, stand beside it.
Prints a table, and with --json FILE keeps the figures.
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


def tree_bytes(path, beside=()):
    """Blocks of all files below, in bytes: of those that count, and of those that stand beside."""
    counted, apart = 0, 0
    for directory, _, files in os.walk(path):
        for f in files:
            file = os.path.join(directory, f)
            size = os.lstat(file).st_blocks * 512
            if os.path.relpath(file, path).split(os.sep)[0] in beside:
                apart += size
            else:
                counted += size
    return counted, apart


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

    def run(self, *command, cwd=None, then_sync=False):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.monotonic()
        subprocess.run(command, check=True, env=self.env, cwd=cwd, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL)
        if then_sync:
            subprocess.run(["sync", "--file-system", os.path.dirname(self.path)], check=True)
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
        return self.run("restic", "restore", "-q", "latest", "--target", out, then_sync=True)


class Borg(Tool):
    name = "borg"

    def environment(self, work):
        base = os.path.join(work, "borg-base")
        shutil.rmtree(base, ignore_errors=True)
        os.makedirs(base)
        return {"BORG_REPO": self.path, "BORG_PASSPHRASE": "", "BORG_BASE_DIR": base,
                "BORG_KEY_FILE": os.path.join(base, "key"),
                "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}

    def init(self):
        self.run("borg", "init", "-e", "keyfile-blake2")

    def store(self, directory, generation):
        return self.run("borg", "create", "--compression", "zstd,1", "--chunker-params",
                        "fixed,4096", f"::g{generation}", "ram", "disk0", cwd=directory)

    def restore(self, generation, out):
        return self.run("borg", "extract", f"::g{generation}", cwd=out, then_sync=True)


class Lifeboat(Tool):
    name = "lifeboat"

    def __init__(self, work, args):
        self.program = os.path.abspath(args.lifeboat)
        self.encrypted = not args.no_encryption
        self.level = ["--compression=" + args.compression] if args.compression else []
        super().__init__(work)

    def environment(self, work):
        key = {"LIFEBOAT_KEY_FILE": os.path.join(work, "key")} if self.encrypted else {}
        return {"LIFEBOAT_ARCHIVE": self.path, **key}

    def init(self):
        if self.encrypted and os.path.exists(self.env["LIFEBOAT_KEY_FILE"]):
            os.remove(self.env["LIFEBOAT_KEY_FILE"])
        self.run(self.program, "archive", "init", *self.level,
                 *([] if self.encrypted else ["--no-encryption"]), self.path)

    def store(self, directory, generation):
        return self.run(self.program, "archive", "import", "--quiet", "vm", "ram", "disk0",
                        cwd=directory)

    def restore(self, generation, out):
        os.rmdir(out)
        return self.run(self.program, "archive", "export", "--quiet", "--output=" + out, "vm",
                        then_sync=True)

    def size(self):
        return tree_bytes(self.path, beside=("index", "reserve"))


def measure(tool, sets, name, work):
    generations = sorted(os.listdir(os.path.join(sets, name)))
    result = {"tool": tool.name, "set": name, "store": [], "size_bytes": [], "beside_bytes": []}
    tool.init()
    for g in generations:
        directory = os.path.join(sets, name, g)
        warm([os.path.join(directory, f) for f in ("ram", "disk0")])
        result["store"].append(tool.store(directory, g))
        settle(tool.path)
        counted, beside = tool.size()
        result["size_bytes"].append(counted)
        result["beside_bytes"].append(beside)
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
          "| stored first / all, beside, MB | non-zero MB |")
    print("|---|---|---|---|---|---|---|")

    def both(s):
        return f"{s['seconds']:.2f} ({s['cpu_seconds']:.2f})"

    for r in results:
        later = ", ".join(both(s) for s in r["store"][1:])
        print(f"| {r['set']} | {r['tool']} | {both(r['store'][0])} | {later} "
              f"| {both(r['restore'])} "
              f"| {r['size_bytes'][0] / 1e6:.1f} / {r['size_bytes'][-1] / 1e6:.1f}, "
              f"{r['beside_bytes'][-1] / 1e6:.1f} "
              f"| {nonzero[r['set']] / 1e6:.0f} |")


def ratios(results):
    """What the issue's goals are: the faster of the two others, over ours; our size over each."""
    print("| set | by | first | next | restore | size / restic | size / borg |")
    print("|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(r["set"] for r in results):
        mine, restic, borg = [next(r for r in results if r["set"] == name and r["tool"] == t)
                              for t in ("lifeboat", "restic", "borg")]
        size = mine["size_bytes"][-1]
        for by in ("seconds", "cpu_seconds"):
            def over(pick):
                return min(pick(restic), pick(borg)) / pick(mine)

            print(f"| {name} | {by} | {over(lambda r: r['store'][0][by]):.1f} "
                  f"| {over(lambda r: sum(s[by] for s in r['store'][1:])):.1f} "
                  f"| {over(lambda r: r['restore'][by]):.1f} "
                  f"| {size / restic['size_bytes'][-1]:.2f} | {size / borg['size_bytes'][-1]:.2f} |")
    print("load average: %.1f %.1f %.1f" % os.getloadavg())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lifeboat", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--no-encryption", action="store_true",
                        help="not the same configuration: Lifeboat alone does not encrypt")
    parser.add_argument("--compression", help="of Lifeboat's archive, instead of its default")
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
        for tool in (Lifeboat(work, args), Restic(work), Borg(work)):
            results.append(measure(tool, sets, name, work))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    table(results, nonzero)
    ratios(results)
    if args.json:
        with open(args.json, "w", encoding="ascii") as f:
            json.dump({"results": results, "nonzero_bytes": nonzero}, f, indent=1)


if __name__ == "__main__":
    main()
