"""What a thread that is blocked in a futex waits for, and who holds it, by all the evidence.

The kernel knows an address and a number. In the order of their worth: the C library's own record
of a mutex's owner, the thread id in the word of a `pthread_join`, the Python frames (which library
function, on which object), the text of the program around them, and where the word lies.
"""

from __future__ import annotations

from dataclasses import dataclass

from qtrace.analyse.activity import Doing, Step, address_of, base_name, library_path, type_of
from qtrace.analyse.held import Held, LockTexts
from qtrace.analyse.scene import Actor, Scene
from qtrace.model.ids import Tgid
from qtrace.model.kinds import Certainty, WaitKind
from qtrace.model.snapshot import Frame, WaitObject, Want

FUTEX_KINDS = frozenset(
    {
        WaitKind.LOCK,
        WaitKind.SEMAPHORE,
        WaitKind.CONDITION,
        WaitKind.THREAD_JOIN,
        WaitKind.GIL,
    }
)

_CONDITIONS = (
    Doing.CONDITION,
    Doing.EVENT,
    Doing.BARRIER,
    Doing.MP_CONDITION,
    Doing.MP_EVENT,
    Doing.MPQ_JOIN,
    Doing.QUEUE_JOIN,
    Doing.QUEUE_GET,
    Doing.QUEUE_PUT,
    Doing.FUTURE_RESULT,
    Doing.POOL_RESULT,
)
_SEMAPHORE_TYPES = frozenset({"Semaphore", "BoundedSemaphore"})


@dataclass(frozen=True, slots=True)
class Narrowed:
    """Who alone can end a futex wait, and how that is known."""

    actors: tuple[Actor, ...]
    """Empty: nobody who lives."""
    certainty: Certainty
    why: str
    assumption: str = ""
    """What this rests on beyond the kernel's state; empty if nothing."""
    self_held: Held | None = None
    """The place where the waiter itself took the lock."""
    hint: bool = False
    """Good enough to choose a link of the chain, not to rule the other sharers out."""


def is_shared(want: Want) -> bool:
    """Whether the word lies in memory that several processes map."""
    return want.object_id.startswith("shared:")


def futex_kind(scene: Scene, actor: Actor, want: Want) -> WaitKind:
    """Return what kind of wait a futex is, by frames, mapping and word."""
    target = scene.target(want.object_id)
    if _is_gil(actor, target):
        return WaitKind.GIL
    by_frames = _kind_by_frames(actor, want)
    if by_frames is not None:
        return by_frames
    if target is not None and _joined_by_word(scene, actor, target) is not None:
        return WaitKind.THREAD_JOIN
    if target is not None and target.owner_tid is not None:
        return WaitKind.LOCK
    return want.kind if want.kind in FUTEX_KINDS else WaitKind.LOCK


def _is_gil(actor: Actor, target: WaitObject | None) -> bool:
    # The interpreter's lock lies in its static data (_PyRuntime): in the mapping of the binary or
    # of libpython, where no lock of the program is. A Python thread waits there in slices of 5 ms.
    if target is None or not actor.process.python or not target.mapping.startswith("/"):
        return False
    name = target.mapping.rpartition("/")[2]
    return name.startswith("libpython") or target.mapping == actor.process.exe


def _kind_by_frames(actor: Actor, want: Want) -> WaitKind | None:
    if not actor.stack:
        return None
    innermost = actor.steps[0] if actor.steps and actor.steps[0].place == 0 else None
    if innermost is not None:
        if innermost.doing in (Doing.THREAD_JOIN, Doing.SHUTDOWN_JOIN):
            return WaitKind.THREAD_JOIN
        if innermost.doing is Doing.LOCK_ENTER:
            return _lock_or_semaphore(innermost.frame, "self")
        if innermost.doing is Doing.MPQ_PUT and is_shared(want):
            return WaitKind.SEMAPHORE
        if innermost.doing in _CONDITIONS and not (
            innermost.doing is Doing.MPQ_GET or base_name(innermost.frame.function) != "wait"
        ):
            return WaitKind.CONDITION
        if innermost.doing is Doing.MP_NOTIFY:
            return WaitKind.SEMAPHORE
        return WaitKind.LOCK
    if library_path(actor.stack[0].file) is None:
        return _kind_by_text(actor.stack[0])
    if base_name(actor.stack[0].function) == "serve_client":
        return _kind_of_request(actor.stack[0])
    # queue.SimpleQueue.get is C code: an idle thread of an executor stands in its loop itself.
    if actor.helper is not None and actor.idle:
        return WaitKind.CONDITION
    return None


