"""Waiting a moment for a lock that is in use, before sleeping until it is released.

The locks of a busy queue are held for a microsecond or two at a time. Whoever goes to sleep
on one is woken by its next release, most often only to find it taken again: a system call
for the one, two switches for the other, with every single message. So look again a few
times, then rest for a moment outside; only then wait in earnest. Whoever holds the lock
while the queue is empty or full keeps it for longer than that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["await_release"]

LOOKS = 20
# The shortest sleep there is: the kernel adds its timer slack of 50 us.
REST_S = 0.00002


def await_release(is_taken: Callable[[], bool], deadline: float | None = None) -> None:
    """Return when the lock seems to be free, or after a moment.

    Args:
        is_taken: looks at the lock.
        deadline: time.monotonic() at which to return in any case, if that is sooner.
    """
    for _ in range(LOOKS):
        if not is_taken():
            return
    if deadline is None or deadline - time.monotonic() > 10 * REST_S:
        time.sleep(REST_S)
