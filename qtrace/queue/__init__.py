"""Our own `multiprocessing.Queue`, JoinableQueue and SimpleQueue: faithful, and without the traps.

Needs nothing but the standard library of CPython 3.8 or later on Linux.

    from qtrace.queue import Queue
    q = Queue()                 # as multiprocessing.Queue()
    q = Queue(robust=True)      # survives processes that die in the middle of put and get
"""

from queue import Empty, Full

from .context import get_context, install, installed, uninstall
from .errors import PipeSizeError, TruncatedMessage
from .queues import JoinableQueue, Queue, SimpleQueue
from .stats import FeederStats, QueueStats

__all__ = [
    "Empty",
    "FeederStats",
    "Full",
    "JoinableQueue",
    "PipeSizeError",
    "Queue",
    "QueueStats",
    "SimpleQueue",
    "TruncatedMessage",
    "get_context",
    "install",
    "installed",
    "uninstall",
]
