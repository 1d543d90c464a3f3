#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""completion: what bash offers is what the program has: verbs, and the options of each.

  completion.py PROGRAM ROOT
  completion.py --self-test
"""
import pathlib
import subprocess
import sys
import tempfile

import program

ASK = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_lifeboat
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(script, *words):
    done = subprocess.run(["bash", "--norc", "-c", ASK, "bash", str(script), "lifeboat", *words],
                          stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def differ(where, has, wants):
    for w in sorted(wants - has):
        yield f"{where}: {w} is not offered"
    for w in sorted(has - wants):
        yield f"{where}: {w} is offered and does not exist"


def check(prog, root):
    script = pathlib.Path(root, "completion", "lifeboat.bash")
    verbs = program.verbs(prog)
    groups = {v.split()[0] for v in verbs if " " in v}
    complaints = [*differ("lifeboat", offered(script, ""),
                          {v.split()[0] for v in verbs} | {"--help", "--version"})]
    for g in sorted(groups):
        inside = {v.split()[1] for v in verbs if v.startswith(g + " ")}
        complaints += differ(g, offered(script, g, ""), inside | {"--help"})
    for v in verbs:
        complaints += differ(v, offered(script, *v.split(), "--"), program.options(prog, v))
    return complaints


GOOD = """_lifeboat() {
	case "${COMP_WORDS[*]}" in
	'lifeboat ') COMPREPLY=(run archive --help --version) ;;
	'lifeboat archive ') COMPREPLY=(init verify --help) ;;
	'lifeboat run --') COMPREPLY=(--kernel --name --help) ;;
	*) COMPREPLY=(--help) ;;
	esac
}
"""


def run_on(text):
    with tempfile.TemporaryDirectory() as d:
        pathlib.Path(d, "completion").mkdir()
        pathlib.Path(d, "completion", "lifeboat.bash").write_text(text)
        return check(program.fake(d), d)


def self_test():
    cases = [
        ("good", GOOD, []),
        ("verb missing", GOOD.replace("(run archive", "(archive"), ["lifeboat: run is not offered"]),
        ("verb too many", GOOD.replace("init verify", "init verify gc"),
         ["archive: gc is offered and does not exist"]),
        ("option missing", GOOD.replace("--kernel ", ""), ["run: --kernel is not offered"]),
    ]
    failed = 0
    for name, text, expected in cases:
        heard = run_on(text)
        if heard != expected:
            print(f"{name}: expected {expected}, got {heard}")
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
