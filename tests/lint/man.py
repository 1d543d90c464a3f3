#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""man: every verb has a manual page, every option is in it, every page is installed and well formed.

  man.py PROGRAM ROOT       check ROOT/docs/man against what PROGRAM says
  man.py --self-test
"""
import pathlib
import re
import subprocess
import sys
import tempfile

import program

SECTIONS = ("NAME", "DESCRIPTION", "EXAMPLES")


def page_of(verb):
    return f"lifeboat-{verb.split()[0]}.1"


def documented(text):
    """Options that have an entry of their own (.It Fl -x)."""
    items = "\n".join(re.findall(r"^\.It (.*)$", text, re.M))
    return set("-" + o for o in re.findall(r"Fl (-[a-z][a-z0-9-]*)", items))


def check_pages(pages):
    for p in pages:
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", str(p)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode or done.stdout:
            yield f"{p.name}: {done.stdout.strip()}"
        for section in SECTIONS:
            if f"\n.Sh {section}\n" not in p.read_text():
                yield f"{p.name}: no section {section}"


def check_installed(man, pages):
    listed = set(re.findall(r"[\w-]+\.[1-8]\b", (man.parent / "CMakeLists.txt").read_text()))
    for name in sorted(listed ^ {p.name for p in pages}):
        yield f"{name}: is not both in docs/man/ and in docs/CMakeLists.txt"


def check_verbs(prog, man):
    said = {}
    for verb in program.verbs(prog):
        page = man / page_of(verb)
        if not page.is_file():
            yield f"{verb}: has no page {page.name}"
            continue
        text = page.read_text()
        options = program.options(prog, verb)
        said.setdefault(page.name, set()).update(options)
        for o in sorted(options - documented(text)):
            yield f"{page.name}: {o} of `{verb}' is missing"
        if not re.search(rf"Xr {page.stem} 1\b", (man / "lifeboat.1").read_text()):
            yield f"lifeboat.1: does not name {page.stem}"
    for name, options in said.items():
        for o in sorted(documented((man / name).read_text()) - options):
            yield f"{name}: {o} is no option"


def check(prog, root):
    man = pathlib.Path(root, "docs", "man")
    pages = sorted(p for p in man.iterdir() if re.fullmatch(r"\.[1-8]", p.suffix))
    return [*check_pages(pages), *check_installed(man, pages), *check_verbs(prog, man)]


PAGE = """.Dd November 23, 2026
.Dt {upper} 1
.Os
.Sh NAME
.Nm {name}
.Nd a thing
.Sh DESCRIPTION
Text{more}.
.Bl -tag -width Ds
{items}.It Fl -help
Help.
.El
.Sh EXAMPLES
One.
"""


def fake_page(name, *options, more=""):
    items = "".join(f".It Fl {o[1:]} Ar x\nText.\n" for o in options)
    return PAGE.format(upper=name.upper(), name=name, items=items, more=more)


def fake_tree():
    names = "\n.Xr lifeboat-run 1 ,\n.Xr lifeboat-archive 1"
    return {"lifeboat.1": fake_page("lifeboat", more=names),
            "lifeboat-run.1": fake_page("lifeboat-run", "--kernel", "--name"),
            "lifeboat-archive.1": fake_page("lifeboat-archive")}


def run_on(pages, listed):
    with tempfile.TemporaryDirectory() as d:
        man = pathlib.Path(d, "docs", "man")
        man.mkdir(parents=True)
        (man.parent / "CMakeLists.txt").write_text("install(FILES " + " ".join(listed) + ")\n")
        for name, text in pages.items():
            (man / name).write_text(text)
        return check(program.fake(d), d)


def self_test():
    good = fake_tree()
    less = {k: v for k, v in good.items() if k != "lifeboat-archive.1"}
    run = "lifeboat-run.1"
    cases = [
        ("good", good, good, None),
        ("no page", less, less, "archive init: has no page"),
        ("option missing", {**good, run: fake_page("lifeboat-run", "--kernel")}, good,
         "--name of `run' is missing"),
        ("option too many", {**good, run: fake_page("lifeboat-run", "--kernel", "--name", "--old")},
         good, "--old is no option"),
        ("not installed", good, less, "lifeboat-archive.1: is not both"),
        ("bad mdoc", {**good, run: good[run].replace(".Dd November 23, 2026\n", "")}, good, "mandoc:"),
        ("no examples", {**good, run: good[run].replace(".Sh EXAMPLES", ".Sh SEE ALSO")}, good,
         "no section EXAMPLES"),
        ("overview incomplete",
         {**good, "lifeboat.1": fake_page("lifeboat", more="\n.Xr lifeboat-archive 1")}, good,
         "does not name lifeboat-run"),
    ]
    failed = 0
    for name, pages, listed, piece in cases:
        heard = run_on(pages, listed)
        if heard if piece is None else not any(piece in h for h in heard):
            print(f"{name}: expected {piece!r}, got {heard}")
            failed = 1
    print(f"{len(cases)} self-tests, {'FAILED' if failed else 'passed'}")
    return failed


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    complaints = check(sys.argv[1], sys.argv[2])
    for c in complaints:
        print(c)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
