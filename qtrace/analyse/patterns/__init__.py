"""Known causes of hangs: each a small rule over the chain and the graph that were found.

A pattern only names what the general rule has found: it sees kinds of wait, roles, library
operations and holders, never the names of programs. The first rule that fits names the cause, the
most specific first; where none does, the cause stays without a name and the chain is still right.
"""

from __future__ import annotations

from collections.abc import Callable

from qtrace.analyse.patterns.case import Case, Finding

Rule = Callable[[Case], Finding | None]


def recognise(case: Case) -> Finding | None:
    """Return the known cause of a hang, or None."""
    return next((found for rule in _rules() if (found := rule(case)) is not None), None)


def _rules() -> tuple[Rule, ...]:
    return ()
