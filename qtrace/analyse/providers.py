"""The events that would end a wait, and for each the threads that could make it happen.

Each event is resolved twice. The *strict* need takes every holder for a provider, as the kernel's
state shows them, and any sign of movement for a proof of life; what is stuck even so is proven. The
*full* need also uses what is known about programs: who holds a lock by the text around its frames,
that a child ends when its main thread ends, that a pool's worker handler brings no result back.
What is stuck only by that is likely, and the assumption is named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from qtrace.analyse.activity import Doing
from qtrace.analyse.counterparts import counterparts_first
from qtrace.analyse.edges import (
    EXACT,
    NATURAL,
    POSSIBLE,
    Edge,
    Groups,
    edge_to,
    edges_to,
    may_be_parked,
    sharers,
    users_first,
)
from qtrace.analyse.futexes import FUTEX_KINDS, Narrowed, futex_kind, is_shared, narrow
from qtrace.analyse.reduction import ALWAYS, NEVER, Need, all_of, any_of
from qtrace.analyse.scene import Actor, Scene
from qtrace.analyse.torn import Torn, may_send_rest, torn_message_of
from qtrace.model.ids import ObjectId, Tgid, Tid
from qtrace.model.kinds import Certainty, ObjectKind, Role, WaitKind
from qtrace.model.snapshot import WaitObject, Want


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that would end a wait."""

    kind: WaitKind
    object_id: ObjectId
    edges: tuple[Edge, ...]
    full: Need
    strict: Need
    comes: str = ""
    """Why it comes by itself: ``external``, ``timed``, ``unseen``, ``ready``; empty if it does not."""
    why: str = ""
    """The reason in words."""
    assumptions: tuple[str, ...] = ()
    narrowed: Narrowed | None = None


def comes(kind: WaitKind, object_id: ObjectId, reason: str, why: str) -> Event:
    """Return an event that comes by itself."""
    return Event(kind, object_id, (), ALWAYS, ALWAYS, reason, why)


def resolve(scene: Scene, groups: Groups, actor: Actor, want: Want) -> Event:
    """Return the event that a want stands for, with everyone who could make it happen."""
    kind = kind_of(scene, actor, want)
    if kind in FUTEX_KINDS:
        return _futex(scene, groups, actor, want, kind)
    if kind is WaitKind.CHILD_EXIT:
        return _child_exit(scene, groups, actor, want)
    target = scene.target(want.object_id)
    if kind in (WaitKind.PIPE_EMPTY, WaitKind.PIPE_FULL) and target is not None and target.kind is ObjectKind.TTY:
        pids = _other_side(scene, target)
        return _held_by(scene, groups, actor, want, kind, pids, "holds the other side of the terminal")
    if kind in (WaitKind.PIPE_EMPTY, WaitKind.PIPE_FULL):
        return _pipe(scene, groups, actor, want, kind, target)
    if kind in (WaitKind.SOCKET_EMPTY, WaitKind.SOCKET_FULL):
        return _socket(scene, groups, actor, want, kind, target)
    if kind is WaitKind.CONNECT and target is not None and target.peer is not None:
        peer = scene.peer_of(target)
        pids = tuple(dict.fromkeys(holder.pid for holder in peer.holders)) if peer is not None else ()
        if pids:
            return _held_by(scene, groups, actor, want, kind, pids, "holds the socket that listens there")
    if kind is WaitKind.EVENTFD:
        return _eventfd(scene, groups, actor, want, target)
    if kind is WaitKind.FILE_LOCK:
        return _file_lock(scene, groups, actor, want, target)
    if kind in (WaitKind.SLEEP, WaitKind.TIMEOUT):
        return comes(kind, want.object_id, "timed", "waits for the clock")
    return comes(kind, want.object_id, "external", _EXTERNAL_WORDS.get(kind, "waits for the outside"))


