"""Locks that never come free: taken in a circle, by the waiter itself, by one that is gone."""

from __future__ import annotations

import re

from qtrace.analyse.activity import Doing, address_of, base_name, library_path, signal_handler_in
from qtrace.analyse.bystanders import Able
from qtrace.analyse.counterparts import able_to_speak
from qtrace.analyse.edges import EXACT
from qtrace.analyse.futexes import queue_lock_of
from qtrace.analyse.graph import Node
from qtrace.analyse.held import locks_held
from qtrace.analyse.patterns.case import Case, Finding, first_own_line, is_own, line_of
from qtrace.analyse.patterns.marks import (
    LOCKS,
    NOTIFIED,
    Dead,
    dead_processes,
    death_facts,
    first_crashed,
    getting,
    putting,
    root_of,
    target_of,
    untold,
)
from qtrace.analyse.scene import Actor
from qtrace.model.kinds import PatternId, VerdictKind, WaitKind
from qtrace.model.snapshot import Frame
from qtrace.model.verdict import Line

_IN_A_LOCK_CIRCLE = frozenset({WaitKind.LOCK, WaitKind.FILE_LOCK, WaitKind.GIL, WaitKind.SEMAPHORE})


def lock_order(case: Case) -> Finding | None:
    """Several threads, each of which holds a lock that the next one wants."""
    circle = case.circle
    if len(circle) < 2 or any(node.kind not in _IN_A_LOCK_CIRCLE or putting(node) is not None for node in circle):
        return None
    if not _is_of_holders(circle) or any(untold(case, node) for node in circle):
        return None
    lines: tuple[Line, ...] = ()
    for node in circle:
        wanted = "waits for the lock that another thread of the circle holds"
        lines += first_own_line(node.actor, wanted)
        for held in locks_held(node.actor)[-1:]:
            lines += line_of(held.frame, f"holds {held.name.text} meanwhile")
    facts = {"locks": [str(event.object_id) for node in circle for event in node.events[:1]]}
    return Finding(
        PatternId.LOCK_ORDER,
        "Take these locks in the same order everywhere (or take them with a timeout and let go of all on failure).",
        tuple(dict.fromkeys(lines)),
        facts,
    )


def _is_of_holders(circle: tuple[Node, ...]) -> bool:
    # Each waits for a lock that the next one holds, or may hold. Semaphores are waited for like locks, and
    # need have no holder: nobody may have filled them yet.
    following = (*circle[1:], circle[0])
    return all(_holds(after, node) for node, after in zip(circle, following, strict=True))


def _holds(holder: Node, waiting: Node) -> bool:
    if waiting.kind in (WaitKind.FILE_LOCK, WaitKind.GIL):
        return True
    known = [event.narrowed for event in waiting.events if event.narrowed is not None and event.narrowed.actors]
    if known or waiting.kind is WaitKind.SEMAPHORE:
        return bool(known)
    own = [frame for frame in holder.actor.stack if is_own(frame)]
    if not own or any(not frame.source for frame in own):
        return True
    return any(head.startswith(("with ", "async with ")) or ".acquire()" in head for f in own for head in f.around)


def self_relock(case: Case) -> Finding | None:
    """A thread waits for a lock that it took itself, further out in its own stack."""
    node = case.last
    if node.kind is WaitKind.FILE_LOCK:
        return _file_locked_twice(case, node)
    if node.kind not in LOCKS or len(case.circle) > 1:
        return None
    held = next((e.narrowed.self_held for e in node.events if e.narrowed and e.narrowed.self_held), None)
    if held is not None:
        handler = _handler_between(node.actor, held.frame)
        if handler is not None:
            return _reentry(case, node, handler, held.frame)
        lines = first_own_line(node.actor, "takes the lock again and waits for itself")
        lines += line_of(held.frame, f"has taken {held.name.text} already")
        return _relocked(lines)
    outer = _same_object_further_out(node.actor)
    if outer is not None:
        handler = _handler_between(node.actor, outer)
        if handler is not None:
            return _reentry(case, node, handler, outer)
        lines = first_own_line(node.actor, "enters again what this thread is inside of already")
        return _relocked(lines + line_of(outer, "holds the lock of the same object further out"))
    outer = _same_manager_further_out(node.actor)
    if outer is not None:
        lines = first_own_line(node.actor, "takes the lock again, by the same context manager")
        return _relocked(lines + line_of(outer, "is inside of that context manager already"))
    if _alone_with_it(case, node):
        return _relocked(first_own_line(node.actor, "takes a lock that only this thread can have taken before"))
    return None


