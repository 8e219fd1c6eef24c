"""Pools, executors and event loops that wait for themselves, or for a result that was lost."""

from __future__ import annotations

from qtrace.analyse.activity import Doing
from qtrace.analyse.graph import Node
from qtrace.analyse.patterns.case import Case, Finding, first_own_line, own_line
from qtrace.analyse.patterns.marks import (
    EMPTY,
    POOL_WAITS,
    death_facts,
    first_crashed,
    is_worker,
)
from qtrace.analyse.scene import Actor
from qtrace.model.kinds import PatternId


def pool_worker_lost(case: Case) -> Finding | None:
    """A result is waited for, every worker is idle: the task went with a worker that died."""
    waiting = next((node for node in reversed(case.nodes) if node.actor.does(*POOL_WAITS) is not None), None)
    if waiting is None:
        return None
    own = case.scene.actors_of(waiting.actor.pid)
    handlers = [actor for actor in own if actor.helper is not None and actor.helper.title == _RESULTS]
    if not any(_in_its_loop(case.graph.nodes[handler.tid]) for handler in handlers):
        return None
    if any(actor.helper is not None and actor.helper.title == _TASKS and not actor.idle for actor in own):
        return None  # the tasks were not all sent yet
    workers = [
        main
        for pid in case.scene.started_by(waiting.actor.pid)
        if (main := case.scene.main_of(pid)) is not None and main.helper is not None and is_worker(main)
    ]
    if any(not worker.idle for worker in workers):
        return None
    dead = first_crashed(case)
    lost = f": {dead.name} {dead.how()}" if dead is not None else ""
    return Finding(
        PatternId.POOL_WORKER_LOST,
        "Use concurrent.futures.ProcessPoolExecutor, which raises BrokenProcessPool when a worker dies, "
        "or get(timeout=...); and find out what killed the worker (memory, a crash in C code, os._exit).",
        own_line(waiting.actor, "waits for the result of a task that no worker has any more"),
        {"idle_workers": [int(worker.pid) for worker in workers], **death_facts(dead, "worker")},
        f"{case.names.actor(waiting.actor)} waits for a result of a pool whose workers are all idle: "
        f"the task was lost with a worker that died{lost}.",
        "" if dead is not None else "a worker died in the middle of the task that is waited for",
    )


_RESULTS = "the pool's result handler"
_TASKS = "the pool's task handler"


def _in_its_loop(node: Node) -> bool:
    return node.kind in EMPTY and node.actor.idle


def pool_exhausted(case: Case) -> Finding | None:
    """Tasks of a pool wait for other tasks of the same pool, and no worker is free."""
    for node in case.nodes:
        step = node.actor.does(Doing.FUTURE_RESULT, Doing.POOL_RESULT)
        if step is not None and _hands_results_over(node.actor) and not node.actor.idle:
            return _callback_waits(case, node)
        if step is None or not is_worker(node.actor) or node.actor.idle:
            continue
        workers = [other for other in case.scene.actors_of(node.actor.pid) if is_worker(other)]
        if any(other.idle for other in workers):
            continue
        lines = own_line(node.actor, "waits inside of a task for another task of the pool")
        outer = next((n for n in case.nodes if not is_worker(n.actor)), None)
        if outer is not None:
            lines += own_line(outer.actor, "waits for the outer task")
        return Finding(
            PatternId.POOL_EXHAUSTED,
            "Do not wait for a task inside of a task of the same pool: give each level a pool of its own, "
            "or submit the next step from a callback.",
            lines,
            {"waiting_workers": len(workers)},
        )
    return None


def _server_blocked(case: Case, node: Node) -> Finding:
    return Finding(
        PatternId.EVENT_LOOP_BLOCKED,
        "A server with one thread answers nobody while its handler waits: give each request a thread "
        "(ThreadingHTTPServer, ThreadingMixIn), or ask for nothing in a handler that leads back to the same server.",
        first_own_line(node.actor, "waits in a handler for the server whose only thread runs that handler"),
        headline=f"{case.names.actor(node.actor)} waits in a handler of the server whose only thread it is.",
    )


def _hands_results_over(actor: Actor) -> bool:
    return actor.helper is not None and actor.helper.title in (_RESULTS, "the executor's manager thread")


def _callback_waits(case: Case, node: Node) -> Finding:
    title = node.actor.helper.title if node.actor.helper is not None else ""
    return Finding(
        PatternId.POOL_EXHAUSTED,
        "Wait for nothing of the pool in a callback: it runs in the thread that hands over the pool's results. Let it "
        "put what comes next into a queue, or submit it without waiting.",
        own_line(node.actor, "waits in a callback for a result that only this thread could hand over"),
        headline=f"{case.names.actor(node.actor)} waits in a callback for a result, and {title} is what runs it: "
        "only it could hand the result over.",
    )


def event_loop_blocked(case: Case) -> Finding | None:
    """A callback or coroutine blocks the thread of its event loop, which alone could help."""
    for node in case.circle or case.nodes[-1:]:
        actor = node.actor
        loop = actor.within(Doing.EVENT_LOOP, Doing.SERVER_LOOP)
        if loop is None or actor.does(Doing.SELECT, Doing.EVENT_LOOP, Doing.SERVER_LOOP) is not None:
            continue
        if loop.doing is Doing.SERVER_LOOP:
            return _server_blocked(case, node)
        return Finding(
            PatternId.EVENT_LOOP_BLOCKED,
            "Do not block in a coroutine: await it, or hand it to a thread (asyncio.to_thread, run_in_executor); "
            "for a coroutine's result from another thread, wait in that other thread.",
            first_own_line(actor, "blocks the event loop's own thread"),
        )
    return None