_EXTERNAL_WORDS = {
    WaitKind.ACCEPT: "waits for somebody to connect",
    WaitKind.CONNECT: "waits for the other side to accept",
    WaitKind.SIGNAL: "waits for a signal",
    WaitKind.STOPPED: "is stopped and waits for SIGCONT",
}


def kind_of(scene: Scene, actor: Actor, want: Want) -> WaitKind:
    """Return a want's kind, made definite: by the object for the members of a poll set."""
    if want.kind in FUTEX_KINDS or want.object_id.startswith(("futex:", "shared:")):
        return futex_kind(scene, actor, want)
    target = scene.target(want.object_id)
    if target is not None and target.kind is ObjectKind.TTY and _other_side(scene, target):
        return WaitKind.PIPE_FULL if want.access == "w" else WaitKind.PIPE_EMPTY
    if want.kind is not WaitKind.POLL:
        return want.kind
    if want.object_id.startswith(("pidfd:", "child:", "children:")):
        return WaitKind.CHILD_EXIT
    if target is None:
        return WaitKind.EXTERNAL
    writes = want.access == "w"
    if target.kind in (ObjectKind.PIPE, ObjectKind.FIFO):
        return WaitKind.PIPE_FULL if writes else WaitKind.PIPE_EMPTY
    if target.kind is ObjectKind.SOCKET:
        if target.listening:
            return WaitKind.ACCEPT
        return WaitKind.SOCKET_FULL if writes else WaitKind.SOCKET_EMPTY
    return {ObjectKind.EVENTFD: WaitKind.EVENTFD, ObjectKind.PIDFD: WaitKind.CHILD_EXIT}.get(
        target.kind, WaitKind.EXTERNAL
    )


def _other_side(scene: Scene, terminal: WaitObject) -> tuple[Tgid, ...]:
    """Who holds the other side of a pseudo terminal, if that is the program itself; empty if it is the outside."""
    peer = scene.peer_of(terminal)
    pids = tuple(dict.fromkeys(holder.pid for holder in peer.holders)) if peer is not None else ()
    return pids if outsider(scene, pids) is None else ()


# --- pipes, sockets, eventfds -------------------------------------------------------------------


def _pipe(scene: Scene, groups: Groups, actor: Actor, want: Want, kind: WaitKind, target: WaitObject | None) -> Event:
    if target is None:
        return comes(kind, want.object_id, "unseen", "waits for an other end that could not be looked up")
    if kind is WaitKind.PIPE_EMPTY and target.bytes:
        return comes(kind, want.object_id, "ready", "has bytes to read")
    if kind is WaitKind.PIPE_FULL and target.bytes == 0:
        return comes(kind, want.object_id, "ready", "has room to write")
    end = "w" if kind is WaitKind.PIPE_EMPTY else "r"
    pids = tuple(dict.fromkeys(h.pid for h in target.holders if end in h.access))
    if not pids:
        return comes(kind, want.object_id, "ready", "is about to see that nobody has the other end")
    word = "write" if end == "w" else "read"
    return _held_by(scene, groups, actor, want, kind, pids, f"holds a {word} end")


def _socket(scene: Scene, groups: Groups, actor: Actor, want: Want, kind: WaitKind, target: WaitObject | None) -> Event:
    if target is None or target.remote:
        return comes(kind, want.object_id, "external", "waits for the network")
    if target.listening:
        return comes(WaitKind.ACCEPT, want.object_id, "external", "waits for somebody to connect")
    if kind is WaitKind.SOCKET_EMPTY and target.bytes:
        return comes(kind, want.object_id, "ready", "has bytes to read")
    peer = scene.peer_of(target)
    if peer is None:
        return comes(kind, want.object_id, "external", "waits for the other end, which was not found on this host")
    pids = tuple(dict.fromkeys(holder.pid for holder in peer.holders))
    if not pids:
        return comes(kind, want.object_id, "external", "waits for the other end, which nobody seen has")
    event = _held_by(scene, groups, actor, want, kind, pids, "holds the other end of the socket")
    if peer.listening and _is_its_own_server(scene, actor, pids):
        return replace(event, edges=())
    return event