def _relocked(lines: tuple[Line, ...]) -> Finding:
    return Finding(
        PatternId.SELF_RELOCK,
        "Use threading.RLock (multiprocessing.RLock between processes), or split the function into a locked "
        "outer and an unlocked inner one.",
        tuple(dict.fromkeys(lines)),
    )


def _file_locked_twice(case: Case, node: Node) -> Finding | None:
    # flock belongs to the open file: a second open() of the same path waits for the first.
    target = target_of(case, node)
    if target is None or target.owner_pid != node.actor.pid or len(case.scene.actors_of(node.actor.pid)) > 1:
        return None
    return Finding(
        PatternId.SELF_RELOCK,
        "Open the lock's file once and keep it, or give the lock back before it is taken again: flock() belongs to "
        "the open file, so a second open() of the same path waits for the first.",
        first_own_line(node.actor, "waits for a file lock that this process holds through another open file"),
        {"path": target.path or target.label},
        f"{case.names.actor(node.actor)} waits for a file lock that it holds itself, by another open file.",
    )


def _reentry(case: Case, node: Node, handler: Frame, outer: Frame) -> Finding:
    lines = line_of(handler, "runs as a signal handler and needs the lock that the interrupted code holds")
    lines += line_of(_own_around(node.actor, outer), "was interrupted by the signal, with the lock in hand")
    return Finding(
        PatternId.SIGNAL_HANDLER_REENTRY,
        "Do no more in a signal handler than set a flag or write to a pipe (signal.set_wakeup_fd); "
        "queue.SimpleQueue.put is safe there, queue.Queue.put and logging are not.",
        tuple(dict.fromkeys(lines)),
        headline=f"{case.names.actor(node.actor)} waits in a signal handler for a lock "
        "that the code which the signal interrupted holds.",
    )


def _own_around(actor: Actor, frame: Frame) -> Frame:
    place = actor.stack.index(frame)
    return next((f for f in actor.stack[place:] if library_path(f.file) is None), frame)


def _handler_between(actor: Actor, outer: Frame) -> Frame | None:
    place = next((place for place, frame in enumerate(actor.stack) if frame is outer), len(actor.stack))
    return signal_handler_in(actor.stack[:place])


def _same_object_further_out(actor: Actor) -> Frame | None:
    # queue.Queue.put on the way to the lock, and again further out, with code of the program (a
    # handler, a callback, a __del__) between the two: the outer one is inside of its lock.
    waiting = next((f for f in actor.stack if base_name(f.function) not in ("__enter__", "acquire")), None)
    if waiting is None or library_path(waiting.file) is None:
        return None
    address = address_of(waiting.variables.get("self", ""))
    if not address:
        return None
    crossed = False
    for frame in actor.stack[actor.stack.index(waiting) + 1 :]:
        if library_path(frame.file) is None:
            crossed = True
        elif crossed and address_of(frame.variables.get("self", "")) == address:
            return frame
    return None


def _same_manager_further_out(actor: Actor) -> Frame | None:
    # A generator with @contextmanager takes the lock, and is not on the stack while its body runs: the
    # text of an outer frame, of the same object, shows that it stands inside of it.
    own = [frame for frame in actor.stack if library_path(frame.file) is None]
    if not own:
        return None
    name, address = base_name(own[0].function), address_of(own[0].variables.get("self", ""))
    entered = re.compile(rf"with\b.*\b{re.escape(name)}\(")
    for frame in own[2:]:
        if address_of(frame.variables.get("self", "")) == address and any(map(entered.search, frame.around)):
            return frame
    return None


