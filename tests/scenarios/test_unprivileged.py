# SPDX-License-Identifier: Apache-2.0
"""Machines of an ordinary user, on a stock kernel with its safeguards on: user
namespaces make the sandbox, Yama's ptrace_scope 1 does not keep the keeper out,
and a host that forbids such namespaces is told apart from one that is broken."""
import pytest
from hosted import BUILD, LIFEBOAT

pytestmark = pytest.mark.host
USER = 12345
HELLO = BUILD / "tests/guests/hello.elf"


class AsUser:
    def __init__(self, host):
        self.host = host
        host.run("chmod 666 /dev/kvm; mkdir -p /srv/user; chown 12345:12345 /srv/user")

    def __call__(self, *args, check=True):
        return self.host.run(
            ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env",
             "LIFEBOAT_HOME=/srv/user/home", "LIFEBOAT_ARCHIVE=/srv/user/archive",
             "LIFEBOAT_KEY_FILE=/srv/user/key", str(LIFEBOAT),
             *map(str, args)], timeout=120, check=check)

    def start(self, name, *more, check=True):
        return self("run", "--kernel", HELLO, "--cmdline", "mode=idle", "--memory", "32M", "--name", name,
                    "--detach", *more, check=check)


@pytest.fixture
def user(shared_host):
    u = AsUser(shared_host)
    yield u
    shared_host.run("sysctl -qw user.max_user_namespaces=10000; test ! -e /proc/sys/kernel/yama || "
                    "sysctl -qw kernel.yama.ptrace_scope=0; rm -rf /srv/user")


def status(host, pid):
    text = host.run(["cat", f"/proc/{pid}/status"]).out
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_checkpoint_and_restore_under_yama(user, shared_host):
    yama = shared_host.run("sysctl -w kernel.yama.ptrace_scope=1", check=False)
    assert yama.code == 0, "the stock kernel has Yama"
    user("archive", "init")
    user.start("mine")
    pid = shared_host.run("pidof lifeboat-worker").out.split()[0]
    s = status(shared_host, pid)
    assert s["Seccomp"].strip() == "2" and s["NoNewPrivs"].strip() == "1"
    assert int(s["CapEff"], 16) == 0 and int(s["CapBnd"], 16) == 0
    assert s["Uid"].split()[0] == str(USER)
    for name in ("user", "mnt", "net", "ipc", "uts", "cgroup"):
        ours = shared_host.run(["readlink", f"/proc/1/ns/{name}"]).out
        assert shared_host.run(["readlink", f"/proc/{pid}/ns/{name}"]).out != ours, name
    assert shared_host.run(["ls", "-A", f"/proc/{pid}/root/"]).out.strip() == ""
    assert "mine@1" in user("checkpoint", "mine").out  # the keeper is no ancestor of the worker
    user("kill", "mine")
    user("restore", "mine@1", "--detach")
    assert "running" in user("ps").out
    user("kill", "mine")


def test_without_namespaces_it_refuses_or_is_weak_by_wish(user, shared_host):
    shared_host.run("sysctl -qw user.max_user_namespaces=0")
    r = user.start("strict", check=False)
    assert r.code == 4, (r.code, r.err)
    assert "--sandbox=weak" in r.err
    assert shared_host.run("pidof lifeboat-worker", check=False).code != 0
    user.start("weak", "--sandbox=weak")
    pid = shared_host.run("pidof lifeboat-worker").out.split()[0]
    s = status(shared_host, pid)
    assert s["Seccomp"].strip() == "2" and int(s["CapEff"], 16) == 0
    assert "weak sandbox" in shared_host.run("cat /srv/user/home/state/weak.log").out
    user("kill", "weak")
