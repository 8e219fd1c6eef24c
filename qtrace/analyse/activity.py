"""What a thread is doing in the words of the standard library, read from its Python frames.

A futex tells nothing about itself; the library function that the thread stands in does. The rule
is general (any function of the table, in any stack), the knowledge is one declared table, by the
file inside the library and the function's own name, which hold from CPython 3.7 to 3.13: names
are unqualified up to 3.10 (``join``) and qualified from 3.11 (``Thread.join``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto

from qtrace.model.snapshot import Frame, Thread

_LIBRARY = re.compile(r"/python3\.\d+t?/(?!site-packages/|dist-packages/)(.+)$")
_OWN_QUEUE = re.compile(r"/qtrace/(queue/.+)$")
_ADDRESS = re.compile(r"<(?:[\w.]*\.)?(\w+) (?:object )?at (0x[0-9a-f]+)")


class Doing(StrEnum):
    """A library operation that a thread can stand in."""

    THREAD_JOIN = auto()
    SHUTDOWN_JOIN = auto()
    """The interpreter's exit, which joins every thread that is not a daemon."""
    CONDITION = auto()
    EVENT = auto()
    BARRIER = auto()
    SEMAPHORE = auto()
    LOCK_ENTER = auto()
    QUEUE_GET = auto()
    QUEUE_PUT = auto()
    QUEUE_JOIN = auto()
    MPQ_GET = auto()
    MPQ_PUT = auto()
    MPQ_JOIN = auto()
    MPQ_FEED = auto()
    MPQ_JOIN_FEEDER = auto()
    MP_CONDITION = auto()
    MP_NOTIFY = auto()
    MP_EVENT = auto()
    SIMPLEQ_GET = auto()
    SIMPLEQ_PUT = auto()
    FUTURE_RESULT = auto()
    POOL_RESULT = auto()
    POOL_JOIN = auto()
    POOL_TERMINATE = auto()
    EXECUTOR_SHUTDOWN = auto()
    CONNECTION_SEND = auto()
    CONNECTION_RECV = auto()
    CONNECTION_POLL = auto()
    CONNECTION_WAIT = auto()
    MANAGER_CALL = auto()
    PROCESS_JOIN = auto()
    PROCESS_EXIT = auto()
    """The exit hook of multiprocessing, which joins children and feeders."""
    POPEN_START = auto()
    POPEN_WAIT = auto()
    POPEN_COMMUNICATE = auto()
    EVENT_LOOP = auto()
    SERVER_LOOP = auto()
    """The loop of a server that accepts connections, one after the other."""
    SELECT = auto()
    LOGGING = auto()