def _is_its_own_server(scene: Scene, actor: Actor, pids: tuple[Tgid, ...]) -> bool:
    # Connected and not yet accepted: who serves connections would have to, and that is the waiting thread.
    def serves(one: Actor) -> bool:
        return one.within(Doing.SERVER_LOOP, Doing.EVENT_LOOP) is not None

    return serves(actor) and not any(serves(o) for pid in pids for o in scene.actors_of(pid) if o.tid != actor.tid)


def _eventfd(scene: Scene, groups: Groups, actor: Actor, want: Want, target: WaitObject | None) -> Event:
    if target is None or not target.holders:
        return comes(WaitKind.EVENTFD, want.object_id, "unseen", "waits for holders that could not be looked up")
    if target.bytes and want.access != "w":
        return comes(WaitKind.EVENTFD, want.object_id, "ready", "has an eventfd whose counter is not zero")
    pids = tuple(dict.fromkeys(holder.pid for holder in target.holders))
    return _held_by(scene, groups, actor, want, WaitKind.EVENTFD, pids, "holds the eventfd")


def _held_by(
    scene: Scene,
    groups: Groups,
    actor: Actor,
    want: Want,
    kind: WaitKind,
    pids: tuple[Tgid, ...],
    why: str,
) -> Event:
    pids = scene.with_newborn(pids)
    outside = outsider(scene, pids)
    if outside is not None:
        return comes(kind, want.object_id, *outside)
    living = tuple(pid for pid in pids if scene.actors_of(pid))
    if actor.does(Doing.PROCESS_JOIN) and kind is WaitKind.PIPE_EMPTY:
        return _sentinel(scene, groups, actor, want, living)
    if _waits_for_ends(actor) and kind is WaitKind.PIPE_EMPTY:
        event = _sentinel(scene, groups, actor, want, living)
        return replace(event, full=event.strict)
    torn = torn_message_of(scene, actor)
    if torn is not None:
        return _rest_of_message(scene, groups, actor, want, kind, living, torn)
    served = _manager_threads(scene, actor, living)
    if served:
        serving = tuple(edge_to(actor, other, "serves a client of the manager") for other in served)
        full = any_of(other.tid for other in served)
        return Event(kind, want.object_id, serving, full, groups.any_thread(living))
    edges = users_first(scene, actor, edges_to(scene, actor, living, why, want))
    edges = counterparts_first(scene, actor, edges)
    edges = edges or _closed_at_exit(scene, actor, kind)
    everyone = groups.any_thread(living)
    able, looking_on = groups.able(living)
    if looking_on and _is_output_of(scene, want, living):
        able, looking_on = everyone, ()
    if kind is WaitKind.PIPE_FULL and _flushes_at_exit(scene, actor):
        words = "a process that waits for its feeder in order to end does not read its own queue"
        others, _ = groups.able(tuple(pid for pid in living if pid != actor.pid))
        return Event(kind, want.object_id, edges, others, everyone, assumptions=(words,))
    return Event(kind, want.object_id, edges, able, everyone, assumptions=looking_on)


def _is_output_of(scene: Scene, want: Want, pids: tuple[Tgid, ...]) -> bool:
    # What a bystander prints reaches whoever reads its process's output.
    target = scene.target(want.object_id)
    holders = target.holders if target is not None else ()
    return want.access == "r" and any(h.pid in pids and h.fd in (1, 2) and "w" in h.access for h in holders)


def _flushes_at_exit(scene: Scene, actor: Actor) -> bool:
    main = scene.main_of(actor.pid)
    return actor.does(Doing.MPQ_FEED) is not None and main is not None and main.does(Doing.MPQ_JOIN_FEEDER) is not None


