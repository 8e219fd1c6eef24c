"""Queues: joined before they are drained, cut short, without a consumer or without a producer."""

from __future__ import annotations

from qtrace.analyse.activity import Doing, base_name
from qtrace.analyse.bystanders import TAKING, Able
from qtrace.analyse.futexes import queue_lock_of
from qtrace.analyse.graph import Node
from qtrace.analyse.patterns.case import Case, Finding, first_own_line, own_line
from qtrace.analyse.patterns.marks import (
    EMPTY,
    FULL,
    GETS,
    Dead,
    dead_processes,
    death_facts,
    first_crashed,
    getting,
    in_exit,
    joins,
    level_facts,
    living_holders,
    of_a_queue,
    putting,
    root_of,
    target_of,
    untold,
)
from qtrace.analyse.torn import Torn, torn_message_of
from qtrace.model.ids import ObjectId
from qtrace.model.kinds import PatternId, VerdictKind, WaitKind
from qtrace.model.verdict import Line


def torn_message(case: Case) -> Finding | None:
    """A reader has part of a message, and the writer of the rest is gone."""
    for node in reversed(case.nodes):
        torn = torn_message_of(case.scene, node.actor)
        if torn is not None:
            return _torn(case, node, torn)
    return None


def _torn(case: Case, node: Node, torn: Torn) -> Finding:
    writer = _writer(case, torn)
    facts: dict[str, object] = {
        "message_bytes": torn.message_bytes,
        "received_bytes": torn.received_bytes,
        "missing_bytes": torn.message_bytes - torn.received_bytes,
    }
    if torn.writer_pid is not None:
        facts["writer_pid"] = int(torn.writer_pid)
    if writer is not None:
        facts |= death_facts(writer, "writer")
    who = f"{writer.name}, which {writer.how()}" if writer is not None else "one that has ended"
    return Finding(
        PatternId.TORN_MESSAGE,
        "Do not call cancel_join_thread(), terminate() or os._exit() on a process whose data is still needed: "
        "let it flush its queue (close(), join_thread()) and read everything before it is made to end.",
        own_line(node.actor, "waits for the rest of a message that was cut short"),
        facts,
        f"{case.names.actor(node.actor)} has received part of a message and waits for the rest, "
        f"whose writer was {who}.",
        "" if torn.writer_pid is not None else "the rest of the message would come from whoever sent its beginning",
    )


def _writer(case: Case, torn: Torn) -> Dead | None:
    dead = dead_processes(case)
    if torn.writer_pid is not None:
        return next((one for one in dead if one.pid == torn.writer_pid), None)
    return dead[0] if len(dead) == 1 else first_crashed(case)


def before_drain(case: Case) -> Finding | None:
    """Somebody waits for a producer to end that cannot hand over what it still has."""
    nodes = case.nodes
    place = next((i for i, node in enumerate(nodes) if putting(node) is not None or node.kind in FULL), None)
    if place is None or any(putting(node) is None and node.kind not in FULL for node in nodes[place:]):
        return None
    if not nodes[place].actor.stack and _others_are_full(case, nodes[place]):
        return None  # by the kernel's facts alone they may be one another's
    if any(untold(case, node) for node in nodes[:place]):
        return _before_drain_untold(case, place)
    waiting = [node for node in nodes[:place] if joins(node)]
    # What comes before the first join is not part of it: who waits for a task that joins, say.
    first = next((i for i, node in enumerate(nodes) if joins(node)), place)
    behind = [node for node in nodes[first:place] if not joins(node)]
    if not waiting or any(queue_lock_of(node.actor) != "write lock" for node in behind):
        return None
    producer = nodes[place]
    if _never_takes(waiting[-1], producer):
        return None
    joiners = [node for node in waiting if not _joins_feeder(node) and not in_exit(node.actor)]
    target = target_of(case, producer)
    facts = level_facts(target)
    if joiners:
        lines = first_own_line(joiners[-1].actor, "waits for the producer to end, before its items have been taken")
        lines += own_line(producer.actor, "has no room for what it hands over")
        return Finding(PatternId.JOIN_BEFORE_DRAIN, _DRAIN_FIRST, lines, facts)
    lines = first_own_line(waiting[0].actor, "ends, and waits until all that was put has been handed over")
    lines += own_line(producer.actor, "has no room for what it hands over")
    return Finding(PatternId.EXIT_BEFORE_DRAIN, _EXIT_DRAIN, lines, facts)


