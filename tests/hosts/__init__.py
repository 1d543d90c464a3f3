# SPDX-License-Identifier: Apache-2.0
"""The harness of test hosts: see README.md in this directory."""
from .channel import CommandFailed, CommandTimeout, HostDied, HostError, Result
from .host import SHARE, Cluster, Host
from .nbd import Disk, extract_ext4

__all__ = ["SHARE", "Cluster", "CommandFailed", "CommandTimeout", "Disk", "Host", "HostDied",
           "HostError", "Result", "extract_ext4"]
