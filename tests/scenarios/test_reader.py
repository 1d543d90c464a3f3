# SPDX-License-Identifier: Apache-2.0
"""A second implementation, written from store/FORMAT.md alone (tests/reader/), reads what the
program wrote: with a key file, a passphrase, without encryption, and after a collection that
rewrote packs; and it refuses what was changed."""
import hashlib
import json
import os
import random
import subprocess
import sys

import pytest
from cli_fixture import ROOT

READER = ROOT / "tests/reader/reader.py"
KIB = 1024


def reader(archive, *words, code=0):
    r = subprocess.run([sys.executable, READER, archive, *map(str, words)], check=False, timeout=120,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == code, r.stderr.decode()
    return r.stdout if code == 0 else r.stderr.decode()


def secret(path, text):
    with open(path, "x", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write(text)
    return path


@pytest.fixture(params=["key file", "passphrase", "plain"])
def kind(request, cli, tmp_path):
    """How to make an archive, and how to read it."""
    if request.param == "key file":
        return [], ["--key-file", cli.env["LIFEBOAT_KEY_FILE"]]
    del cli.env["LIFEBOAT_KEY_FILE"]
    if request.param == "plain":
        return ["--no-encryption"], []
    path = secret(tmp_path / "passphrase", "correct horse\nnot this line\n")
    cli.env["LIFEBOAT_PASSPHRASE_FILE"] = str(path)
    return [], ["--passphrase-file", path]


def contents(rng, pages):
    """Zero, random and repetitive pages, in any order."""
    kinds = (lambda: bytes(4096), lambda: rng.randbytes(4096), lambda: bytes([rng.randrange(9)]) * 4096,
             lambda: (b"%d " % rng.randrange(1000)) * 1000)
    return b"".join(rng.choice(kinds)()[:4096].ljust(4096, b"x") for _ in range(pages))


def test_reads_back_what_the_program_wrote(cli, kind, tmp_path):
    how, key = kind
    archive = tmp_path / "archive"
    rng = random.Random(5)
    cli("archive", "init", archive, *how)
    cli.env["LIFEBOAT_ARCHIVE"] = str(archive)
    want = {}
    data = bytearray(contents(rng, 300) + b"end")
    for n in range(1, 5):
        (tmp_path / "disk").write_bytes(data)
        (tmp_path / "empty").write_bytes(b"")
        cli("archive", "import", "web", tmp_path / "disk", tmp_path / "empty", "--label",
            f"n\N{DEGREE SIGN}{n}")
        want[f"web@{n}"] = bytes(data)
        for at in rng.sample(range(300), 200):
            data[at * 4096:at * 4096 + 4096] = contents(rng, 1)
    cli("archive", "rm", "web@1", "web@3")
    cli("archive", "gc", "--threshold", "100")
    del want["web@1"], want["web@3"]
    assert list((archive / "forwards").iterdir()), "a pack was rewritten"
    listed = {c["checkpoint"]: c for c in json.loads(reader(archive, *key, "list"))}
    assert listed.keys() == want.keys()
    ours = {f"{c['vm']}@{c['number']}": c for c in cli.json("checkpoints")["checkpoints"]}
    for name, content in want.items():
        assert listed[name]["streams"] == {"disk": hashlib.sha256(content).hexdigest(),
                                           "empty": hashlib.sha256(b"").hexdigest()}
        assert listed[name]["label"] == f"n\N{DEGREE SIGN}{name[4:]}"
        assert listed[name]["digest"] == ours[name]["digest"]
        assert reader(archive, *key, "dump", name, "disk") == content


def test_refuses_a_wrong_key_and_what_was_changed(cli, archive, tmp_path):
    (tmp_path / "disk").write_bytes(random.Random(1).randbytes(64 * KIB))
    cli("archive", "import", "web", tmp_path / "disk")
    key = ["--key-file", cli.env["LIFEBOAT_KEY_FILE"]]
    wrong = secret(tmp_path / "wrong", "lifeboat-key-1 " + "00" * 32 + " " +
                   hashlib.sha256(bytes(32)).hexdigest()[:16] + "\n")
    assert "no key opens" in reader(archive, "--key-file", wrong, "list", code=1)
    assert "wrong key file" in cli("archive", "ls", "--key-file", wrong, code=10).stderr
    del cli.env["LIFEBOAT_KEY_FILE"]
    assert "--key-file" in cli("archive", "ls", code=10).stderr
    [pack] = (archive / "packs").iterdir()
    with open(pack, "r+b") as f:
        f.seek(512 + 5000)
        byte = f.read(1)[0]
        f.seek(512 + 5000)
        f.write(bytes([byte ^ 1]))
    assert "reader:" in reader(archive, *key, "list", code=1)
