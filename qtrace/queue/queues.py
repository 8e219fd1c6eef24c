"""Queue, JoinableQueue and SimpleQueue: drop-ins for `multiprocessing.queues`.

How an item travels (the standard queue's mechanism, kept):

    put: slot semaphore -> deque -> [condition] -> feeder thread: pickle -> write lock -> pipe
    get: read lock -> pipe -> slot semaphore released -> unpickle, outside the lock

- The feeder is a daemon thread named QueueFeederThread, started by the first put.
- At exit, finalizers run by priority: 10 puts a sentinel into the deque, -5 joins the
  feeder. `cancel_join_thread` takes the second away: what the feeder has not written
  by then is lost, and a message it is in the middle of is torn.
- After a fork the child starts with an empty deque and without a feeder.

With `robust=True` pipe, locks and slots are kept by `robust.RobustPipe`, which
survives the death of any process at any instruction.
"""

from __future__ import annotations

import collections
import errno
import multiprocessing
import os
import sys
import threading
import time
import traceback
import types
import weakref
from multiprocessing import connection, context, reduction
from multiprocessing.util import Finalize, debug, info, is_exiting, register_after_fork
from queue import Empty, Full
from typing import TYPE_CHECKING, Any

from .contention import await_release
from .draining import drain, join_processes
from .feeder import MAX_LARGE_MESSAGES, SENTINEL, FeederClock, Pickling, gather
from .pipes import set_pipe_bytes
from .stats import QueueStats, stats_of
from .wire import MAX_JOINED_BYTES, MessageReader, MessageWriter, body_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from multiprocessing.process import BaseProcess

    from .robust import RobustPipe
    from .wire import Buffer, Payload

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

_ForkingPickler = reduction.ForkingPickler
_loads = _ForkingPickler.loads

# Queue[int] in annotations, from 3.9 on.
_subscript: Any = classmethod(types.GenericAlias) if hasattr(types, "GenericAlias") else None

# In a batch; a robust queue's locks cost more, and four writers then are a tenth faster with three.
_LARGE_MESSAGES = 1
_LARGE_MESSAGES_ROBUST = MAX_LARGE_MESSAGES

# Up to 3.8 close() closed the read end at once; later versions leave it to the feeder.
_CLOSE_ENDS_READER = sys.version_info < (3, 9)


def _robust_pipe(reader: Any, writer: Any, maxsize: int, ctx: Any) -> RobustPipe:
    # Imported on demand: it needs ctypes, which the default queue does not.
    from .robust import RobustPipe

    return RobustPipe.create(reader, writer, maxsize, ctx)


