"""Workers that die at start and are made anew for ever: alive at every look, and going nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qtrace.analyse.activity import Doing, base_name, own_frame
from qtrace.analyse.graph import Node, WaitGraph
from qtrace.analyse.naming import Names
from qtrace.analyse.scene import Actor
from qtrace.model.ids import Tgid
from qtrace.model.kinds import Role
from qtrace.model.verdict import Line

_MANY_CHILDREN = 10
"""A pool that has made this many more children than it has room for, all dead, is in a storm."""


_NEVER_WOKEN_SWITCHES, _NEVER_WOKEN_NS = 6, 300_000
"""A result handler that no result has ever woken: 1 to 4 switches and 0.04 to 0.13 ms were seen on
CPython 3.7 to 3.13; each result adds at least one switch and 0.2 ms. A busy machine adds switches
alone, so both have to be above."""


@dataclass(frozen=True, slots=True)
class RespawnStorm:
    """A pool whose workers never live long enough to do a task."""

    chain: tuple[Node, ...]
    lines: tuple[Line, ...]
    evidence: Mapping[str, object] = field(default_factory=dict)

    def headline(self, names: Names) -> str:
        """Return it in one sentence."""
        who = names.process(self.chain[0].actor.pid)
        return f"{who} waits for results of a pool whose workers die at start and are made anew for ever."


def respawn_storm(graph: WaitGraph) -> RespawnStorm | None:
    """Return the storm that a thread waits for, or None.

    Between two looks every worker has been replaced, and the result handler was not woken once. A
    pool with `maxtasksperchild` replaces its workers too, and its result handler moves each time.
    """
    for node in graph.nodes.values():
        if node.actor.does(Doing.POOL_RESULT) is None:
            continue
        actors = graph.scene.actors_of(node.actor.pid)
        handler = _titled(actors, "the pool's worker handler")
        results = _titled(actors, "the pool's result handler")
        if handler is None or results is None or _titled(actors, "a worker of the pool") is not None:
            continue  # no pool, or one of threads
        children = _workers_of(graph, node.actor.pid)
        if _storms(graph, handler, results, children, node.actor.pid):
            chain = (node, graph.nodes[results.tid])
            evidence = {
                "living_workers": len(children),
                "workers_made": _made(graph, node.actor.pid) or None,
            }
            return RespawnStorm(chain, _lines(node.actor), evidence)
    return None


def _titled(actors: tuple[Actor, ...], title: str) -> Actor | None:
    return next((a for a in actors if a.helper is not None and a.helper.title == title), None)


def _workers_of(graph: WaitGraph, pid: Tgid) -> list[Actor]:
    mains = (graph.scene.main_of(child) for child in graph.scene.started_by(pid))
    return [
        main
        for main in mains
        if main is not None and (main.helper is None or main.helper.role not in (Role.TRACKER, Role.FORK_SERVER))
    ]


def _made(graph: WaitGraph, pid: Tgid) -> int:
    makers = (pid, *(child for child in graph.scene.children.get(pid, ()) if graph.scene.is_fork_server(child)))
    return sum(graph.scene.snapshot.history.children_made.get(maker, 0) for maker in makers)


def _storms(graph: WaitGraph, handler: Actor, results: Actor, workers: list[Actor], pid: Tgid) -> bool:
    snapshot = graph.scene.snapshot
    made = _made(graph, pid)
    failed = [d for d in snapshot.history.deaths if d.exit_code or d.exit_signal]
    if made >= _MANY_CHILDREN and len(failed) >= _MANY_CHILDREN and len(failed) >= made // 2:
        return True
    apart = snapshot.looks_apart_ns
    if apart is None or results.thread.moved is not False:
        return False
    if handler.thread.moved is False:
        return False
    pool_age = _age(snapshot.time_ns, results.thread.start_ns)
    if pool_age is None or 2 * pool_age < 3 * apart:
        return False
    if results.thread.switches > _NEVER_WOKEN_SWITCHES and results.thread.cpu_ns > _NEVER_WOKEN_NS:
        return False  # results have come: the pool replaces workers that have done their share
    if any(_got_to_work(worker) for worker in workers):
        return False
    ages = [_age(snapshot.time_ns, worker.process.start_ns) for worker in workers]
    return all(age is not None and age <= apart for age in ages)


def _got_to_work(worker: Actor) -> bool:
    """Whether a worker waits for a task, or is in one, and not in its initializer."""
    loop = next((f for f in worker.stack if base_name(f.function) == "worker"), None)
    if worker.helper is None or loop is None:
        return False
    return worker.idle or "initializer(" not in loop.source


def _age(now_ns: int, start_ns: int | None) -> int | None:
    return None if start_ns is None else now_ns - start_ns


def _lines(actor: Actor) -> tuple[Line, ...]:
    frame = own_frame(actor.stack)
    if frame is None:
        return ()
    note = "waits for a result that no worker lives to produce"
    return (Line(frame.file, frame.line, frame.function, frame.source, note),)
