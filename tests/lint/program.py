# SPDX-License-Identifier: Apache-2.0
"""program: what the program says about itself: its verbs and their options, by --help."""
import os
import pathlib
import re
import subprocess


def output(program, *words):
    env = {**os.environ, "LC_ALL": "C", "ARGP_HELP_FMT": "rmargin=200"}
    done = subprocess.run([program, *words], stdout=subprocess.PIPE, text=True, check=True, env=env,
                          timeout=60)
    return done.stdout


def verbs(program):
    """["run", "archive init", ...]"""
    found = re.findall(r"^  ([a-z]+(?: [a-z-]+)?)  +[a-z]|^  ([a-z]+ [a-z-]+) [a-z]",
                       output(program, "--help").split("\n\n")[2], re.M)
    return [a or b for a, b in found]


def options(program, verb):
    """{"--help", "--json", ...}"""
    return set(re.findall(r"^ {2,6}(?:-\w, |    )?(--[a-z][a-z0-9-]*)",
                          output(program, *verb.split(), "--help"), re.M))


FAKE = """#!/bin/sh
case "$*" in
--help) cat <<'END'
Usage: lifeboat VERB

What it does.

  run             start a machine
  archive init    make one
  archive verify  check one

More.
END
;;
"run --help") printf 'Usage: x\\n\\n      --kernel=FILE   A\\n      --name=NAME   B\\n      --help  C\\n' ;;
*) printf 'Usage: x\\n\\n      --help   C\\n' ;;
esac
"""


def fake(directory):
    """A program with the verbs run, archive init and archive verify, for self-tests."""
    p = pathlib.Path(directory, "lifeboat")
    p.write_text(FAKE)
    p.chmod(0o755)
    assert verbs(p) == ["run", "archive init", "archive verify"], verbs(p)
    assert options(p, "run") == {"--kernel", "--name", "--help"}, options(p, "run")
    return str(p)
