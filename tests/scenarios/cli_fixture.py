# SPDX-License-Identifier: Apache-2.0
"""The command line as tests use it: in a home of its own, that ends empty.

`cli` runs a verb to its end and checks its exit code and the form of its
errors; what runs longer is started by `cli.start`, or on a terminal by
`cli.terminal`.
"""
import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build_dir():
    """LIFEBOAT_BUILD (CTest sets it), or the newest build that has a lifeboat."""
    given = os.environ.get("LIFEBOAT_BUILD")
    if given:
        return Path(given)
    found = [p.parents[2] for p in ROOT.glob("build/*/cmd/lifeboat/lifeboat")]
    if not found:
        pytest.exit("no build of lifeboat: set LIFEBOAT_BUILD, or run ./check")
    return max(found, key=lambda p: (p / "cmd/lifeboat/lifeboat").stat().st_mtime)


def native_kvm():
    return os.access("/dev/kvm", os.R_OK | os.W_OK)


needs_kvm = pytest.mark.skipif(not native_kvm(), reason="/dev/kvm does not open here")


# Limits of waiting are there to end a test, not to judge a speed: a busy machine gets more.
PATIENCE = 6


def wait_for(condition, seconds=20, what="it"):
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


class Terminal:
    """A lifeboat on a pseudo-terminal; `text` is all that a person has seen."""

    def __init__(self, path, args, env):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(path, [path, *args], env)
        self.status = None

    def read(self, seconds=0.1):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other side has closed
            data = b""
        self.text += data.decode(errors="replace")
        return bool(data)

    def expect(self, words, seconds=20):
        """Read until words have come after everything expected before."""
        end = time.monotonic() + PATIENCE * seconds
        while words not in self.text[getattr(self, "seen", 0):]:
            if time.monotonic() > end:
                raise AssertionError(f"{words!r} did not come; seen: {self.text[-2000:]!r}")
            self.read()
        self.seen = self.text.index(words, getattr(self, "seen", 0)) + len(words)

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def raw(self):
        """Is the terminal in raw mode?"""
        import termios
        return not termios.tcgetattr(self.fd)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def wait(self, seconds=20):
        end = time.monotonic() + PATIENCE * seconds
        while self.status is None and time.monotonic() < end:
            self.read(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        assert self.status is not None, f"has not ended; seen: {self.text[-2000:]!r}"
        while self.read(0):
            pass
        return self.status

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


class Cli:
    def __init__(self, home, build):
        self.home = home
        self.path = str(build / "cmd/lifeboat/lifeboat")
        self.guests = build / "tests/guests"
        self.archive = home.parent / "archive"
        self.env = {**os.environ, "LIFEBOAT_HOME": str(home)}
        self.env.pop("LIFEBOAT_ARCHIVE", None)
        self.env.pop("LIFEBOAT_PASSPHRASE_FILE", None)
        # Made by the first `archive init'; every archive is encrypted with it.
        self.env["LIFEBOAT_KEY_FILE"] = str(home / "archive.key")
        self.started = []

    def guest(self, name):
        return str(self.guests / f"{name}.elf")

    def __call__(self, *args, code=0, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                 timeout=400, text=True, **kwargs):
        r = subprocess.run([self.path, *map(str, args)], stdout=stdout, stdin=stdin,
                           stderr=subprocess.PIPE, env=self.env, timeout=timeout, **kwargs)
        r.stderr = r.stderr.decode(errors="replace")
        if text and r.stdout is not None:
            r.stdout = r.stdout.decode(errors="replace")
        if code is not None:
            assert r.returncode == code, f"{args}: code {r.returncode}: {r.stderr}"
        self.check_form(r)
        return r

    @staticmethod
    def check_form(r):
        """An error is one line of one form; sanitizers have nothing to say."""
        assert "Sanitizer" not in r.stderr and "runtime error" not in r.stderr, r.stderr
        if r.returncode:
            last = r.stderr.rstrip("\n").split("\n")[-1]
            assert last.startswith("lifeboat: ") and len(last) > 20, r.stderr

    def json(self, *args, **kwargs):
        return json.loads(self(*args, "--json", **kwargs).stdout)

    def start(self, *args, **kwargs):
        kwargs = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                  "stderr": subprocess.PIPE, **kwargs}
        p = subprocess.Popen([self.path, *map(str, args)], env=self.env, **kwargs)
        self.started.append(p)
        return p

    def terminal(self, *args):
        t = Terminal(self.path, [str(a) for a in args], {**self.env, "TERM": "dumb"})
        self.started.append(t)
        return t

    def run(self, guest, name, *args, **kwargs):
        """A detached machine of a tiny guest."""
        r = self("run", "--kernel", self.guest(guest), "--name", name, "--memory", "32M", "--detach",
                 *args, **kwargs)
        if r.returncode == 0:
            assert r.stdout == f"{name}\n"
            if guest == "echo":  # until then its serial port drops input, as real ones do
                self.wait_console(name, "echo: ready")
        return r

    @staticmethod
    def expect(p, words, seconds=20, stream="stdout"):
        """Read p's standard output until words have come; all that was read."""
        seen, end, source = b"", time.monotonic() + PATIENCE * seconds, getattr(p, stream)
        while words.encode() not in seen:
            left = end - time.monotonic()
            ready = select.select([source], [], [], max(left, 0))[0]
            piece = os.read(source.fileno(), 4096) if ready else b""
            assert piece, f"{words!r} did not come; seen: {seen[-1000:]!r}"
            seen += piece
        return seen

    def machines(self):
        return {m["name"]: m for m in self.json("ps")["machines"]}

    def console(self, name):
        """What the guest has written so far (a console session, left at once)."""
        p = self.start("console", name)
        os.set_blocking(p.stdout.fileno(), False)
        text, quiet, end = b"", time.monotonic() + 0.4, time.monotonic() + 3
        while time.monotonic() < min(quiet, end):
            piece = p.stdout.read()
            if piece:
                text += piece
                quiet = time.monotonic() + 0.2
            time.sleep(0.01)
        p.terminate()
        p.wait(10)
        return text.decode(errors="replace")

    def wait_console(self, name, words, seconds=20):
        return wait_for(lambda: (t := self.console(name)) and words in t and t, seconds,
                        f"{words!r} on the console of {name}")

    def leftovers(self):
        """Names in the runtime directory, without any verb's help."""
        run = self.home / "run"
        return sorted(p.name for p in run.iterdir()) if run.exists() else []

    def processes(self):
        """Pids of lifeboat processes that belong to this home."""
        found = []
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                fds = [os.readlink(f) for f in (proc / "fd").iterdir()]
            except OSError:
                continue
            if any(str(self.home) in f for f in fds):
                found.append(int(proc.name))
        return found

    def close(self):
        for p in self.started:
            if isinstance(p, Terminal):
                p.close()
            else:
                p.kill()
                p.wait()
                for f in (p.stdin, p.stdout, p.stderr):
                    if f:
                        f.close()
        for name in self.leftovers():
            lock = self.home / "run" / name / "lock"
            pids = re.findall(r"\d+", lock.read_text()) if lock.exists() else []
            for pid in reversed(pids):
                with contextlib.suppress(ProcessLookupError):
                    if int(pid) in self.processes():
                        os.kill(int(pid), signal.SIGKILL)
        wait_for(lambda: not self.processes(), 10, "the end of all processes")


@pytest.fixture
def cli(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    c = Cli(home, build_dir())
    yield c
    c.close()


@pytest.fixture
def archive(cli):
    """An empty archive that every verb of `cli` uses."""
    cli("archive", "init", cli.archive)
    cli.env["LIFEBOAT_ARCHIVE"] = str(cli.archive)
    return cli.archive
