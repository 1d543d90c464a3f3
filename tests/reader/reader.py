#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A second implementation that reads archives, written from store/FORMAT.md alone.

  reader.py ARCHIVE [--key-file F | --passphrase-file F] list
  reader.py ARCHIVE [...] dump NAME@N STREAM        the stream, to standard output

Everything is checked: digests, seals, places.  `list` reads every page of every stream.
"""
import argparse
import hashlib
import hmac
import json
import struct
import sys
from pathlib import Path

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PAGE, VERSION = 4096, 0x80000001


class Bad(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Bad(what)


def sha(data):
    return hashlib.sha256(data).digest()


def hkdf(key, salt, label):
    return HKDF(SHA256(), 32, salt, label.encode()).derive(key)


def up(n):
    return -(-n // 512) * 512


def text(b):
    return b.rstrip(b"\0").decode()


def twin(path, size, magic):
    """The first sound one of two equal copies."""
    data = path.read_bytes()
    for copy in (data[:size], data[size:2 * size]):
        if copy[:8] == magic and sha(copy[:-32]) == copy[-32:]:
            need(struct.unpack_from("<I", copy, 8)[0] == VERSION, f"{path}: another version")
            return copy
    raise Bad(f"{path}: damaged")


class Seal:
    """One pack's or manifest's key; None: nothing is sealed."""

    def __init__(self, key):
        self.gcm, self.extra = (AESGCM(key), 16) if key else (None, 0)

    def open(self, item, data, aad=b""):
        if not self.gcm:
            return data
        try:
            return self.gcm.decrypt(struct.pack("<QI", item, 0), data, aad)
        except InvalidTag:
            raise Bad("a seal is broken") from None


def key_of_file(path):
    lines = [x for x in path.read_text().splitlines() if x and not x.startswith("#")]
    need(len(lines) == 1 and lines[0].startswith("lifeboat-key-1 "), f"{path}: no key file")
    _, key, check = lines[0].split()
    key = bytes.fromhex(key)
    need(sha(key)[:8].hex() == check, f"{path}: changed")
    return key


class Archive:
    def __init__(self, root, key_file=None, passphrase_file=None):
        self.root = Path(root)
        c = twin(self.root / "archive", 512, b"LIFEBOAT")
        need(c[12:16] == struct.pack("<I", PAGE), "another page size")
        self.id, domain_id, self.encrypted = c[16:32], c[32:48], c[56:60] != bytes(4)
        self.epochs, self.page_key, self.packs = {}, None, {}
        if self.encrypted:
            master = self.unlock(key_file, passphrase_file)
            seal = hmac.digest(hkdf(master, self.id, "lifeboat configuration"), c[:76], "sha256")
            need(seal == c[76:108], "the configuration was changed")
            domain = self.slot(self.root / "keys/domain", master)
            self.page_key = hkdf(domain, domain_id, "lifeboat page")
            for path in (self.root / "keys").glob("epoch-*"):
                self.epochs[int(path.name[6:])] = self.slot(path, master)

    def slot(self, path, by):
        s = twin(path, 4096, b"LBKEYSLT")
        need(s[16:32] == self.id, f"{path}: of another archive")
        wrapping = by(s) if callable(by) else by
        return wrapping and AESGCM(wrapping).decrypt(s[128:140], s[140:188], s[:128])

    def unlock(self, key_file, passphrase_file):
        def by(s):
            kind, salt = s[12], s[56:88]
            if kind == 2 and key_file:
                return hkdf(key_of_file(Path(key_file)), salt, "lifeboat key file")
            if kind == 1 and passphrase_file:
                return hashlib.scrypt(Path(passphrase_file).read_bytes().split(b"\n")[0], salt=salt,
                                      n=1 << s[88], r=s[89], p=s[90], maxmem=1 << 30, dklen=32)
            return None

        for path in sorted((self.root / "keys").glob("unlock-*")):
            try:
                master = self.slot(path, by)
            except InvalidTag:
                continue
            if master:
                return master
        raise Bad("no key opens the archive")

    def seal(self, epoch, ident, label):
        need((epoch != 0) == self.encrypted, "sealed and not sealed do not go together")
        return Seal(epoch and hkdf(self.epochs[epoch], self.id + ident, label))

    def page_digest(self, page):
        return hmac.digest(self.page_key, page, "sha256") if self.page_key else sha(page)

    def pack(self, ref):
        if ref not in self.packs:
            path = self.root / "packs" / f"{ref[:16].hex()}.pack"
            moved = self.root / "forwards" / ref[:16].hex()
            self.packs[ref] = Pack(self, path, ref) if path.exists() else Forward(self, moved, ref)
        return self.packs[ref]


class Directory:
    def __init__(self, archive, ref, copies):
        self.a, self.cache = archive, {}
        digest, self.d, self.size, self.slots, epoch = struct.unpack("<32sQIII", ref[16:])
        self.seal = archive.seal(epoch, ref[:16], "lifeboat pack")
        data = next((c for c in copies(self.d, self.size) if sha(c) == digest), None)
        need(data, "both directories are damaged")
        data = self.seal.open(1 << 32, data)
        magic, version, groups, slots, level, ident = struct.unpack_from("<8sIIIi16s", data)
        need((magic, version, slots, ident) == (b"LBPACKDR", VERSION, self.slots, ref[:16])
             and -7 <= level <= 19 and level != 0,
             "the directory contradicts its reference")
        self.groups, at, first = [], 512, 0
        for i in range(groups):
            size, pages, codec = struct.unpack_from("<IBB", data, 40 + 16 * i)
            self.groups.append((first, pages, codec, at, size))
            at, first = at + size, first + pages
        need(first == slots and up(at) == self.d, "groups and slots disagree")
        need(len(data) == 40 + 16 * groups + 32 * slots, "a directory of another length")
        table = 40 + 16 * groups
        self.digest = [data[table + 32 * i:table + 32 * i + 32] for i in range(slots)]
        self.of = [g for g in self.groups for _ in range(g[1])]

    def checked(self, slot, page):
        need(self.a.page_digest(page) == self.digest[slot], f"slot {slot}: a wrong page")
        return page


class Pack(Directory):
    def __init__(self, archive, path, ref):
        self.file = path.open("rb")

        def copies(at, size):
            return self.read(at, size), self.read(up(at + size), size)
        super().__init__(archive, ref, copies)
        for at in (0, 1):
            trailer = self.read(up(up(self.d + self.size) + self.size) + 512 * at, 512)
            need(sha(trailer[:480]) == trailer[480:] and trailer[12:80] == ref, f"{path}: trailer")

    def read(self, at, size):
        self.file.seek(at)
        return self.file.read(size)

    def page(self, slot):
        first, pages, codec, at, size = self.of[slot]
        if first not in self.cache:
            data = self.seal.open(first, self.read(at, size))
            if codec == 1:
                data = zstandard.ZstdDecompressor().decompress(data, max_output_size=pages * PAGE)
            need(len(data) == pages * PAGE, "a group of another length")
            self.cache = {first: data}
        at = (slot - first) * PAGE
        return self.checked(slot, self.cache[first][at:at + PAGE])


class Forward(Directory):
    """Where the pages of a pack are that was rewritten."""

    def __init__(self, archive, path, ref):
        data = path.read_bytes()
        half = data[:len(data) // 2]
        if sha(half[:480]) != half[480:512] or sha(half[512:]) != half[100:132]:
            half = data[len(data) // 2:]
        need(sha(half[512:]) == half[100:132] and half[12:80] == ref, f"{path}: damaged")
        targets, n, size, first, end = struct.unpack_from("<IIIII", half, 80)
        super().__init__(archive, ref, lambda at, length: (half[1024:1024 + length],))
        at = 1024 + self.size
        self.targets = [half[at + 68 * i:at + 68 * i + 68] for i in range(targets)]
        self.runs = runs(half[at + 68 * targets:at + 68 * targets + size], first, end, n)

    def page(self, slot):
        for page, count, repeat, pack, to in self.runs:
            if page <= slot < page + count:
                target = self.a.pack(self.targets[pack])
                return self.checked(slot, target.page(to + (0 if repeat else slot - page)))
        raise Bad(f"slot {slot} is nowhere")


def runs(data, first, end, n):
    at, page, pack, slot, out = 0, first, 0, 0, []

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    def zigzag():
        z = varint()
        return z >> 1 if z % 2 == 0 else -(z >> 1) - 1
    for _ in range(n):
        page += varint()
        count, repeat = divmod(varint(), 2)
        pack, slot = pack + zigzag(), slot + zigzag()
        out.append((page, count, repeat, pack, slot))
        page, slot = page + count, slot + (1 if repeat else count)
    need(at == len(data) and page == end, "a block of runs has the wrong length")
    return out


class Checkpoint:
    def __init__(self, archive, name):
        self.a, self.file = archive, (archive.root / "manifests" / name).open("rb")
        size = struct.unpack_from("<I", self.file.read(16), 12)[0]
        self.file.seek(0)
        root = self.file.read(size)
        self.clear, self.digest = root[:128], root[-32:]
        need(sha(root[:-32]) == self.digest, f"{name}: damaged root")
        magic, version, _, ident, vm, number, epoch = struct.unpack_from("<8sII16s64sQI", root)
        need((magic, version, ident, f"{text(vm)}@{number}") == (b"LBMANIFE", VERSION, archive.id, name),
             f"{name}: holds another checkpoint")
        self.seal = archive.seal(epoch, root[112:128], "lifeboat manifest")
        body = self.seal.open(0, root[128:-32], self.clear)
        n_streams, n_packs, n_blocks, label = struct.unpack_from("<IIII", body, 24)
        self.label, at = body[248:248 + label].decode(), 248 + label
        self.streams, block, offset = {}, 0, size
        streams = [struct.unpack_from("<64sQQI", body, at + 84 * i) for i in range(n_streams)]
        at += 84 * n_streams
        self.packs = [body[at + 68 * i:at + 68 * i + 68] for i in range(n_packs)]
        at += 68 * n_packs
        need(at + 56 * n_blocks == len(body), f"{name}: counts and length disagree")
        for stream, length, _, count in streams:
            self.streams[text(stream)] = (length, [])
            for i in range(block, block + count):
                b = struct.unpack_from("<QQII32s", body, at + 56 * i)
                self.streams[text(stream)][1].append((i, offset, *b))
                offset += b[2]
            block += count

    def pages(self, stream):
        """(number, bytes) of every page that is not zero."""
        for i, offset, first, end, size, n, digest in self.streams[stream][1]:
            self.file.seek(offset)
            data = self.file.read(size)
            need(sha(data) == digest, "a damaged block of runs")
            for page, count, repeat, pack, slot in runs(self.seal.open(i + 1, data, self.clear), first,
                                                        end, n):
                for k in range(count):
                    yield page + k, self.a.pack(self.packs[pack]).page(slot + (0 if repeat else k))

    def extents(self, stream):
        """All bytes of the stream, in pieces of at most 1 MiB."""
        length, at = self.streams[stream][0], 0
        for number, page in self.pages(stream):
            while at < number * PAGE:
                gap = min(number * PAGE - at, 1 << 20)
                yield bytes(gap)
                at += gap
            part = page[:length - at]
            yield part
            at += len(part)
        while at < length:
            gap = min(length - at, 1 << 20)
            yield bytes(gap)
            at += gap


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("archive")
    p.add_argument("--key-file")
    p.add_argument("--passphrase-file")
    p.add_argument("what", choices=("list", "dump"))
    p.add_argument("checkpoint", nargs="?")
    p.add_argument("stream", nargs="?")
    o = p.parse_args()
    try:
        archive = Archive(o.archive, o.key_file, o.passphrase_file)
        if o.what == "dump":
            for part in Checkpoint(archive, o.checkpoint).extents(o.stream):
                sys.stdout.buffer.write(part)
            return
        found = []
        for path in sorted((archive.root / "manifests").glob("*@*")):
            c = Checkpoint(archive, path.name)
            streams = {s: hashlib.sha256(b"".join(c.extents(s))).hexdigest() for s in c.streams}
            found.append({"checkpoint": path.name, "digest": c.digest.hex(), "label": c.label,
                          "streams": streams})
        print(json.dumps(found, indent=1))
    except Bad as e:
        sys.exit(f"reader: {e}")


if __name__ == "__main__":
    main()