_TABLE: Mapping[tuple[str, str], Doing] = {
    ("threading.py", "join"): Doing.THREAD_JOIN,
    ("threading.py", "_wait_for_tstate_lock"): Doing.THREAD_JOIN,
    ("threading.py", "_join_os_thread"): Doing.THREAD_JOIN,
    ("threading.py", "_shutdown"): Doing.SHUTDOWN_JOIN,
    ("threading.py", "wait_for"): Doing.CONDITION,
    ("threading.py", "acquire"): Doing.SEMAPHORE,
    ("threading.py", "__enter__"): Doing.LOCK_ENTER,
    ("threading.py", "_acquire_restore"): Doing.LOCK_ENTER,
    ("queue.py", "get"): Doing.QUEUE_GET,
    ("queue.py", "put"): Doing.QUEUE_PUT,
    ("queue.py", "join"): Doing.QUEUE_JOIN,
    ("multiprocessing/queues.py", "join"): Doing.MPQ_JOIN,
    ("multiprocessing/queues.py", "_feed"): Doing.MPQ_FEED,
    ("multiprocessing/queues.py", "_finalize_join"): Doing.MPQ_JOIN_FEEDER,
    ("multiprocessing/queues.py", "join_thread"): Doing.MPQ_JOIN_FEEDER,
    ("multiprocessing/synchronize.py", "__enter__"): Doing.LOCK_ENTER,
    ("multiprocessing/synchronize.py", "notify"): Doing.MP_NOTIFY,
    ("multiprocessing/synchronize.py", "notify_all"): Doing.MP_NOTIFY,
    ("multiprocessing/synchronize.py", "wait_for"): Doing.MP_CONDITION,
    ("concurrent/futures/_base.py", "result"): Doing.FUTURE_RESULT,
    ("concurrent/futures/_base.py", "exception"): Doing.FUTURE_RESULT,
    ("concurrent/futures/_base.py", "wait"): Doing.FUTURE_RESULT,
    ("concurrent/futures/_base.py", "as_completed"): Doing.FUTURE_RESULT,
    ("concurrent/futures/_base.py", "result_iterator"): Doing.FUTURE_RESULT,
    ("concurrent/futures/thread.py", "shutdown"): Doing.EXECUTOR_SHUTDOWN,
    ("concurrent/futures/process.py", "shutdown"): Doing.EXECUTOR_SHUTDOWN,
    ("concurrent/futures/thread.py", "_python_exit"): Doing.EXECUTOR_SHUTDOWN,
    ("concurrent/futures/process.py", "_python_exit"): Doing.EXECUTOR_SHUTDOWN,
    ("multiprocessing/pool.py", "get"): Doing.POOL_RESULT,
    ("multiprocessing/pool.py", "wait"): Doing.POOL_RESULT,
    ("multiprocessing/pool.py", "next"): Doing.POOL_RESULT,
    ("multiprocessing/pool.py", "join"): Doing.POOL_JOIN,
    ("multiprocessing/pool.py", "_terminate_pool"): Doing.POOL_TERMINATE,
    ("multiprocessing/connection.py", "send"): Doing.CONNECTION_SEND,
    ("multiprocessing/connection.py", "send_bytes"): Doing.CONNECTION_SEND,
    ("multiprocessing/connection.py", "recv"): Doing.CONNECTION_RECV,
    ("multiprocessing/connection.py", "recv_bytes"): Doing.CONNECTION_RECV,
    ("multiprocessing/connection.py", "recv_bytes_into"): Doing.CONNECTION_RECV,
    ("multiprocessing/connection.py", "poll"): Doing.CONNECTION_POLL,
    ("multiprocessing/connection.py", "wait"): Doing.CONNECTION_WAIT,
    ("multiprocessing/managers.py", "_callmethod"): Doing.MANAGER_CALL,
    ("multiprocessing/process.py", "join"): Doing.PROCESS_JOIN,
    ("multiprocessing/util.py", "_exit_function"): Doing.PROCESS_EXIT,
    ("subprocess.py", "_execute_child"): Doing.POPEN_START,
    ("subprocess.py", "wait"): Doing.POPEN_WAIT,
    ("subprocess.py", "communicate"): Doing.POPEN_COMMUNICATE,
    ("asyncio/base_events.py", "_run_once"): Doing.EVENT_LOOP,
    ("selectors.py", "select"): Doing.SELECT,
    ("socketserver.py", "serve_forever"): Doing.SERVER_LOOP,
    ("logging/__init__.py", "acquire"): Doing.LOGGING,
}
# Functions that several classes of one file share: told apart by the class in the qualified name
# (3.11 and later) or of `self`.
_BY_CLASS: Mapping[tuple[str, str], Mapping[str, Doing]] = {
    ("threading.py", "wait"): {"Event": Doing.EVENT, "Barrier": Doing.BARRIER, "": Doing.CONDITION},
    ("threading.py", "_wait"): {"": Doing.BARRIER},
    ("multiprocessing/synchronize.py", "wait"): {
        "Event": Doing.MP_EVENT,
        "Barrier": Doing.BARRIER,
        "": Doing.MP_CONDITION,
    },
    ("multiprocessing/queues.py", "get"): {"SimpleQueue": Doing.SIMPLEQ_GET, "": Doing.MPQ_GET},
    ("multiprocessing/queues.py", "put"): {"SimpleQueue": Doing.SIMPLEQ_PUT, "": Doing.MPQ_PUT},
}


@dataclass(frozen=True, slots=True)
class Step:
    """A frame with what it does in the library's words."""

    doing: Doing
    frame: Frame
    place: int
    """Index into the stack, 0 the innermost."""


