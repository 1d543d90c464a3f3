# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all scenarios."""
from cli_fixture import archive, cli  # noqa: F401