class Queue:
    """A first-in first-out queue between processes, as `multiprocessing.Queue`.

    Args:
        maxsize: how many items may be put and not yet got; 0 or less for no limit.
        ctx: multiprocessing context of the locks; the default context if left out.
        robust: survive the death of processes (see docs/queue.md for what that costs).
        pipe_bytes: size of the pipe; the kernel rounds it up. The default stays the kernel's.
    """

    def __init__(
        self, maxsize: int = 0, *, ctx: Any = None, robust: bool = False, pipe_bytes: int | None = None
    ) -> None:
        if ctx is None:
            ctx = multiprocessing.get_context()
        if maxsize <= 0:
            # Raises ImportError on a platform without working semaphores, as the standard queue does.
            from multiprocessing import synchronize

            maxsize = int(synchronize.SEM_VALUE_MAX)  # type: ignore[attr-defined]
        self._maxsize = maxsize
        self._reader, self._writer = connection.Pipe(duplex=False)
        if pipe_bytes is not None:
            set_pipe_bytes(self._writer.fileno(), pipe_bytes)
        self._robust: RobustPipe | None = None
        self._rlock: Any
        self._wlock: Any
        self._sem: Any
        if robust:
            self._use_robust(_robust_pipe(self._reader, self._writer, maxsize, ctx))
        else:
            self._rlock = ctx.Lock()
            self._wlock = ctx.Lock()
            self._sem = ctx.BoundedSemaphore(maxsize)
        self._opid = os.getpid()
        # Set by concurrent.futures: a broken pipe then ends the feeder in silence.
        self._ignore_epipe = False
        self._reset()
        register_after_fork(self, Queue._after_fork)

    def _use_robust(self, pipe: RobustPipe) -> None:
        self._robust = pipe
        self._rlock = pipe.rlock
        self._wlock = pipe.wlock
        self._sem = pipe.slots

    def __getstate__(self) -> tuple[Any, ...]:
        context.assert_spawning(self)
        state: tuple[Any, ...] = (self._ignore_epipe, self._maxsize, self._reader, self._writer)
        if self._robust is not None:
            return (*state, self._robust.state(), None, None, self._opid)
        return (*state, self._rlock, self._wlock, self._sem, self._opid)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        (
            self._ignore_epipe,
            self._maxsize,
            self._reader,
            self._writer,
            self._rlock,
            self._wlock,
            self._sem,
            self._opid,
        ) = state
        self._robust = None
        if self._wlock is None:
            from .robust import RobustPipe

            self._use_robust(RobustPipe.attach(self._reader, self._writer, self._rlock))
        self._reset()
        # A spawned child may fork in its turn.
        register_after_fork(self, Queue._after_fork)

    def _after_fork(self) -> None:
        debug("Queue._after_fork()")
        if self._robust is not None:
            self._robust.after_fork()
        self._reset()

    def _reset(self) -> None:
        # After a fork too: a new condition, because a thread of the parent may have held the old one.
        self._notempty = threading.Condition(threading.Lock())
        self._buffer: collections.deque[Any] = collections.deque()
        self._thread: threading.Thread | None = None
        self._jointhread: Any = None
        self._joincancelled = False
        self._closed = False
        self._close: Any = None
        self._last_was_large = False
        self._clock = FeederClock() if self._robust is None else self._robust.feeder_clock()
        self._send_bytes: Callable[[Buffer], None]
        self._recv_bytes: Callable[[], Buffer]
        self._wire_ends()

    def _wire_ends(self) -> None:
        message_reader = MessageReader(self._reader)
        message_writer = MessageWriter(self._writer)
        self._send_bytes = message_writer.send_bytes
        self._recv_bytes = message_reader.recv_bytes
        self._give_back = message_reader.give_back if self._robust is None else self._robust.give_back
        self._poll = message_reader.poll
        # A semaphore's own methods: what multiprocessing puts around them only calls them.
        self._take_slot, self._give_slot = self._sem.acquire, self._sem.release
        self._read_lock: Any = None
        if self._robust is None:
            self._read_lock = self._rlock._semlock
            self._send_messages = _under(self._wlock._semlock, message_writer)
        else:
            self._send_messages = self._robust.send_messages

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put `obj` into the queue; it is pickled and sent by the feeder thread.

        Raises:
            Full: no slot came free (at once, or within `timeout` seconds).
            ValueError: the queue is closed in this process.
        """
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        if not self._take_slot(block, timeout):
            raise Full
        if self._thread is None:
            self._start_once()
        self._buffer.append(obj)
        if self._clock.idle:
            self._wake_feeder()

    def _start_once(self) -> None:
        with self._notempty:
            if self._thread is None:
                self._start_thread()

    # A put takes no lock: appending is one step. The feeder says that it is idle before it looks
    # at the deque a last time, and a put looks whether it is idle after it has appended; so one
    # of them sees the other. Whoever wakes it takes the word back: the next put need not.
    def _wake_feeder(self) -> None:
        with self._notempty:
            if self._clock.idle:
                self._clock.idle = False
                self._notempty.notify()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return the next item.

        Raises:
            Empty: nothing came (at once, or within `timeout` seconds).
            ValueError: the queue is closed in this process.
            TruncatedMessage: robust queues only: its writer ended in the middle of it.
        """
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        if self._robust is not None:
            res = self._robust.receive(block, timeout)
            return _loads(res) if type(res) is bytes else self._unpickled(res)
        read_lock = self._read_lock
        if block and timeout is None:
            if read_lock._is_zero():
                self._await_reader()
            with read_lock:
                res = self._recv_bytes()
            self._give_slot()
            return _loads(res) if type(res) is bytes else self._unpickled(res)
        deadline = time.monotonic() + timeout if block and timeout is not None else None
        if deadline is not None and read_lock._is_zero():
            self._await_reader(deadline)
            timeout = deadline - time.monotonic()
        if not read_lock.acquire(block, timeout):
            raise Empty
        try:
            # What is left of the time, on a clock that nobody can set.
            remaining_s = 0.0 if deadline is None else deadline - time.monotonic()
            if not self._poll(remaining_s):
                raise Empty
            res = self._recv_bytes()
            self._give_slot()
        finally:
            read_lock.release()
        # Unpickled outside the lock: it may be slow, or raise.
        return self._unpickled(res)

    def _await_reader(self, deadline: float | None = None) -> None:
        # Messages that take several reads keep the lock for long: then it is better to sleep on it.
        if not self._last_was_large:
            await_release(self._read_lock._is_zero, deadline)
        self._last_was_large = False

    def _unpickled(self, body: Buffer) -> Any:
        unpickled = _loads(body)
        self._give_back(body)
        self._last_was_large = len(body) > MAX_JOINED_BYTES
        return unpickled

    def qsize(self) -> int:
        """Return how many items are put and not yet got."""
        if self._robust is not None:
            return self._robust.slots.used()
        return int(self._maxsize - self._sem._semlock._get_value())

    def empty(self) -> bool:
        """Return whether the pipe holds nothing (items may still be in a deque)."""
        return not self._poll()

    def full(self) -> bool:
        """Return whether a put would have to wait for a slot."""
        if self._robust is not None:
            return bool(self._robust.slots.used() >= self._maxsize)
        return bool(self._sem._semlock._is_zero())

    def get_nowait(self) -> Any:
        """Return the next item if there is one now, else raise Empty."""
        return self.get(False)

    def put_nowait(self, obj: Any) -> None:
        """Put `obj` if there is a slot now, else raise Full."""
        return self.put(obj, False)

    def close(self) -> None:
        """Say that this process puts nothing more; the feeder ends when the deque is empty."""
        self._closed = True
        if self._robust is not None and self._thread is None:
            self._robust.mark_closed()
        close = self._close
        try:
            if _CLOSE_ENDS_READER:
                self._reader.close()
        finally:
            if close:
                self._close = None
                close()

    def join_thread(self) -> None:
        """Wait until the feeder has written everything. Only after `close`."""
        debug("Queue.join_thread()")
        assert self._closed, f"Queue {self!r} not closed"
        if self._jointhread:
            self._jointhread()

    def cancel_join_thread(self) -> None:
        """Let this process exit without waiting for the feeder. Unsent items are lost."""
        debug("Queue.cancel_join_thread()")
        self._joincancelled = True
        if self._jointhread is not None:
            self._jointhread.cancel()

    def drain(self, processes: Iterable[BaseProcess] | None = None, timeout: float | None = None) -> Iterator[Any]:
        """Yield every item that is in the queue and that will still come, until all writers are done.

        Args:
            processes: the writers. Left out: every living child of this process and, on a
                robust queue, every process that has the queue and has not closed it.
            timeout: seconds for the whole of it; then it ends, whatever may still come.
        """
        return drain(self, processes, timeout)

    def join_processes(self, processes: Iterable[BaseProcess], timeout: float | None = None) -> list[Any]:
        """Wait for `processes` to end, taking from the queue meanwhile; return what was taken.

        A process cannot end before its feeder has written its items, and the feeder
        cannot write into a full pipe: a plain `join` before `get` hangs.
        """
        return join_processes(self, processes, timeout)

    def stats(self) -> QueueStats:
        """Return what is where in the queue now. Cheap, no lock taken, none waited for."""
        return stats_of(self)

    def _terminate_broken(self) -> None:
        # Called by concurrent.futures when a worker died: nobody will read any more,
        # and a feeder blocked in write must see that (EPIPE) before it can be joined.
        self._reader.close()
        self.close()
        self.join_thread()

    def _start_thread(self) -> None:
        debug("Queue._start_thread()")
        self._buffer.clear()
        thread = threading.Thread(
            target=Queue._feed,
            args=(
                self._buffer,
                self._notempty,
                self._send_messages,
                self._reader.close,
                self._writer.close if self._robust is None else self._robust.close_writer,
                self._ignore_epipe,
                self._on_queue_feeder_error,
                self._sem,
                self._clock,
                _LARGE_MESSAGES if self._robust is None else _LARGE_MESSAGES_ROBUST,
            ),
            name="QueueFeederThread",
            daemon=True,
        )
        debug("doing self._thread.start()")
        # Raises while the interpreter shuts down: then there is no feeder.
        thread.start()
        debug("... done self._thread.start()")
        if not self._joincancelled:
            self._jointhread = Finalize(thread, Queue._finalize_join, [weakref.ref(thread)], exitpriority=-5)
        # Runs when the queue is collected, or at exit before the join above.
        self._close = Finalize(self, Queue._finalize_close, [self._buffer, self._notempty], exitpriority=10)
        # Last: from here on other threads append without the lock.
        self._thread = thread

    @staticmethod
    def _finalize_join(twr: weakref.ref[threading.Thread]) -> None:
        debug("joining queue thread")
        thread = twr()
        if thread is not None:
            thread.join()
            debug("... queue thread joined")
        else:
            debug("... queue thread already dead")

    @staticmethod
    def _finalize_close(buffer: collections.deque[Any], notempty: threading.Condition) -> None:
        debug("telling queue thread to quit")
        with notempty:
            buffer.append(SENTINEL)
            notempty.notify()

    # Static, with all it needs as arguments: a reference to the queue would keep it
    # alive for as long as the feeder runs, and its finalizer would never run.
    @staticmethod
    def _feed(
        buffer: collections.deque[Any],
        notempty: threading.Condition,
        send_messages: Callable[[Sequence[Payload]], list[tuple[Exception, Buffer]]],
        reader_close: Callable[[], None],
        writer_close: Callable[[], None],
        ignore_epipe: bool,
        onerror: Callable[[Exception, object], None],
        queue_sem: Any,
        clock: FeederClock,
        large_messages: int,
    ) -> None:
        debug("starting thread to feed data to pipe")
        pickling = Pickling()
        ended = False
        while not ended:
            with notempty:
                clock.idle = True
                if not buffer:
                    clock.enter(FeederClock.IDLE)
                    notempty.wait()
                clock.idle = False
            clock.enter(FeederClock.PICKLING)
            batch = gather(buffer, pickling.dumps, clock, large_messages)
            failed: list[tuple[Exception, object]] = []
            if batch.payloads:
                clock.enter(FeederClock.SENDING)
                try:
                    failed += send_messages(batch.payloads)
                except Exception as error:  # noqa: BLE001 - goes to the error hook, item by item
                    failed += [(error, body_of(payload)) for payload in batch.payloads]
            if batch.error is not None:
                failed.append(batch.error)
            clock.sent()
            ended = batch.ended
            if failed and not _go_on_after(failed, ignore_epipe, onerror, queue_sem):
                clock.enter(FeederClock.ENDED)
                return
            # Nothing of an item may stay referenced while the feeder waits for the next.
            del batch
            # Whoever was told of an error may have kept the payload.
            if failed:
                pickling.forget()
            else:
                pickling.reuse()
            del failed
        debug("feeder thread got sentinel -- exiting")
        clock.enter(FeederClock.ENDED)
        reader_close()
        writer_close()

    @staticmethod
    def _on_queue_feeder_error(e: Exception, obj: object) -> None:
        """Report that `obj` could not be sent; for overriding, as concurrent.futures does."""
        traceback.print_exception(type(e), e, e.__traceback__)

    if _subscript is not None:
        __class_getitem__ = _subscript


