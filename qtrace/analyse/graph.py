"""The wait-for graph of a moment: every thread, what it waits for, who could end that, who is live.

One graph serves the live look and the recording. It is reduced twice, strictly and with what is
known about programs (see `providers`), and a third time with the clock taken away from threads
that go round in polls, to find those that move and can never get on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from qtrace.analyse.activity import Doing, base_name, library_path, own_frame, signal_handler_in
from qtrace.analyse.bystanders import waits_in_vain
from qtrace.analyse.edges import EXACT, IDLE, NATURAL, Edge, Groups, edges_to
from qtrace.analyse.providers import Event, resolve
from qtrace.analyse.reduction import ALWAYS, Need, all_of, any_of, live_threads
from qtrace.analyse.scene import Actor, Scene
from qtrace.model.ids import ObjectId, Tgid, Tid
from qtrace.model.kinds import Certainty, Role, WaitKind
from qtrace.model.snapshot import Thread, Want

_FAULT_SIGNALS = {4, 5, 6, 7, 8, 11}
_SIGALRM = 14
_SIGINT, _SIGPIPE, _SIGCHLD, _SIGXFSZ, _SIGWINCH = 2, 13, 17, 25, 28
_LIBC_SIGNALS = {32, 33, 34}
"""Real-time signals that the C library keeps for itself (cancellation, setxid)."""
_NOT_A_WAY_OUT = (
    _FAULT_SIGNALS
    | _LIBC_SIGNALS
    | {
        _SIGINT,
        _SIGPIPE,
        _SIGCHLD,
        _SIGXFSZ,
        _SIGWINCH,
    }
)
"""Caught signals that are no sign of a program that waits for one: Python catches SIGINT itself."""


_TICKING_NS = 2_000_000
"""A thread that only wakes every 5 ms to ask for the interpreter lock again uses some 20 us each
time, 0.5 ms between two looks; one that gets it computes for 5 ms at once."""
_TICKING_SHARE = 60
"""The same as a share of the time, where a busy machine draws the looks apart: 0.4 % seen at most."""


STEADY_NS = 100_000_000
"""A wait of a recording that has lasted this long counts as seen twice."""


class Standing(StrEnum):
    """How a thread stands, before anybody is woken."""

    BLOCKED = "blocked"
    RUNNING = "running"
    TIMED = "timed"
    EXTERNAL = "external"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Node:
    """A thread in the graph."""

    actor: Actor
    standing: Standing
    why: str
    """Why it can go on by itself; empty if blocked."""
    kind: WaitKind
    events: tuple[Event, ...]
    edges: tuple[Edge, ...]
    full: Need
    strict: Need
    untimed: Need
    """What it would need if no timeout ever came."""
    in_call: bool = True

    @property
    def tid(self) -> Tid:
        """The thread."""
        return self.actor.tid

    @property
    def blocked(self) -> bool:
        """Whether it needs somebody else to go on."""
        return self.standing is Standing.BLOCKED


@dataclass(frozen=True, slots=True)
class WaitGraph:
    """The nodes, and what the reductions left over."""

    scene: Scene
    nodes: Mapping[Tid, Node]
    stuck: frozenset[Tid]
    """Blocked, and nobody who could wake them can ever run again."""
    proven: frozenset[Tid]
    """Those of them that are stuck by the kernel's state alone."""
    spinning: frozenset[Tid]
    """Threads that poll with a timeout, and nobody but the clock will ever end that."""
    hopeless: frozenset[Tid]
    """These and everyone who could not run again if they did not poll."""

    def providers(self, tid: Tid) -> tuple[Edge, ...]:
        """Return who could end a thread's wait, the most natural first."""
        return self.nodes[tid].edges


def build(scene: Scene) -> WaitGraph:
    """Return the graph of a moment, reduced."""
    groups = Groups(scene)
    nodes = {tid: _node(scene, groups, actor) for tid, actor in scene.actors.items()}
    live = live_threads({tid: node.full for tid, node in nodes.items()})
    strictly_live = live_threads({tid: node.strict for tid, node in nodes.items()})
    stuck = frozenset(tid for tid, node in nodes.items() if node.blocked and tid not in live)
    spinning, hopeless = _spinning(scene, nodes, live)
    return WaitGraph(scene, nodes, stuck, stuck - strictly_live, spinning, hopeless)