def _never_takes(joiner: Node, producer: Node) -> bool:
    # A bounded queue is for somebody else to empty, if the one that joins has no get() before it.
    actor = joiner.actor
    taken = any(base_name(name) in TAKING for frame in actor.stack for name in frame.behind)
    return producer.kind not in FULL and actor.will_call(TAKING) is Able.NO and not taken


def _before_drain_untold(case: Case, place: int) -> Finding | None:
    # By the kernel's facts alone: A waits for the child B to end; in B the main thread waits on a word of its
    # own memory, and the only other one that is held up there writes to a pipe that A could read.
    nodes = case.nodes
    if place < 2 or place != len(nodes) - 1 or not case.circle:
        return None
    parent, main, writer = nodes[place - 2], nodes[place - 1], nodes[place]
    if parent.kind is not WaitKind.CHILD_EXIT or parent not in case.circle or not untold(case, main):
        return None
    if (
        main.actor.pid != writer.actor.pid
        or int(main.actor.tid) != int(main.actor.pid)
        or main.actor.pid == parent.actor.pid
    ):
        return None
    target = target_of(case, writer)
    if target is None or parent.actor.pid not in living_holders(case, target, "r"):
        return None
    child, reader = case.names.actor(main.actor), case.names.actor(parent.actor)
    return Finding(
        PatternId.JOIN_BEFORE_DRAIN,
        _DRAIN_FIRST,
        first_own_line(parent.actor, "waits for the producer to end, before its items have been taken"),
        level_facts(target),
        f"{reader} waits for {child} to end, a thread of which waits for room in a pipe that only {reader} could read.",
        f"the main thread of {child} waits for the thread that writes to end",
    )


def _others_are_full(case: Case, producer: Node) -> bool:
    full = [case.graph.nodes[tid] for tid in case.part if case.graph.nodes[tid].kind in FULL]
    return any(target_of(case, node) != target_of(case, producer) for node in full)


_DRAIN_FIRST = (
    "Take everything from the queue or pipe first (get() until the sentinels or the expected count), then join()."
)
_EXIT_DRAIN = (
    "Take everything from the queue before the program ends; if the rest is not needed, "
    "call cancel_join_thread() on it in the process that put it."
)


def _joins_feeder(node: Node) -> bool:
    return node.actor.does(Doing.MPQ_JOIN_FEEDER) is not None


def bounded_queue(case: Case) -> Finding | None:
    """A put into a bounded queue from which nobody takes any more."""
    for node in root_of(case):
        step = putting(node)
        if step is None or step.doing not in (Doing.MPQ_PUT, Doing.QUEUE_PUT) or node.kind in FULL:
            continue
        dead = first_crashed(case)
        return Finding(
            PatternId.BOUNDED_QUEUE_NO_CONSUMER,
            "Put with a timeout and look whether the consumer is alive; let a consumer that fails say so, "
            "or go on taking items until the sentinel.",
            own_line(node.actor, "waits for room that no consumer is left to make"),
            death_facts(dead, "consumer"),
        )
    return None


