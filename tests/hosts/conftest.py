# SPDX-License-Identifier: Apache-2.0
"""The self-tests of the harness use its own fixtures."""
from tests.hosts.fixtures import *  # noqa: F401,F403
