"""A snapshot with what the analysis asks of it again and again, looked up once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from qtrace.analyse.activity import (
    Doing,
    Step,
    address_of,
    base_name,
    library_path,
    since_fork,
    steps,
)
from qtrace.analyse.bystanders import Able, able_by_text, is_bystander, may_end, still_to_call
from qtrace.analyse.roles import Helper, helper_of, is_idle
from qtrace.model.ids import ObjectId, Tgid, Tid
from qtrace.model.kinds import ObjectKind, Role
from qtrace.model.snapshot import Frame, Process, Snapshot, Thread, WaitObject

_TICK_NS = 20_000_000
"""The kernel tells when a process began in hundredths of a second."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A living thread with its process, role and what its frames say."""

    thread: Thread
    process: Process
    stack: tuple[Frame, ...]
    """Its own frames, without those that fork copied."""
    steps: tuple[Step, ...]
    """Library operations between the call and the program's code, innermost first."""
    helper: Helper | None
    idle: bool
    """A helper that stands in its own loop."""
    bystander: bool = False
    """It lives, and can help nobody: see `bystanders`."""
    ahead: frozenset[str] | None = None
    """What its code has still to call; None where that is not known, or a helper has no code of the program."""

    @property
    def tid(self) -> Tid:
        """Its thread id."""
        return self.thread.tid

    @property
    def pid(self) -> Tgid:
        """Its process."""
        return self.thread.pid

    @property
    def transparent(self) -> bool:
        """An idle helper that only passes on what a thread of its own process hands it."""
        return self.helper is not None and self.idle and self.helper.idle_is_transparent

    @property
    def is_program(self) -> bool:
        """Whether it runs the program's code: no helper, or one that is in a task."""
        if self.helper is None:
            return True
        return self.helper.runs_user_code and not self.transparent

    def will_call(self, names: frozenset[str]) -> Able:
        """Whether it will still call one of these functions, or methods (``.set``), by its text."""
        return Able.PERHAPS if self.ahead is None else able_by_text(self.ahead, names)

    def does(self, *doings: Doing) -> Step | None:
        """Return the innermost of these operations between the call and the program's code."""
        return next((step for step in self.steps if step.doing in doings), None)

    def within(self, *doings: Doing) -> Step | None:
        """Return the innermost of these operations anywhere in its own stack."""
        return next((step for step in steps(self.stack, whole=True) if step.doing in doings), None)


@dataclass(frozen=True, slots=True)
class Scene:
    """Lookups over one snapshot."""

    snapshot: Snapshot
    actors: Mapping[Tid, Actor]
    """Every living thread of the living processes of the tree."""
    by_process: Mapping[Tgid, tuple[Actor, ...]]
    children: Mapping[Tgid, tuple[Tgid, ...]]
    """Living and dead children by parent."""
    by_thread_object: Mapping[tuple[Tgid, str], Tid]
    """Address of a Python Thread object, in its process, to the thread that runs it."""
    newborn: tuple[Tgid, ...] = ()
    """Living processes that were made after the first look: they may hold what their makers hold."""
    _sharing: Mapping[Tgid, tuple[Tgid, ...]] = field(default_factory=dict)
    _enders: dict[Tgid, tuple[Tid, ...]] = field(default_factory=dict)

    def actors_of(self, pid: Tgid) -> tuple[Actor, ...]:
        """Return a process's living threads, the main thread first."""
        return self.by_process.get(pid, ())

    def main_of(self, pid: Tgid) -> Actor | None:
        """Return a process's main thread, or None if it has ended."""
        return self.actors.get(Tid(int(pid)))

    def process(self, pid: Tgid) -> Process | None:
        """Return a process, or None if the snapshot does not know it."""
        return self.snapshot.processes.get(pid)

    def target(self, object_id: ObjectId) -> WaitObject | None:
        """Return an object, or None if the snapshot does not know it."""
        return self.snapshot.objects.get(object_id)

    def peer_of(self, target: WaitObject | None) -> WaitObject | None:
        """Return the other side of a socket or a pseudo terminal, or None."""
        return self.target(target.peer) if target is not None and target.peer is not None else None

    def other_end(self, target: WaitObject | None) -> WaitObject | None:
        """Return what holds the other end of a stream: the peer, or for a pipe, whose ends are one object, itself."""
        if target is not None and target.kind in (ObjectKind.SOCKET, ObjectKind.TTY):
            return self.peer_of(target)
        return target

    def address_space_of(self, pid: Tgid) -> tuple[Tgid, ...]:
        """Return the processes that share an address space with this one, itself included."""
        process = self.process(pid)
        owner = process.address_space or pid if process else pid
        return self._sharing.get(owner, (pid,))

    def ancestors(self, pid: Tgid) -> Iterator[Tgid]:
        """Yield the parent, its parent and so on, as far as the snapshot knows them."""
        seen = {pid}
        process = self.process(pid)
        while process is not None and process.ppid not in seen:
            seen.add(process.ppid)
            process = self.process(process.ppid)
            if process is not None:
                yield process.pid

    def started_by(self, pid: Tgid) -> tuple[Tgid, ...]:
        """Return the children of a process, and those that its fork server made for it."""
        own = self.children.get(pid, ())
        servers = [child for child in own if self.is_fork_server(child)]
        return tuple(child for child in own if child not in servers) + tuple(
            made for server in servers for made in self.children.get(server, ())
        )

    def is_fork_server(self, pid: Tgid) -> bool:
        """Whether a process is multiprocessing's fork server."""
        main = self.main_of(pid)
        return main is not None and main.helper is not None and main.helper.role is Role.FORK_SERVER

    def may_be_ended_by(self, pid: Tgid) -> tuple[Tid, ...]:
        """Return the threads whose code may end a process: its own, and those of who started it."""
        found = self._enders.get(pid)
        if found is None:
            above = [actor for ancestor in self.ancestors(pid) for actor in self.actors_of(ancestor)]
            own = [actor for actor in self.actors_of(pid) if may_end(actor.thread, own_process=True)]
            found = tuple(a.tid for a in (*own, *(one for one in above if may_end(one.thread, own_process=False))))
            self._enders[pid] = found
        return found

    def serves_the_outside(self, pid: Tgid) -> bool:
        """Whether nobody of the tree started a process: what it serves may be anybody."""
        process = self.process(pid)
        parent = self.process(process.ppid) if process is not None else None
        return pid == self.snapshot.root_pid or parent is None or not parent.in_tree

    def with_newborn(self, pids: tuple[Tgid, ...]) -> tuple[Tgid, ...]:
        """Return holders of an object, and the newborn who may have it from one of them.

        Descriptors and mappings are read between the two looks: whoever was made after that has
        them too, and is in no list.
        """
        if not self.newborn:
            return pids
        known = set(pids)
        return pids + tuple(pid for pid in self.newborn if pid not in known and known & set(self.ancestors(pid)))

    def is_forked_copy(self, pid: Tgid) -> bool:
        """Whether a process was made by fork and has not called exec since.

        By the recording where it says so; otherwise by the command line, which fork copies and
        exec replaces. Threads that its parent had at that moment do not exist in it.
        """
        if pid in self.snapshot.history.fork_threads:
            return True
        process = self.process(pid)
        parent = self.process(process.ppid) if process is not None else None
        if process is None or parent is None or not process.argv:
            return False
        return process.argv == parent.argv and process.exe == parent.exe


