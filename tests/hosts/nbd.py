# SPDX-License-Identifier: Apache-2.0
"""nbd: a disk with a volatile write cache, served to QEMU over NBD.

A write is answered when it is in the cache, as on a real disk; it is durable
only after the next FLUSH, or at once with FUA.  A power cut loses what is not
durable: all of it, or, with a seed, each 512-byte sector of each write by
chance, so that writes are torn, dropped and reordered as the law allows.

Two sparse files: `current`, what a reader sees, and `durable`, what survives.
Between them a journal of the writes that are not durable yet, in their order.
A cache is not endless: beyond `cache_bytes` the oldest writes become durable.

Protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md,
fixed newstyle handshake, simple replies, one connection after the other.
"""
import collections
import ctypes
import os
import random
import socket
import struct
import subprocess
import threading

from . import proc

NBDMAGIC = 0x4E42444D41474943
IHAVEOPT = 0x49484156454F5054
REPLY_MAGIC = 0x3E889045565A9
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO = 1, 2, 3, 6, 7
REP_ACK, REP_SERVER, REP_INFO = 1, 2, 3
REP_ERR_UNSUP, REP_ERR_INVALID, REP_ERR_UNKNOWN = (1 << 31) + 1, (1 << 31) + 3, (1 << 31) + 6
HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES = 1, 4, 8, 32, 64
REQUEST_MAGIC, ANSWER_MAGIC = 0x25609513, 0x67446698
READ, WRITE, DISC, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
FLAG_FUA = 1
EINVAL, ENOSPC, EIO = 22, 28, 5
SECTOR = 512
PIECE = 1 << 20
MAX_REQUEST = 32 << 20
REQUEST = struct.Struct(">IHHQQI")

# One write in the journal; data None stands for `length` zero bytes.
Write = collections.namedtuple("Write", "offset length data durable")


