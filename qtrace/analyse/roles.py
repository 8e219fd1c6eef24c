"""What the helper threads of the standard library are for, and what each of them can do.

A helper is never the user's own work: an idle one is neither the hang nor a proof of life, and
one that moves (a pool's worker handler looks at its workers ten times a second, for ever) does not
bring back a lost result. So each role declares what its loop waits for and which waits it can end.
The table knows functions of the library, never names of programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qtrace.analyse.activity import base_name, library_path
from qtrace.model.kinds import Role
from qtrace.model.snapshot import Process, Thread


@dataclass(frozen=True, slots=True)
class Helper:
    """A role that the library gives a thread."""

    role: Role
    title: str
    """In words, as part of a sentence: "the pool's result handler"."""
    loop_waits_for_program: bool = False
    """Its loop only acts on what the program's threads do: the clock, a connection from outside or
    a glimpse of movement are no sign that it could help anybody."""
    idle_is_transparent: bool = False
    """When idle it waits for a thread of its own process to hand it something, so whoever waits for
    it waits for those threads."""
    takes_no_locks_of_program: bool = True
    """It never holds a lock of the program's own."""
    daemon: bool = True
    only_receives: bool = False
    """Its loop reads, and writes to no pipe."""
    fed_by: str = ""
    """Title of the helper that alone hands it something to do."""
    runs_user_code: bool = False
    """Its loop calls functions of the program: then it is what that function does."""


def _helper(role: Role, title: str, fed_by: str = "", **facts: bool) -> Helper:
    return Helper(role, title, fed_by=fed_by, **facts)


_TABLE: Mapping[tuple[str, str], Helper] = {
    ("multiprocessing/queues.py", "_feed"): _helper(Role.FEEDER, "the queue's feeder thread", idle_is_transparent=True),
    ("multiprocessing/pool.py", "_handle_workers"): _helper(
        Role.HANDLER, "the pool's worker handler", loop_waits_for_program=True
    ),
    ("multiprocessing/pool.py", "_handle_tasks"): _helper(
        Role.HANDLER, "the pool's task handler", idle_is_transparent=True
    ),
    ("multiprocessing/pool.py", "_handle_results"): _helper(
        Role.HANDLER, "the pool's result handler", runs_user_code=True, only_receives=True
    ),
    ("multiprocessing/pool.py", "worker"): _helper(
        Role.WORKER,
        "a worker of the pool",
        fed_by="the pool's task handler",
        runs_user_code=True,
        takes_no_locks_of_program=False,
    ),
    ("concurrent/futures/process.py", "_process_worker"): _helper(
        Role.WORKER, "a worker of the executor", runs_user_code=True, takes_no_locks_of_program=False
    ),
    ("concurrent/futures/thread.py", "_worker"): _helper(
        Role.WORKER,
        "a thread of the executor",
        runs_user_code=True,
        takes_no_locks_of_program=False,
        idle_is_transparent=True,
        daemon=False,
    ),
    ("concurrent/futures/process.py", "_queue_management_worker"): _helper(
        Role.HANDLER, "the executor's manager thread", runs_user_code=True
    ),
    ("concurrent/futures/process.py", "run"): _helper(
        Role.HANDLER, "the executor's manager thread", runs_user_code=True
    ),
    ("multiprocessing/resource_tracker.py", "main"): _helper(Role.TRACKER, "the resource tracker"),
    ("multiprocessing/semaphore_tracker.py", "main"): _helper(Role.TRACKER, "the semaphore tracker"),
    ("multiprocessing/forkserver.py", "main"): _helper(
        Role.FORK_SERVER, "the fork server", loop_waits_for_program=True
    ),
    ("multiprocessing/managers.py", "serve_forever"): _helper(
        Role.MANAGER, "the manager's main thread", loop_waits_for_program=True
    ),
    ("multiprocessing/managers.py", "accepter"): _helper(
        Role.MANAGER, "the manager's accepting thread", loop_waits_for_program=True
    ),
    ("multiprocessing/managers.py", "serve_client"): _helper(
        Role.MANAGER, "a thread of the manager that serves one client", runs_user_code=True
    ),
    ("multiprocessing/resource_sharer.py", "_serve"): _helper(
        Role.HANDLER, "the thread that hands descriptors to other processes", loop_waits_for_program=True
    ),
    ("logging/handlers.py", "_monitor"): _helper(
        Role.HANDLER, "the log listener", runs_user_code=True, idle_is_transparent=True, only_receives=True
    ),
    ("asyncio/unix_events.py", "_do_waitpid"): _helper(Role.HANDLER, "asyncio's child watcher"),
    ("asyncio/base_events.py", "_do_shutdown"): _helper(Role.HANDLER, "asyncio's shutdown thread"),
}
_BY_ARGUMENT: tuple[tuple[str, Helper], ...] = (
    ("from multiprocessing.resource_tracker import main", _TABLE["multiprocessing/resource_tracker.py", "main"]),
    ("from multiprocessing.semaphore_tracker import main", _TABLE["multiprocessing/semaphore_tracker.py", "main"]),
    ("from multiprocessing.forkserver import main", _TABLE["multiprocessing/forkserver.py", "main"]),
)
"""Helper processes by what their interpreter was told to run."""


def helper_of(thread: Thread, process: Process | None, parent: Process | None = None) -> Helper | None:
    """Return the library's role of a thread, or None for a thread of the program.

    The outermost library loop counts: what runs inside of a worker is the worker's task. A child
    of the fork server has the server's arguments, and frames of its own: the frames win.
    """
    # What a helper forked has the helper's arguments, and work of its own.
    forked = process is not None and parent is not None and parent.argv == process.argv
    for frame in reversed(thread.stack):
        path = library_path(frame.file)
        if path is None:
            continue
        function = base_name(frame.function)
        if path.startswith("queue/"):
            path = "multiprocessing/queues.py"
        helper = _TABLE.get((path, function))
        if helper is None:
            continue
        if helper.role is Role.FORK_SERVER and (_serves_one(thread) or forked):
            continue
        return helper
    if thread.stack or process is None or not thread.is_main or forked:
        return None
    return _helper_by_arguments(process)


def _serves_one(thread: Thread) -> bool:
    return any(base_name(frame.function) == "_serve_one" for frame in thread.stack)


def _helper_by_arguments(process: Process) -> Helper | None:
    for argument in process.argv:
        for text, helper in _BY_ARGUMENT:
            if text in argument:
                return helper
    return None


def is_idle(thread: Thread, helper: Helper) -> bool:
    """Whether a helper stands in its own loop, waiting for something to do, not in a task."""
    if helper.role is Role.FEEDER:
        # nwait() is Condition.wait on "not empty": anything else is the work of sending.
        return any(base_name(frame.function) == "wait" for frame in thread.stack[:2])
    for frame in thread.stack:
        path = library_path(frame.file)
        if path is None or base_name(frame.function) in _SENDING:
            return False
        if _TABLE.get((path, base_name(frame.function))) is helper:
            break
    return True


_SENDING = frozenset({"put", "send", "send_bytes"})
"""What a helper stands in when it hands on what it has got: a task, a result, an answer."""


def role_of(thread: Thread, helper: Helper | None) -> Role:
    """Return the role as the tables and the JSON spell it."""
    if helper is not None:
        return helper.role
    return Role.MAIN if thread.is_main else Role.THREAD
