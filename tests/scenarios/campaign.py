# SPDX-License-Identifier: Apache-2.0
"""How much a long test does, and by which seed: LIFEBOAT_COUNTS=quick|default|full,
LIFEBOAT_SEED=number.  The seed is printed; pytest shows it when the test fails."""
import os
import random


def count(quick, default, full):
    return {"quick": quick, "default": default, "full": full}[
        os.environ.get("LIFEBOAT_COUNTS", "default")]


def dice(purpose):
    """A random.Random of its own for each purpose, from the one seed."""
    seed = os.environ.get("LIFEBOAT_SEED") or str(random.SystemRandom().randrange(1 << 32))
    print(f"LIFEBOAT_SEED={seed} ({purpose})")
    return random.Random(f"{seed}/{purpose}")
