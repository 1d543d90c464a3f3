#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""style: what of STYLE.md a program can see.

Licence line first, header comment, one stem one file, no trailing blanks, lines up to 110 columns,
functions up to 80 lines, files up to 600 (tests 700: they are lists of cases).
"""
import re
import sys

import tree

MAX_COLUMNS, MAX_FUNCTION, MAX_FILE, MAX_TEST_FILE = 110, 80, 600, 700
SPDX = "SPDX-License-Identifier: Apache-2.0"
# Every program has a main.c.
STEMS_SHARED = {"main"}


def check_licence(path, rows):
    first = rows[1] if rows[0].startswith("#!") and len(rows) > 1 else rows[0]
    if SPDX not in first:
        yield f"{path}:1: the first line is not the licence ({SPDX})"


def check_header(path, rows):
    """A .c says in its second line what it is; a .h names itself in a comment ("stem: ...")."""
    stem = path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    if path.endswith(".c") and not (len(rows) > 1 and re.match(r"/\* \S", rows[1])):
        yield f"{path}:2: no header comment after the licence"
    if path.endswith(".h") and not re.search(rf"^ ?[/*]\*? {stem}: ", "\n".join(rows), re.M):
        yield f'{path}:1: no comment "{stem}: ..." that says what it is for'


def check_rows(path, rows):
    for n, row in enumerate(rows, 1):
        if row != row.rstrip():
            yield f"{path}:{n}: blanks at the end of the line"
        columns = len(row.expandtabs(8))
        if columns > MAX_COLUMNS:
            yield f"{path}:{n}: {columns} columns, more than {MAX_COLUMNS}"
    most = MAX_TEST_FILE if str(path).startswith("tests/") else MAX_FILE
    if len(rows) - 1 > most:
        yield f"{path}: {len(rows) - 1} lines, more than {most}: split it"


def check_functions(path, rows):
    start = 0
    for n, row in enumerate(rows, 1):
        if row.startswith("{"):
            start = n
        elif row.startswith("}") and start:
            if n - start - 1 > MAX_FUNCTION:
                yield f"{path}:{start}: a function of {n - start - 1} lines, more than {MAX_FUNCTION}"
            start = 0


def check_stems(root):
    seen = {}
    for p in tree.files(root, ".c", under=tree.LAYERS):
        path = p.relative_to(root).as_posix()
        if p.stem in seen and p.stem not in STEMS_SHARED:
            yield f"{path}: the stem {p.stem} is that of {seen[p.stem]} too"
        seen.setdefault(p.stem, path)


def check(root):
    complaints = list(check_stems(root))
    for p in tree.files(root, ".c", ".h", ".S", ".py", ".sh"):
        path, rows = p.relative_to(root).as_posix(), p.read_text().split("\n")
        if rows == [""]:
            continue
        complaints += check_licence(path, rows)
        complaints += check_rows(path, rows)
        if p.suffix in (".c", ".h"):
            complaints += check_header(path, rows)
            complaints += check_functions(path, tree.code_only("\n".join(rows)).split("\n"))
    return complaints


C = f"/* {SPDX} */\n"
PY = f"# {SPDX}\n"
GOOD = {
    "base/err.c": C + "/* err: codes. */\nint f(void)\n{\n" + "\tg();\n" * 80 + "}\n",
    "base/err.h": C + "#ifndef X\n/* err: what went wrong. */\n#endif\n",
    "cmd/a/main.c": C + "/* a */\n",
    "cmd/b/main.c": C + "/* b */\n",
    "tests/err.c": C + "/* a stem of its own folder */\n",
    "tests/x.py": "#!/usr/bin/python3\n" + PY,
    "tests/__init__.py": "",
    "build/generated.c": "anything   \n",
}
CASES = [
    ("no licence", {"base/a.c": "/* a: b */\n/* a */\n"}, "first line is not the licence"),
    ("no licence in a script", {"tests/a.py": "#!/usr/bin/python3\nimport x\n"}, "licence"),
    ("no header comment", {"base/a.c": C + "int x;\n"}, "no header comment"),
    ("a header without purpose", {"base/a.h": C + "/* b: x */\n"}, 'no comment "a: ..."'),
    ("stem twice", {"hv/err.c": C + "/* err: again */\n"}, "stem err is that of base/err.c"),
    ("trailing blank", {"base/a.c": C + "/* a */ \n"}, "blanks at the end"),
    ("long line", {"base/a.c": C + "/* a */\n\t" + "x" * 103 + "\n"}, "111 columns"),
    ("long function", {"base/a.c": C + "/* a */\nint f(void)\n{\n" + "\tg();\n" * 81 + "}\n"},
     "a function of 81 lines"),
    ("long file", {"base/a.c": C + "/* a */\n" + "int x;\n" * 599}, "601 lines"),
]

if __name__ == "__main__":
    sys.exit(tree.main(check, CASES, GOOD))
