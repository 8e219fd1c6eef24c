"""What the feeder thread does between the deque and the pipe: pickle, and gather.

The feeder takes what is in the deque at that moment, pickles it, and hands it over
as one batch, so that many small messages cost one lock, one write and one release
of the interpreter lock. It never waits for more: a lone item leaves at once.
"""

from __future__ import annotations

import collections
import io
import pickle
import time
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

from .wire import MAX_JOINED_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from .wire import Buffer

__all__ = ["SENTINEL", "Batch", "FeederClock", "Pickling", "gather"]

# Put into the deque by close(); tells the feeder to end. Compared by identity.
SENTINEL = object()

MAX_BATCH_MESSAGES = 256
# An item that is slow to pickle must not hold back those before it for longer.
MAX_GATHER_NS = 1_000_000

# Their pickle does not depend on registered reducers: no ForkingPickler is needed.
_PLAIN_TYPES = frozenset({bytes, str, int, float, bool, type(None)})


class Pickling:
    """Pickles by multiprocessing's rules, with one ForkingPickler for many items.

    `ForkingPickler.dumps` builds a pickler and its chained dispatch table each time,
    which costs more than to pickle a small item. Not for use by two threads.
    """

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self._pickler: reduction.ForkingPickler | None = None

    def dumps(self, obj: object) -> Buffer:
        """Return the same bytes as `ForkingPickler.dumps(obj)`."""
        if type(obj) in _PLAIN_TYPES:
            return pickle.dumps(obj)
        pickler = self._pickler
        # Taken out while in use: an error, or a reducer that pickles through us, must not meet it half used.
        self._pickler = None
        if pickler is None:
            self._file = io.BytesIO()
            pickler = reduction.ForkingPickler(self._file)
        output = self._file
        pickler.dump(obj)
        payload = output.getvalue()
        output.seek(0)
        output.truncate()
        # Also drops the references to what was pickled.
        pickler.clear_memo()
        self._file = output
        self._pickler = pickler
        return payload


class FeederClock:
    """What the feeder is doing and since when, for `stats()`."""

    NOT_STARTED, IDLE, PICKLING, SENDING, ENDED = range(5)
    NAMES = ("not started", "waiting for items", "pickling", "sending", "ended")

    def __init__(self) -> None:
        self.state = self.NOT_STARTED
        self.since_ns = time.monotonic_ns()
        # Items taken from the deque and not yet in the pipe.
        self.pending = 0

    def enter(self, state: int) -> None:
        """Note that the feeder is in `state` from now on."""
        self.state = state
        self.since_ns = time.monotonic_ns()


class Batch:
    """What one round took from the deque.

    Attributes:
        payloads: pickled items, in order.
        ended: the sentinel was met: this is the last batch.
        error: what pickling the item after the payloads raised, and that item.
    """

    __slots__ = ("ended", "error", "payloads")

    def __init__(self) -> None:
        self.payloads: list[Buffer] = []
        self.ended = False
        self.error: tuple[Exception, object] | None = None


def gather(buffer: collections.deque[Any], dumps: Callable[[object], Buffer], clock: FeederClock) -> Batch:
    """Take items from `buffer` and pickle them until it is empty or the batch is large enough."""
    batch = Batch()
    payloads = batch.payloads
    room_bytes = MAX_JOINED_BYTES
    take = buffer.popleft
    started_ns = 0
    while room_bytes > 0 and len(payloads) < MAX_BATCH_MESSAGES:
        # Counted before it leaves the deque, so that no look at both misses it.
        clock.pending += 1
        try:
            obj = take()
        except IndexError:
            clock.pending -= 1
            return batch
        if obj is SENTINEL:
            clock.pending -= 1
            batch.ended = True
            return batch
        try:
            payload = dumps(obj)
        except Exception as error:  # noqa: BLE001 - goes to the queue's error hook
            batch.error = (error, obj)
            return batch
        payloads.append(payload)
        room_bytes -= len(payload) + 4
        if type(obj) not in _PLAIN_TYPES:
            now_ns = time.monotonic_ns()
            started_ns = started_ns or now_ns
            if now_ns - started_ns > MAX_GATHER_NS:
                return batch
    return batch