def _kind_of_request(frame: Frame) -> WaitKind:
    # A manager's thread that calls a method of C code for its client: the lock's own.
    method = frame.variables.get("methodname", "").strip("\"'")
    return WaitKind.LOCK if method in ("acquire", "__enter__") else WaitKind.CONDITION


def _lock_or_semaphore(frame: Frame, variable: str) -> WaitKind:
    kind = type_of(frame.variables.get(variable, ""))
    return WaitKind.SEMAPHORE if kind in _SEMAPHORE_TYPES else WaitKind.LOCK


def _kind_by_text(frame: Frame) -> WaitKind | None:
    if frame.made and _SEMAPHORE_TYPES.issuperset(frame.made):
        return WaitKind.SEMAPHORE
    for name, text in frame.variables.items():
        if type_of(text) in _SEMAPHORE_TYPES and f"{name}.acquire" in frame.source:
            return WaitKind.SEMAPHORE
    if ".get(" in frame.source and ".acquire(" not in frame.source:
        return WaitKind.CONDITION  # queue.SimpleQueue, written in C, leaves no frame
    return None


def _joined_by_word(scene: Scene, actor: Actor, target: WaitObject) -> Actor | None:
    # pthread_join waits on the joined thread's own id, which the kernel clears when it ends.
    if target.value is None or target.owner_tid is not None:
        return None
    return next((a for a in scene.actors_of(actor.pid) if int(a.tid) == target.value and a is not actor), None)


def narrow(scene: Scene, locks: LockTexts, actor: Actor, want: Want, kind: WaitKind) -> Narrowed | None:
    """Return who alone can end the wait, or None where every sharer of the word could.

    Every answer names its evidence; what is not certain names its assumption.
    """
    target = scene.target(want.object_id)
    if actor.helper is not None and actor.helper.title.endswith("serves one client") and kind in _BY_REQUEST:
        return None if scene.serves_the_outside(actor.pid) else _clients(scene, actor)
    if kind is WaitKind.THREAD_JOIN:
        return _joined(scene, actor, target)
    if target is not None and target.owner_tid is not None and kind is WaitKind.LOCK:
        return _owner(scene, actor, target)
    if kind is WaitKind.GIL:
        return _gil_owner(scene, actor)
    if kind is WaitKind.CONDITION:
        return _setter(scene, actor) or _pool_threads(scene, actor)
    if kind is WaitKind.LOCK and is_shared(want):
        found = _queue_lock(scene, actor, target)
        if found is not None:
            return found
    if kind is WaitKind.LOCK:
        return _by_text(scene, locks, actor, want) or _by_object(scene, actor) or _by_history(scene, want)
    return None


_BY_REQUEST = frozenset({WaitKind.LOCK, WaitKind.SEMAPHORE, WaitKind.CONDITION})


def _clients(scene: Scene, actor: Actor) -> Narrowed:
    # What a manager's objects wait for comes as a request of another client.
    clients = tuple(
        other
        for pid in scene.by_process
        for other in scene.actors_of(pid)
        if other.is_program and not other.bystander and (pid != actor.pid or other.helper is None or not other.idle)
    )
    why = "could send the manager the request that ends it"
    return Narrowed(clients, Certainty.LIKELY, why, "a manager's objects change only by requests of its clients")


def _joined(scene: Scene, actor: Actor, target: WaitObject | None) -> Narrowed | None:
    for frame in actor.stack:
        if library_path(frame.file) != "threading.py":
            break
        address = address_of(frame.variables.get("self", ""))
        tid = scene.by_thread_object.get((actor.pid, address)) if address else None
        if tid is not None:
            return _only(scene.actors[tid], "is the thread that is joined (the same Thread object)")
    if target is not None:
        other = _joined_by_word(scene, actor, target)
        if other is not None:
            return _only(other, "is the thread that is joined (its id is the word waited on)")
    if actor.does(Doing.SHUTDOWN_JOIN):
        # The interpreter's exit joins every thread that is no daemon; which are, cannot be seen,
        # but for the library's own.
        others = tuple(
            other
            for other in scene.actors_of(actor.pid)
            if other is not actor and not (other.helper is not None and other.helper.daemon)
        )
        why = "has to end before the interpreter can (unless it is a daemon)"
        return Narrowed(others, Certainty.LIKELY, why)
    return None


