#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""completion: what bash and zsh offer is what the program has: verbs, and the options of each.

zsh's own completion system is only there behind a terminal's line editor, so each is
asked with stand-ins for it, which print what would be offered; then one line is typed
into a real zsh on a terminal.

  completion.py PROGRAM ROOT
  completion.py --self-test
"""
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time

import program

PATIENCE_S = 60

BASH = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_lifeboat
printf '%s\\n' "${COMPREPLY[@]}"
"""

ZSH = """
setopt extended_glob
compadd() { while [[ $1 != -- ]] { shift }; shift; print -rl -- "$@" }
_describe() { print -rl -- "${(@)${(P@)@[-1]}%%:*}" }
_files() { }
_message() { }
compset() { }
script=$1
shift
words=("$@") CURRENT=$#
set --
source $script
"""


def ask_bash(root, prog, *words):
    script = pathlib.Path(root, "completion", "lifeboat.bash")
    return ask(["bash", "--norc", "-c", BASH, "bash", str(script), prog, *words])


def ask_zsh(root, prog, *words):
    script = pathlib.Path(root, "completion", "_lifeboat")
    return ask(["zsh", "-f", "-c", ZSH, "zsh", str(script), prog, *words])


def ask(argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True,
                          timeout=PATIENCE_S)
    return set(done.stdout.split())


def differ(where, has, wants):
    for w in sorted(wants - has):
        yield f"{where}: {w} is not offered"
    for w in sorted(has - wants):
        yield f"{where}: {w} is offered and does not exist"


def check_shell(shell, offered, prog, root):
    verbs = program.verbs(prog)
    groups = {v.split()[0] for v in verbs if " " in v}
    complaints = [*differ("lifeboat", offered(root, prog, ""),
                          {v.split()[0] for v in verbs} | {"--help", "--version"})]
    for g in sorted(groups):
        inside = {v.split()[1] for v in verbs if v.startswith(g + " ")}
        complaints += differ(g, offered(root, prog, g, ""), inside | {"--help"})
    for v in verbs:
        complaints += differ(v, offered(root, prog, *v.split(), "--"), program.options(prog, v))
    return [f"{shell}: {c}" for c in complaints]


def typed(directory, keys, ready, done):
    """Type keys into zsh on a terminal once it shows `ready`; all it showed until `done`."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "dumb"
        os.execvp("zsh", ["zsh", "-f", "-i"])
    start = (f"fpath=({directory} $fpath); PS1=; autoload -U compinit && compinit -u -D; "
             f"echo {ready[0]}''{ready[1:]}\n")
    os.write(fd, start.encode())
    shown, end, asked = "", time.monotonic() + PATIENCE_S, False
    while done not in shown and time.monotonic() < end:
        if select.select([fd], [], [], 0.5)[0]:
            shown += os.read(fd, 4096).decode(errors="replace")
        if not asked and ready in shown:
            os.write(fd, keys.encode())
            asked = True
    os.kill(pid, signal.SIGKILL)
    os.close(fd)
    os.waitpid(pid, 0)
    return shown


def try_zsh(prog, root):
    """The file is found by its first line, and works with the real completion system."""
    with tempfile.TemporaryDirectory() as d:
        said = pathlib.Path(d, "said")
        echo = pathlib.Path(d, "lifeboat")
        echo.write_text(f'#!/bin/sh\ncase "$*" in *--help) exec {prog} "$@" ;; esac\n'
                        f'echo "$*" >{said}\necho the"-"end\n')
        echo.chmod(0o755)
        shown = typed(pathlib.Path(root, "completion"), f"{echo} archive ini\t\r", "come-on", "the-end")
        if not said.exists() or said.read_text().split() != ["archive", "init"]:
            yield f"zsh: on a terminal it does not complete `archive ini': {shown!r}"


def check(prog, root):
    return [*check_shell("bash", ask_bash, prog, root), *check_shell("zsh", ask_zsh, prog, root),
            *try_zsh(prog, root)]


GOOD_BASH = """_lifeboat() {
	case "${COMP_WORDS[*]:1}" in
	'') COMPREPLY=(run archive --help --version) ;;
	'archive ') COMPREPLY=(init verify --help) ;;
	'run --') COMPREPLY=(--kernel --name --help) ;;
	*) COMPREPLY=(--help) ;;
	esac
}
"""

GOOD_ZSH = """#compdef lifeboat
case "${words[2,-1]}" in
'') compadd -- run archive --help --version ;;
'archive ' | 'archive ini') compadd -- init verify --help ;;
'run --') compadd -- --kernel --name --help ;;
*) compadd -- --help ;;
esac
"""


def run_on(bash, zsh):
    with tempfile.TemporaryDirectory() as d:
        pathlib.Path(d, "completion").mkdir()
        pathlib.Path(d, "completion", "lifeboat.bash").write_text(bash)
        pathlib.Path(d, "completion", "_lifeboat").write_text(zsh)
        return check(program.fake(d), d)


def self_test():
    cases = [
        ("good", "", "", []),
        ("verb missing", "run archive", "archive", ["lifeboat: run is not offered"]),
        ("verb too many", "init verify", "init verify gc", ["archive: gc is offered and does not exist"]),
        ("option missing", "--kernel ", "", ["run: --kernel is not offered"]),
    ]
    failed = 0
    for name, old, new, expected in cases:
        heard = run_on(GOOD_BASH.replace(old, new), GOOD_ZSH.replace(old, new))
        wanted = [f"{shell}: {e}" for shell in ("bash", "zsh") for e in expected]
        if heard != wanted:
            print(f"{name}: expected {wanted}, got {heard}")
            failed = 1
    heard = run_on(GOOD_BASH, GOOD_ZSH.replace("#compdef", "# compdef"))
    if len(heard) != 1 or "on a terminal" not in heard[0]:
        print(f"no tag for zsh: {heard}")
        failed = 1
    print(f"{len(cases) + 1} self-tests, {'FAILED' if failed else 'passed'}")
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
