"""What may be said of a program of which only an excerpt is known."""

from __future__ import annotations

from dataclasses import replace

from qtrace.model.kinds import STUCK, Certainty
from qtrace.model.verdict import Verdict

ASSUMPTION = (
    "the log lacks the program's beginning: threads and descriptors that it does not show are taken not to exist"
)


def of_excerpt(verdict: Verdict) -> Verdict:
    """Return a verdict on an excerpt: a hang is likely at most, and its cause is left open.

    A pattern's rule rests on who else there is: "the only thread that could release this lock" is
    no finding where threads are missing from the log.
    """
    if verdict.kind not in STUCK:
        return verdict
    return replace(
        verdict,
        certainty=Certainty.LIKELY,
        pattern=None,
        advice=None,
        lines=(),
        assumptions=(ASSUMPTION, *verdict.assumptions),
    )
