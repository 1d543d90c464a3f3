# SPDX-License-Identifier: Apache-2.0
"""The comparer of kernel logs: finds what is new, and only that."""
from tests.hosts import klog

SPLAT = """<4>[    {t}.431115] ------------[ cut here ]------------
<4>[    {t}.443326] XSAVE consistency problem: size 832 != kernel_size 576
<4>[    {t}.447110] WARNING: CPU: {cpu} PID: 0 at arch/x86/kernel/fpu/xstate.c:606 fpu__init+0x85a/0xb19
<4>[    {t}.458079] Modules linked in:
<4>[    {t}.466133] Hardware name: {name}
<4>[    {t}.478092] Code: 7a 0a fe fd 89 c6 41 39 c5 74 26
<4>[    {t}.570083] ---[ end trace 0000000000000000 ]---
"""

REFERENCE = """SeaBIOS says hello
[    0.1] this line is before the log and WARNING is ignored there
KLOG-BEGIN\r
<6>[    0.000000] Linux version 6.1.0\r
<4>[    0.048000] tsc: Unable to calibrate against PIT\r
<3>[    1.000000] ata1: failed at 0xffff8da71f400000 after 12 ms\r
KLOG-END\r
"""


def keys(ours, reference=REFERENCE):
    return [c.text for c in klog.only_in(ours, reference)]


def test_the_same_complaints_at_other_times_and_addresses_are_nothing_new():
    ours = """KLOG-BEGIN
<4>[    7.123456] tsc: Unable to calibrate against PIT
<3>[    9.000000] ata3: failed at 0xffff9111deadbeef after 4711 ms
<6>[    9.100000] a harmless line that only we have
KLOG-END
"""
    assert keys(ours) == []


def test_short_hexadecimal_numbers_do_not_count_but_words_do():
    theirs = "<4>[    1.0] CPUID[0d, 09]: eax=00000007\n<4>[    1.0] bad cafe on eth0\n"
    assert keys("<4>[    2.0] CPUID[0d, 1c]: eax=000000f0\n", theirs) == []
    assert len(keys("<4>[    2.0] bad face on eth0\n", theirs)) == 1


def test_a_new_warning_or_error_is_found():
    ours = "KLOG-BEGIN\n<4>[    1.5] something odd happened\n<3>[    2.5] and worse\nKLOG-END\n"
    assert keys(ours) == ["<4>[    1.5] something odd happened", "<3>[    2.5] and worse"]


def test_bad_words_count_at_every_level_and_without_one():
    for line in ("<6>[   60.0] watchdog: BUG: soft lockup - CPU#1 stuck for 22s!",
                 "[   21.0] rcu: INFO: rcu_preempt self-detected stall on CPU",
                 "<5>[    3.0] irq 9: nobody cared",
                 "<6>[    3.0] clocksource: timekeeping watchdog: Marking clocksource 'tsc' unstable"):
        assert len(keys("KLOG-BEGIN\n" + line + "\nKLOG-END\n")) == 1, line


def test_facilities_do_not_hide_the_level():
    assert len(keys("KLOG-BEGIN\n<12>[    1.0] from user space, level 4\nKLOG-END\n")) == 1
    assert keys("KLOG-BEGIN\n<14>[    1.0] from user space, level 6\nKLOG-END\n") == []


def test_the_same_splat_on_another_machine_is_one_known_complaint():
    theirs = SPLAT.format(t=7, cpu=0, name="QEMU Standard PC")
    ours = SPLAT.format(t=31, cpu=1, name="Lifeboat")
    assert len(klog.complaints(ours)) == 1
    assert klog.only_in(ours, theirs) == []


def test_a_splat_elsewhere_is_new_and_an_unfinished_one_too():
    theirs = SPLAT.format(t=7, cpu=0, name="QEMU")
    ours = theirs.replace("xstate.c:606 fpu__init", "time.c:12 tick")
    assert len(klog.only_in(ours, theirs)) == 1
    cut = "\n".join(ours.splitlines()[:4])
    assert len(klog.only_in(cut, theirs)) == 1


def test_a_panic_without_markers_is_found():
    console = "[    1.0] Kernel panic - not syncing: Attempted to kill init!\n[    1.1] CPU: 0\n"
    assert len(klog.only_in(console, "")) == 1