def _rest_of_message(
    scene: Scene, groups: Groups, actor: Actor, want: Want, kind: WaitKind, pids: tuple[Tgid, ...], torn: Torn
) -> Event:
    # Only the thread that began the message can send the rest of it.
    senders = [o for pid in pids for o in scene.actors_of(pid) if o.tid != actor.tid and may_send_rest(o)]
    writer = scene.process(torn.writer_pid) if torn.writer_pid is not None else None
    if writer is not None and not writer.alive:
        edge = Edge(writer.pid, None, Certainty.PROVEN, "had begun to send the message, and has ended", EXACT)
        return Event(kind, want.object_id, (edge,), NEVER, NEVER)
    why = "may be in the middle of sending the message"
    edges = tuple(edge_to(actor, other, why) for other in senders)
    words = "only the one that has sent the beginning of a message sends the rest of it"
    full = any_of(other.tid for other in senders)
    return Event(kind, want.object_id, edges, full, groups.any_thread(pids), assumptions=(words,))


def _closed_at_exit(scene: Scene, actor: Actor, kind: WaitKind) -> tuple[Edge, ...]:
    # A program that ends closes its ends of its queues before it waits for its children: they can
    # only have been fed by it, and it waits for them.
    if kind is not WaitKind.PIPE_EMPTY or actor.does(Doing.MPQ_GET, Doing.SIMPLEQ_GET) is None:
        return ()
    process = scene.process(actor.pid)
    parent = scene.main_of(process.ppid) if process is not None else None
    if parent is None or parent.does(Doing.PROCESS_EXIT) is None or parent.does(Doing.PROCESS_JOIN) is None:
        return ()
    why = "has closed its end of the queue when it began to end, and waits for its children"
    return (Edge(parent.pid, parent.tid, Certainty.LIKELY, why, POSSIBLE),)


def outsider(scene: Scene, pids: Iterable[Tgid]) -> tuple[str, str] | None:
    """Return why an event can come from beyond what is seen, or None if every holder is seen."""
    for pid in pids:
        process = scene.process(pid)
        if process is None:
            return "unseen", f"waits for pid {pid}, which could not be seen"
        if process.unseen:
            return "unseen", f"waits for {process.name} (pid {pid}), which could not be seen: {process.unseen}"
        if not process.in_tree and process.alive:
            return "external", f"waits for {process.name} (pid {pid}), outside of the tree"
    return None


def _manager_threads(scene: Scene, actor: Actor, pids: tuple[Tgid, ...]) -> list[Actor]:
    # A manager has one thread for each client's connection: the answer comes from one that is at
    # work on a request, not from those that wait for the next one, nor from the accepting thread.
    found = []
    for pid in pids:
        main = scene.main_of(pid)
        if main is None or main.helper is None or main.helper.role is not Role.MANAGER:
            return []
        found += [
            other
            for other in scene.actors_of(pid)
            if (other.helper is None or other.helper.title.endswith("serves one client"))
            and other.does(Doing.CONNECTION_RECV) is None
        ]
    return found


def _waits_for_ends(actor: Actor) -> bool:
    # multiprocessing.connection.wait on numbers: sentinels of processes. Its loop variable keeps
    # the last of what it waits for.
    step = actor.does(Doing.CONNECTION_WAIT)
    return step is not None and not actor.helper and step.frame.variables.get("obj", "").isdigit()


def _sentinel(scene: Scene, groups: Groups, actor: Actor, want: Want, pids: tuple[Tgid, ...]) -> Event:
    # Process.join by a poll on a pipe that closes when the child ends. Under fork and spawn the
    # child itself holds the other end; under forkserver the server does, which writes to it when
    # its child has ended (observed in multiprocessing.forkserver, CPython 3.7 to 3.13).
    edges: list[Edge] = []
    needs: list[Need | Tid] = []
    for pid in pids:
        if pid == actor.pid:
            continue
        main = scene.main_of(pid)
        if main is not None and main.helper is not None and main.helper.role is Role.FORK_SERVER:
            children = _children_of_server(scene, actor, want, pid)
            why = "holds the sentinel's other end, and writes to it when its child has ended"
            edges.append(Edge(pid, main.tid, Certainty.PROVEN, why, EXACT))
            needs += [child.tid for child in children]
        elif main is not None:
            edges.append(Edge(pid, main.tid, Certainty.PROVEN, "is the process that is joined", EXACT))
            needs.append(main.tid)
        else:
            needs.append(groups.any_thread((pid,)))
    return Event(WaitKind.CHILD_EXIT, want.object_id, tuple(edges), any_of(needs), groups.any_thread(pids))


