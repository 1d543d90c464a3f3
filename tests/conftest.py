# SPDX-License-Identifier: Apache-2.0
"""All Python tests may use test hosts; being a package, `tests` is importable from
wherever pytest is started."""
from tests.hosts.fixtures import *  # noqa: F401,F403