def _alone_with_it(case: Case, node: Node) -> bool:
    # A private lock in a process that has, and had, no other thread.
    actor = node.actor
    if not node.events or is_shared(node) or untold(case, node):
        return False
    if queue_lock_of(actor) is not None or actor.does(*NOTIFIED) is not None:
        return False
    if actor.within(Doing.EVENT_LOOP) is not None:
        return False  # another task may have it, suspended
    others = [other for other in case.scene.actors_of(actor.pid) if other.tid != actor.tid]
    ended = [d for d in case.snapshot.history.deaths if d.pid == actor.pid and d.tid != actor.tid]
    return not others and not ended and not actor.process.had_threads and not case.scene.is_forked_copy(actor.pid)


def fork_held_lock(case: Case) -> Finding | None:
    """A child of fork waits for a lock that a thread held which fork did not copy."""
    node = case.last
    if case.circle or node.kind is not WaitKind.LOCK or not node.events:
        return None
    if not node.events[0].object_id.startswith("futex:") or not case.scene.is_forked_copy(node.actor.pid):
        return None
    narrowed = node.events[0].narrowed
    if narrowed is not None and (narrowed.actors or narrowed.self_held is not None):
        return None
    process = case.scene.process(node.actor.pid)
    parent = case.scene.process(process.ppid) if process is not None else None
    facts: dict[str, object] = {"forked_pid": int(node.actor.pid)}
    threads = case.snapshot.history.fork_threads.get(node.actor.pid)
    if parent is not None:
        facts["parent_pid"] = int(parent.pid)
    if threads is not None:
        facts["parent_threads_at_fork"] = [int(tid) for tid in threads]
    lines = first_own_line(node.actor, "waits for a lock whose holder was not copied by fork")
    for holder in case.scene.actors_of(parent.pid) if parent is not None else ():
        for held in locks_held(holder)[:1]:
            lines += line_of(held.frame, f"is where a thread of the parent holds {held.name.text}")
    return Finding(
        PatternId.FORK_HELD_LOCK,
        "Start processes before threads, or use the spawn or forkserver start method; "
        "where fork has to stay, make the lock anew with os.register_at_fork(after_in_child=...).",
        tuple(dict.fromkeys(lines)),
        facts,
        f"{case.names.actor(node.actor)} waits for a lock that a thread of its parent held when fork "
        "copied the process without that thread.",
        "the lock was held by another thread at the moment of the fork",
    )


def dead_lock_holder(case: Case) -> Finding | None:
    """A lock whose holder was killed, or ended, without giving it back."""
    node = next((link for link in case.circle if link.kind in LOCKS), case.last)
    if node.kind not in LOCKS or node.actor.does(*NOTIFIED) is not None:
        return None
    if case.circle and not _only_shared(case, node):
        return None
    if node.actor.within(Doing.EVENT_LOOP) is not None and not is_shared(node):
        return None
    if node.kind is WaitKind.SEMAPHORE and queue_lock_of(node.actor) is None and _of_bounded_queue(node):
        return None
    dead = _taker(case, node) if untold(case, node) else _holder(case, node)
    if dead is None and (node.kind is WaitKind.SEMAPHORE or untold(case, node)):
        return None
    lock = queue_lock_of(node.actor)
    name = f"the queue's {lock}" if lock else "the lock"
    facts = death_facts(dead, "holder")
    target = target_of(case, node)
    if target is not None and target.value is not None:
        facts["value"] = target.value
    holder = f"last held by {dead.name}, which {dead.how()}" if dead is not None else _NO_HOLDER
    return Finding(
        PatternId.DEAD_LOCK_HOLDER,
        _DEAD_HOLDER_QUEUE if lock else _DEAD_HOLDER,
        first_own_line(node.actor, f"waits for {name}, which nobody is left to release"),
        facts,
        f"{case.names.actor(node.actor)} waits for {name}, {holder}.",
        "" if dead is not None else "whoever took the lock has ended, or went on without giving it back",
    )


