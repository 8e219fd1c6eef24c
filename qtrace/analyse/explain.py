"""The verdict on a moment: what holds the program up, how sure that is, and what to change."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from qtrace.analyse.chain import Chain, follow, follow_live, part_of, start_of
from qtrace.analyse.edges import Edge
from qtrace.analyse.graph import STEADY_NS, Node, Standing, WaitGraph, build
from qtrace.analyse.naming import Names, wait_of
from qtrace.analyse.patterns import recognise, recognise_live
from qtrace.analyse.patterns.case import Case, Finding
from qtrace.analyse.respawn import RespawnStorm, respawn_storm
from qtrace.analyse.scene import Scene, scene_of
from qtrace.analyse.wording import headline, live_headline
from qtrace.model.ids import Tgid, Tid
from qtrace.model.kinds import WORST_FIRST, Certainty, PatternId, VerdictKind
from qtrace.model.snapshot import Snapshot
from qtrace.model.verdict import LiveThread, Verdict, Wait


@dataclass(frozen=True, slots=True)
class _Part:
    """An independent part of what is stuck, with its chain."""

    members: Collection[Tid]
    chain: Chain


def explain_snapshot(snapshot: Snapshot) -> Verdict:
    """Return what holds a program up at one moment, or that nothing does.

    A pure function of the snapshot. `proven` means that the kernel's state alone leaves no thread
    that could ever wake the stuck ones; `likely` names its assumptions; anything that could not be
    seen counts as alive, so a blind spot never makes a hang.
    """
    scene = scene_of(snapshot)
    names = Names(scene)
    if not scene.actors:
        return _finished(snapshot, names)
    graph = build(scene)
    storm = respawn_storm(graph)
    if storm is not None:
        return _storm(graph, names, storm)
    if graph.stuck:
        return _stuck(graph, names)
    if graph.spinning:
        return _spinning(graph, names)
    return _live(graph, names)


def _finished(snapshot: Snapshot, names: Names) -> Verdict:
    root = snapshot.processes.get(snapshot.root_pid)
    how = ""
    if root is not None and root.exit_signal:
        how = f", by signal {root.exit_signal}"
    elif root is not None and root.exit_code:
        how = f", with exit status {root.exit_code}"
    name = names.process(snapshot.root_pid)
    return Verdict(
        VerdictKind.FINISHED,
        Certainty.PROVEN,
        f"{name} has ended{how}; nothing is stuck.",
        at_ns=snapshot.time_ns,
        unseen=_unseen(snapshot),
    )


# --- stuck ---------------------------------------------------------------------------------------


def _stuck(graph: WaitGraph, names: Names) -> Verdict:
    part = _worst_part(graph)
    case = Case(graph, names, part.chain, part.members, part.chain.kind)
    return _hang(case, recognise(case), graph.stuck)


def _worst_part(graph: WaitGraph) -> _Part:
    parts = [_chained(graph, members) for members in part_of(graph, graph.stuck)]
    root = graph.scene.snapshot.root_pid

    def rank(part: _Part) -> tuple[int, bool, int, int]:
        start = part.chain.nodes[0].actor
        helper = start.helper is not None and not start.is_program
        severity = WORST_FIRST.index(part.chain.kind)
        return severity + 10 * helper, start.pid != root, -len(part.members), int(start.tid)

    return min(parts, key=rank)


def _chained(graph: WaitGraph, members: Collection[Tid]) -> _Part:
    return _Part(members, follow(graph, start_of(graph, members), members))


def _hang(case: Case, finding: Finding | None, stuck: Collection[Tid]) -> Verdict:
    certainty, assumptions = _certainty(case)
    if finding is not None and finding.assumption:
        assumptions = (*assumptions, finding.assumption)
    sentence = finding.headline if finding is not None and finding.headline else None
    snapshot = case.snapshot
    return Verdict(
        kind=case.kind,
        certainty=certainty,
        headline=sentence or headline(case.names, case.chain),
        pattern=finding.pattern if finding is not None else None,
        advice=finding.advice if finding is not None else None,
        chain=_links(case.names, case.chain),
        cycle=case.chain.cycle,
        waits=_waits(case.graph, case.names),
        live=_live_threads(case.graph, case.names),
        unseen=_unseen(snapshot),
        assumptions=tuple(dict.fromkeys(assumptions)),
        evidence=dict(finding.evidence) if finding is not None else {},
        lines=finding.lines if finding is not None else (),
        stuck_tids=frozenset(stuck),
        at_ns=snapshot.time_ns,
    )


def _links(names: Names, chain: Chain) -> tuple[Wait, ...]:
    nodes = chain.nodes
    links = []
    for place, node in enumerate(nodes):
        following = nodes[place + 1].tid if place + 1 < len(nodes) else None
        if following is None and chain.back_to is not None:
            following = nodes[chain.back_to].tid
        links.append(wait_of(names, node, first=following))
    return tuple(links)


def _certainty(case: Case) -> tuple[Certainty, tuple[str, ...]]:
    assumptions: list[str] = []
    for node in case.nodes:
        if node.tid in case.graph.proven:
            continue
        found = [text for event in node.events for text in event.assumptions]
        assumptions += found
    unproven = [tid for tid in case.part if tid not in case.graph.proven]
    if unproven and not assumptions:
        assumptions += _assumptions_of_part(case)
    if not _looked_twice(case):
        assumptions.append("the program was looked at once only, so it may still be moving")
    if not unproven and not assumptions and case.kind is not VerdictKind.LIVELOCK:
        return Certainty.PROVEN, ()
    return Certainty.LIKELY, tuple(assumptions)


def _assumptions_of_part(case: Case) -> list[str]:
    texts = {
        text: None
        for tid in case.part
        if tid not in case.graph.proven
        for event in case.graph.nodes[tid].events
        for text in event.assumptions
    }
    if not texts and case.kind is VerdictKind.LIVELOCK:
        return ["the loop does nothing between its waits that could bring about what it waits for"]
    return list(texts) or ["a process ends when its main thread does: no other thread of it calls exit"]


def _looked_twice(case: Case) -> bool:
    snapshot = case.snapshot
    for tid in case.part:
        thread = case.graph.nodes[tid].actor.thread
        if thread.moved is not None:
            continue
        since = thread.since_ns
        if since is None or snapshot.time_ns - since < STEADY_NS:
            return False
    return True


# --- moving, and yet going nowhere ---------------------------------------------------------------


def _spinning(graph: WaitGraph, names: Names) -> Verdict:
    start = start_of(graph, graph.spinning)
    members = graph.hopeless
    root = Tid(int(graph.scene.snapshot.root_pid))
    if root in members:
        start = root
    chain = follow(graph, start, members)
    case = Case(graph, names, chain, members, VerdictKind.LIVELOCK)
    return _hang(case, recognise(case), members)


def _storm(graph: WaitGraph, names: Names, storm: RespawnStorm) -> Verdict:
    chain = Chain(storm.chain, cycle=False)
    members = frozenset(node.tid for node in storm.chain)
    case = Case(graph, names, chain, members, VerdictKind.LIVELOCK)
    finding = Finding(
        PatternId.POOL_RESPAWN_STORM,
        "Catch errors in the pool's initializer, or use concurrent.futures.ProcessPoolExecutor, "
        "which reports a worker that dies at start as BrokenProcessPool.",
        storm.lines,
        storm.evidence,
        storm.headline(names),
        "workers that are all newer than the last look, while no result has come, die at start",
    )
    return _hang(case, finding, members)


# --- live ----------------------------------------------------------------------------------------

_VERDICTS = {
    Standing.RUNNING: VerdictKind.RUNNING,
    Standing.TIMED: VerdictKind.TIMED,
    Standing.EXTERNAL: VerdictKind.EXTERNAL,
    Standing.UNSEEN: VerdictKind.EXTERNAL,
    Standing.BLOCKED: VerdictKind.RUNNING,
}


def _live(graph: WaitGraph, names: Names) -> Verdict:
    way = follow_live(graph, _seen_first(graph))
    standing = way[-1].standing
    snapshot = graph.scene.snapshot
    after = (*way[1:], None)
    chain = tuple(
        _live_link(names, node, following) for node, following in zip(way, after, strict=True) if node.in_call
    )
    kind = _VERDICTS[standing]
    finding = recognise_live(Case(graph, names, Chain(way, cycle=False), frozenset(), kind))
    return Verdict(
        kind=kind,
        certainty=Certainty.UNKNOWN if standing is Standing.UNSEEN else Certainty.PROVEN,
        headline=(finding.headline if finding is not None else None) or live_headline(names, way),
        pattern=finding.pattern if finding is not None else None,
        advice=finding.advice if finding is not None else None,
        evidence=dict(finding.evidence) if finding is not None else {},
        lines=finding.lines if finding is not None else (),
        chain=chain,
        waits=_waits(graph, names),
        live=_live_threads(graph, names),
        unseen=_unseen(snapshot),
        at_ns=snapshot.time_ns,
    )


def _live_link(names: Names, node: Node, following: Node | None) -> Wait:
    if following is None:
        return wait_of(names, node)
    if all(edge.tid != following.tid for edge in node.edges):
        # Not what the wait is for: a watchdog, a supervisor.
        why = "may end the process that waits, by its code"
        node = replace(node, edges=(*node.edges, Edge(following.actor.pid, following.tid, Certainty.LIKELY, why)))
    return wait_of(names, node, first=following.tid)


def _seen_first(graph: WaitGraph) -> Tid:
    root = Tid(int(graph.scene.snapshot.root_pid))
    return root if root in graph.nodes else start_of(graph, graph.nodes)


def _waits(graph: WaitGraph, names: Names) -> tuple[Wait, ...]:
    return tuple(
        wait_of(names, node)
        for _, node in sorted(graph.nodes.items())
        if node.in_call and node.standing is not Standing.RUNNING
    )


def _live_threads(graph: WaitGraph, names: Names) -> tuple[LiveThread, ...]:
    def found() -> Iterator[LiveThread]:
        for tid, node in sorted(graph.nodes.items()):
            if tid in graph.stuck or tid in graph.spinning:
                continue
            actor = node.actor
            why = node.why or "waits for one that can go on"
            yield LiveThread(actor.pid, tid, names.process(actor.pid), names.thread(actor), why)

    return tuple(found())


def _unseen(snapshot: Snapshot) -> tuple[tuple[Tgid, str], ...]:
    return tuple(
        (process.pid, process.unseen) for process in snapshot.processes.values() if process.unseen and process.alive
    )


def graph_of(snapshot: Snapshot) -> tuple[Scene, WaitGraph]:
    """Return the graph of a moment, for those who draw it."""
    scene = scene_of(snapshot)
    return scene, build(scene)
