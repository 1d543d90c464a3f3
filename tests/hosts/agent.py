#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""agent: runs commands inside a test host for the harness outside.

One virtio-serial port carries frames in both directions:

    length of payload  4 bytes, big-endian
    command number     4 bytes, chosen by the harness
    type               1 byte
    payload

    to us    S start (JSON: argv, env, cwd, tty, rows, cols)   I bytes for stdin
             E end of stdin    K kill the session (JSON: signal)    W window size
    from us  H hello (JSON: kernel, seconds)    O stdout    R stderr
             X end (JSON: code, or signal, or error)

Each command is the leader of a session of its own, so that a kill reaches its
children too.  The end of a command is the end of its leader: what it left
running in the background keeps running, but is not listened to any more.
"""
import fcntl
import json
import os
import pty
import selectors
import signal
import struct
import subprocess
import sys
import termios
import time

HEAD = struct.Struct(">IIc")
PIECE = 65536


class Command:
    """One running command.  `stdin` bytes wait in `pending` until it reads them."""

    def __init__(self, number, spec):
        self.number = number
        self.pending = bytearray()
        self.eof = False
        env = dict(os.environ, **(spec.get("env") or {}))
        master = slave = None
        pipe = subprocess.PIPE
        if spec.get("tty"):
            master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ,
                        struct.pack("HHHH", spec["rows"], spec["cols"], 0, 0))

        def controlling_terminal():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        try:
            self.child = subprocess.Popen(
                spec["argv"], env=env, cwd=spec.get("cwd") or "/",
                start_new_session=True, bufsize=0,
                preexec_fn=controlling_terminal if slave is not None else None,
                stdin=pipe if slave is None else slave,
                stdout=pipe if slave is None else slave,
                stderr=pipe if slave is None else slave)
        except BaseException:
            if master is not None:
                os.close(master)
            raise
        finally:
            if slave is not None:
                os.close(slave)
        self.tty = master
        if master is not None:
            self.stdin = os.dup(master)
            self.outputs = {master: b"O"}
        else:
            self.stdin = os.dup(self.child.stdin.fileno())
            self.child.stdin.close()
            self.outputs = {os.dup(self.child.stdout.fileno()): b"O",
                            os.dup(self.child.stderr.fileno()): b"R"}
            self.child.stdout.close()
            self.child.stderr.close()
        for fd in (self.stdin, *self.outputs):
            os.set_blocking(fd, False)
        self.pidfd = os.pidfd_open(self.child.pid)


class Agent:
    def __init__(self, port):
        self.port = port
        self.commands = {}
        self.input = bytearray()
        self.select = selectors.DefaultSelector()
        self.select.register(port, selectors.EVENT_READ, self.on_port)

    def send(self, number, kind, payload=b""):
        data = memoryview(HEAD.pack(len(payload), number, kind) + payload)
        while data:
            data = data[os.write(self.port, data):]

    def send_json(self, number, kind, value):
        self.send(number, kind, json.dumps(value).encode())

    def on_port(self, _fd, _events):
        data = os.read(self.port, PIECE)
        if not data:
            # Nobody holds the other end now; do not spin while waiting.
            time.sleep(0.05)
            return
        self.input += data
        while len(self.input) >= HEAD.size:
            length, number, kind = HEAD.unpack_from(self.input)
            if len(self.input) < HEAD.size + length:
                break
            payload = bytes(self.input[HEAD.size:HEAD.size + length])
            del self.input[:HEAD.size + length]
            self.frame(number, kind, payload)

    def frame(self, number, kind, payload):
        if kind == b"S":
            self.start(number, json.loads(payload))
            return
        command = self.commands.get(number)
        if command is None:
            return      # it has ended; its X is on the way
        if kind == b"I":
            command.pending += payload
            self.feed(command)
        elif kind == b"E":
            command.eof = True
            self.feed(command)
        elif kind == b"K":
            self.kill(command, json.loads(payload)["signal"])
        elif kind == b"W" and command.tty is not None:
            size = json.loads(payload)
            fcntl.ioctl(command.tty, termios.TIOCSWINSZ,
                        struct.pack("HHHH", size["rows"], size["cols"], 0, 0))

    def start(self, number, spec):
        try:
            command = Command(number, spec)
        except (OSError, ValueError, subprocess.SubprocessError) as e:
            self.send_json(number, b"X", {"error": str(e)})
            return
        self.commands[number] = command
        self.select.register(command.pidfd, selectors.EVENT_READ,
                             lambda *_: self.ended(command))
        for fd in command.outputs:
            self.select.register(fd, selectors.EVENT_READ,
                                 lambda f, _e: self.output(command, f))

    @staticmethod
    def kill(command, number):
        try:
            os.killpg(command.child.pid, number)
        except ProcessLookupError:
            pass

    def feed(self, command):
        """Give the command what fits of its input; wait for room for the rest."""
        if command.stdin is None:
            return
        fd = command.stdin
        try:
            while command.pending:
                n = os.write(fd, command.pending[:PIECE])
                del command.pending[:n]
        except BlockingIOError:
            if fd not in self.select.get_map():
                self.select.register(fd, selectors.EVENT_WRITE,
                                     lambda *_: self.feed(command))
            return
        except OSError:
            command.pending.clear()
            command.eof = True
        if fd in self.select.get_map():
            self.select.unregister(fd)
        if command.eof:
            os.close(fd)
            command.stdin = None

    def output(self, command, fd):
        """Forward one piece.  True if there may be more."""
        try:
            data = os.read(fd, PIECE)
        except BlockingIOError:
            return False
        except OSError:         # EIO: the last holder of a terminal is gone
            data = b""
        if data:
            self.send(command.number, command.outputs[fd], data)
            return True
        self.select.unregister(fd)
        os.close(fd)
        del command.outputs[fd]
        return False

    def ended(self, command):
        code = command.child.wait()
        for fd in list(command.outputs):
            while self.output(command, fd):
                pass
        for fd in command.outputs:
            self.select.unregister(fd)
            os.close(fd)
        if command.stdin is not None:
            if command.stdin in self.select.get_map():
                self.select.unregister(command.stdin)
            os.close(command.stdin)
        self.select.unregister(command.pidfd)
        os.close(command.pidfd)
        del self.commands[command.number]
        end = {"signal": -code} if code < 0 else {"code": code}
        self.send_json(command.number, b"X", end)

    def serve(self):
        while not os.path.exists("/run/lifeboat-host/ready"):
            time.sleep(0.02)
        with open("/proc/uptime", encoding="ascii") as f:
            seconds = float(f.read().split()[0])
        self.send_json(0, b"H", {"kernel": os.uname().release, "seconds": seconds})
        while True:
            for key, events in self.select.select():
                # An earlier handler in this batch may have closed it.
                if self.select.get_map().get(key.fd) is key:
                    key.data(key.fd, events)


def find_port(name):
    base = "/sys/class/virtio-ports"
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for port in os.listdir(base) if os.path.isdir(base) else ():
            with open(f"{base}/{port}/name", encoding="ascii") as f:
                if f.read().strip() == name:
                    return "/dev/" + port
        time.sleep(0.02)
    sys.exit("agent: there is no virtio-serial port named " + name)


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    Agent(os.open(find_port("lifeboat.agent"), os.O_RDWR | os.O_CLOEXEC)).serve()


if __name__ == "__main__":
    main()