def _spinning(scene: Scene, nodes: Mapping[Tid, Node], live: frozenset[Tid]) -> tuple[frozenset[Tid], frozenset[Tid]]:
    rounds = {tid for tid, node in nodes.items() if tid in live and _goes_round(scene, node)}
    candidates = {tid for tid in rounds if _in_vain(nodes[tid].actor) or _nobody_left(nodes[tid], rounds)}
    if not candidates:
        return frozenset(), frozenset()
    needs = {tid: node.untimed if tid in candidates else node.full for tid, node in nodes.items()}
    hopeless = frozenset(nodes) - live_threads(needs)
    return frozenset(candidates) & hopeless, hopeless


def _nobody_left(node: Node, rounds: Collection[Tid]) -> bool:
    # One that lives may itself be waiting for what this loop does between two looks: a monitor is
    # joined while it looks for commands, a child is drained each second by the one who joins it.
    return all(edge.tid is None or edge.tid in rounds for edge in node.edges)


_ASKS = (
    Doing.MPQ_GET,
    Doing.MPQ_PUT,
    Doing.QUEUE_GET,
    Doing.QUEUE_PUT,
    Doing.FUTURE_RESULT,
    Doing.CONNECTION_POLL,
    Doing.CONNECTION_WAIT,
)
"""Operations with a timeout that ask others for something. A bare poll, select or wait for an event
with a timeout is how schedulers and event loops sleep."""


_ASKED = frozenset({*_ASKS, Doing.PROCESS_JOIN, Doing.POPEN_WAIT})


def _goes_round(scene: Scene, node: Node) -> bool:
    # A call with a timeout that is entered again and again, on something that only others can bring
    # about.
    actor = node.actor
    if node.standing is not Standing.TIMED or not node.events or not (actor.thread.moved or _in_a_loop(actor)):
        return False
    if actor.thread.is_main and _ways_out(actor):
        return False  # the loop looks at what a handler sets
    if _in_vain(actor):
        return True
    frame = own_frame(actor.stack)
    if frame is None or frame.source.startswith("while"):
        return False  # `while not stop.poll(1): work()` sleeps between two rounds of work
    asks = actor.does(*_ASKS) is not None or _asks_the_dead(scene, node)
    return asks and actor.within(Doing.EVENT_LOOP) is None


def _in_vain(actor: Actor) -> bool:
    # What the program itself called is the outermost: queue.get raises at its timeout, poll() does not.
    called = actor.steps[-1].doing if actor.steps else None
    if called is None:
        # A lock's acquire() is C code; waits_in_vain looks for it in the line.
        return bool(actor.stack) and library_path(actor.stack[0].file) is None and waits_in_vain(actor.stack, None)
    return called in _ASKED and waits_in_vain(actor.stack, called)


def _asks_the_dead(scene: Scene, node: Node) -> bool:
    # A bare poll or select on streams whose only open write ends are the reader's own, when a process
    # that it made has ended: that one had the other ends.
    if node.edges or any(event.kind not in _STREAMS for event in node.events):
        return False
    processes = (scene.process(pid) for pid in scene.started_by(node.actor.pid))
    if any(process is not None and not process.alive for process in processes):
        return True
    uses = scene.snapshot.history.uses
    dead = {death.pid for death in scene.snapshot.history.deaths} - {node.actor.pid}
    return any((pid, event.object_id) in uses for pid in dead for event in node.events)


_STREAMS = frozenset({WaitKind.PIPE_EMPTY, WaitKind.SOCKET_EMPTY})


def _in_a_loop(actor: Actor) -> bool:
    # A timeout longer than the time between the looks shows no movement; the text shows the loop.
    frame = own_frame(actor.stack)
    return frame is not None and any(head.startswith("while") for head in frame.around)


