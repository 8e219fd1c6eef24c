"""What a thread can do for others by its code: nothing, or more than the kernel's state shows.

A heartbeat that only sleeps and prints holds the same pipes as the thread that hangs, and to a strict
eye it might read one at any moment. Its code says that it will not. What rests on that is `likely`,
and names the thread. Any call that is not known to be harmless makes the loop one that may help.
"""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache

from qtrace.analyse.activity import Doing, base_name, class_of, library_path, own_frame
from qtrace.model.kinds import WaitKind
from qtrace.model.snapshot import Frame, Process, Thread

_BUILTINS = """
    print len str int float repr format round range min max sum sorted abs bool list dict tuple set enumerate zip
    isinstance getattr hasattr id vars type divmod any all
"""
_OF_TIME_AND_SYSTEM = """
    sleep time monotonic perf_counter process_time time_ns monotonic_ns ctime strftime localtime gmtime now utcnow
    isoformat timestamp getpid getppid getloadavg cpu_count current_thread active_count main_thread get_ident
    get_native_id getrusage memory_info cpu_percent utime touch exists stat getsize
"""
_METHODS = """
    qsize is_alive is_set items keys values append appendleft extend clear copy upper lower strip split startswith
    endswith rjust ljust center
"""
_HARMLESS = frozenset(f"{_BUILTINS} {_OF_TIME_AND_SYSTEM} {_METHODS}".split())
"""Own names of functions and methods that end no wait of anybody else."""
_HARMLESS_IN_FULL = frozenset({"sys.stdout.write", "sys.stdout.flush", "sys.stderr.write", "sys.stderr.flush", "open"})
_WAITS = frozenset({"wait", "join"})
"""Waiting ends no wait either; ``str.join`` has the same name."""
_ASKS = frozenset(
    {"get", "recv", "recv_bytes", "poll", "acquire", "result", "done", "ready", "exception", "empty", "full", "select"}
)
_CLOCKS = frozenset({"time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "now", "utcnow", "timestamp"})
_ENDS_BY_ITSELF = frozenset({"+=", "with", "del", "yield", "await", "import", "from", "exec", "raise"})
"""What may end a loop without anybody's help, or do something for others."""
_WAYS_OUT = frozenset({"return", "break"})


def _harmless(name: str, more: frozenset[str] = _WAITS) -> bool:
    own = base_name(name)
    return own in _HARMLESS or own in more or name in _HARMLESS_IN_FULL


TAKING = frozenset(
    {"get", "get_nowait", "recv", "recv_bytes", "recv_bytes_into", "recv_into", "recvfrom", "recvmsg", "communicate"}
    | {"read", "readline", "readlines", "readinto", "read1"}
)
"""Own names of methods that take from a queue, a pipe or a socket."""
GIVING = frozenset(
    {"put", "put_nowait", "send", "send_bytes", "sendall", "sendto", "sendmsg", "write", "writelines", "close"}
)
"""Own names of methods that hand something over by a queue, a pipe or a socket, or end the stream."""
_STATEMENTS = frozenset(
    {"with", "del", "return", "break", "raise", "import", "from", "global", "nonlocal", "+=", "lambda", "yield"}
)
_NEITHER = frozenset(
    {"debug", "info", "warning", "error", "exception", "getLogger", "basicConfig", "kill", "terminate", "cancel"}
    | {"join_thread", "cancel_join_thread", "shutdown", "task_done", "acquire", "release", "exit"}
)
"""Own names of what neither takes nor gives."""


class Able(IntEnum):
    """Whether a thread's code has the other half of a wait still before it."""

    YES = 0
    PERHAPS = 1
    NO = 2


def still_to_call(stack: tuple[Frame, ...]) -> frozenset[str] | None:
    """Return what a thread's own functions have still to call, by their text; None where that cannot be read."""
    own = [frame for frame in stack if library_path(frame.file) is None]
    if not own or any(not frame.source for frame in own):
        return None
    return frozenset(name for frame in own for name in frame.ahead if not name.startswith("os.environ"))


@lru_cache(maxsize=4096)
def able_by_text(ahead: frozenset[str], names: frozenset[str]) -> Able:
    """Return whether code that has still to call some functions will call one of these.

    Args:
        ahead: What it has still to call.
        names: Own names of functions or methods; with a dot before it only of methods.
    """
    if any(base_name(name) in names or (f".{base_name(name)}" in names and "." in name) for name in ahead):
        return Able.YES
    known = (TAKING | GIVING | _NEITHER) - names
    harmless = all(_harmless(name) or name in _STATEMENTS or base_name(name) in known for name in ahead)
    return Able.NO if harmless else Able.PERHAPS


def is_bystander(thread: Thread, process: Process) -> bool:
    """Whether a thread goes round for ever in a loop that can end no other thread's wait.

    Never a main thread, whose end is the program's, nor one that just runs: between two calls
    nobody can say what it is at.
    """
    if thread.is_main or thread.call is None or thread.state == "R" or not process.python:
        return False
    if thread.timeout_ns is None and all(want.kind is not WaitKind.SLEEP for want in thread.wants):
        return False
    frames = [frame for frame in thread.stack if library_path(frame.file) is None]
    loop = next((frame for frame in frames if frame.calls), None)
    if loop is None or any(frame.file != loop.file for frame in frames[: frames.index(loop)]):
        return False
    return all(_harmless(name) or name == "+=" for name in loop.calls)


def words_of(thread: Thread) -> str:
    """Return what a verdict rests on that takes a thread for a bystander."""
    loop = next((frame for frame in thread.stack if frame.calls), None)
    where = f" ({loop.file.rpartition('/')[2]}:{loop.line})" if loop is not None else ""
    return f"thread {thread.name} only sleeps and looks on, by its code{where}"


def may_end(thread: Thread, *, own_process: bool) -> bool:
    """Whether a thread's code has still to call what ends a process: a watchdog's, a supervisor's.

    A `threading.Timer` may call anything.

    Args:
        thread: The thread.
        own_process: Whether its own process is meant, and not a child's.
    """
    if any(base_name(frame.function) == "run" and class_of(frame) == "Timer" for frame in thread.stack):
        return True
    names = {name for frame in thread.stack for name in frame.ends}
    if own_process:
        return any(name in _ENDS_ITSELF or name.startswith("os.") for name in names)
    return any(base_name(name) not in _ENDS_ONLY_ITSELF for name in names)


_ENDS_ONLY_ITSELF = frozenset({"_exit", "abort", "raise_signal"})
_ENDS_ITSELF = _ENDS_ONLY_ITSELF | {"kill", "signal.raise_signal"}


def waits_in_vain(stack: tuple[Frame, ...], doing: Doing | None) -> bool:
    """Whether a thread asks again and again for one thing, by its text, and does nothing in between.

    Its timeout is none then: only what it asks for ends the loop. A loop that counts its rounds, looks
    at the clock, or lets the timeout's exception out ends by itself.

    Args:
        stack: Its frames.
        doing: What it waits in.
    """
    loop = own_frame(stack)
    if loop is None or not loop.calls or (doing is None and ".acquire(" not in loop.source):
        return False
    if doing in _RAISING and not _caught(loop):
        return False
    endless = not (_WAYS_OUT | {"raise", "yield"}) & set(loop.calls) and not _compares(loop)
    for name in loop.calls:
        if name in _WAYS_OUT or (endless and name == "+="):
            continue
        if name in _ENDS_BY_ITSELF or base_name(name) in _CLOCKS or not _harmless(name, _WAITS | _ASKS):
            return False
    return True


def _compares(loop: Frame) -> bool:
    # Whether the loop's own condition looks at more than the wait: a count, a flag.
    heads = [head for head in (loop.source, *loop.around) if head.startswith("while ")]
    return not heads or _COMPARISON.search(heads[0]) is not None


_COMPARISON = re.compile(r"[<>]|[=!]=|\b(?:and|or|in|is)\b")
_RAISING = frozenset(
    {Doing.MPQ_GET, Doing.MPQ_PUT, Doing.QUEUE_GET, Doing.QUEUE_PUT, Doing.FUTURE_RESULT, Doing.POPEN_WAIT}
)
"""Operations whose timeout is an exception."""


def _caught(loop: Frame) -> bool:
    heads = [head.split()[0] for head in loop.around if head]
    return "try" in heads[: heads.index("while")] if "while" in heads else False
