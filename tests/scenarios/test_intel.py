# SPDX-License-Identifier: Apache-2.0
"""An Intel host: checkpoint and restore on VMX with EPT of a machine of the baseline
x86-64-v3, with AVX in use; and an AMD image refused."""
import re

import pytest
from hosted import BUILD, LIFEBOAT, WORKER, Remote

pytestmark = pytest.mark.intel

SCRIPT = """
export LIFEBOAT_HOME=/run/lb LIFEBOAT_WORKER={worker}
L={lifeboat}
echo "ept: $(cat /sys/module/kvm_intel/parameters/ept)"
echo "== reference"
$L run --kernel {chain} --memory 32M --cpu x86-64-v3 --cmdline 'steps={steps} mem=4 seed=3' </dev/null
echo "== first life"
$L archive init /root/a --no-encryption
$L run --kernel {chain} --memory 32M --cpu x86-64-v3 --cmdline 'steps={steps} mem=4 seed=3' --name c \\
	--console file:/root/first --detach
i=0
while ! grep -q 'step {middle}/' /root/first && [ $i -lt 600 ]; do i=$((i + 1)); sleep 0.1; done
$L checkpoint c --archive /root/a --quiet || echo "checkpoint failed $?"
$L kill c
echo "== second life"
$L restore c@1 --archive /root/a --console stdio --quiet </dev/null
echo "ended: $?"
echo "== foreign"
$L restore alien@1 --archive /srv/amd --quiet </dev/null
echo "ended: $?"
$L ps --json
"""


def section(text, name):
    found = re.search(rf"== {name}\r?\n(.*?)(?=\r?\n== |\Z)", text, re.S)
    assert found, text
    return found.group(1)


@pytest.fixture
def amd_archive(shared_host, tmp_path):
    """An archive with a checkpoint of a machine of an AMD host."""
    lifeboat = Remote(shared_host, home="/root/amd-home", archive="/root/amd",
                      encrypted=False)
    lifeboat("archive", "init", "/root/amd", "--no-encryption")
    lifeboat("run", "--kernel", BUILD / "tests/guests/hello.elf", "--cmdline", "mode=idle",
             "--memory", "16M", "--name", "alien", "--detach")
    lifeboat("checkpoint", "alien", "--quiet")
    lifeboat("kill", "alien")
    shared_host.get("/root/amd", tmp_path / "amd")
    return tmp_path / "amd"


def test_intel_host_restores_its_own_and_refuses_amd(intel, amd_archive):
    chain = BUILD / "tests/guests/chain.elf"
    script = SCRIPT.format(lifeboat=LIFEBOAT, worker=WORKER, chain=chain, steps=20, middle=8)
    files = [LIFEBOAT, WORKER, chain, (amd_archive, "/srv/amd")]
    result = intel(files, script, timeout=1200)
    out = result.out
    assert "ept: Y" in out
    value = re.search(r"chain: DONE value=([0-9a-f]{16})", section(out, "reference"))
    assert value, out
    assert "xcr0=7" in section(out, "reference")  # x87, SSE and AVX state
    second = section(out, "second life")
    assert "FAIL" not in second, second
    assert f"chain: DONE value={value.group(1)}" in second, second
    assert "ended: 0" in second
    foreign = section(out, "foreign")
    assert "ended: 8" in foreign, foreign
    assert re.search(r"lifeboat: .*AMD.*Intel|lifeboat: .*AuthenticAMD.*GenuineIntel", foreign), foreign
    assert '"alien"' not in foreign  # nothing is left behind