def is_shared(node: Node) -> bool:
    """Whether a link waits on a word that several processes share."""
    return bool(node.events) and node.events[0].object_id.startswith("shared:")


def _only_shared(case: Case, node: Node) -> bool:
    # A circle that closes only because those who wait for the waiter share the lock's memory: none
    # of them stands where it is held, by the text of their frames, and they wait for other things.
    narrowed = node.events[0].narrowed if node.events else None
    if not is_shared(node) or (narrowed is not None and not narrowed.hint):
        return False
    others = [link for link in case.circle if link is not node]
    return all(_holds_nothing(link) and (link.kind not in LOCKS or _same_word(link, node)) for link in others)


def _holds_nothing(link: Node) -> bool:
    return bool(link.actor.stack) and not locks_held(link.actor)


def _same_word(one: Node, other: Node) -> bool:
    return bool(one.events) and one.events[0].object_id == other.events[0].object_id


_NO_HOLDER = "which nobody who lives seems to hold: whoever took it has ended, or went on without giving it back"
_DEAD_HOLDER_QUEUE = (
    "Never terminate() or kill a process that may be inside get() or put(): tell it to stop by a sentinel, "
    "or give each worker a Pipe of its own; concurrent.futures.ProcessPoolExecutor notices dead workers."
)
_DEAD_HOLDER = (
    "Do not terminate() or kill a process that may hold the lock: ask it to stop by an Event or a sentinel; "
    "fcntl.flock locks are given back when their holder dies."
)


def _of_bounded_queue(node: Node) -> bool:
    return any(library_path(f.file) in ("queue.py", "multiprocessing/queues.py") for f in node.actor.stack[:2])


def _holder(case: Case, node: Node) -> Dead | None:
    # By the recording where it saw the lock being taken; else the one that crashed last.
    return _taker(case, node) or first_crashed(case)


def _taker(case: Case, node: Node) -> Dead | None:
    object_id = node.events[0].object_id if node.events else None
    taker = case.snapshot.history.takers.get(object_id) if object_id is not None else None
    if taker is None:
        return None
    return next((one for one in dead_processes(case) if one.pid == taker.pid), None)


def _would_speak(case: Case, node: Node) -> bool:
    # The next of the circle has still to set the event, to notify, or to come to the barrier, by its code.
    if node not in case.circle:
        return False
    following = case.circle[(case.circle.index(node) + 1) % len(case.circle)]
    return following is not node and able_to_speak(following.actor, node.actor) is Able.YES


def missing_participant(case: Case) -> Finding | None:
    """An event, a condition, a barrier or a semaphore for which nobody is left to speak."""
    for node in root_of(case):
        step = node.actor.does(*NOTIFIED)
        counted = node.kind is WaitKind.SEMAPHORE
        if (node.kind is not WaitKind.CONDITION or step is None) and not counted:
            continue
        if getting(node) is not None or putting(node) is not None:
            continue
        if node.actor.does(Doing.FUTURE_RESULT, Doing.POOL_RESULT) is not None:
            continue  # a result comes from a task, and its thread or worker is what the chain goes on to
        if any(edge.cost == EXACT for edge in node.edges) or _would_speak(case, node):
            continue  # who would speak is known, and held up by something else
        dead = first_crashed(case)
        lines = first_own_line(node.actor, "waits for one who is gone, or who spoke before this began to wait")
        return Finding(
            PatternId.MISSING_PARTICIPANT,
            "Wait with a timeout, and make every participant speak on its error path too (set() or barrier.abort() in "
            "`finally`); with a condition, test a predicate under the lock: cond.wait_for(...).",
            lines,
            death_facts(dead, "dead"),
            assumption="nobody who is stuck would notify on the way out" if case.kind is VerdictKind.DEADLOCK else "",
        )
    return None
