# SPDX-License-Identifier: Apache-2.0
"""channel: our end of the wire to the agent inside a test host.

A thread reads frames (their format: agent.py) and hands them to the commands
they belong to.  When the wire breaks, every command that is still waiting
raises HostDied: a power cut is never mistaken for an exit code.
"""
import json
import shlex
import signal
import struct
import threading
import time
from dataclasses import dataclass

HEAD = struct.Struct(">IIc")
PIECE = 65536


class HostError(Exception):
    """The harness could not do what was asked."""


class HostDied(HostError):
    """The test host went away (power cut, panic, power-off) while in use."""


class CommandTimeout(HostError):
    """A command took too long and was killed; `.out` and `.err` are what it said."""

    def __init__(self, message, out=b"", err=b""):
        super().__init__(message)
        self.out, self.err = out, err


class CommandFailed(HostError):
    """A command ended with another exit code than 0; `.result` has it."""

    def __init__(self, result):
        super().__init__(
            f"`{result.command}` ended with {result.ending}\n"
            f"--- stdout\n{result.out[-4000:]}\n--- stderr\n{result.err[-4000:]}")
        self.result = result


@dataclass
class Result:
    """How a command ended.  `code` is as a shell has it: 128 + n for signal n."""
    command: str
    code: int
    out_bytes: bytes
    err_bytes: bytes
    seconds: float

    @property
    def out(self):
        return self.out_bytes.decode(errors="replace")

    @property
    def err(self):
        return self.err_bytes.decode(errors="replace")

    @property
    def ending(self):
        if self.code > 128 and self.code - 128 in signal.valid_signals():
            return f"signal {signal.Signals(self.code - 128).name}"
        return f"exit code {self.code}"


class Command:
    """A command running in the host.  Any thread may use it."""

    def __init__(self, channel, number, text):
        self.text = text
        self._channel = channel
        self._number = number
        self._cond = threading.Condition()
        self._data = {b"O": bytearray(), b"R": bytearray()}
        self._end = None            # ("code"|"signal"|"error"|"died", value)
        self._read = 0              # how far read_line() has come in stdout
        self._started = time.monotonic()
        self._ended = None
        self.on_output = None       # called with each piece of stdout, if set

    def _frame(self, kind, payload):
        with self._cond:
            if kind in self._data:
                self._data[kind] += payload
            elif kind == b"X":
                self._end = next(iter(json.loads(payload).items()))
                self._ended = time.monotonic()
            self._cond.notify_all()
        if kind == b"O" and self.on_output:
            self.on_output(payload)

    def _died(self, why):
        with self._cond:
            if self._end is None:
                self._end = ("died", why)
                self._ended = time.monotonic()
            self._cond.notify_all()

    @property
    def out(self):
        with self._cond:
            return bytes(self._data[b"O"]).decode(errors="replace")

    @property
    def err(self):
        with self._cond:
            return bytes(self._data[b"R"]).decode(errors="replace")

    @property
    def running(self):
        with self._cond:
            return self._end is None

    def send(self, data):
        """Bytes or text for its stdin."""
        if isinstance(data, str):
            data = data.encode()
        for i in range(0, len(data), PIECE):
            self._channel._send(self._number, b"I", data[i:i + PIECE])

    def send_eof(self):
        self._channel._send(self._number, b"E")

    def kill(self, number=signal.SIGKILL):
        """Signal its whole session."""
        self._channel._send_json(self._number, b"K", {"signal": int(number)})

    def resize(self, rows, cols):
        self._channel._send_json(self._number, b"W", {"rows": rows, "cols": cols})

    def read_line(self, timeout=240):
        """The next line of stdout, without its end; None after the last one."""
        end = time.monotonic() + timeout
        with self._cond:
            out = self._data[b"O"]
            while True:
                i = out.find(b"\n", self._read)
                if i >= 0 or (self._end and self._read < len(out)):
                    i = i if i >= 0 else len(out)
                    line = bytes(out[self._read:i])
                    self._read = i + 1
                    return line.decode(errors="replace").rstrip("\r")
                if self._end:
                    self._raise_if_died()
                    return None
                left = end - time.monotonic()
                if left <= 0 or not self._cond.wait(left):
                    raise CommandTimeout(
                        f"`{self.text}` said nothing more for {timeout} s; its last words: "
                        f"{bytes(out[-300:])!r}", bytes(out), bytes(self._data[b'R']))

    def wait_for(self, text, timeout=240):
        """The first line of stdout from here on that contains text."""
        end = time.monotonic() + timeout
        while True:
            line = self.read_line(max(0.0, end - time.monotonic()))
            if line is None:
                raise HostError(f"`{self.text}` ended without saying {text!r}: "
                                f"{self.out[-2000:]}{self.err[-2000:]}")
            if text in line:
                return line

    def _raise_if_died(self):
        if self._end[0] == "died":
            raise HostDied(f"`{self.text}`: {self._end[1]}")

    def wait(self, timeout=240, check=True):
        """Its Result.  Killed with CommandTimeout when it takes longer."""
        with self._cond:
            if not self._cond.wait_for(lambda: self._end, timeout):
                self.kill()
                self._cond.wait_for(lambda: self._end, 10)
                raise CommandTimeout(
                    f"`{self.text}` was killed after {timeout} s; its last words: "
                    f"{bytes(self._data[b'O'][-300:])!r} {bytes(self._data[b'R'][-300:])!r}",
                    bytes(self._data[b"O"]), bytes(self._data[b"R"]))
            self._raise_if_died()
            kind, value = self._end
            if kind == "error":
                raise HostError(f"cannot start `{self.text}` in the test host: {value}")
            result = Result(self.text, value + 128 if kind == "signal" else value,
                            bytes(self._data[b"O"]), bytes(self._data[b"R"]),
                            self._ended - self._started)
        if check and result.code != 0:
            raise CommandFailed(result)
        return result


