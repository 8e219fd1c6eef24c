"""What the rules of several families ask about the links of a chain and about those who died."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qtrace.analyse.activity import Doing, Step, library_path
from qtrace.analyse.graph import Node
from qtrace.analyse.patterns.case import Case
from qtrace.analyse.scene import Actor
from qtrace.model.ids import Tgid
from qtrace.model.kinds import Role, WaitKind
from qtrace.model.snapshot import Call, WaitObject

FULL = frozenset({WaitKind.PIPE_FULL, WaitKind.SOCKET_FULL})
EMPTY = frozenset({WaitKind.PIPE_EMPTY, WaitKind.SOCKET_EMPTY})
LOCKS = frozenset({WaitKind.LOCK, WaitKind.SEMAPHORE})
GETS = (Doing.MPQ_GET, Doing.SIMPLEQ_GET, Doing.QUEUE_GET)
PUTS = (Doing.MPQ_PUT, Doing.SIMPLEQ_PUT, Doing.QUEUE_PUT, Doing.MPQ_FEED, Doing.CONNECTION_SEND)
POOL_WAITS = (Doing.POOL_RESULT, Doing.POOL_JOIN)
NOTIFIED = (Doing.EVENT, Doing.BARRIER, Doing.CONDITION, Doing.MP_EVENT, Doing.MP_CONDITION, Doing.MP_NOTIFY)
_JOINS = (
    Doing.PROCESS_JOIN,
    Doing.PROCESS_EXIT,
    Doing.SHUTDOWN_JOIN,
    Doing.POOL_JOIN,
    Doing.EXECUTOR_SHUTDOWN,
    Doing.POPEN_WAIT,
    Doing.POPEN_COMMUNICATE,
)


@dataclass(frozen=True, slots=True)
class Dead:
    """A process that ended, and how."""

    pid: Tgid
    name: str
    exit_code: int | None
    exit_signal: int | None
    call: Call | None = None

    @property
    def crashed(self) -> bool:
        """Whether it ended by a signal or with a status that says failure."""
        return bool(self.exit_signal) or bool(self.exit_code)

    def how(self) -> str:
        """Return how it ended, as part of a sentence."""
        if self.exit_signal:
            return f"was killed by signal {self.exit_signal}"
        if self.exit_code:
            return f"ended with exit status {self.exit_code}"
        return "has ended"


def dead_processes(case: Case) -> tuple[Dead, ...]:
    """Return the processes known to have ended, the crashed first, the latest first.

    A live look knows those whose parent has not collected them; a recording knows all.
    """
    found: dict[Tgid, tuple[int, Dead]] = {}
    living = {process.name for process in case.snapshot.processes.values() if process.alive}

    def name_of(pid: Tgid, name: str) -> str:
        return f"{name} (pid {pid})" if name in living else name

    for process in case.snapshot.processes.values():
        if not process.alive:
            name = name_of(process.pid, process.name)
            dead = Dead(process.pid, name, process.exit_code, process.exit_signal)
            found[process.pid] = (process.end_ns or 0, dead)
    for death in case.snapshot.history.deaths:
        if int(death.tid) == int(death.pid):
            name = name_of(death.pid, death.name)
            dead = Dead(death.pid, name, death.exit_code, death.exit_signal, death.call)
            found[death.pid] = (death.time_ns, dead)
    ordered = sorted(found.values(), key=lambda entry: (not entry[1].crashed, -entry[0], -int(entry[1].pid)))
    return tuple(dead for _, dead in ordered)


def death_facts(dead: Dead | None, role: str) -> dict[str, object]:
    """Return a death as evidence, under keys that begin with its role in the hang."""
    if dead is None:
        return {}
    facts: dict[str, object] = {f"{role}_pid": int(dead.pid), f"{role}_process": dead.name}
    if dead.exit_code is not None:
        facts[f"{role}_exit"] = dead.exit_code
    if dead.exit_signal is not None:
        facts[f"{role}_signal"] = dead.exit_signal
    if dead.call is not None:
        facts[f"{role}_call"] = dead.call.text
    return facts


def first_crashed(case: Case) -> Dead | None:
    """Return the latest process that died of a signal or a failure, or None."""
    return next((dead for dead in dead_processes(case) if dead.crashed), None)


def root_of(case: Case) -> tuple[Node, ...]:
    """Return the links that nobody else holds up: the circle, or the last link alone."""
    return case.circle or (case.last,)


def joins(node: Node) -> bool:
    """Whether a link waits for a process, a thread or a pool to end."""
    if node.kind in (WaitKind.CHILD_EXIT, WaitKind.THREAD_JOIN):
        return True
    return node.actor.does(*_JOINS) is not None and node.actor.does(*GETS, *PUTS) is None


def in_exit(actor: Actor) -> bool:
    """Whether a thread stands in the exit of its interpreter or of multiprocessing's hook."""
    if actor.does(Doing.SHUTDOWN_JOIN) is not None:
        return True
    return actor.does(Doing.PROCESS_EXIT) is not None or any(
        library_path(frame.file) == "multiprocessing/util.py" and frame.function.endswith("_exit_function")
        for frame in actor.stack
    )