def task_done(case: Case) -> Finding | None:
    """join() of a queue, while nobody is at work on an item that is not marked as done."""
    for node in case.nodes:
        if node.actor.does(Doing.MPQ_JOIN, Doing.QUEUE_JOIN) is None or node.kind is WaitKind.LOCK:
            continue
        after = case.nodes[case.nodes.index(node) + 1 :]
        if any(getting(other) is None and other.kind is not WaitKind.LOCK for other in after):
            continue
        lines = own_line(node.actor, "waits until every item has been marked as done")
        for other in after[:1]:
            lines += own_line(other.actor, "waits for the next item, with an earlier one not marked as done")
        return Finding(
            PatternId.TASK_DONE_MISSING,
            "Call task_done() in a `finally` block, once for each get(), so that no error path skips it.",
            lines,
            death_facts(first_crashed(case), "consumer"),
        )
    return None


def missing_sentinel(case: Case) -> Finding | None:
    """Somebody waits for a consumer to end that waits for more from that very one."""
    # Of several consumers one reads, and the others wait for the queue's read lock.
    circle = [node for node in case.circle if queue_lock_of(node.actor) != "read lock" or node.kind in EMPTY]
    if len(circle) < 2:
        return None
    for place, node in enumerate(circle):
        before = circle[place - 1]
        after = circle[(place + 1) % len(circle)]
        if not _waits_for_more(node) or not joins(before) or not joins(after):
            continue
        if not all(joins(other) or _waits_for_more(other) for other in circle):
            continue
        lines = first_own_line(after.actor, "waits for the consumer to end, and has not told it to")
        lines += own_line(node.actor, "waits for the next item")
        return Finding(
            PatternId.MISSING_SENTINEL,
            "Tell every consumer to stop before waiting for it: put one sentinel each (in `finally`), "
            "or close the write end of its pipe, or make it a daemon.",
            lines,
        )
    return None


def _waits_for_more(node: Node) -> bool:
    return getting(node) is not None or node.kind in EMPTY


def producer_gone(case: Case) -> Finding | None:
    """Reads of a queue or pipe that nobody is left to write to."""
    circle = root_of(case)
    if case.kind is VerdictKind.LIVELOCK:
        circle = case.nodes
    readers = [node for node in circle if getting(node) is not None]
    if not readers or (case.circle and not _one_queue(circle) and case.kind is not VerdictKind.LIVELOCK):
        return _killed_between(case)
    node = readers[0]
    if case.kind is VerdictKind.LIVELOCK and not of_a_queue(node) and node.kind not in EMPTY:
        return None
    return _gone(case, node)


def _gone(case: Case, node: Node) -> Finding:
    dead = first_crashed(case) or next(iter(dead_processes(case)), None)
    facts = death_facts(dead, "producer")
    target = target_of(case, node)
    if target is not None:
        facts["writers_left"] = [int(pid) for pid in living_holders(case, target, "w")]
    lines: tuple[Line, ...] = own_line(node.actor, "waits for an item that nobody is left to send")
    ended = f": {dead.name} {dead.how()}" if dead is not None else ""
    return Finding(
        PatternId.PRODUCER_GONE,
        "Wait for the producer's end as well: multiprocessing.connection.wait([queue._reader, process.sentinel]), "
        "or get(timeout=...) and look at process.is_alive() after it; ProcessPoolExecutor reports dead workers.",
        lines,
        facts,
        f"{case.names.actor(node.actor)} waits for an item, and every producer is gone{ended}." if ended else None,
    )


def _one_queue(nodes: tuple[Node, ...]) -> bool:
    # Readers of one queue that wait for one another: one reads, the others want the read lock.
    reads: set[ObjectId] = set()
    for node in nodes:
        if node.actor.does(Doing.MANAGER_CALL) is not None:
            continue
        if node.actor.does(*GETS) is None:
            return False
        if node.kind in EMPTY and node.events:
            reads.add(node.events[0].object_id)
    return len(reads) <= 1


def _killed_between(case: Case) -> Finding | None:
    # Two that wait for each other to speak, after one that took part was killed: its word is missing.
    dead = first_crashed(case)
    node = case.nodes[0]
    if dead is None or not case.circle or getting(node) is None or not of_a_queue(node):
        return None
    return _gone(case, node) if all(getting(other) is not None for other in case.circle) else None
