"""Memory of a process that works on large tables and ends.

glibc asks the kernel for each array above 32 MB anew, and gives it back when it is freed: of ten million calls
every intermediate column is such an array, and the kernel clears all of them first. That was a third of the
time for tables and verdict; for a million calls, whose columns are smaller, it was next to nothing.
"""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3)
_NEVER = (1 << 31) - 1


def keep_freed() -> None:
    """Have memory that is freed kept for what comes next; nothing where the C library has no such setting."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _NEVER)