def scene_of(snapshot: Snapshot) -> Scene:
    """Return the lookups for a snapshot."""
    actors: dict[Tid, Actor] = {}
    by_process: dict[Tgid, list[Actor]] = {}
    for thread in snapshot.threads.values():
        process = snapshot.processes.get(thread.pid)
        if process is None or not process.alive or not process.in_tree:
            continue
        if thread.state in ("Z", "X"):
            continue
        actor = _actor_of(thread, process, snapshot.processes.get(process.ppid))
        actors[thread.tid] = actor
        by_process.setdefault(thread.pid, []).append(actor)
    children: dict[Tgid, list[Tgid]] = {}
    sharing: dict[Tgid, list[Tgid]] = {}
    for process in snapshot.processes.values():
        children.setdefault(process.ppid, []).append(process.pid)
        sharing.setdefault(process.address_space or process.pid, []).append(process.pid)
    return Scene(
        snapshot,
        actors,
        {
            pid: tuple(sorted(members, key=lambda actor: (not actor.thread.is_main, actor.tid)))
            for pid, members in by_process.items()
        },
        {pid: tuple(sorted(members)) for pid, members in children.items()},
        _thread_objects(actors),
        _newborn(snapshot),
        {pid: tuple(members) for pid, members in sharing.items()},
    )


def _newborn(snapshot: Snapshot) -> tuple[Tgid, ...]:
    if snapshot.looks_apart_ns is None:
        return ()
    first_look_ns = snapshot.time_ns - snapshot.looks_apart_ns - _TICK_NS
    return tuple(
        process.pid
        for process in snapshot.processes.values()
        if process.alive and process.in_tree and process.start_ns is not None and process.start_ns >= first_look_ns
    )


def _actor_of(thread: Thread, process: Process, parent: Process | None) -> Actor:
    stack = since_fork(thread.stack)
    own = thread if len(stack) == len(thread.stack) else replace(thread, stack=stack)
    helper = helper_of(own, process, parent)
    idle = helper is not None and is_idle(own, helper)
    bystander = helper is None and is_bystander(own, process)
    actor = Actor(thread, process, stack, steps(stack), helper, idle, bystander)
    return replace(actor, ahead=still_to_call(stack)) if actor.is_program else actor


def _thread_objects(actors: Mapping[Tid, Actor]) -> dict[tuple[Tgid, str], Tid]:
    # The joined Thread object's address stands in the frame of `join`, and as `self` in the frames
    # that every thread begins with. Helpers and subclasses override run, never _bootstrap_inner.
    found: dict[tuple[Tgid, str], Tid] = {}
    for actor in actors.values():
        for frame in reversed(actor.stack):
            if library_path(frame.file) != "threading.py":
                continue
            if base_name(frame.function) in ("_bootstrap", "_bootstrap_inner", "run"):
                address = address_of(frame.variables.get("self", ""))
                if address:
                    found[actor.pid, address] = actor.tid
                    break
    return found


def role_in_words(actor: Actor) -> Role:
    """Return the role as the tables and the JSON spell it."""
    if actor.helper is not None:
        return actor.helper.role
    return Role.MAIN if actor.thread.is_main else Role.THREAD