class Channel:
    """The connection: `sock` (taken) is one end of a stream socket."""

    def __init__(self, sock):
        self._sock = sock
        self._lock = threading.Lock()
        self._commands = {}
        self._next = 1
        self._hello = None
        self._dead = None
        self._cond = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="agent", daemon=True)
        self._thread.start()

    def _recv(self, n):
        data = bytearray()
        while len(data) < n:
            piece = self._sock.recv(n - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def _serve(self):
        try:
            while True:
                length, number, kind = HEAD.unpack(self._recv(HEAD.size))
                payload = self._recv(length)
                if kind == b"H":
                    with self._cond:
                        self._hello = json.loads(payload)
                        self._cond.notify_all()
                    continue
                with self._lock:
                    command = self._commands.get(number)
                    if kind == b"X":
                        self._commands.pop(number, None)
                if command:
                    command._frame(kind, payload)
        except (EOFError, OSError):
            self._break("the test host is gone")

    def _break(self, why):
        with self._lock:
            self._dead = self._dead or why
            commands = list(self._commands.values())
            self._commands.clear()
        for command in commands:
            command._died(why)
        with self._cond:
            self._cond.notify_all()

    def hello(self, timeout):
        """What the agent says of itself once it runs; None if it never does."""
        with self._cond:
            self._cond.wait_for(lambda: self._hello or self._dead, timeout)
            return self._hello

    @property
    def dead(self):
        return self._dead is not None

    def _send(self, number, kind, payload=b""):
        with self._lock:
            if self._dead:
                raise HostDied(self._dead)
            try:
                self._sock.sendall(HEAD.pack(len(payload), number, kind) + payload)
            except OSError as e:
                raise HostDied(f"the test host is gone ({e.strerror})") from None

    def _send_json(self, number, kind, value):
        self._send(number, kind, json.dumps(value).encode())

    def start(self, argv, *, env=None, cwd=None, tty=False, rows=24, cols=80,
              on_output=None):
        """Start a command: a list, or a string for /bin/sh."""
        text = argv if isinstance(argv, str) else shlex.join(map(str, argv))
        argv = ["/bin/sh", "-c", argv] if isinstance(argv, str) else list(map(str, argv))
        with self._lock:
            if self._dead:
                raise HostDied(self._dead)
            number = self._next
            self._next += 1
            command = self._commands[number] = Command(self, number, text)
        command.on_output = on_output
        self._send_json(number, b"S", {"argv": argv, "env": env, "cwd": cwd, "tty": tty,
                                       "rows": rows, "cols": cols})
        return command

    def close(self):
        try:
            self._sock.shutdown(2)
        except OSError:
            pass
        self._thread.join(10)
        self._sock.close()
        self._break("the test host was switched off")
