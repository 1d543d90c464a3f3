#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""layers: who may include whom, which words belong where, and who may print, exit or say ioctl.

The rules are those of docs/ARCHITECTURE.md, section 3:
  base < {hv, store, transport} < {capture, restore} < cmd, and nothing sideways;
  the worker (cmd/worker) sees no archive and no peer; nor does the reader of guests' disks
  (cmd/bootfs), which has the worker's sandbox;
  "guest" and "vcpu" do not occur in store/ and transport/, "chunk" and "TLS" not in hv/;
  only cmd/ prints or exits; ioctls are made and named only in hv/kvm/.
"""
import pathlib
import re
import sys

import tree

BELOW = {
    "base": {"base"},
    "hv": {"hv", "base"},
    "store": {"store", "base"},
    "transport": {"transport", "base"},
    "capture": {"capture", "hv", "store", "transport", "base"},
    "restore": {"restore", "hv", "store", "transport", "base"},
    "cmd/worker": {"cmd/worker", "hv", "base"},
    "cmd/bootfs": {"cmd/bootfs", "cmd/worker", "base"},
    "cmd/lifeboat": {"cmd/lifeboat", "capture", "restore", "hv", "store", "transport", "base"},
    "cmd": {"cmd", "capture", "restore", "hv", "store", "transport", "base"},
}
WORDS = {
    "store": re.compile(r"guest|vcpu", re.I),
    "transport": re.compile(r"guest|vcpu", re.I),
    "hv": re.compile(r"chunk|(?<![a-z])tls(?![a-z])", re.I),
}
# The codes are shared by all; a name is not the thing.
WORDS_ALLOWED = re.compile(r"ERR_GUEST")
PRINTS = re.compile(
    r"(?<![\w.>])(v?f?printf|puts|fputs|putchar|fputc|perror|psignal|v?dprintf|v?syslog|"
    r"exit|_exit|_Exit|quick_exit|abort)\s*\(")
IOCTL = re.compile(r"(?<![\w.>])ioctl\s*\(")
# The filter of system calls has to name what it lets through.
IOCTL_ALLOWED = {"hv/hostcheck_memory.c"}  # userfaultfd, not KVM
IOCTL_NAMES_ALLOWED = {"cmd/worker/filter.c"}
KVM_HEADER = pathlib.Path("/usr/include/linux/kvm.h")


def ioctl_names():
    names = re.findall(r"^#define\s+(KVM_\w+)\s+_IOW?R?\(", KVM_HEADER.read_text(), re.M)
    assert "KVM_RUN" in names and len(names) > 50, KVM_HEADER
    return re.compile(r"\b(" + "|".join(sorted(names, key=len, reverse=True)) + r")\b")


def layer_of(path):
    for layer in sorted(BELOW, key=len, reverse=True):
        if path == layer or path.startswith(layer + "/"):
            return layer
    return None


def check_includes(path, code):
    mine = layer_of(path)
    for n, line in tree.lines(code):
        m = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
        if not m:
            continue
        if "/" not in m.group(1):
            yield f'{path}:{n}: #include "{m.group(1)}" without its folder'
            continue
        theirs = layer_of(m.group(1))
        if theirs not in BELOW[mine]:
            yield f'{path}:{n}: {mine} may not include "{m.group(1)}"'


def check_words(path, text):
    pattern = WORDS.get(path.split("/")[0])
    for n, line in tree.lines(text) if pattern else ():
        m = pattern.search(WORDS_ALLOWED.sub("", line))
        if m:
            yield f'{path}:{n}: the word "{m.group(0)}" does not belong in {path.split("/")[0]}/'


def check_calls(path, code, names):
    kvm = path.startswith("hv/kvm/")
    for n, line in tree.lines(code):
        m = PRINTS.search(line)
        if m and not path.startswith("cmd/"):
            yield f"{path}:{n}: {m.group(1)}(): only cmd/ prints or exits"
        if IOCTL.search(line) and not kvm and not path.startswith("base/") and path not in IOCTL_ALLOWED:
            yield f"{path}:{n}: ioctl() outside hv/kvm/"
        m = names.search(line)
        if m and not kvm and path not in IOCTL_NAMES_ALLOWED:
            yield f"{path}:{n}: {m.group(1)} is named outside hv/kvm/"


def check(root):
    complaints = []
    names = ioctl_names()
    for p in tree.files(root, ".c", ".h", ".md", under=tree.LAYERS):
        path, text = p.relative_to(root).as_posix(), p.read_text()
        complaints += check_words(path, text)
        if p.suffix != ".md":
            code = tree.code_only(text)
            complaints += check_includes(path, code)
            complaints += check_calls(path, code, names)
    return complaints


GOOD = {
    "base/err.c": '#include "base/err.h"\nvoid f(void);\n',
    "hv/kvm/kvm.c": '#include "base/err.h"\nint x = ioctl(fd, KVM_RUN, 0); /* TLFS */\n',
    "hv/vcpu.c": "/* printf(), exit() and ioctl(): words */ int k = KVM_EXIT_IO;\n",
    "store/pack.c": '#include "base/err.h"\nreturn ERR_GUEST; char *s = "exit(1)"; snprintf(b);\n',
    "capture/capture.c": '#include "hv/remote.h"\n#include "store/archive.h"\n',
    "cmd/lifeboat/main.c": '#include "restore/restore.h"\nprintf("x");\n',
    "cmd/worker/main.c": '#include "hv/vm.h"\nexit(1);\n',
    "cmd/worker/filter.c": "int c = KVM_RUN;\n",
}
CASES = [
    ("upward", {"base/a.c": '#include "hv/vm.h"\n'}, "base may not include"),
    ("sideways", {"hv/a.c": '#  include "store/archive.h"\n'}, "hv may not include"),
    ("store to transport", {"store/a.h": '#include "transport/wire.h"\n'}, "store may not"),
    ("capture to restore", {"capture/a.c": '#include "restore/source.h"\n'}, "capture may not"),
    ("restore to capture", {"restore/a.c": '#include "capture/sink.h"\n'}, "restore may not"),
    ("to cmd", {"capture/a.c": '#include "cmd/lifeboat/cli.h"\n'}, "capture may not"),
    ("archive in the worker", {"cmd/worker/a.c": '#include "store/archive.h"\n'}, "worker may not"),
    ("one program in the other", {"cmd/worker/a.c": '#include "cmd/lifeboat/cli.h"\n'}, "may not"),
    ("no folder", {"hv/a.c": '#include "vm.h"\n'}, "without its folder"),
    ("guest in store", {"store/a.c": "/* the guest's pages */\n"}, '"guest"'),
    ("vcpu in transport", {"transport/PROTOCOL.md": "a vCPU\n"}, '"vCPU"'),
    ("chunk in hv", {"hv/a.c": "int chunk_bytes;\n"}, '"chunk"'),
    ("TLS in hv", {"hv/a.c": "/* over TLS */\n"}, '"TLS"'),
    ("print", {"store/a.c": "void f(void) { fprintf(x); }\n"}, "fprintf(): only cmd/"),
    ("exit", {"base/a.c": "void f(void) { exit(1); }\n"}, "exit(): only cmd/"),
    ("abort", {"hv/a.c": "\tabort();\n"}, "abort(): only cmd/"),
    ("ioctl", {"hv/a.c": "\tr = ioctl(fd, X, 0);\n"}, "ioctl() outside"),
    ("ioctl's name", {"cmd/worker/a.c": "int c = KVM_GET_SREGS2;\n"}, "KVM_GET_SREGS2 is named"),
]

if __name__ == "__main__":
    sys.exit(tree.main(check, CASES, GOOD))
