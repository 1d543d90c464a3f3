#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""headers: every header compiles alone.

The public ones by CMake's own target all_verify_interface_header_sets in the build tree; the private
ones here, with the same language and nothing included before them.

  headers.py --build CMAKE BUILD_DIR          the public ones
  headers.py CC ROOT                          all of them, by the compiler
  headers.py --self-test CMAKE ROOT CC        both ways must reject a header that lacks <stddef.h>
"""
import pathlib
import subprocess
import sys
import tempfile

import tree

BAD = "#ifndef BAD_H\n#define BAD_H\nsize_t bad_size(void);\n#endif\n"
GOOD = "#ifndef GOOD_H\n#define GOOD_H\n#include <stddef.h>\nsize_t good_size(void);\n#endif\n"
PROJECT = """cmake_minimum_required(VERSION 3.25)
project(probe C)
set(CMAKE_VERIFY_INTERFACE_HEADER_SETS ON)
add_library(lifeboat_flags INTERFACE)
include("{root}/cmake/layers.cmake")
add_subdirectory(layer)
"""
LAYER = "add_layer(probe HEADERS {header}.h SOURCES probe.c)\n"


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    return done.returncode, done.stdout


def build(cmake, directory):
    return run(cmake, "--build", directory, "--target", "all_verify_interface_header_sets")


def compiles(cc, root, header):
    code, text = run(cc, "-std=c17", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-fsyntax-only", "-I",
                     str(root), "-include", str(header), "-x", "c", "/dev/null")
    return None if code == 0 else text


def all_alone(cc, root):
    failed = checked = 0
    for h in tree.files(root, ".h", under=tree.LAYERS):
        checked += 1
        text = compiles(cc, root, h)
        if text:
            failed += 1
            print(f"{h.relative_to(root)} does not compile alone:\n{text}")
    print(f"{checked} headers, {failed} failed")
    return 1 if failed or not checked else 0


def probe(cmake, root, header, text):
    """Does the build accept a layer whose public header is this text?"""
    with tempfile.TemporaryDirectory() as d:
        layer = pathlib.Path(d, "src", "layer")
        layer.mkdir(parents=True)
        (layer.parent / "CMakeLists.txt").write_text(PROJECT.format(root=root))
        (layer / "CMakeLists.txt").write_text(LAYER.format(header=header))
        (layer / f"{header}.h").write_text(text)
        (layer / "probe.c").write_text("int probe;\n")
        code, said = run(cmake, "-S", str(layer.parent), "-B", f"{d}/build", "-G", "Ninja")
        assert code == 0, said
        return build(cmake, f"{d}/build")[0] == 0


def self_test(cmake, root, cc):
    root = pathlib.Path(root).resolve()
    with tempfile.TemporaryDirectory() as d:
        for name, text in (("good", GOOD), ("bad", BAD)):
            pathlib.Path(d, f"{name}.h").write_text(text)
        results = {
            "CMake accepts a good header": probe(cmake, root, "good", GOOD),
            "CMake rejects a bad one": not probe(cmake, root, "bad", BAD),
            "the compiler accepts a good header": not compiles(cc, d, f"{d}/good.h"),
            "the compiler rejects a bad one": bool(compiles(cc, d, f"{d}/bad.h")),
        }
    for what, ok in results.items():
        print(f"{'ok' if ok else 'FAILED'}: {what}")
    return 0 if all(results.values()) else 1


def main():
    if sys.argv[1] == "--self-test":
        return self_test(*sys.argv[2:5])
    if sys.argv[1] == "--build":
        code, text = build(*sys.argv[2:4])
        print(text)
        return 1 if code else 0
    return all_alone(sys.argv[1], pathlib.Path(sys.argv[2]).resolve())


if __name__ == "__main__":
    sys.exit(main())
