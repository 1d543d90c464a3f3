# SPDX-License-Identifier: Apache-2.0
"""tsc: how fast this machine's time-stamp counter counts.

QEMU's translator hands it through to a test host as it is.  The host's kernel would find
out its rate by counting ticks of an emulated timer; on a busy machine that goes wrong,
by up to a factor of sixteen (seen: 135 MHz for 2250), and then all clocks and timeouts of
the host, and of its guests, run that much faster than ours."""
import ctypes
import mmap
import platform
import time

# rdtsc; shl rdx, 32; or rax, rdx; ret
_CODE = bytes.fromhex("0f31 48c1e220 4809d0 c3")


def _reader():
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(_CODE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)
    read.page = page  # as long as the function
    return read


def _moment(read):
    """(nanoseconds, counter) at the same instant: of many tries the one that took least."""
    best = None
    for _ in range(50):
        before, counter, after = time.monotonic_ns(), read(), time.monotonic_ns()
        if best is None or after - before < best[0]:
            best = after - before, (before + after) // 2, counter
    return best[1:]


def khz():
    """Its rate, or None where there is no such counter."""
    if platform.machine() != "x86_64":
        return None
    read = _reader()
    start_ns, start = _moment(read)
    time.sleep(0.05)
    end_ns, end = _moment(read)
    return round((end - start) * 1e6 / (end_ns - start_ns))
