# SPDX-License-Identifier: Apache-2.0
"""guests: the stock Debian guest under QEMU/KVM in a test host, for comparison.

What Lifeboat's machine must not do worse than: the same kernel and initrd, as
Debian's own QEMU runs it on the same host.
"""
from .channel import HostError

# Debian 12's QEMU, when it emulates a CPU, does not let KVM see a nested guest's
# XSETBV: a guest that uses XSAVE there is broken whoever runs it (see README.md).
NO_XSAVE = "-xsave,-avx,-avx2,-fma,-f16c,-xsaveopt,-xgetbv1,-xsaves"


def qemu_command(kernel, initrd, append="", *, cpus=2, memory_mib=512, cpu="host," + NO_XSAVE):
    """The command line that boots a guest on the host's KVM, console on stdio."""
    return ["qemu-system-x86_64", "-accel", "kvm", "-machine", "pc", "-cpu", cpu,
            "-smp", cpus, "-m", memory_mib, "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-serial", "stdio",
            "-kernel", kernel, "-initrd", initrd,
            "-append", f"console=ttyS0 panic=-1 {append}".strip()]


def reference_console(host, kernel, initrd, append="", *, timeout=300, **options):
    """All that the guest's console says from power-on to power-off, as text."""
    result = host.run(qemu_command(kernel, initrd, append, **options), timeout=timeout,
                      check=False)
    if result.code != 0:
        raise HostError(f"QEMU/KVM in the test host ended with {result.ending}: {result.err}")
    return result.out
