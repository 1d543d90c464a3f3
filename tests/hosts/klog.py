# SPDX-License-Identifier: Apache-2.0
"""klog: what does a guest's kernel complain about here, and not elsewhere?

    python3 -m tests.hosts.klog OURS REFERENCE

Both are consoles, or logs as `dmesg -r` prints them, of the same kernel: ours
under Lifeboat, the reference under Debian's QEMU/KVM on the same host.  A
complaint is a line of level 4 (warning) or worse, or one that speaks of a bug
at any level.  A splat (from `cut here` to `end trace`) is one complaint, named by
its first lines: its registers and addresses say nothing.  Numbers do not count.
"""
import re
import sys
from dataclasses import dataclass

WARNING = 4
LINE = re.compile(r"^(?:<(\d+)>)?\[\s*\d+\.\d+\]\s?(.*)$")
BAD_WORDS = re.compile(
    r"\bBUG\b|\bWARNING\b|\bOops\b|Call Trace|kernel panic|general protection|"
    r"unable to handle|soft lockup|hard LOCKUP|hung task|blocked for more than|"
    r"rcu.*(?:stall|starved)|unexpected|nobody cared|timed out|[Uu]nstable|"
    r"\bNMI received|unchecked MSR|Machine check|segfault|traps:", re.I)
SPLAT_BEGIN = re.compile(r"\[ cut here \]|^BUG: |^Oops|^general protection fault|^Kernel panic")
SPLAT_END = re.compile(r"\[ end (?:trace|Kernel panic)")
NAMING = 3      # so many lines name a splat


@dataclass(frozen=True)
class Complaint:
    """key: what makes it the same as another; text: as it was printed."""
    key: str
    text: str


def section(console):
    """The log between KLOG-BEGIN and KLOG-END if it is there, else all."""
    lines = [line.rstrip("\r") for line in console.splitlines()]
    if "KLOG-BEGIN" in lines:
        start = lines.index("KLOG-BEGIN") + 1
        end = lines.index("KLOG-END", start) if "KLOG-END" in lines[start:] else len(lines)
        return lines[start:end]
    return lines


def _normal(text):
    text = re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\b(?=[a-f]*\d)[0-9a-f]+\b", "#", text, flags=re.I)
    text = re.sub(r"\+#/#", "", text)
    text = re.sub(r"\d+", "#", text)
    return re.sub(r"#(?:[.:,]#)+", "#", re.sub(r"\s+", " ", text)).strip()


def complaints(console):
    """All complaints of a console or log, in their order."""
    found, splat = [], None
    for line in section(console):
        match = LINE.match(line)
        if not match:
            continue
        level = int(match.group(1)) & 7 if match.group(1) else None
        text = match.group(2)
        if splat is None and SPLAT_BEGIN.search(text):
            splat = []
        if splat is not None:
            splat.append(text)
            if SPLAT_END.search(text):
                found.append(_splat(splat))
                splat = None
        elif (level is not None and level <= WARNING) or BAD_WORDS.search(text):
            found.append(Complaint(_normal(text), line))
    if splat:
        found.append(_splat(splat))
    return found


def _splat(lines):
    named = [t for t in lines if "cut here" not in t and not t.startswith("Modules linked")]
    key = " | ".join(_normal(re.sub(r"CPU: \d+ PID: \d+.*? at", "at", t))
                     for t in named[:NAMING] if not t.startswith(("CPU:", "Hardware name:")))
    return Complaint(key, "\n".join(lines))


def only_in(ours, reference):
    """Complaints of the console `ours` that `reference` does not have."""
    known = {c.key for c in complaints(reference)}
    seen, new = set(), []
    for c in complaints(ours):
        if c.key not in known and c.key not in seen:
            seen.add(c.key)
            new.append(c)
    return new


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    texts = []
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8", errors="replace") as f:
            texts.append(f.read())
    new = only_in(*texts)
    for c in new:
        print(c.text)
    sys.exit(1 if new else 0)


if __name__ == "__main__":
    main()
