"""Known causes of hangs: each a small rule over the chain and the graph that were found.

A pattern only names what the general rule has found: it sees kinds of wait, roles, library
operations and holders, never the names of programs. The first rule that fits names the cause, the
most specific first; where none does, the cause stays without a name and the chain is still right.
"""

from __future__ import annotations

from collections.abc import Callable

from qtrace.analyse.patterns.case import Case, Finding
from qtrace.analyse.patterns.locks import (
    dead_lock_holder,
    fork_held_lock,
    lock_order,
    missing_participant,
    self_relock,
)
from qtrace.analyse.patterns.pipes import (
    both_ends_empty,
    both_ends_full,
    grandchild_holds_pipe,
    open_write_end,
    popen_pipe_full,
    self_pipe_full,
)
from qtrace.analyse.patterns.pools import event_loop_blocked, pool_exhausted, pool_worker_lost
from qtrace.analyse.patterns.queues import (
    before_drain,
    bounded_queue,
    missing_sentinel,
    producer_gone,
    task_done,
    torn_message,
)

Rule = Callable[[Case], Finding | None]

_RULES: tuple[Rule, ...] = (
    torn_message,
    lock_order,
    self_relock,
    fork_held_lock,
    dead_lock_holder,
    event_loop_blocked,
    pool_exhausted,
    pool_worker_lost,
    popen_pipe_full,
    both_ends_full,
    before_drain,
    self_pipe_full,
    bounded_queue,
    task_done,
    grandchild_holds_pipe,
    open_write_end,
    missing_sentinel,
    producer_gone,
    both_ends_empty,
    missing_participant,
)
_LIVE_RULES: tuple[Rule, ...] = (grandchild_holds_pipe,)


def recognise(case: Case) -> Finding | None:
    """Return the known cause of a hang, or None."""
    return _first(_RULES, case)


def recognise_live(case: Case) -> Finding | None:
    """Return the known cause of a long wait that is not a hang, or None."""
    return _first(_LIVE_RULES, case)


def _first(rules: tuple[Rule, ...], case: Case) -> Finding | None:
    return next((found for rule in rules if (found := rule(case)) is not None), None)