def _go_on_after(
    failed: list[tuple[Exception, object]],
    ignore_epipe: bool,
    onerror: Callable[[Exception, object], None],
    queue_sem: Any,
) -> bool:
    for error, obj in failed:
        if ignore_epipe and getattr(error, "errno", 0) == errno.EPIPE:
            return False
        # A daemon thread may find its world half taken down at exit.
        if is_exiting():
            info("error in queue thread: %s", error)
            return False
        # As if the item had been taken out in silence: its slot comes back.
        queue_sem.release()
        onerror(error, obj)
    return True


def _under(lock: Any, writer: MessageWriter) -> Callable[[Sequence[Payload]], list[tuple[Exception, Buffer]]]:
    send_messages = writer.send_messages

    def send_under_lock(payloads: Sequence[Payload]) -> list[tuple[Exception, Buffer]]:
        with lock:
            return send_messages(payloads)

    return send_under_lock


class JoinableQueue(Queue):
    """A Queue whose items are counted as tasks, as `multiprocessing.JoinableQueue`."""

    def __init__(
        self, maxsize: int = 0, *, ctx: Any = None, robust: bool = False, pipe_bytes: int | None = None
    ) -> None:
        if ctx is None:
            ctx = multiprocessing.get_context()
        Queue.__init__(self, maxsize, ctx=ctx, robust=robust, pipe_bytes=pipe_bytes)
        self._unfinished_tasks = ctx.Semaphore(0)
        self._cond = ctx.Condition()

    def __getstate__(self) -> tuple[Any, ...]:
        return (*Queue.__getstate__(self), self._cond, self._unfinished_tasks)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        Queue.__setstate__(self, state[:-2])
        self._cond, self._unfinished_tasks = state[-2:]

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put `obj` and count one unfinished task; otherwise as `Queue.put`."""
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        if self._robust is not None:
            # Unfinished tasks are derived from the slots: nothing more to count.
            Queue.put(self, obj, block, timeout)
            return
        if not self._take_slot(block, timeout):
            raise Full
        if self._thread is None:
            self._start_once()
        # Nobody can say that the task is done before it is counted.
        with self._cond:
            self._buffer.append(obj)
            self._unfinished_tasks.release()
        if self._clock.idle:
            self._wake_feeder()

    def task_done(self) -> None:
        """Say that one item got from the queue is dealt with.

        Raises:
            ValueError: called more often than items were put.
        """
        if self._robust is not None:
            if not self._robust.slots.task_done():
                raise ValueError("task_done() called too many times")
            return
        with self._cond:
            if not self._unfinished_tasks.acquire(False):
                raise ValueError("task_done() called too many times")
            if self._unfinished_tasks._semlock._is_zero():
                self._cond.notify_all()

    def join(self) -> None:
        """Wait until every item that was put is dealt with (robust: or lost)."""
        if self._robust is not None:
            self._robust.slots.join()
            return
        with self._cond:
            if not self._unfinished_tasks._semlock._is_zero():
                self._cond.wait()


class SimpleQueue:
    """A locked pipe: no feeder, no size, no timeouts, as `multiprocessing.SimpleQueue`.

    `put` writes in the caller, so it blocks while the pipe is full.
    """

    def __init__(self, *, ctx: Any = None, robust: bool = False, pipe_bytes: int | None = None) -> None:
        if ctx is None:
            ctx = multiprocessing.get_context()
        self._reader, self._writer = connection.Pipe(duplex=False)
        if pipe_bytes is not None:
            set_pipe_bytes(self._writer.fileno(), pipe_bytes)
        self._robust: RobustPipe | None = None
        self._rlock: Any
        self._wlock: Any
        if robust:
            self._robust = _robust_pipe(self._reader, self._writer, 0, ctx)
            self._rlock, self._wlock = self._robust.rlock, self._robust.wlock
            register_after_fork(self._robust, type(self._robust).after_fork)
        else:
            self._rlock, self._wlock = ctx.Lock(), ctx.Lock()
        self._wire_ends()

    def _wire_ends(self) -> None:
        message_reader = MessageReader(self._reader)
        self._recv_bytes = message_reader.recv_bytes
        self._send_bytes = MessageWriter(self._writer).send_bytes
        self._read_lock: Any = None
        self._write_lock: Any = None
        if self._robust is None:
            self._read_lock, self._write_lock = self._rlock._semlock, self._wlock._semlock
        self._give_back = message_reader.give_back if self._robust is None else self._robust.give_back
        self._poll = message_reader.poll

    def close(self) -> None:
        """Close both ends in this process. Closing twice is no error."""
        self._reader.close()
        self._writer.close()

    def empty(self) -> bool:
        """Return whether the pipe holds nothing."""
        return not self._poll()

    def __getstate__(self) -> tuple[Any, ...]:
        context.assert_spawning(self)
        if self._robust is not None:
            return (self._reader, self._writer, self._robust.state(), None)
        return (self._reader, self._writer, self._rlock, self._wlock)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._reader, self._writer, self._rlock, self._wlock = state
        self._robust = None
        if self._wlock is None:
            from .robust import RobustPipe

            self._robust = RobustPipe.attach(self._reader, self._writer, self._rlock)
            self._rlock, self._wlock = self._robust.rlock, self._robust.wlock
            register_after_fork(self._robust, type(self._robust).after_fork)
        self._wire_ends()

    def get(self) -> Any:
        """Return the next item, waiting for it."""
        if self._robust is not None:
            return self._unpickled(self._robust.receive(True, None))
        read_lock = self._read_lock
        if read_lock._is_zero():
            await_release(read_lock._is_zero)
        with read_lock:
            res = self._recv_bytes()
        return _loads(res) if type(res) is bytes else self._unpickled(res)

    def _unpickled(self, body: Buffer) -> Any:
        unpickled = _loads(body)
        self._give_back(body)
        return unpickled

    def put(self, obj: Any) -> None:
        """Write `obj` into the pipe, waiting for room."""
        # Pickled before the lock is taken: it may be slow, or raise.
        payload = _ForkingPickler.dumps(obj)
        if self._robust is not None:
            self._robust.put_message(payload)
            return
        with self._write_lock:
            self._send_bytes(payload)

    def stats(self) -> QueueStats:
        """Return what is where in the queue now; without a feeder and a deque."""
        return stats_of(self)

    if _subscript is not None:
        __class_getitem__ = _subscript