def _node(scene: Scene, groups: Groups, actor: Actor) -> Node:
    thread = actor.thread
    helper = actor.helper
    if thread.state == "T":
        return _free(actor, Standing.EXTERNAL, _stopped_words(actor), WaitKind.STOPPED)
    outside = helper is not None and helper.role is Role.MANAGER and scene.serves_the_outside(actor.pid)
    if helper is not None and helper.loop_waits_for_program and actor.idle and not outside:
        if helper.title == "the pool's worker handler" and not _has_workers(scene, actor):
            return _free(actor, Standing.RUNNING, "is about to make new workers", WaitKind.EXTERNAL, in_call=False)
        return _helper_node(scene, groups, actor)
    if thread.call is None or thread.state == "R":
        return _free(actor, Standing.RUNNING, "runs", WaitKind.EXTERNAL, in_call=False)
    events = tuple(resolve(scene, groups, actor, want) for want in thread.wants)
    events += _signal_events(scene, groups, actor, events)
    if not events:
        if thread.moved:
            return _free(actor, Standing.RUNNING, "moved between the two looks", WaitKind.EXTERNAL, in_call=False)
        return _free(actor, Standing.EXTERNAL, "is in a call that qtrace does not know", WaitKind.EXTERNAL)
    kind = events[0].kind if len(events) == 1 else _joint_kind(events)
    if kind is not WaitKind.GIL or _got_it(scene, thread):
        free = _goes_on(scene, actor, events, kind)
        if free is not None:
            return free
    return _blocked(scene, actor, events, kind)


def _has_workers(scene: Scene, handler: Actor) -> bool:
    # Between the end of a worker that has done its share of tasks and the start of the next one
    # there may be none: the handler is the one who goes on.
    if any(other.helper is not None and other.helper.role is Role.WORKER for other in scene.actors_of(handler.pid)):
        return True
    mains = (scene.main_of(pid) for pid in scene.started_by(handler.pid))
    return any(main is not None and (main.helper is None or main.helper.role is Role.WORKER) for main in mains)


