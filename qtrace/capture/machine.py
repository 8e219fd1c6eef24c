"""Which machine this is. A module of its own, so that a recording begins without what a live look needs."""

from __future__ import annotations

import os

from qtrace.errors import UnsupportedMachineError
from qtrace.model.syscalls import Architecture


def architecture() -> Architecture:
    """Return this machine's architecture.

    Raises:
        UnsupportedMachineError: qtrace does not know it.
    """
    machine = os.uname().machine
    try:
        return Architecture(machine)
    except ValueError:
        raise UnsupportedMachineError(
            f"qtrace does not know the system calls of {machine}",
            "It runs on x86_64 and aarch64; a recording can be read on any machine.",
        ) from None
