# SPDX-License-Identifier: Apache-2.0
"""Images that are sound as far as the archive can tell, and still not for this machine:
of other versions, other hosts, other shapes, or simply made by an enemy.  They are
refused before anything runs, with a code that says why, and nothing is left."""
import json
import re
import struct
import subprocess
import time

import pytest
from campaign import count, dice
from cli_fixture import build_dir, needs_kvm, wait_for

pytestmark = needs_kvm

INCOMPATIBLE, DAMAGED, HOST_CANNOT = 8, 5, 4


class Image:
    def __init__(self, cli, archive):
        self.cli, self.archive = cli, archive
        cli.run("hello", "m", "--cpus", "2", "--cmdline", "mode=idle")
        self.checkpoint = cli("checkpoint", "m", "--quiet").stdout.strip()
        cli("kill", "m")

    def forge(self, verb, stream, data=b""):
        r = subprocess.run([build_dir() / "tests/scenarios/forge", self.archive, self.checkpoint, verb,
                            stream], input=data, capture_output=True, env=self.cli.env, timeout=60)
        assert r.returncode == 0, r.stderr
        return r.stdout if verb == "dump" else r.stdout.decode().strip()

    def restore(self, checkpoint, code):
        """Refused with code, or with one of several; gives the sentence."""
        r = self.cli("restore", checkpoint, "--paused", "--detach", "--quiet", code=None)
        assert r.returncode in (code if isinstance(code, tuple) else (code,)), (r.returncode, r.stderr)
        if r.returncode == 0:  # whatever it is, it may run and crash, and no more
            self.cli("resume", "m", code=None)
            time.sleep(0.02)
            self.cli("kill", "m", code=None)
        wait_for(lambda: not self.cli.leftovers() and not self.cli.processes(), 20, "nothing to be left")
        log = self.cli.home / "state" / "m.log"
        assert not log.exists() or "sandbox" not in log.read_text(), log.read_text()
        assert not log.exists() or "Sanitizer" not in log.read_text(), log.read_text()
        return r.stderr


@pytest.fixture
def image(cli, archive):
    return Image(cli, archive)


def test_the_forger_forges_only_what_it_is_told(image):
    state = image.forge("dump", "state")
    image.restore(image.forge("replace", "state", state), 0)


def test_state_of_another_version(image):
    state = bytearray(image.forge("dump", "state"))
    struct.pack_into("<I", state, 8, struct.unpack_from("<I", state, 8)[0] + 1)
    said = image.restore(image.forge("replace", "state", state), INCOMPATIBLE)
    assert "machine state has format" in said and "reads only" in said


def test_a_section_of_another_version(image):
    state = bytearray(image.forge("dump", "state"))
    struct.pack_into("<I", state, 16 + 20, 999)  # the first section's version
    said = image.restore(image.forge("replace", "state", state), INCOMPATIBLE)
    assert "version" in said


def test_state_of_another_processor(image):
    """The vendor's name in CPUID leaf 0: EBX, EDX, ECX, stored as EBX, ECX, EDX."""
    state = image.forge("dump", "state")
    for ours, other in ((b"AuthcAMDenti", b"GenuntelineI"), (b"GenuntelineI", b"AuthcAMDenti")):
        if ours in state:
            break
    else:
        pytest.skip("neither AMD nor Intel here")
    said = image.restore(image.forge("replace", "state", state.replace(ours, other)), INCOMPATIBLE)
    assert re.search("AMD|Intel", said), said


@pytest.mark.parametrize("change", [{"vcpus": 1}, {"vcpus": 3}, {"memory_bytes": 16 << 20},
                                    {"cpu": "x86-64-v2"}])
def test_configuration_that_is_not_the_states(image, change):
    config = json.loads(image.forge("dump", "config"))
    said = image.restore(image.forge("replace", "config", json.dumps({**config, **change}).encode()),
                         (INCOMPATIBLE, DAMAGED, HOST_CANNOT))
    assert re.search("image|state|host", said), said


@pytest.mark.parametrize("config", [b"", b"{}", b"nonsense", b'{"name": "m", "vcpus": 1e9}',
                                    b'{"name": "../../m"}', b"[" * 30000])
def test_configuration_that_is_none(image, config):
    image.restore(image.forge("replace", "config", config), DAMAGED)


@pytest.mark.parametrize("stream", ["config", "state", "ram"])
def test_a_stream_is_missing(image, stream):
    assert stream in image.restore(image.forge("drop", stream), DAMAGED)


def test_memory_of_another_size(image):
    assert "memory" in image.restore(image.forge("replace", "ram", bytes(1 << 20)), DAMAGED)


def test_state_by_chance(image):
    """Bits and bytes changed at random, pieces cut out and doubled: the worker refuses it or
    takes it, and neither breaks its sandbox nor leaves anything."""
    rng = dice("forged state")
    good = image.forge("dump", "state")
    ends = {}
    for _ in range(count(10, 40, 600)):
        state = bytearray(good)
        kind = rng.randrange(4)
        if kind == 0:
            for _ in range(rng.choice([1, 1, 1, 8, 64])):
                state[rng.randrange(len(state))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            at = rng.randrange(len(state) - 8)
            struct.pack_into("<Q", state, at, rng.choice([0, 1, 0xFFFFFFFF, (1 << 64) - 1, 1 << 63]))
        elif kind == 2:
            del state[rng.randrange(len(state)):]
        else:
            at = rng.randrange(len(state))
            state[at:at] = state[at:at + rng.randrange(1, 4096)]
        print(kind, len(state))
        r = image.restore(image.forge("replace", "state", bytes(state)), (0, 1, DAMAGED, INCOMPATIBLE))
        ends[bool(r)] = ends.get(bool(r), 0) + 1
    assert len(ends) == 2, ends  # both happen, or the test shows nothing