def putting(node: Node) -> Step | None:
    """Return the operation with which a link hands something over and finds no room, or None."""
    if node.kind in FULL:
        return node.actor.does(*PUTS)
    if node.kind in (WaitKind.SEMAPHORE, WaitKind.CONDITION):
        return node.actor.does(Doing.MPQ_PUT, Doing.QUEUE_PUT)
    return None


def getting(node: Node) -> Step | None:
    """Return the operation with which a link waits for an item or a message, or None."""
    if node.kind in EMPTY or node.kind is WaitKind.POLL:
        return node.actor.does(*GETS, Doing.CONNECTION_RECV, Doing.CONNECTION_POLL, Doing.CONNECTION_WAIT)
    if node.kind in (WaitKind.CONDITION, WaitKind.SEMAPHORE, WaitKind.LOCK):
        return node.actor.does(*GETS)
    return None


def of_a_queue(node: Node) -> bool:
    """Whether a link waits on a queue, of which every process that knows it holds both ends."""
    return node.actor.does(*GETS, Doing.MPQ_PUT, Doing.SIMPLEQ_PUT, Doing.MPQ_FEED, Doing.QUEUE_PUT) is not None


def untold(case: Case, node: Node) -> bool:
    """Whether a link waits on a word of which neither frames nor the kernel say what it is.

    A futex without Python frames may be a lock, a condition, or the end of a thread; a mutex that holds its
    owner's thread id is a lock.
    """
    if node.kind not in LOCKS or node.actor.stack:
        return False
    target = target_of(case, node)
    return target is None or target.owner_tid is None


def target_of(case: Case, node: Node) -> WaitObject | None:
    """Return what a link waits on first, or None."""
    return case.scene.target(node.events[0].object_id) if node.events else None


def living_holders(case: Case, target: WaitObject, access: str) -> tuple[Tgid, ...]:
    """Return the living processes that hold an end of an object, each once."""

    def found() -> Iterator[Tgid]:
        for holder in target.holders:
            process = case.scene.process(holder.pid)
            if access in holder.access and process is not None and process.alive:
                yield holder.pid

    return tuple(dict.fromkeys(found()))


def level_facts(target: WaitObject | None) -> dict[str, object]:
    """Return how full a pipe is, as evidence."""
    if target is None or target.bytes is None:
        return {}
    facts: dict[str, object] = {"pipe_bytes": target.bytes}
    if target.capacity is not None:
        facts["pipe_capacity"] = target.capacity
    return facts


def is_worker(actor: Actor) -> bool:
    """Whether a thread is a worker of a pool or an executor."""
    return actor.helper is not None and actor.helper.role is Role.WORKER
