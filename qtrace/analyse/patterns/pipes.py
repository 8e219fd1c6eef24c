"""Pipes and sockets: full at both ends, empty at both ends, kept open by one who never writes."""

from __future__ import annotations

from qtrace.analyse.activity import Doing
from qtrace.analyse.bystanders import TAKING, Able
from qtrace.analyse.graph import Node
from qtrace.analyse.patterns.case import Case, Finding, first_own_line
from qtrace.analyse.patterns.marks import (
    EMPTY,
    FULL,
    getting,
    joins,
    level_facts,
    living_holders,
    of_a_queue,
    putting,
    root_of,
    target_of,
)
from qtrace.analyse.scene import Actor
from qtrace.model.ids import Tgid
from qtrace.model.kinds import ObjectKind, PatternId, WaitKind
from qtrace.model.snapshot import WaitObject
from qtrace.model.verdict import Line

_STANDARD_STREAMS = (1, 2)
_LENGTH_BYTES = 4
_OF_A_BUFFER = 512


def both_ends_full(case: Case) -> Finding | None:
    """Everyone in a circle sends, and nobody receives."""
    circle = case.circle
    if len(circle) < 2 or not all(node.kind in FULL or _would_take(node) for node in circle):
        return None
    lines: tuple[Line, ...] = ()
    for node in circle:
        lines += first_own_line(node.actor, "sends more than fits, to one who is sending too")
    return Finding(
        PatternId.BOTH_ENDS_FULL,
        "Let one side receive before it sends, or send from a thread of its own, so that somebody always receives.",
        lines,
        level_facts(target_of(case, circle[0])),
    )


def _would_take(node: Node) -> bool:
    # At a bounded queue, and by its code the one that takes from the other.
    return putting(node) is not None and node.actor.will_call(TAKING) is Able.YES


def both_ends_empty(case: Case) -> Finding | None:
    """Everyone in a circle waits for the other to speak first."""
    circle = case.circle
    if len(circle) < 2 or any(node.kind not in EMPTY and getting(node) is None for node in circle):
        return None
    lines: tuple[Line, ...] = ()
    for node in circle:
        lines += first_own_line(node.actor, "waits for the other side to speak")
    return Finding(
        PatternId.BOTH_ENDS_EMPTY,
        "Settle who speaks first, and check that every message that one side waits for is sent on every path "
        "of the other (flush() where the stream is buffered).",
        lines,
    )


def self_pipe_full(case: Case) -> Finding | None:
    """A write without room into a pipe whose only reader is the writer's own process."""
    for node in root_of(case):
        if node.kind not in FULL:
            continue
        target = target_of(case, node)
        end = case.scene.other_end(target)
        if end is None:
            continue
        readers = living_holders(case, end, "r")
        if set(readers) != {node.actor.pid}:
            continue
        return Finding(
            PatternId.SELF_PIPE_FULL,
            "Start the reader before writing, or hand over by a queue with a thread of its own (Queue instead of "
            "SimpleQueue): a pipe holds 64 KiB, and nobody but the writer itself could empty this one.",
            first_own_line(node.actor, "writes more than fits, and is the only one who could read it"),
            level_facts(target),
        )
    return None


def open_write_end(case: Case) -> Finding | None:
    """A reader that waits for the end of the stream, which somebody keeps open without writing."""
    for node in case.nodes:
        if of_a_queue(node) or node.actor.helper is not None or not node.events:
            continue
        if _is_terminal(target_of(case, node)) or _may_be_a_queue(case, node):
            continue
        kinds = {event.kind for event in node.events}
        if not kinds <= EMPTY or (WaitKind.SOCKET_EMPTY in kinds and _is_loop(node.actor)):
            continue  # an event loop's own sockets only wake it
        ends = [case.scene.other_end(case.scene.target(event.object_id)) for event in node.events]
        writers = {pid for end in ends if end is not None for pid in living_holders(case, end, "w")}
        others = sorted(writers - {node.actor.pid})
        # Who has the other end of a socket speaks by it too, and has not only kept it open.
        kept = all(_inherited(case, node, pid) for pid in others) or _kept_above(case, node, others)
        if others and kept and WaitKind.SOCKET_EMPTY not in kinds:
            return _inherited_end(case, node, others)
        if writers and not others and not _answered_within(case, node, kinds):
            return _own_end(case, node)
    return None


