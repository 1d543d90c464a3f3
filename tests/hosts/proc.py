# SPDX-License-Identifier: Apache-2.0
"""proc: processes and directories that never outlive the tests.

Every child is started through util-linux' setpriv with a parent-death signal,
so that the kernel kills it when we die, even by SIGKILL.  That signal is sent
when the *thread* that forked ends, so one thread, which lives as long as the
process, does all the forking.

A work directory carries a locked file.  Whoever starts next removes the
directories whose lock is free: theirs died without tidying up.
"""
import atexit
import fcntl
import os
import queue
import shutil
import subprocess
import tempfile
import threading

PREFIX = "lifeboat-hosts-"

_requests = queue.Queue()
_thread = None
_thread_lock = threading.Lock()


def _serve():
    while True:
        args, kwargs, answer = _requests.get()
        try:
            answer.put((subprocess.Popen(args, **kwargs), None))
        except OSError as e:
            answer.put((None, e))


def start(args, **kwargs):
    """subprocess.Popen(args) whose process dies with us."""
    global _thread
    with _thread_lock:
        if _thread is None:
            _thread = threading.Thread(target=_serve, name="spawner", daemon=True)
            _thread.start()
    answer = queue.Queue()
    guarded = ["setpriv", "--pdeathsig", "KILL", "--"] + [os.fspath(a) for a in args]
    _requests.put((guarded, kwargs, answer))
    child, error = answer.get()
    if error:
        raise error
    return child


def kill(child):
    """Kill a Popen, at once and for certain, and reap it; None is fine."""
    if child is not None and child.poll() is None:
        child.kill()
    if child is not None:
        child.wait()


def _sweep(base):
    for name in os.listdir(base):
        path = os.path.join(base, name)
        if not name.startswith(PREFIX):
            continue
        try:
            fd = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(fd)


class WorkDir:
    """A temporary directory, removed by close(), at exit, or by the next one."""

    def __init__(self):
        # Not $TMPDIR: the path of a Unix socket may have 107 bytes only.
        _sweep("/tmp")
        self.path = tempfile.mkdtemp(prefix=PREFIX, dir="/tmp")
        # The name `lock` appears already locked: no sweep can come between.
        new = os.path.join(self.path, "lock.new")
        self._fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        os.rename(new, os.path.join(self.path, "lock"))
        atexit.register(self.close)

    def __truediv__(self, name):
        return os.path.join(self.path, name)

    def close(self):
        if self._fd >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._fd)
            self._fd = -1
            atexit.unregister(self.close)