def _children_of_server(scene: Scene, actor: Actor, want: Want, server: Tgid) -> list[Actor]:
    mains = [main for pid in scene.children.get(server, ()) if (main := scene.main_of(pid)) is not None]
    paired = [main for main in mains if _was_started_with(scene, actor, want, main)]
    return paired if len(paired) == 1 else mains


def _was_started_with(scene: Scene, actor: Actor, want: Want, main: Actor) -> bool:
    # Process.start makes the sentinel's pipe and, right after it, the one that the child reads its
    # orders from: the kernel numbers pipes one after another.
    sentinel = _inode(want.object_id)
    if sentinel is None:
        return False
    for target in scene.snapshot.objects.values():
        number = _inode(target.object_id)
        if number is None or not 0 < number - sentinel <= _PIPES_APART:
            continue
        readers = {h.pid for h in target.holders if "r" in h.access}
        writers = {h.pid for h in target.holders if "w" in h.access}
        if main.pid in readers and actor.pid in writers:
            return True
    return False


_PIPES_APART = 1
"""How far the numbers of two pipes lie apart that one thread made one after the other."""


def _inode(object_id: ObjectId) -> int | None:
    if not object_id.startswith("pipe:["):
        return None
    number = object_id[len("pipe:[") : -1]
    return int(number) if number.isdigit() else None


# --- locks ---------------------------------------------------------------------------------------


def _futex(scene: Scene, groups: Groups, actor: Actor, want: Want, kind: WaitKind) -> Event:
    target = scene.target(want.object_id)
    if is_shared(want):
        if target is None or not target.holders:
            return comes(kind, want.object_id, "unseen", "waits for a lock whose sharers could not be seen")
        pids = scene.with_newborn(tuple(dict.fromkeys(holder.pid for holder in target.holders)))
        outside = outsider(scene, pids)
        if outside is not None:
            return comes(kind, want.object_id, *outside)
        if target.kind is ObjectKind.SEMAPHORE and target.value:
            return comes(kind, want.object_id, "ready", "is being woken: the semaphore is free")
    else:
        pids = scene.address_space_of(actor.pid)
    everyone = groups.any_thread(pids)
    narrowed = narrow(scene, groups.locks, actor, want, kind)
    if narrowed is None:
        others, full = sharers(scene, groups, actor, want, kind, pids)
        others = counterparts_first(scene, actor, others)
        looking_on = () if may_be_parked(actor, kind) else groups.able(pids)[1]
        return Event(kind, want.object_id, others, full, everyone, assumptions=looking_on)
    edges = tuple(
        Edge(other.pid, other.tid, narrowed.certainty, narrowed.why, _narrow_cost(other, narrowed))
        for other in narrowed.actors
    )
    if narrowed.certainty is not Certainty.PROVEN and len(edges) > 1:
        edges = counterparts_first(scene, actor, edges)
    exact = any_of(other.tid for other in narrowed.actors)
    if narrowed.hint:
        rest, full = sharers(scene, groups, actor, want, kind, pids)
        known = {edge.tid for edge in edges}
        edges += tuple(replace(edge, cost=edge.cost + POSSIBLE) for edge in rest if edge.tid not in known)
        return Event(kind, want.object_id, edges, full, everyone, narrowed=narrowed)
    strict = exact if narrowed.certainty is Certainty.PROVEN else everyone
    assumptions = (narrowed.assumption,) if narrowed.assumption else ()
    return Event(kind, want.object_id, edges, exact, strict, assumptions=assumptions, narrowed=narrowed)


