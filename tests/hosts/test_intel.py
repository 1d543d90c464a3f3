# SPDX-License-Identifier: Apache-2.0
"""The Intel test host: VMX and EPT are there, files go in, words come out."""
import pytest

from tests.hosts.intel import libraries

pytestmark = pytest.mark.intel


def test_libraries_of_a_program_are_found():
    assert any("libc.so" in path for path in libraries("/usr/bin/env"))
    assert any("/ld-linux" in path for path in libraries("/usr/bin/env"))
    assert libraries(__file__) == []


def test_kvm_intel_with_ept_runs_a_script_on_our_files(intel, tmp_path):
    """One boot for everything: it takes a minute."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "note").write_text("carried in\n")
    script = """
        cat /sys/module/kvm_intel/parameters/ept
        test -c /dev/kvm && echo kvm
        grep -o -m1 ' vmx ' /proc/cpuinfo
        cat /srv/note
        /usr/bin/env printf 'dynamic\\n'
        mount | grep -c '^root on / type tmpfs'
        seq 1 300
        echo to-stderr >&2
        exit 3
    """
    r = intel(["/usr/bin/env", (tmp_path / "data", "/srv")], script, timeout=400, check=False)
    lines = r.out.splitlines()
    assert lines[:6] == ["Y", "kvm", " vmx ", "carried in", "dynamic", "1"]
    assert lines[6:306] == [str(i) for i in range(1, 301)]
    assert lines[306:] == ["to-stderr"]
    assert r.code == 3
