"""Names for people: of processes, threads and the objects they wait on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from qtrace.analyse.activity import Doing, library_path, own_frame
from qtrace.analyse.edges import Edge
from qtrace.analyse.futexes import FUTEX_KINDS, queue_lock_of
from qtrace.analyse.graph import Node
from qtrace.analyse.held import lock_wanted
from qtrace.analyse.scene import Actor, Scene, role_in_words
from qtrace.model.ids import ObjectId, Tgid, Tid
from qtrace.model.kinds import Certainty, ObjectKind, WaitKind
from qtrace.model.snapshot import Frame, WaitObject
from qtrace.model.verdict import NamedObject, Provider, Wait

_MOST_PROVIDERS = 40
"""Of a wait in a process of a thousand threads, only so many are listed: those likeliest first."""

_QUEUE_STEPS: Mapping[Doing, str] = {
    Doing.MPQ_GET: "queue pipe",
    Doing.MPQ_PUT: "queue pipe",
    Doing.MPQ_FEED: "queue pipe",
    Doing.SIMPLEQ_GET: "queue pipe",
    Doing.SIMPLEQ_PUT: "queue pipe",
    Doing.MANAGER_CALL: "manager's socket",
    Doing.POPEN_START: "pipe that tells whether the program could be started",
    Doing.PROCESS_JOIN: "sentinel pipe",
    Doing.CONNECTION_SEND: "connection's pipe",
    Doing.CONNECTION_RECV: "connection's pipe",
    Doing.POPEN_COMMUNICATE: "output pipe",
}
_CONDITION_STEPS: tuple[tuple[Doing, str], ...] = (
    (Doing.POOL_RESULT, "result of a task of the pool"),
    (Doing.FUTURE_RESULT, "result of a future"),
    (Doing.QUEUE_GET, "item in a queue.Queue"),
    (Doing.QUEUE_PUT, "free place in a queue.Queue"),
    (Doing.QUEUE_JOIN, "task_done() of a queue.Queue"),
    (Doing.MPQ_JOIN, "task_done() of a JoinableQueue"),
    (Doing.MPQ_FEED, "item for the feeder"),
    (Doing.BARRIER, "others at the barrier"),
    (Doing.EVENT, "event"),
    (Doing.MP_EVENT, "event"),
    (Doing.SEMAPHORE, "semaphore"),
    (Doing.CONDITION, "notify() of a condition"),
    (Doing.MP_CONDITION, "notify() of a condition"),
)


@dataclass(slots=True)
class Names:
    """Names of one scene, made once."""

    scene: Scene
    _processes: dict[Tgid, str] = field(default_factory=dict)

    def process(self, pid: Tgid) -> str:
        """Return a process's name, with its pid where several of the tree share the name."""
        found = self._processes.get(pid)
        if found is None:
            found = self._processes[pid] = self._name_process(pid)
        return found

    def _name_process(self, pid: Tgid) -> str:
        process = self.scene.process(pid)
        if process is None:
            return f"pid {pid}"
        name = process.name or f"pid {pid}"
        others = (
            other
            for other in self.scene.snapshot.processes.values()
            if other.name == name and other.pid != pid and other.alive and other.in_tree
        )
        return f"{name} (pid {pid})" if any(others) else name

    def thread(self, actor: Actor) -> str:
        """Return a thread's name: Python's where known."""
        return actor.thread.name or f"tid {actor.tid}"

    def actor(self, actor: Actor, *, within: Tgid | None = None) -> str:
        """Return who a thread is, in a sentence; its process only where it is another one."""
        process = self.process(actor.pid)
        threads = self.scene.actors_of(actor.pid)
        if actor.thread.is_main:
            return process if within != actor.pid or len(threads) < 2 else "the main thread"
        name = actor.thread.name
        if actor.helper is not None and not actor.helper.runs_user_code:
            name = actor.helper.title
        elif actor.helper is not None:
            name = f"{actor.helper.title} ({actor.thread.name})"
        else:
            name = f"thread {name}" if name else f"thread {actor.tid}"
        return name if within == actor.pid else f"{name} of {process}"


def object_of(names: Names, node: Node, *, first: Tid | None = None) -> NamedObject | None:
    """Return what a thread waits on, in words; by the next link where it could be several."""
    if not node.events:
        return None
    if first is not None:
        node = replace(node, edges=_listed(node.edges, first))
    event = node.events[0]
    scene = names.scene
    target = scene.target(event.object_id)
    label = _label(names, node, event.kind, target, event.object_id)
    kind = target.kind if target is not None else _object_kind(event.object_id)
    if len(node.events) > 1 and node.kind in (WaitKind.POLL, WaitKind.CHILD_EXIT):
        label = _poll_label(names, node, label)
    level = target.bytes if target is not None else None
    capacity = target.capacity if target is not None else None
    return NamedObject(str(kind), event.object_id, label, level, capacity)


def _object_kind(object_id: ObjectId) -> ObjectKind:
    prefix = object_id.partition(":")[0]
    return {
        "futex": ObjectKind.FUTEX,
        "shared": ObjectKind.SEMAPHORE,
        "child": ObjectKind.CHILD,
        "children": ObjectKind.CHILD,
        "pidfd": ObjectKind.PIDFD,
        "clock": ObjectKind.CLOCK,
        "signal": ObjectKind.SIGNAL,
        "lock": ObjectKind.FILE_LOCK,
        "tty": ObjectKind.TTY,
    }.get(prefix, ObjectKind.OTHER)