def _answered_within(case: Case, node: Node, kinds: set[WaitKind]) -> bool:
    # A connection within one process, or a thread of it that is to write and is itself held up.
    target = target_of(case, node)
    if WaitKind.SOCKET_EMPTY in kinds and target is not None and target.label.startswith("TCP"):
        return True
    return any(link.actor.pid == node.actor.pid and not joins(link) for link in case.circle if link is not node)


def _is_loop(actor: Actor) -> bool:
    return actor.within(Doing.EVENT_LOOP) is not None or actor.does(Doing.SELECT) is not None


def _is_terminal(target: WaitObject | None) -> bool:
    return target is not None and target.kind is ObjectKind.TTY


def _may_be_a_queue(case: Case, node: Node) -> bool:
    # Without Python frames: who asks for the four bytes of a message's length, or for the odd number of bytes
    # that is the rest of one, waits for a message, and not for the end of a stream; a recording knows whether
    # messages went through it. An event loop, which has a socket to be woken by, cannot be told either.
    if node.actor.stack or not node.actor.process.python:
        return False
    asked = next((want.requested_bytes for want in node.actor.thread.wants), None)
    if any(event.object_id in case.snapshot.history.message_streams for event in node.events):
        return True
    if asked == _LENGTH_BYTES or any(event.kind is WaitKind.SOCKET_EMPTY for event in node.events):
        return True
    return not case.snapshot.history.uses and asked is not None and asked % _OF_A_BUFFER != 0


def _kept_above(case: Case, node: Node, others: list[Tgid]) -> bool:
    # Whoever started the reader has closed its own end, and meant that to be the end of the stream;
    # one further up, from whom it had it, has not.
    parent = node.actor.process.ppid
    family = set(case.scene.ancestors(node.actor.pid))
    if any(link.actor.pid in others and link.actor.will_call(_WRITES) is Able.YES for link in case.nodes):
        return False  # it has still to write there, by its code
    return parent not in others and node.actor.process.argv != _argv(case, parent) and set(others) <= family


_SENDS = frozenset({".send", ".send_bytes"})
_WRITES = _SENDS | frozenset({".write", ".writelines", ".sendall"})


def _argv(case: Case, pid: Tgid) -> tuple[str, ...]:
    process = case.scene.process(pid)
    return process.argv if process is not None else ()


def _inherited(case: Case, node: Node, pid: Tgid) -> bool:
    # A brother (or his child) that was started later, whose maker has closed its own copy.
    family = set(case.scene.ancestors(node.actor.pid))
    if pid in family or node.actor.pid in set(case.scene.ancestors(pid)):
        return False
    object_id = node.events[0].object_id
    wants_message = node.actor.does(Doing.CONNECTION_RECV) is not None and not _waits_for_end(node.actor)
    if wants_message and any(other.will_call(_SENDS) is Able.YES for other in case.scene.actors_of(pid)):
        return False
    use = case.snapshot.history.uses.get((pid, object_id))
    if use is not None and use.writes:
        return False
    return bool(family & set(case.scene.ancestors(pid)))


def _waits_for_end(actor: Actor) -> bool:
    # What it reads until is the end of the stream, and not the next message.
    return any("EOFError" in frame.ahead for frame in actor.stack)


def _inherited_end(case: Case, node: Node, others: list[Tgid]) -> Finding:
    keeper = case.names.process(others[0])
    lines = first_own_line(node.actor, "waits for the end of the stream")
    for pid in others[:1]:
        main = case.scene.main_of(pid)
        if main is not None:
            lines += first_own_line(main, "holds a write end that it inherited and never uses")
    return Finding(
        PatternId.INHERITED_WRITE_END,
        "Close in every child the ends of all pipes that are not its own, or use the spawn or forkserver start "
        "method, under which children inherit only what they are given.",
        lines,
        {"inherited_by": [int(pid) for pid in others], "pipe": str(node.events[0].object_id)},
        f"{case.names.actor(node.actor)} waits for the end of a stream that {keeper} keeps open.",
        f"{keeper} has the write end and never writes to it",
    )


