# SPDX-License-Identifier: Apache-2.0
"""What a person can get wrong before any machine exists, and how it is said.

Every error is one sentence "lifeboat: ..." with the documented exit code, and
leaves nothing behind.
"""
import json
import os
import re
import subprocess

import pytest
from cli_fixture import ROOT

VERBS = ["run", "ps", "console", "pause", "resume", "stop", "kill", "checkpoint", "checkpoints",
         "inspect", "restore", "archive init", "archive verify", "archive ls", "archive stats",
         "archive import", "archive export", "archive rebuild-index",
         "archive copy", "archive repair", "guest info", "guest ping", "guest time", "host check"]


def test_help_names_every_verb_and_every_exit_code(cli):
    text = cli("--help").stdout
    for verb in VERBS:
        assert f"  {verb} " in text
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130):
        assert f"{code} " in text


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_has_an_example(cli, verb):
    text = cli(*verb.split(), "--help").stdout
    assert text.startswith(f"Usage: lifeboat {verb}")
    assert f"Example:\n  lifeboat {verb}" in text


def test_version(cli):
    assert cli("--version").stdout.startswith("lifeboat 0.")


@pytest.mark.parametrize("args, words", [
    ([], "no verb"),
    (["fly"], "no such verb: fly"),
    (["archive"], "archive: no verb"),
    (["archive", "burn"], "no such verb: archive burn"),
    (["ps", "--colour"], "no such option: --colour"),
    (["ps", "--json=1"], "no value goes with --json=1"),
    (["ps", "web"], "too many words, at web"),
    (["kill"], "missing NAME"),
    (["pause"], "missing NAME"),
    (["restore"], "missing CHECKPOINT"),
    (["run"], "no kernel was named"),
    (["run", "--memory"], "a value is missing after --memory"),
    (["run", "--kernel", "k", "--memory", "12Q"], "--memory: '12Q' is not a size"),
    (["run", "--kernel", "k", "--memory", "0"], "memory"),
    (["run", "--kernel", "k", "--memory", "4096"], "memory"),
    (["run", "--kernel", "k", "--memory", "8000T"], "memory"),
    (["run", "--kernel", "k", "--cpus", "0"], "--cpus"),
    (["run", "--kernel", "k", "--cpus", "33"], "--cpus"),
    (["run", "--kernel", "k", "--cpus", "two"], "--cpus"),
    (["run", "--kernel", "k", "--cpu", "x86-64-v9"], "--cpu"),
    (["run", "--kernel", "k", "--console", "tty"], "--console"),
    (["run", "--kernel", "k", "--console2", "stdio"], "only one of them can be stdio"),
    (["run", "--kernel", "k", "--on-crash", "cry"], "--on-crash"),
    (["run", "--kernel", "k", "--cmdline", "x" * 3000], "--cmdline"),
    (["run", "--kernel", "k", "--sandbox", "none"], "--sandbox"),
    (["stop", "web", "--timeout", "5"], "--timeout: '5' is not a duration"),
    (["console", "web", "--line", "3"], "--line"),
    (["restore", "web@1", "--json", "--archive", "x"], "--json needs --detach"),
    (["checkpoint", "web"], "no archive was named"),
    (["checkpoints"], "no archive was named"),
    (["inspect", "web@1", "--archive", "x", "--stream", "ram"], "--stream"),
])
def test_wrong_usage_is_code_2_and_one_sentence(cli, args, words):
    r = cli(*args, code=2)
    assert words in r.stderr
    assert r.stdout == ""


def test_more_memory_than_this_host_can_mean(cli):
    error = cli("run", "--kernel", "k", "--memory", "1024G", code=9).stderr
    assert "more than 4 times what this host has" in error


@pytest.mark.parametrize("verb", VERBS)
def test_manual_and_completion_know_the_same_options(cli, verb):
    options = set(re.findall(r"^ +--([a-z0-9-]+)", cli(*verb.split(), "--help").stdout, re.M))
    page = (ROOT / "docs/man" / f"lifeboat-{verb.split()[0]}.1").read_text()
    known = set(re.findall(r"^\.(?:It|Op) Fl -([a-z0-9-]+)", page, re.M))
    assert options <= known | {"help"}, options - known
    if verb.split()[0] not in ("archive", "guest", "host"):
        assert known - {"help", "usage", "version"} <= options, known - options
    completion = (ROOT / "completion/lifeboat.bash").read_text()
    for o in options - {"help"}:
        assert f"--{o}" in completion, o


@pytest.mark.parametrize("name", ["Web", "-web", "", "a" * 64, "we_b", "../x", "wéb", "a.b"])
@pytest.mark.parametrize("verb", [["kill"], ["pause"], ["stop"], ["console"]])
def test_names_that_are_none(cli, verb, name):
    assert "no name" in cli(*verb, "--", name, code=2).stderr


@pytest.mark.parametrize("name", ["Web", "-web", "", "a" * 64, "we_b", "../x"])
def test_names_that_no_machine_gets(cli, name):
    assert "--name" in cli("run", "--kernel", "k", f"--name={name}", code=2).stderr


@pytest.mark.parametrize("verb", ["kill", "pause", "resume", "stop", "console"])
def test_a_machine_that_does_not_run_is_code_3(cli, verb):
    assert "nosuch: it does not run" in cli(verb, "nosuch", code=3).stderr


def test_ps_of_nothing_is_an_empty_document(cli):
    assert json.loads(cli("ps", "--json").stdout) == {"machines": []}
    assert cli("ps").stdout.split() == ["NAME", "STATE", "PID", "CPUS", "MEMORY", "UPTIME"]