def _narrow_cost(other: Actor, narrowed: Narrowed) -> int:
    if len(narrowed.actors) == 1:
        return EXACT
    return NATURAL + (POSSIBLE if other.helper is not None and other.idle else 0)


def _file_lock(scene: Scene, groups: Groups, actor: Actor, want: Want, target: WaitObject | None) -> Event:
    kind = WaitKind.FILE_LOCK
    if target is None:
        return comes(kind, want.object_id, "unseen", "waits for a holder that could not be looked up")
    owner = target.owner_pid
    process = scene.process(owner) if owner is not None else None
    # flock belongs to the open file: whoever inherited the descriptor keeps the lock, even when the
    # one that took it has closed its own.
    having = [h.pid for h in target.holders if (h.pid, h.fd) != (actor.pid, want.fd)]
    why = "has the locked file open"
    if owner is not None and process is not None and process.alive and (owner in having or not having):
        having.insert(0, owner)
        why = "holds the lock, by /proc/locks"
    pids = tuple(dict.fromkeys(having))
    if not pids:
        return comes(kind, want.object_id, "external", "waits for a lock that nobody seen holds")
    outside = outsider(scene, pids)
    if outside is not None:
        return comes(kind, want.object_id, *outside)
    edges = tuple(
        Edge(edge.pid, edge.tid, Certainty.PROVEN, edge.why, EXACT if edge.pid == pids[0] else edge.cost + POSSIBLE)
        for edge in edges_to(scene, actor, pids, why, want)
    )
    edges = tuple(sorted(edges, key=lambda edge: edge.cost))
    need = groups.any_thread(pids)
    return Event(kind, want.object_id, edges, need, need)


# --- children ------------------------------------------------------------------------------------


def _child_exit(scene: Scene, groups: Groups, actor: Actor, want: Want) -> Event:
    kind = WaitKind.CHILD_EXIT
    word, _, number = want.object_id.partition(":")
    if not number.isdigit():
        return comes(kind, want.object_id, "unseen", "waits for a process that is not known")
    if word == "children":
        pids = tuple(
            pid
            for pid in scene.children.get(Tgid(int(number)), ())
            if (child := scene.process(pid)) is not None and child.alive
        )
    else:
        pids = (Tgid(int(number)),)
    events = [_end_of(scene, groups, pid) for pid in pids]
    if not events:
        return comes(kind, want.object_id, "ready", "has no child left to wait for")
    return Event(
        kind,
        want.object_id,
        tuple(edge for event in events for edge in event.edges),
        any_of(event.full for event in events),
        any_of(event.strict for event in events),
        next((event.comes for event in events if event.comes), ""),
        next((event.why for event in events if event.comes), ""),
        tuple(text for event in events for text in event.assumptions),
    )


def _end_of(scene: Scene, groups: Groups, pid: Tgid) -> Event:
    kind, object_id = WaitKind.CHILD_EXIT, ObjectId(f"child:{pid}")
    process = scene.process(pid)
    if process is None or not process.alive:
        return comes(kind, object_id, "ready", "is about to collect a child that has ended")
    outside = outsider(scene, (pid,))
    if outside is not None:
        return comes(kind, object_id, *outside)
    main = scene.main_of(pid)
    everyone = groups.any_thread((pid,))
    if main is None:
        # The main thread has ended by itself: the process lives until all the others have.
        others = scene.actors_of(pid)
        why = "is a thread of the child, whose main thread has ended"
        edges = tuple(Edge(pid, other.tid, Certainty.PROVEN, why, NATURAL) for other in others)
        need = all_of(other.tid for other in others)
        return Event(kind, object_id, edges, need, need)
    edge = Edge(pid, main.tid, Certainty.PROVEN, "is the child's main thread: it has to end", EXACT)
    return Event(kind, object_id, (edge,), any_of([main.tid]), everyone)


NO_EVENT = Event(WaitKind.EXTERNAL, ObjectId(""), (), NEVER, NEVER)
"""Nothing that anybody could make happen."""