def _only(actor: Actor, why: str) -> Narrowed:
    return Narrowed((actor,), Certainty.PROVEN, why)


def _owner(scene: Scene, actor: Actor, target: WaitObject) -> Narrowed | None:
    owner = scene.actors.get(target.owner_tid) if target.owner_tid is not None else None
    if owner is not None and owner is not actor:
        return _only(owner, "owns the mutex by the C library's own record")
    if owner is actor:
        return Narrowed((), Certainty.PROVEN, "the mutex's owner is the waiting thread itself")
    return None


def _gil_owner(scene: Scene, actor: Actor) -> Narrowed | None:
    others = [other for other in scene.actors_of(actor.pid) if other is not actor]
    owners = tuple(other for other in others if other.thread.owns_gil)
    if owners:
        return Narrowed(owners, Certainty.PROVEN, "owns the interpreter lock")
    return None


def _setter(scene: Scene, actor: Actor) -> Narrowed | None:
    # A pool's result comes from its result handler, or from its task handler where a task could
    # not be sent; nothing else of the program can set it.
    if actor.does(Doing.POOL_RESULT) is None:
        return None
    handlers = tuple(
        other
        for other in scene.actors_of(actor.pid)
        if other is not actor
        and other.helper is not None
        and other.helper.title in ("the pool's result handler", "the pool's task handler")
        and not other.transparent
        and _of_same_sort(actor, other)
    )
    if not handlers:
        return None
    return Narrowed(handlers, Certainty.PROVEN, "hands over the results of the pool's tasks")


def _of_same_sort(actor: Actor, handler: Actor) -> bool:
    # A pool of threads hands results over in memory, one of processes through a pipe.
    pools = (type_of(frame.variables.get("self", "")) for frame in actor.stack)
    pool = next((name for name in pools if name in ("Pool", "ThreadPool")), None)
    wants = handler.thread.wants
    if pool is None or not handler.idle or not wants:
        return True
    return (pool == "ThreadPool") == (wants[0].kind in FUTEX_KINDS)


def _pool_threads(scene: Scene, actor: Actor) -> Narrowed | None:
    # The result handler of a pool of threads is handed results by its workers.
    if actor.helper is None or actor.helper.title != "the pool's result handler" or not actor.idle:
        return None
    workers = tuple(
        other
        for other in scene.actors_of(actor.pid)
        if other.helper is not None and other.helper.title == "a worker of the pool"
    )
    if not workers:
        return None
    busy = tuple(worker for worker in workers if not worker.idle)
    words = "the next result of a pool of threads comes from a thread that is in a task"
    return Narrowed(busy or workers, Certainty.LIKELY, "works on a task of the pool", words, hint=not busy)


@dataclass(frozen=True, slots=True)
class _QueueLock:
    name: str
    inside: tuple[Doing, ...]
    """What a thread that holds the lock stands in."""


_READ_LOCK = _QueueLock("read lock", (Doing.MPQ_GET, Doing.SIMPLEQ_GET))
_WRITE_LOCK = _QueueLock("write lock", (Doing.MPQ_FEED, Doing.SIMPLEQ_PUT))


def queue_lock_of(actor: Actor) -> str | None:
    """Return which lock of a multiprocessing queue a thread waits for: its name, or None."""
    lock = _queue_lock_kind(actor)
    return lock.name if lock else None


def _queue_lock_kind(actor: Actor) -> _QueueLock | None:
    step = _library_step(actor)
    if step is None:
        return None
    if step.doing in _READ_LOCK.inside:
        return _READ_LOCK
    if step.doing in _WRITE_LOCK.inside:
        return _WRITE_LOCK
    if step.doing is Doing.POOL_TERMINATE and any(
        base_name(frame.function) == "_help_stuff_finish" for frame in actor.stack[:2]
    ):
        return _READ_LOCK
    return None


def _library_step(actor: Actor) -> Step | None:
    # The frame that took the lock: the innermost, but for the `__enter__` of the lock itself.
    for step in actor.steps:
        if step.doing is Doing.LOCK_ENTER:
            continue
        return step if step.place <= 2 else None
    return None


