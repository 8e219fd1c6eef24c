"""Memory of a process that works on large tables and ends.

glibc asks the kernel for each array above 32 MB anew, and gives it back when it is freed: of ten million calls
every intermediate column is such an array, and the kernel clears all of them first. And NumPy asks for huge pages
for arrays above 4 MB. A virtual machine is slow to give these: clearing took two to three times as long as with
ordinary pages, more than huge pages save afterwards. Both together were a third of the time for tables and verdict.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3)
_NEVER = (1 << 31) - 1


def for_large_tables() -> None:
    """Have memory that is freed kept for what comes next, in ordinary pages; to be called before NumPy is loaded.

    Nothing where the C library or NumPy has no such setting, or the user has set it.
    """
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _NEVER)