YAML = [
    ("kernel: a\n# remark\nmemroy: 1G\n", 3, 'unknown key "memroy"'),
    ("kernel: a\nmemory: 1G\nkernel: b\n", 3, 'the key "kernel" is there twice'),
    ("- kernel\n", 1, "not a VM file"),
    ("kernel: [a, b]\n", 1, "not a VM file"),
    ("kernel: \"a\n", None, "not a VM file"),
    ("kernel: &x a\ninitrd: *x\n", 2, "not a VM file"),
    ("kernel: a\n---\nkernel: b\n", None, "not a VM file"),
    ("kernel: a\n\n\nmemory: lots\n", 4, "memory: 'lots' is not a size"),
    ("kernel: a\ncpus: 99\n", 2, "cpus: "),
    ("kernel: a\nname: Web\n", 2, "name: "),
    ("memory: 1G\n", None, "no kernel was named"),
]


@pytest.mark.parametrize("text, line, words", YAML)
def test_a_wrong_vm_file_is_told_with_its_line(cli, tmp_path, text, line, words):
    file = tmp_path / "vm.yaml"
    file.write_text(text)
    error = cli("run", str(file), code=2).stderr
    assert words in error
    if line:
        assert f"vm.yaml:{line}: " in error


def test_a_vm_file_that_is_no_text_or_not_there(cli, tmp_path):
    (tmp_path / "zero").write_bytes(bytes(100))
    assert "not text" in cli("run", str(tmp_path / "zero"), code=2).stderr
    (tmp_path / "big").write_bytes(b"#" * 100000)
    assert "too large" in cli("run", str(tmp_path / "big"), code=2).stderr
    assert "nosuch" in cli("run", str(tmp_path / "nosuch"), code=3).stderr


def test_kernel_files_that_cannot_be(cli, tmp_path):
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 3 << 30)
    assert "No such file" in cli("run", "--kernel", str(tmp_path / "none"), code=3).stderr
    assert "not a regular file" in cli("run", "--kernel", str(tmp_path), code=2).stderr
    assert "not a regular file" in cli("run", "--kernel", str(tmp_path / "fifo"), code=2).stderr
    assert "empty" in cli("run", "--kernel", str(tmp_path / "empty"), code=2).stderr
    assert "do not fit" in cli("run", "--kernel", str(tmp_path / "huge"), code=2).stderr
    assert cli.leftovers() == []


def test_an_archive_that_is_not_there(cli, tmp_path):
    for args in (["checkpoints"], ["archive", "verify"], ["archive", "ls"], ["inspect", "web@1"],
                 ["restore", "web@1"]):
        r = cli(*args, "--archive", str(tmp_path / "nosuch"), code=3)
        assert "nosuch" in r.stderr
    assert cli.leftovers() == []


def test_an_archive_is_made_once(cli, tmp_path):
    cli("archive", "init", str(tmp_path / "a"))
    assert "a" in cli("archive", "init", str(tmp_path / "a"), code=1).stderr
    assert json.loads(cli("checkpoints", "--archive", str(tmp_path / "a"), "--json").stdout) == {
        "checkpoints": []}
    assert json.loads(cli("archive", "ls", str(tmp_path / "a"), "--json").stdout) == {
        "checkpoints": []}
    assert json.loads(cli("archive", "verify", str(tmp_path / "a"), "--json").stdout)["sound"]
    assert "web" in cli("checkpoints", "web", "--archive", str(tmp_path / "a"), code=3).stderr
    assert "web@1" in cli("restore", "web@1", "--archive", str(tmp_path / "a"), code=3).stderr


@pytest.mark.parametrize("args", [["--help"], ["ps"], ["ps", "--help"], ["--version"]])
def test_output_that_does_not_get_out_is_an_error(cli, args):
    with open("/dev/full", "w") as full:
        r = cli(*args, code=9, stdout=full)
    assert "standard output" in r.stderr and "No space left" in r.stderr
    read, write = os.pipe()
    os.close(read)
    r = cli(*args, code=1, stdout=write)
    os.close(write)
    assert "standard output: Broken pipe" in r.stderr


def test_no_home_is_said(cli):
    env = {k: v for k, v in cli.env.items() if k != "LIFEBOAT_HOME"}
    if os.geteuid() == 0:
        pytest.skip("root always has a directory for running machines")
    env.pop("XDG_RUNTIME_DIR", None)
    r = subprocess.run([cli.path, "ps"], env=env, capture_output=True, text=True)
    assert r.returncode == 2 and "XDG_RUNTIME_DIR" in r.stderr


def test_host_check_measures_and_is_one_document(cli):
    r = cli("host", "check", "--json", code=None)
    d = json.loads(r.stdout)
    assert r.returncode == (0 if d["usable"] else 4)
    assert set(d) >= {"usable", "stock_kernels", "kvm", "speed", "dirty_tracking", "userfaultfd",
                      "huge_pages", "cpu", "remarks"}
    assert d["kvm"]["status"] in ("ok", "absent", "no-driver", "forbidden", "busy", "unusable")
    if d["usable"]:
        assert d["kvm"]["api_version"] == 12
        assert d["speed"]["guest_loops_per_s"] > 1000
        assert d["speed"]["exit_ns"] > 0
        assert d["kvm"]["msrs"] > 10
    text = cli("host", "check", code=None).stdout
    assert "userfaultfd" in text and "CPU baseline" in text