def _queue_lock(scene: Scene, actor: Actor, target: WaitObject | None) -> Narrowed | None:
    lock = _queue_lock_kind(actor)
    if lock is None or target is None:
        return None
    pids = tuple(holder.pid for holder in target.holders)
    if scene.with_newborn(pids) != pids:
        return None  # one that is not yet known to share the word may hold it
    inside: list[Actor] = []
    for holder in target.holders:
        process = scene.process(holder.pid)
        if process is None or not process.in_tree or process.unseen:
            return None
        for other in scene.actors_of(holder.pid):
            if not other.stack:
                return None  # its frames are not known: it could be inside
            if other is not actor and _is_inside(other, lock, target):
                inside.append(other)
    if inside:
        why = f"stands inside of the section that the queue's {lock.name} guards"
        return Narrowed(tuple(inside), Certainty.LIKELY, why)
    if target.value not in (0, None):
        return None
    why = f"nobody who lives stands where the queue's {lock.name} is held: its holder has died"
    return Narrowed((), Certainty.LIKELY, why, why)


def _is_inside(actor: Actor, lock: _QueueLock, target: WaitObject) -> bool:
    if not any(step.doing in lock.inside for step in actor.steps):
        return False
    waits_for_lock = any(want.object_id == target.object_id for want in actor.thread.wants)
    if waits_for_lock:
        return False
    # In a futex it is at the lock of another queue, or idle at "not empty".
    return all(want.kind not in FUTEX_KINDS for want in actor.thread.wants)


def _by_text(scene: Scene, locks: LockTexts, actor: Actor, want: Want) -> Narrowed | None:
    target = scene.target(want.object_id)
    if is_shared(want):
        pids = tuple(dict.fromkeys(h.pid for h in target.holders)) if target else ()
    else:
        pids = scene.address_space_of(actor.pid)
    found = locks.holders(actor, pids, want.object_id)
    others, own = found.sure, found.own
    if own is not None and not others:
        place = f"{own.frame.file.rpartition('/')[2]}:{own.frame.line}"
        why = f"the waiting thread itself is inside `with {own.name.text}` at {place}"
        return Narrowed((), Certainty.LIKELY, why, why, self_held=own)
    if not others and found.likely:
        likely = tuple(other for other, _ in found.likely)
        return Narrowed(likely, Certainty.LIKELY, "may hold it, by its code", hint=True)
    if len(others) != 1:
        return None
    holder, held = others[0]
    place = f"{held.frame.file.rpartition('/')[2]}:{held.frame.line}"
    why = f"is inside `with {held.name.text}` at {place}"
    name = holder.thread.name
    return Narrowed((holder,), Certainty.LIKELY, why, f"{name} {why}, so it holds that lock")


def _by_object(scene: Scene, actor: Actor) -> Narrowed | None:
    # A lock inside of the library: logging's handler, a queue. Who is further in, in the same method of the
    # same object, is past the lock, unless it gave it back to wait on a condition.
    waiting = next((f for f in actor.stack if base_name(f.function) not in ("__enter__", "acquire")), None)
    address = address_of(waiting.variables.get("self", "")) if waiting is not None else ""
    if waiting is None or library_path(waiting.file) is None or not address:
        return None
    inside = tuple(
        other for other in scene.actors_of(actor.pid) if other is not actor and _is_past_lock(other, waiting, address)
    )
    return Narrowed(inside, Certainty.LIKELY, "is inside of the same object's method", hint=True) if inside else None


def _is_past_lock(other: Actor, waiting: Frame, address: str) -> bool:
    for place, frame in enumerate(other.stack):
        if frame.file != waiting.file or base_name(frame.function) != base_name(waiting.function):
            continue
        if address_of(frame.variables.get("self", "")) == address and place > 0:
            return base_name(other.stack[place - 1].function) not in ("__enter__", "acquire", "wait")
    return False


def _by_history(scene: Scene, want: Want) -> Narrowed | None:
    # A lock that nobody waits for is given back without a system call, so the last one seen to take
    # it need not hold it now.
    taker = scene.snapshot.history.takers.get(want.object_id)
    holder = scene.actors.get(taker.tid) if taker is not None else None
    if taker is None or holder is None:
        return None
    return Narrowed((holder,), Certainty.LIKELY, taker.why, hint=True)


def owners_by_process(scene: Scene, target: WaitObject) -> tuple[Tgid, ...]:
    """Return the processes that map a shared word, each once."""
    return tuple(dict.fromkeys(holder.pid for holder in target.holders))
