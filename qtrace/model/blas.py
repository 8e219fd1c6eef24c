"""NumPy without the threads of its linear algebra, which nothing here uses."""

from __future__ import annotations

import os


def keep_to_one_thread() -> None:
    """Have OpenBLAS start no threads of its own when NumPy is loaded, unless the user has said how many.

    Started, they wait for work by running, a while each: 50 to 70 ms of CPU time on two CPUs, as much as loading
    NumPy takes, and taken from the very program that is looked at. It is a variable of the environment: not to be
    set before a program of the user's is started, which would inherit it.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