def _got_it(scene: Scene, thread: Thread) -> bool:
    """Whether a thread that asks for the interpreter lock has had it between the two looks."""
    if thread.spent_ns is None:
        return thread.moved is True
    apart = scene.snapshot.looks_apart_ns or 0
    return thread.spent_ns > max(_TICKING_NS, apart // _TICKING_SHARE)


def _joint_kind(events: tuple[Event, ...]) -> WaitKind:
    kinds = {event.kind for event in events}
    if kinds == {WaitKind.CHILD_EXIT}:
        return WaitKind.CHILD_EXIT
    return WaitKind.POLL


def _free(
    actor: Actor,
    standing: Standing,
    why: str,
    kind: WaitKind,
    events: tuple[Event, ...] = (),
    in_call: bool = True,
) -> Node:
    edges = _edges(events)
    untimed = _need(actor, [event.full for event in events]) if events else ALWAYS
    return Node(actor, standing, why, kind, events, edges, ALWAYS, ALWAYS, untimed, in_call)


def _goes_on(scene: Scene, actor: Actor, events: tuple[Event, ...], kind: WaitKind) -> Node | None:
    thread = actor.thread
    if kind is WaitKind.GIL:
        return _free(actor, Standing.RUNNING, "takes turns with the interpreter lock", kind, events)
    if _has_an_alarm(actor):
        return _free(actor, Standing.TIMED, "may be ended by the alarm that its process catches", kind, events)
    by_itself = [event for event in events if event.comes]
    enough = len(by_itself) == len(events) if thread.needs_all else bool(by_itself)
    if enough:
        event = next((e for e in by_itself if e.comes == "external"), by_itself[0])
        if event.comes == "external" and event.kind is not WaitKind.ACCEPT and _is_a_limit(thread):
            return _free(actor, Standing.TIMED, "has a timeout, which always comes", kind, events)
        standing = {
            "external": Standing.EXTERNAL,
            "timed": Standing.TIMED,
            "unseen": Standing.UNSEEN,
            "ready": Standing.RUNNING,
        }[event.comes]
        found = event.kind if len(events) == 1 else kind
        return _free(actor, standing, event.why, found, events)
    if thread.timeout_ns is not None and not _joins_in_the_end(scene, actor):
        return _free(actor, Standing.TIMED, "has a timeout, which always comes", kind, events)
    if thread.moved:
        return _free(actor, Standing.RUNNING, "moved between the two looks", kind, events)
    if thread.moved is None and not _steady(scene, thread):
        return _free(actor, Standing.RUNNING, "has only just been seen to wait", kind, events)
    return None


def _has_an_alarm(actor: Actor) -> bool:
    # A timer of setitimer or alarm shows nowhere in /proc. Its handler runs in Python's main thread, and may
    # raise an exception; a thread that is inside of a handler is not interrupted by the next one.
    if not actor.thread.is_main or not actor.process.python:
        return False
    return _SIGALRM in _numbers(actor.process.caught_signals) and signal_handler_in(actor.stack) is None


def _is_a_limit(thread: Thread) -> bool:
    # A short timeout is a loop's, a long one is how long somebody is willing to wait.
    return thread.timeout_ns is not None and thread.timeout_ns >= _LIMIT_NS


_LIMIT_NS = 2_000_000_000


def _joins_in_the_end(scene: Scene, actor: Actor) -> bool:
    """Whether a wait with a timeout is followed by one for the same, without."""
    # From 3.12 on asyncio.run gives the threads of its executor five minutes to end; when these are over, the
    # interpreter's exit joins them without a limit.
    closing = any(
        library_path(frame.file) == "asyncio/runners.py" and base_name(frame.function) == "close"
        for frame in actor.stack
    )
    helpers = (other.helper for other in scene.actors_of(actor.pid))
    return closing and any(helper is not None and helper.title == "asyncio's shutdown thread" for helper in helpers)


def _steady(scene: Scene, thread: Thread) -> bool:
    return thread.since_ns is not None and scene.snapshot.time_ns - thread.since_ns >= STEADY_NS


def _blocked(scene: Scene, actor: Actor, events: tuple[Event, ...], kind: WaitKind) -> Node:
    # A watchdog that will end the process ends its waits too, and goes on with whoever waits for that.
    enders = [tid for tid in scene.may_be_ended_by(actor.pid) if tid != actor.tid]
    full = any_of([_need(actor, [event.full for event in events]), *enders])
    strict = any_of([_need(actor, [event.strict for event in events]), *enders])
    if kind is WaitKind.GIL and not events:
        full = strict = ALWAYS
    if _joins_in_the_end(scene, actor):
        strict = ALWAYS
        words = "when its timeout is over, the interpreter's exit waits for the same threads without one"
        events = (replace(events[0], assumptions=(*events[0].assumptions, words)), *events[1:])
    return Node(actor, Standing.BLOCKED, "", kind, events, _edges(events), full, strict, full)


def _need(actor: Actor, needs: list[Need]) -> Need:
    return all_of(needs) if actor.thread.needs_all else any_of(needs)


def _edges(events: tuple[Event, ...]) -> tuple[Edge, ...]:
    best: dict[tuple[Tgid, Tid | None], Edge] = {}
    for event in events:
        for edge in event.edges:
            known = best.get((edge.pid, edge.tid))
            if known is None or edge.cost < known.cost:
                best[edge.pid, edge.tid] = edge
    return tuple(sorted(best.values(), key=lambda edge: edge.cost))


def _stopped_words(actor: Actor) -> str:
    signal = actor.process.stop_signal
    return f"is stopped by signal {signal}" if signal else "is stopped"


def _helper_node(scene: Scene, groups: Groups, actor: Actor) -> Node:
    """A helper whose loop only acts on what the program does, whatever call it happens to be in."""
    helper = actor.helper
    assert helper is not None
    wide = helper.role in (Role.MANAGER, Role.FORK_SERVER)
    pids = tuple(scene.by_process) if wide else scene.address_space_of(actor.pid)
    others = (other for pid in pids for other in scene.actors_of(pid) if other.tid != actor.tid)
    program = [other for other in others if other.is_program and not other.bystander]
    full = any_of(other.tid for other in program)
    words = f"{helper.title} only acts on what the program's own threads do"
    edges = [Edge(other.pid, other.tid, Certainty.LIKELY, words, IDLE) for other in program]
    if helper.role is Role.FORK_SERVER:
        edges = _server_edges(scene, actor, edges)
    if helper.role is Role.HANDLER:
        edges = _busy_workers(scene, actor) + edges
    wants = actor.thread.wants
    object_id = wants[0].object_id if wants else ObjectId("clock")
    kind = _helper_kind(actor)
    event = Event(kind, object_id, tuple(edges), full, ALWAYS, assumptions=(words,))
    # A helper that is on the CPU, or has a timeout, is alive to a strict eye.
    strict = _strict_helper_need(scene, groups, actor)
    return Node(actor, Standing.BLOCKED, "", kind, (event,), tuple(edges), full, strict, full)


def _helper_kind(actor: Actor) -> WaitKind:
    if actor.helper is not None and actor.helper.role is Role.FORK_SERVER:
        return WaitKind.CHILD_EXIT
    wants = actor.thread.wants
    if len(wants) == 1 and wants[0].kind is not WaitKind.LOCK:
        return wants[0].kind
    return WaitKind.POLL if wants else WaitKind.SLEEP


def _strict_helper_need(scene: Scene, groups: Groups, actor: Actor) -> Need:
    thread = actor.thread
    if thread.call is None or thread.state == "R" or thread.moved or thread.timeout_ns is not None:
        return ALWAYS
    if not thread.wants:
        return ALWAYS
    events = [resolve(scene, groups, actor, want) for want in thread.wants]
    return _need(actor, [event.strict for event in events])


def _server_edges(scene: Scene, actor: Actor, others: list[Edge]) -> list[Edge]:
    why = "is a child of the fork server, which waits for its end"
    children = [
        Edge(pid, main.tid, Certainty.PROVEN, why, EXACT)
        for pid in scene.children.get(actor.pid, ())
        if (main := scene.main_of(pid)) is not None
    ]
    known = {edge.tid for edge in children}
    return children + [edge for edge in others if edge.tid not in known]


def _busy_workers(scene: Scene, actor: Actor) -> list[Edge]:
    # Whoever joins a pool joins its worker handler, which ends when every task has: the chain goes on there.
    why = "is at a task, without whose end the pool does not"
    mains = (scene.main_of(pid) for pid in scene.started_by(actor.pid))
    return [
        Edge(main.pid, main.tid, Certainty.LIKELY, why, NATURAL)
        for main in mains
        if main is not None and main.helper is not None and main.helper.role is Role.WORKER and not main.idle
    ]


def _numbers(mask: int) -> set[int]:
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def _reads_own_end(scene: Scene, actor: Actor, events: tuple[Event, ...]) -> bool:
    # signal.set_wakeup_fd, or a handler that writes: to a pipe or socket of which a process holds both ends. Of a
    # queue it does so, too; only the program's own bare read() or recv() may be meant for that.
    if actor.helper is not None or not actor.stack or library_path(actor.stack[0].file) is not None:
        return False
    ends = [scene.other_end(scene.target(event.object_id)) for event in events if event.kind in _STREAMS]
    holders = [holder for end in ends if end is not None for holder in end.holders]
    return any(holder.pid == actor.pid and "w" in holder.access for holder in holders)


def _ways_out(actor: Actor) -> set[int]:
    """Signals by whose handlers the outside may tell the program to go on."""
    return _numbers(actor.process.caught_signals) - _NOT_A_WAY_OUT


def _signal_events(scene: Scene, groups: Groups, actor: Actor, events: tuple[Event, ...]) -> tuple[Event, ...]:
    """What a signal could bring about in the main thread, where Python runs its handlers.

    A main thread that waits for an event, or in a selector, in a program that catches SIGTERM or
    the like, waits for the outside: setting an event is what such handlers are for. SIGCHLD wakes
    it when a child ends. So do signals whoever reads from an end that its own process writes to.
    """
    caught = actor.process.caught_signals
    if not caught or not events or not actor.process.python:
        return ()
    woken = _reads_own_end(scene, actor, events)
    if not actor.thread.is_main and not woken:
        return ()
    selects = actor.does(Doing.SELECT) is not None or (
        actor.thread.call is not None and actor.thread.call.name.startswith(("epoll", "select", "pselect"))
    )
    waits_for_event = actor.does(Doing.EVENT, Doing.MP_EVENT) is not None and actor.does(Doing.POOL_RESULT) is None
    if not selects and not waits_for_event and not woken:
        return ()
    numbers = _numbers(caught)
    object_id = events[0].object_id
    found: list[Event] = []
    others = _ways_out(actor)
    if others:
        names = ", ".join(str(number) for number in sorted(others))
        why = f"may be woken by a signal that the program catches ({names})"
        found.append(Event(WaitKind.SIGNAL, object_id, (), ALWAYS, ALWAYS, "external", why))
    if _SIGCHLD in numbers and (selects or woken):
        pids = tuple(pid for pid in scene.children.get(actor.pid, ()) if scene.main_of(pid) is not None)
        if pids:
            want = Want(WaitKind.CHILD_EXIT, object_id)
            edges = edges_to(scene, actor, pids, "is a child, whose end sends SIGCHLD", want)
            need = groups.any_thread(pids)
            found.append(Event(WaitKind.CHILD_EXIT, object_id, edges, need, need))
    return tuple(found)