def library_path(file: str) -> str | None:
    """Return a file's path inside the standard library, or None for a file of the program.

    The frozen modules of 3.11 and later count as the library, under their own name;
    so does what multiprocessing compiles itself.
    """
    found = _LIBRARY.search(file)
    if found:
        return found.group(1)
    if file.startswith(("<frozen ", "<multiprocessing.")):
        return file
    found = _OWN_QUEUE.search(file)
    return found.group(1) if found else None


def base_name(function: str) -> str:
    """Return a function's own name: ``join`` of ``Thread.join``."""
    return function.rpartition(".")[2]


def class_of(frame: Frame) -> str:
    """Return the class that a method's frame belongs to, or an empty string."""
    qualified = frame.function.rpartition(".")[0].rpartition(".")[2]
    if qualified and qualified != "<locals>":
        return qualified
    found = _ADDRESS.match(frame.variables.get("self", ""))
    return found.group(1) if found else ""


def address_of(text: str) -> str:
    """Return the address in py-spy's text of an object, or an empty string."""
    found = _ADDRESS.match(text)
    return found.group(2) if found else ""


def type_of(text: str) -> str:
    """Return the class in py-spy's text of an object, or an empty string."""
    found = _ADDRESS.match(text)
    return found.group(1) if found else ""


def doing_of(frame: Frame) -> Doing | None:
    """Return what a frame does in the library's words, or None."""
    path = library_path(frame.file)
    if path is None:
        return None
    if path.startswith("queue/"):
        path = "multiprocessing/queues.py"
    key = (path, base_name(frame.function))
    by_class = _BY_CLASS.get(key)
    if by_class is not None:
        return by_class.get(class_of(frame), by_class[""])
    found = _TABLE.get(key)
    if found is Doing.SEMAPHORE and class_of(frame) in ("_RLock", "RLock"):
        return Doing.LOCK_ENTER
    if found is Doing.CONDITION and class_of(frame) in ("Barrier",):
        return Doing.BARRIER
    return found


def steps(stack: Sequence[Frame], *, whole: bool = False) -> tuple[Step, ...]:
    """Return the library operations that a thread stands in, innermost first.

    Only those between the system call and the program's own code: what the program is itself
    called by comes only with `whole`.
    """
    return tuple(_steps(stack, whole))


def _steps(stack: Sequence[Frame], whole: bool) -> Iterator[Step]:
    for place, frame in enumerate(stack):
        if not whole and library_path(frame.file) is None:
            return
        doing = doing_of(frame)
        if doing is not None:
            yield Step(doing, frame, place)


def stands_in(thread: Thread, *doings: Doing, whole: bool = False) -> Step | None:
    """Return the innermost of the operations that the thread stands in, or None."""
    for step in _steps(thread.stack, whole):
        if step.doing in doings:
            return step
    return None


def own_frame(stack: Sequence[Frame]) -> Frame | None:
    """Return the innermost frame of the program's own code, or None."""
    for frame in stack:
        if library_path(frame.file) is None:
            return frame
    return None


def signal_handler_in(stack: Sequence[Frame]) -> Frame | None:
    """Return the innermost frame that runs as a signal handler, or None.

    It is called with the number and the interrupted frame: no other function of a program is handed a
    frame object by its caller, but for trace functions.
    """
    for frame in stack:
        if library_path(frame.file) is not None:
            continue
        for text in frame.variables.values():
            if type_of(text) == "frame" or "<frame at 0x" in text or "<frame object at 0x" in text:
                return frame
    return None


def called_from_library(stack: Sequence[Frame], path: str, function: str) -> bool:
    """Whether a library function is anywhere in the stack."""
    return any(base_name(frame.function) == function and library_path(frame.file) == path for frame in stack)


def since_fork(stack: Sequence[Frame]) -> tuple[Frame, ...]:
    """Return the frames that a process entered itself, without those that fork copied.

    The main thread of a forked child carries its maker's frames on its stack: the loop of a pool's
    worker handler under a worker that it made, or a ``with lock:`` that the parent stands in.
    """
    for place, frame in enumerate(stack):
        if base_name(frame.function) == "_bootstrap" and (library_path(frame.file) == "multiprocessing/process.py"):
            return tuple(stack[: place + 1])
    return tuple(stack)