class Cache:
    """The two files and the journal.  One thread at a time (Disk sees to it)."""

    def __init__(self, directory, size, cache_bytes):
        self.size = size
        self.cache_bytes = cache_bytes
        self._journal = collections.deque()
        self._held = 0
        self._current, self._durable = (
            os.open(os.path.join(directory, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            for name in ("current", "durable"))
        for fd in (self._current, self._durable):
            os.ftruncate(fd, size)

    @property
    def unsafe_bytes(self):
        """How much a power cut could lose now."""
        return self._held

    def read(self, offset, length):
        return _pread(self._current, offset, length)

    def write(self, offset, data, durable=False):
        self._do(Write(offset, len(data), data, durable))

    def zero(self, offset, length, durable=False):
        self._do(Write(offset, length, None, durable))

    def _do(self, write):
        _apply(self._current, write)
        if write.durable and not self._journal:
            _apply(self._durable, write)
            return
        # A durable write stays behind older ones in the journal, so that a
        # power cut cannot bring back what it replaced.
        self._journal.append(write)
        self._held += len(write.data or b"")
        while self._held > self.cache_bytes:
            self._destage(self._journal.popleft())

    def _destage(self, write):
        _apply(self._durable, write)
        self._held -= len(write.data or b"")

    def flush(self):
        while self._journal:
            self._destage(self._journal.popleft())

    def _survivors(self, seed):
        """The pieces of the journal that a power cut now would leave, in order."""
        chance = random.Random(seed)
        survive = 0.0 if seed is None else chance.choice((0.1, 0.5, 0.9))
        for write in self._journal:
            if write.durable:
                yield write
            elif survive:
                yield from (p for p in _sectors(write) if chance.random() < survive)

    def power_cut(self, seed=None):
        """Lose what was not durable.  Returns how many bytes were at risk."""
        risk = self._held
        for piece in self._survivors(seed):
            _apply(self._durable, piece)
        touched = [(w.offset, w.length) for w in self._journal]
        self._journal.clear()
        self._held = 0
        for offset, length in touched:
            for at in range(offset, offset + length, PIECE):
                n = min(PIECE, offset + length - at)
                _apply(self._current, Write(at, n, _pread(self._durable, at, n), False))
        return risk

    def crash_image(self, path, seed=None):
        """Write what a power cut now would leave to a file; nothing is lost."""
        subprocess.run(["cp", "--sparse=always", "--reflink=auto",
                        f"/proc/{os.getpid()}/fd/{self._durable}", path], check=True)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            for piece in self._survivors(seed):
                _apply(fd, piece)
        finally:
            os.close(fd)

    def close(self):
        os.close(self._current)
        os.close(self._durable)


def _pread(fd, offset, length):
    data = os.pread(fd, length, offset)
    if len(data) != length:
        raise OSError(EIO, "a short read of the disk's file")
    return data


def _apply(fd, write):
    if write.data is None:
        _punch(fd, write.offset, write.length)
        return
    done = 0
    while done < write.length:
        done += os.pwrite(fd, memoryview(write.data)[done:], write.offset + done)


_libc = ctypes.CDLL(None, use_errno=True)


def _punch(fd, offset, length):
    """Zero a range and give its blocks back (FALLOC_FL_PUNCH_HOLE | _KEEP_SIZE)."""
    if length and _libc.fallocate64(fd, 3, ctypes.c_int64(offset), ctypes.c_int64(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _sectors(write):
    """A write as pieces of one sector each (a sector is written whole or not at
    all); zeroes, which may be gigabytes, as one piece."""
    if write.data is None:
        yield write
        return
    at = 0
    while at < write.length:
        n = min(SECTOR - (write.offset + at) % SECTOR, write.length - at)
        yield Write(write.offset + at, n, write.data[at:at + n], False)
        at += n


class Disconnected(Exception):
    """The client went away, or does not speak NBD."""


class Session:
    """One client, from handshake to hang-up."""

    def __init__(self, sock, disk):
        self._sock = sock
        self._disk = disk
        self._no_zeroes = False

    def _recv(self, n):
        data = bytearray()
        while len(data) < n:
            piece = self._sock.recv(n - len(data))
            if not piece:
                raise Disconnected
            data += piece
        return bytes(data)

    def run(self):
        self._sock.sendall(struct.pack(">QQH", NBDMAGIC, IHAVEOPT, 3))
        flags, = struct.unpack(">I", self._recv(4))
        if flags & ~3:
            raise Disconnected
        self._no_zeroes = bool(flags & 2)
        while not self._option():
            pass
        while self._request():
            pass

    def _export(self):
        return struct.pack(">QH", self._disk.size, HAS_FLAGS | SEND_FLUSH | SEND_FUA |
                           SEND_TRIM | SEND_WRITE_ZEROES)

    def _reply(self, option, kind, data=b""):
        self._sock.sendall(struct.pack(">QIII", REPLY_MAGIC, option, kind, len(data)) + data)

    def _option(self):
        """Answer one option; True when the transmission phase begins."""
        magic, option, length = struct.unpack(">QII", self._recv(16))
        if magic != IHAVEOPT or length > 65536:
            raise Disconnected
        data = self._recv(length)
        name = self._disk.export.encode()
        if option == OPT_EXPORT_NAME:
            if data != name:
                raise Disconnected
            self._sock.sendall(self._export() + (b"" if self._no_zeroes else bytes(124)))
            return True
        if option == OPT_ABORT:
            self._reply(option, REP_ACK)
            raise Disconnected
        if option == OPT_LIST:
            self._reply(option, REP_SERVER, struct.pack(">I", len(name)) + name)
            self._reply(option, REP_ACK)
        elif option in (OPT_INFO, OPT_GO):
            n = struct.unpack(">I", data[:4])[0] if len(data) >= 6 else len(data)
            if len(data) < 6 + n:
                self._reply(option, REP_ERR_INVALID)
            elif data[4:4 + n] != name:
                self._reply(option, REP_ERR_UNKNOWN)
            else:
                self._reply(option, REP_INFO, struct.pack(">H", 0) + self._export())
                self._reply(option, REP_ACK)
                return option == OPT_GO
        else:
            self._reply(option, REP_ERR_UNSUP)
        return False

    def _request(self):
        magic, flags, kind, handle, offset, length = REQUEST.unpack(self._recv(REQUEST.size))
        if magic != REQUEST_MAGIC or kind == DISC:
            return False
        if kind == WRITE and length > MAX_REQUEST:
            raise Disconnected
        data = self._recv(length) if kind == WRITE else b""
        error, answer = self._perform(kind, offset, length, data, bool(flags & FLAG_FUA))
        self._sock.sendall(struct.pack(">IIQ", ANSWER_MAGIC, error, handle) + answer)
        return True

    def _perform(self, kind, offset, length, data, fua):
        inside = offset + length <= self._disk.size
        with self._disk.lock:
            cache = self._disk.cache
            try:
                if kind == FLUSH:
                    cache.flush()
                elif kind not in (READ, WRITE, TRIM, WRITE_ZEROES):
                    return EINVAL, b""
                elif not inside:
                    return (EINVAL if kind == READ else ENOSPC), b""
                elif kind == READ:
                    if length > MAX_REQUEST:
                        return EINVAL, b""
                    return 0, cache.read(offset, length)
                elif kind == WRITE:
                    cache.write(offset, data, fua)
                else:
                    cache.zero(offset, length, fua)
            except OSError as e:
                return e.errno or EIO, b""
        return 0, b""


class Disk:
    """A disk for test hosts, in the memory of no host: it survives their power
    cuts as a real one does.  filesystem: make one ("ext4") first.  Any thread."""

    def __init__(self, size_mib=512, *, filesystem=None, export="disk", cache_mib=64):
        self.size = size_mib << 20
        self.export = export
        self.lock = threading.Lock()
        self.work = proc.WorkDir()
        self.socket_path = self.work / "nbd"
        self._listener = self._thread = self._client = None
        self._stopping = False
        if filesystem:
            self._format(filesystem)
        self.cache = Cache(self.work.path, self.size, cache_mib << 20)

    def _format(self, filesystem):
        new = self.work / "durable"
        with open(new, "wb") as f:
            f.truncate(self.size)
        subprocess.run([f"mkfs.{filesystem}", "-q", "-F", new], check=True,
                       env=dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"))
        subprocess.run(["cp", "--sparse=always", new, self.work / "current"], check=True)

    def plug_in(self):
        """Begin to serve; harmless if it already does."""
        if self._listener:
            return
        self._stopping = False
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            os.unlink(self.socket_path)
        except FileNotFoundError:
            pass
        self._listener.bind(self.socket_path)
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._serve, name="nbd", daemon=True)
        self._thread.start()

    def _serve(self):
        while not self._stopping:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self.lock:
                self._client = client
            try:
                Session(client, self).run()
            except (Disconnected, OSError):
                pass
            finally:
                with self.lock:
                    self._client = None
                client.close()

    def unplug(self):
        """Stop serving, as a host that was switched off does; nothing is lost."""
        if not self._listener:
            return
        self._stopping = True
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        with self.lock:
            if self._client:
                self._client.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._listener = self._thread = None

    def power_cut(self, seed=None):
        """Lose what was not durable, or with a seed a part of it.  Returns how
        many bytes were at risk.  The host must be off."""
        self.unplug()
        with self.lock:
            return self.cache.power_cut(seed)

    def crash_image(self, path, seed=None):
        """A raw image of what a power cut at this instant would leave, while the
        host goes on.  Returns how many bytes were at risk.  Many cuts of one run."""
        with self.lock:
            self.cache.crash_image(path, seed)
            return self.cache.unsafe_bytes

    @property
    def unsafe_bytes(self):
        with self.lock:
            return self.cache.unsafe_bytes

    def copy_to(self, path):
        """A copy of what the disk holds now, as a raw image."""
        with self.lock:
            subprocess.run(["cp", "--sparse=always", self.work / "current", path], check=True)

    def close(self):
        self.unplug()
        self.cache.close()
        self.work.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def extract_ext4(image, directory):
    """The files of a raw ext4 image, without mounting it or being root.  Its journal
    is replayed first, as a mount does, which changes the image; a file system that
    needs more than that raises RuntimeError."""
    env = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    for command in (["e2fsck", "-E", "journal_only", "-p", str(image)],
                    ["e2fsck", "-f", "-n", str(image)],
                    ["debugfs", "-R", f'rdump / "{directory}"', str(image)]):
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
