# SPDX-License-Identifier: Apache-2.0
"""tree: what the checks share: the project's files, C without its comments, a self-test.

A check is a function root -> list of complaints ("path:line: what is wrong").  Its self-test
gives it small trees with one fault each and wants to hear of exactly that fault.
"""
import pathlib
import re
import sys
import tempfile

LAYERS = ("base", "hv", "store", "transport", "capture", "restore", "cmd")
SKIP = {".git", "build", "__pycache__", ".pytest_cache"}


def files(root, *suffixes, under=None):
    """Every file of ours with one of these suffixes, sorted, below root or the folders in under."""
    root = pathlib.Path(root)
    for top in [root / u for u in under] if under else [root]:
        for p in sorted(top.rglob("*")):
            parts = p.relative_to(root).parts
            if not SKIP.intersection(parts) and p.is_file() and p.suffix in suffixes:
                yield p


TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def code_only(text):
    """C text with comments and literals blanked, the lines kept; #include keeps its path."""
    def blank(m):
        t = m.group(0)
        line = text[text.rfind("\n", 0, m.start()) + 1:m.start()]
        if t[0] == '"' and re.match(r"\s*#\s*include\s*$", line):
            return t
        return re.sub(r"[^\n]", " ", t)
    return TOKEN.sub(blank, text)


def lines(text):
    return enumerate(text.split("\n"), 1)


def main(check, cases, good):
    """Run the check on argv's tree, or, with --self-test, prove that it can fail.

    cases: (name, {path: text}, a piece of the complaint); good: {path: text} without fault.
    """
    if sys.argv[1:] == ["--self-test"]:
        return self_test(check, cases, good)
    complaints = check(sys.argv[1] if len(sys.argv) > 1 else ".")
    for c in complaints:
        print(c)
    return 1 if complaints else 0


def run_on(check, tree):
    with tempfile.TemporaryDirectory() as d:
        for path, text in tree.items():
            p = pathlib.Path(d, path)
            p.parent.mkdir(parents=True, exist_ok=True)
            p.write_text(text)
        return check(d)


def self_test(check, cases, good):
    failed = 0
    heard = run_on(check, good)
    if heard:
        print("a tree without fault is blamed:", *heard, sep="\n  ")
        failed = 1
    for name, tree, piece in cases:
        heard = run_on(check, {**good, **tree})
        if len(heard) != 1 or piece not in heard[0]:
            print(f"{name}: expected one complaint with {piece!r}, got:", *heard, sep="\n  ")
            failed = 1
    print(f"{len(cases) + 1} self-tests, {'FAILED' if failed else 'passed'}")
    return failed