def _poll_label(names: Names, node: Node, first: str) -> str:
    labels = [first]
    for event in node.events[1:]:
        target = names.scene.target(event.object_id)
        labels.append(_label(names, node, event.kind, target, event.object_id))
    distinct = list(dict.fromkeys(labels))
    return " or ".join(distinct[:3]) + (" ..." if len(distinct) > 3 else "")


def _label(names: Names, node: Node, kind: WaitKind, target: WaitObject | None, object_id: ObjectId) -> str:
    actor = node.actor
    if kind is WaitKind.CHILD_EXIT:
        return _child_label(names, node, object_id)
    if kind in (WaitKind.PIPE_EMPTY, WaitKind.PIPE_FULL):
        return _pipe_label(actor, target)
    if kind is WaitKind.GIL:
        return "interpreter lock (GIL)"
    if kind is WaitKind.THREAD_JOIN:
        joined = next((edge.tid for edge in node.edges if edge.tid is not None), None)
        other = names.scene.actors.get(joined) if joined is not None else None
        if other is None or actor.does(Doing.SHUTDOWN_JOIN):
            return "threads that are not daemons"
        return f"thread {other.thread.name}"
    if kind in FUTEX_KINDS:
        return _lock_label(actor, kind)
    if target is not None and target.label:
        return target.label
    return {WaitKind.SLEEP: "the clock", WaitKind.SIGNAL: "a signal"}.get(kind, str(kind))


def _child_label(names: Names, node: Node, object_id: ObjectId) -> str:
    word, _, number = object_id.partition(":")
    if word in ("child", "pidfd") and number.isdigit():
        return _child(names, Tgid(int(number)))
    if word == "children":
        return "any child"
    first = next((edge.pid for edge in node.edges), None)
    process = names.scene.process(first) if first is not None else None
    main = names.scene.main_of(first) if first is not None else None
    if main is not None and main.helper is not None:
        return "sentinel pipe of the child"
    return _child(names, process.pid) if process is not None else "child"


def _child(names: Names, pid: Tgid) -> str:
    name = names.process(pid)
    return name if name.startswith("child ") else f"child {name}"


def _pipe_label(actor: Actor, target: WaitObject | None) -> str:
    for step in actor.steps:
        found = _QUEUE_STEPS.get(step.doing)
        if found is not None and step.doing not in (Doing.CONNECTION_RECV, Doing.CONNECTION_SEND):
            return found
    for step in actor.steps:
        found = _QUEUE_STEPS.get(step.doing)
        if found is not None:
            return found if target is None or target.kind is ObjectKind.PIPE else "connection"
    if actor.helper is not None and actor.helper.title.startswith("the pool"):
        return "pool's pipe"
    return target.label if target is not None and target.label else "pipe"


def _lock_label(actor: Actor, kind: WaitKind) -> str:
    if kind is WaitKind.CONDITION:
        for doing, words in _CONDITION_STEPS:
            if actor.does(doing) is not None:
                return words
        if actor.helper is not None and actor.idle:
            return "something to do"
        return "condition"
    queue_lock = queue_lock_of(actor)
    if queue_lock is not None:
        return f"queue's {queue_lock}"
    if kind is WaitKind.SEMAPHORE:
        if actor.does(Doing.MPQ_PUT):
            return "free place in the bounded queue"
        return "semaphore"
    wanted = lock_wanted(actor)
    if wanted:
        return f"lock {wanted[0].text}"
    return "lock"


def python_of(actor: Actor) -> tuple[Frame, ...]:
    """Return the frames to show, innermost first."""
    return actor.stack or actor.thread.stack


def telling_frame(stack: Iterable[Frame]) -> Frame | None:
    """Return the frame that a person wants to see: the program's own, else the innermost."""
    frames = tuple(stack)
    return own_frame(frames) or next((frame for frame in frames if library_path(frame.file) is not None), None)


def wait_of(names: Names, node: Node, *, first: Tid | None = None) -> Wait:
    """Return a node as a link of the chain or a row of the waits.

    Args:
        names: The scene's names.
        node: A thread.
        first: A provider that has to be among those listed: the next of the chain.
    """
    actor = node.actor
    call = actor.thread.call
    return Wait(
        pid=actor.pid,
        tid=actor.tid,
        process=names.process(actor.pid),
        thread=names.thread(actor),
        role=role_in_words(actor),
        kind=node.kind,
        since_ns=actor.thread.since_ns,
        call_name=call.name if call is not None else "",
        call_text=call.text if call is not None else "",
        target=object_of(names, node, first=first),
        providers=tuple(_provider(edge) for edge in _listed(node.edges, first)),
        python=python_of(actor),
    )


def _listed(edges: tuple[Edge, ...], first: Tid | None) -> tuple[Edge, ...]:
    if first is not None:
        edges = tuple(sorted(edges, key=lambda edge: edge.tid != first))
    return edges[:_MOST_PROVIDERS]


def _provider(edge: Edge) -> Provider:
    return Provider(edge.pid, edge.tid, edge.certainty, edge.why)


def proven(edge: Edge) -> Edge:
    """Return an edge with its certainty raised: nobody else is left who could do it."""
    return Edge(edge.pid, edge.tid, Certainty.PROVEN, edge.why, edge.cost)
