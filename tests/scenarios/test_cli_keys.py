# SPDX-License-Identifier: Apache-2.0
"""Keys on the command line: where they come from, what is said when they are missing or wrong,
and that no file and no output gives them away."""
import os
import subprocess

import pytest
from cli_fixture import Cli

REFUSED = 10


@pytest.fixture
def keyless(cli):
    del cli.env["LIFEBOAT_KEY_FILE"]
    return cli


def secret(path, text, mode=0o600):
    with open(path, "x", opener=lambda p, f: os.open(p, f, mode)) as f:
        f.write(text)
    return path


def openssl(cwd, *words):
    subprocess.run(["openssl", *map(str, words)], cwd=cwd, check=True, stderr=subprocess.DEVNULL)


def test_init_wants_a_key_or_a_clear_no(keyless, tmp_path):
    cli: Cli = keyless
    r = cli("archive", "init", tmp_path / "a", code=2)
    assert "--key-file" in r.stderr and "--no-encryption" in r.stderr
    assert not (tmp_path / "a").exists()
    r = cli("archive", "init", tmp_path / "a", "--no-encryption")
    assert "NOT ENCRYPTED" in r.stderr
    cli("archive", "ls", tmp_path / "a")
    key = tmp_path / "key"
    r = cli("archive", "init", tmp_path / "b", "--key-file", key)
    assert "keep it" in r.stderr and key.stat().st_mode & 0o777 == 0o600
    assert key.read_text().split()[-2] not in r.stderr
    r = cli("archive", "ls", tmp_path / "a", "--key-file", key, code=REFUSED)
    assert "not encrypted" in r.stderr


def test_missing_wrong_and_careless_keys(keyless, tmp_path):
    cli: Cli = keyless
    a, key = tmp_path / "a", tmp_path / "key"
    cli("archive", "init", a, "--key-file", key)
    cli("archive", "ls", a, "--key-file", key)
    assert "--key-file" in cli("archive", "ls", a, code=REFUSED).stderr
    assert "no such file" in cli("archive", "ls", a, "--key-file", tmp_path / "no", code=REFUSED).stderr
    cli("archive", "init", tmp_path / "other", "--key-file", tmp_path / "second")
    assert "wrong key file" in cli("archive", "ls", a, "--key-file", tmp_path / "second",
                                   code=REFUSED).stderr
    slip = secret(tmp_path / "slip", key.read_text().replace("lifeboat-key-1 ", "lifeboat-key-1 0", 1))
    assert "was changed" in cli("archive", "ls", a, "--key-file", slip, code=REFUSED).stderr
    key.chmod(0o640)
    assert "chmod 600" in cli("archive", "ls", a, "--key-file", key, code=REFUSED).stderr
    key.chmod(0o600)
    assert "more than one" in cli("archive", "ls", a, "--key-file", key, "--passphrase-file", key,
                                  code=2).stderr


def test_passphrases_descriptors_and_recipients_open_it_too(keyless, tmp_path):
    cli: Cli = keyless
    a, key, words = tmp_path / "a", tmp_path / "key", secret(tmp_path / "words", "open sesame\nmore\n")
    openssl(tmp_path, "genpkey", "-algorithm", "X25519", "-out", "x.pem")
    openssl(tmp_path, "pkey", "-in", "x.pem", "-pubout", "-out", "x.pub")
    openssl(tmp_path, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "9",
            "-keyout", "r.pem", "-out", "r.crt")
    openssl(tmp_path, "pkey", "-in", "x.pem", "-aes256", "-passout", "pass:open sesame", "-out", "l.pem")
    for name in ("x.pem", "r.pem", "l.pem"):
        (tmp_path / name).chmod(0o600)
    cli("archive", "init", a, "--key-file", key, "--passphrase-file", words, "--recipient",
        tmp_path / "x.pub", "--recipient", tmp_path / "r.crt")
    cli("archive", "ls", a, "--passphrase-file", words)
    cli("archive", "ls", a, "--identity", tmp_path / "x.pem")
    cli("archive", "ls", a, "--identity", tmp_path / "r.pem")
    assert "locked" in cli("archive", "ls", a, "--identity", tmp_path / "l.pem", code=REFUSED).stderr
    cli("archive", "ls", a, "--identity", tmp_path / "l.pem", "--passphrase-file", words)
    with open(key, "rb") as f:
        cli("archive", "ls", a, "--key-fd", f.fileno(), pass_fds=(f.fileno(),))
    cli.env["LIFEBOAT_PASSPHRASE_FILE"] = str(words)
    cli("archive", "ls", a)
    openssl(tmp_path, "genpkey", "-algorithm", "ED25519", "-out", "e.pem")
    openssl(tmp_path, "pkey", "-in", "e.pem", "-pubout", "-out", "e.pub")
    assert "cannot encrypt" in cli("archive", "init", tmp_path / "b", "--recipient", tmp_path / "e.pub",
                                   code=2).stderr


def test_the_terminal_is_asked_twice_and_shows_nothing(keyless, tmp_path):
    cli: Cli = keyless
    t = cli.terminal("archive", "init", tmp_path / "a")
    t.expect("New passphrase")
    t.type("tell nobody\n")
    t.expect("The same again")
    t.type("tell somebody\n")
    assert t.wait() == 2 and "differ" in t.text
    t = cli.terminal("archive", "init", tmp_path / "a")
    t.expect("New passphrase")
    t.type("tell nobody\n")
    t.expect("The same again")
    t.type("tell nobody\n")
    assert t.wait() == 0 and "nobody" not in t.text
    t = cli.terminal("archive", "ls", tmp_path / "a")
    t.expect("Passphrase for")
    t.type("tell nobody\n")
    assert t.wait() == 0 and "nobody" not in t.text


def test_nothing_of_the_content_is_to_be_seen_in_the_files(cli, archive, tmp_path):
    (tmp_path / "diary").write_bytes(b"dear diary, " * 4096)
    cli("archive", "import", "web", tmp_path / "diary", "--label", "before the affair")
    for path in archive.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"diary" not in data and b"affair" not in data, path


def test_a_descriptor_serves_all_that_a_verb_opens(keyless, tmp_path):
    cli: Cli = keyless
    a, key = tmp_path / "a", tmp_path / "key"
    cli("archive", "init", a, "--key-file", key)
    (tmp_path / "file").write_bytes(b"bytes" * 4096)

    def by_pipe(*words, options=("--key-fd",)):
        r, w = os.pipe()
        os.write(w, key.read_bytes())
        os.close(w)
        given = [word for option in options for word in (option, r)]
        done = cli(*words, *given, pass_fds=(r,))
        os.close(r)
        return done

    by_pipe("archive", "import", "web", tmp_path / "file", "--archive", a)
    by_pipe("archive", "init", tmp_path / "b", "--dedup-domain-of", a)
    by_pipe("archive", "repair", a)
    by_pipe("archive", "copy", "web@1", "--archive", a, "--to", tmp_path / "b",
            options=("--key-fd", "--to-key-fd"))
    cli("archive", "verify", tmp_path / "b", "--key-file", key)