def _own_end(case: Case, node: Node) -> Finding:
    return Finding(
        PatternId.OWN_WRITE_END,
        "Close the write end in the process that reads (and in every other that does not write), "
        "or the end of the stream never comes.",
        first_own_line(node.actor, "waits for the end of a stream whose last write end it holds itself"),
        {"pipe": str(node.events[0].object_id)},
        f"{case.names.actor(node.actor)} reads from a stream whose only open write end is its own.",
    )


def popen_pipe_full(case: Case) -> Finding | None:
    """A started program fills its output pipe, while its starter waits for something else."""
    for node in root_of(case):
        if node.kind is not WaitKind.PIPE_FULL or not node.actor.thread.wants:
            continue
        want = node.actor.thread.wants[0]
        if want.fd is None or int(want.fd) not in _STANDARD_STREAMS:
            continue
        starters = set(case.scene.ancestors(node.actor.pid))
        starter = next((other for other in case.nodes if other.actor.pid in starters), None)
        if starter is None:
            continue
        stream = "stdout" if int(want.fd) == 1 else "stderr"
        lines = first_own_line(starter.actor, f"waits, and does not read the {stream} of the program it started")
        lines += first_own_line(node.actor, f"writes more to {stream} than the pipe holds")
        return Finding(
            PatternId.POPEN_PIPE_FULL,
            "Read the output while the program runs: communicate() (or run(capture_output=True)) instead of wait(), "
            "stderr=STDOUT for one pipe, or a file or DEVNULL for what nobody reads.",
            lines,
            {"stream": stream, **level_facts(target_of(case, node))},
        )
    return None


def grandchild_holds_pipe(case: Case) -> Finding | None:
    """A reader waits for the end of a child's output that a process of the child keeps open."""
    node = case.nodes[0]
    if node.actor.does(Doing.PROCESS_JOIN) is not None:
        return None
    wanted = {want.object_id: want.fd for want in node.actor.thread.wants}
    for event in node.events:
        # What a program reads from its own standard input is no child's output.
        if event.kind is not WaitKind.PIPE_EMPTY or wanted.get(event.object_id) == 0:
            continue
        target = case.scene.target(event.object_id)
        if target is None or target.kind is not ObjectKind.PIPE or not _is_output(target, node.actor.pid):
            continue
        keepers = [pid for pid in living_holders(case, target, "w") if pid != node.actor.pid]
        if keepers and all(_left_behind(case, node, pid) for pid in keepers):
            keeper = case.names.process(keepers[0])
            return Finding(
                PatternId.GRANDCHILD_HOLDS_PIPE,
                "Give what runs on in the background no pipe of its starter's (>/dev/null 2>&1, DEVNULL), "
                "or start the child with start_new_session=True and end its whole group.",
                first_own_line(node.actor, "waits until every copy of the output pipe is closed"),
                {"held_by": [int(pid) for pid in keepers], "pipe": str(event.object_id)},
                f"{case.names.actor(node.actor)} waits for the end of a child's output, "
                f"which {keeper}, left behind by that child, keeps open.",
            )
    return None


def _is_output(target: WaitObject, reader: Tgid) -> bool:
    """Whether another process than the reader has the pipe as its standard output or error."""
    return any(h.pid != reader and h.fd in _STANDARD_STREAMS and "w" in h.access for h in target.holders)


def _left_behind(case: Case, node: Node, pid: Tgid) -> bool:
    # Its maker has ended: it was handed to init, or to whoever collects orphans.
    process = case.scene.process(pid)
    if process is None or process.ppid == node.actor.pid:
        return False
    parent = case.scene.process(process.ppid)
    reader = case.scene.process(node.actor.pid)
    begun = reader.start_ns if reader is not None else None
    if begun is not None and process.start_ns is not None and process.start_ns < begun:
        return False  # it was there before: who started the program, not who was left by it
    if reader is not None and node.actor.pid in set(case.scene.ancestors(pid)):
        return parent is not None and not parent.alive
    return parent is None or not parent.in_tree or not parent.alive
