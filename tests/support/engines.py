"""Which cases are recorded by which engine.

Every end-to-end case can be recorded by both. ``QTRACE_TEST_ENGINES`` says which are: ``sampled``
(the default: all by ptrace, every fourth or so by perf as well), ``both``, ``ptrace`` or ``perf``; with
one engine, tests that know nothing of engines use it too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache

import pytest

CHOICE = os.environ.get("QTRACE_TEST_ENGINES", "sampled")
if CHOICE not in ("sampled", "both", "ptrace", "perf"):
    raise ValueError(f"QTRACE_TEST_ENGINES={CHOICE}: sampled, both, ptrace or perf")
DEFAULT = CHOICE if CHOICE in ("ptrace", "perf") else ""
"""The engine of tests that say none; empty for the one that qtrace itself uses."""

_PRIVATELY = ["unshare", "-m", "sh", "-c", 'mount -t tracefs nodev /sys/kernel/tracing && exec "$@"', "sh"]
"""A mount namespace of its own: nothing changes for anybody else."""
_ASK = "from qtrace.capture.perf_events import why_not; print(why_not())"


@cache
def prefix() -> tuple[str, ...] | None:
    """Return what to put before a command so that perf can be used; None if it cannot on this machine."""
    for words in ([], _PRIVATELY):
        try:
            asked = subprocess.run([*words, sys.executable, "-c", _ASK], capture_output=True, text=True, timeout=60)
        except OSError:
            continue
        if asked.returncode == 0 and not asked.stdout.strip():
            return tuple(words)
    return None


needs_perf = pytest.mark.skipif(prefix() is None, reason="perf is not permitted here (root or CAP_PERFMON, tracefs)")


def command(engine: str, *words: str) -> list[str]:
    """Return the command line of a qtrace that records by an engine (empty: by its own default).

    Skips the test where perf is wanted and cannot be used.
    """
    before: tuple[str, ...] | None = ()
    if engine == "perf":
        before = prefix()
        if before is None:
            pytest.skip("perf is not permitted here (root or CAP_PERFMON, tracefs)")
    chosen = ["env", f"QTRACE_ENGINE={engine}"] if engine else []
    return [*before, *chosen, sys.executable, "-m", "qtrace", *words]


def engine_params(cases: Iterable[object], every: int = 4) -> list[object]:
    """Return a pytest parameter (case, engine) for each case and each engine that it is to be recorded by.

    Args:
        cases: The cases, or pytest parameters of one value each.
        every: With ``sampled``, each so-manieth case is recorded by perf as well.
    """
    found: list[object] = []
    for number, case in enumerate(cases):
        value, name, marks = _parts(case)
        by_perf = CHOICE in ("both", "perf") or (CHOICE == "sampled" and number % every == every - 1)
        if CHOICE != "perf":
            found.append(pytest.param(value, "ptrace", id=name, marks=marks))
        if by_perf:
            found.append(pytest.param(value, "perf", id=f"{name}-perf", marks=[*marks, needs_perf]))
    return found


def both_engines() -> pytest.MarkDecorator:
    """Return a mark that runs a cheap case by both engines."""
    engines = [DEFAULT] if DEFAULT else ["ptrace", "perf"]
    return pytest.mark.parametrize(
        "engine", [pytest.param(name, marks=[needs_perf] if name == "perf" else []) for name in engines]
    )


def _parts(case: object) -> tuple[object, str, list[object]]:
    values = getattr(case, "values", None)
    if isinstance(values, tuple):  # a pytest.param
        return values[0], str(case.id), list(case.marks)  # type: ignore[attr-defined]
    path = getattr(case, "path", None)
    return case, path.stem if path is not None else str(case), []
