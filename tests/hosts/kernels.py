# SPDX-License-Identifier: Apache-2.0
"""kernels: Debian's stock kernels as tools/setup unpacks them, and initrds.

$LIFEBOAT_CACHE/kernels/{cloud,standard} are trees with boot/ and lib/modules/.
"""
import lzma
import os
import stat
import struct
import subprocess
from pathlib import Path


class Kernel:
    """One unpacked stock kernel: `version`, `image`, `modules` (a directory)."""

    def __init__(self, name):
        self.name = name
        self.root = cache() / "kernels" / name
        try:
            self.version = (self.root / "version").read_text().strip()
        except OSError:
            raise RuntimeError(
                f"no Debian kernel '{name}' in {self.root}: run tools/setup"
            ) from None
        self.image = self.root / "boot" / f"vmlinuz-{self.version}"
        self.modules = self.root / "lib" / "modules" / self.version

    def elf(self):
        """The kernel as an ELF file with a PVH entry, which QEMU boots at once: to
        let an emulated CPU unpack the bzImage takes longer than all the rest of the
        boot.  Unpacked once, and kept.  The bzImage if its packing is not known."""
        kept = cache() / "kernels" / f"vmlinux-{self.version}"
        if kept.exists():
            return kept
        data = _payload(self.image.read_bytes())
        if data is None:
            return self.image
        new = kept.with_name(f"{kept.name}.{os.getpid()}")
        try:
            new.write_bytes(data)
            new.rename(kept)
        except OSError:     # a cache that is not ours to write
            return self.image
        return kept

    def module_files(self, names):
        """Files of these modules and all they need, in the order of loading.
        A name that is built into this kernel is skipped."""
        deps, builtin = {}, set()
        for line in (self.modules / "modules.dep").read_text().splitlines():
            path, _, needs = line.partition(":")
            deps[_module_name(path)] = (path, needs.split())
        for line in (self.modules / "modules.builtin").read_text().splitlines():
            builtin.add(_module_name(line))
        order = []
        for name in names:
            name = name.replace("-", "_")
            if name in builtin:
                continue
            if name not in deps:
                raise RuntimeError(f"kernel {self.version} has no module '{name}'")
            path, needs = deps[name]
            # modules.dep lists the needs of a module nearest first.
            for p in needs[::-1] + [path]:
                if p not in order:
                    order.append(p)
        return [self.modules / p for p in order]


def cache():
    """The directory that tools/setup fills."""
    env = os.environ
    if env.get("LIFEBOAT_CACHE"):
        return Path(env["LIFEBOAT_CACHE"])
    xdg = env.get("XDG_CACHE_HOME") or os.path.join(env.get("HOME", "/root"), ".cache")
    return Path(xdg) / "lifeboat"


def _payload(image):
    """The ELF file inside a bzImage, or None.  Offsets: Documentation/arch/x86/boot.rst."""
    if image[0x202:0x206] != b"HdrS":
        return None
    setup = (image[0x1F1] or 4) + 1
    offset, length = struct.unpack_from("<II", image, 0x248)
    packed = image[setup * 512 + offset:setup * 512 + offset + length]
    if packed.startswith(b"\xfd7zXZ\0"):
        data = lzma.LZMADecompressor().decompress(packed)
    elif packed.startswith(b"\x28\xb5\x2f\xfd"):
        data = subprocess.run(["zstd", "-dcq"], input=packed[:-4],
                              capture_output=True).stdout
    else:
        return None
    return data if data.startswith(b"\x7fELF") else None


def _module_name(path):
    return os.path.basename(path).split(".ko")[0].replace("-", "_")


def module_bytes(path):
    """The module itself: newer Debian kernels ship them compressed."""
    data = Path(path).read_bytes()
    if path.name.endswith(".xz"):
        return lzma.decompress(data)
    if path.name.endswith(".zst"):
        return subprocess.run(["zstd", "-dcq"], input=data, check=True,
                              capture_output=True).stdout
    return data


class Cpio:
    """A newc archive for use as initramfs; parent directories come by themselves.
    Format: Documentation/driver-api/early-userspace/buffer-format.rst in Linux."""

    def __init__(self):
        self._out = bytearray()
        self._seen = set()
        self._ino = 0

    def _entry(self, name, mode, data=b"", rdev=(0, 0)):
        self._ino += 1
        self._seen.add(name)
        raw = name.encode() + b"\0"
        fields = (self._ino, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(raw), 0)
        self._out += b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        self._out += b"\0" * (-len(self._out) % 4)
        self._out += data
        self._out += b"\0" * (-len(self._out) % 4)

    def dir(self, name):
        name = name.strip("/")
        if name and name not in self._seen:
            self.dir(os.path.dirname(name))
            self._entry(name, stat.S_IFDIR | 0o755)

    def has(self, name):
        return name.strip("/") in self._seen

    def file(self, name, data, mode=0o644):
        name = name.strip("/")
        self.dir(os.path.dirname(name))
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name, target):
        name = name.strip("/")
        self.dir(os.path.dirname(name))
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def node(self, name, major, minor, mode=0o600):
        name = name.strip("/")
        self.dir(os.path.dirname(name))
        self._entry(name, stat.S_IFCHR | mode, rdev=(major, minor))

    def bytes(self):
        done = Cpio()
        done._out = bytearray(self._out)
        done._entry("TRAILER!!!", 0)
        return bytes(done._out)
