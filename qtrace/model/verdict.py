"""The verdict and the links of its chain, as the JSON contract has them (``qtrace.explain/1``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from qtrace.model.ids import ObjectId, Tgid, Tid
from qtrace.model.kinds import Certainty, PatternId, Role, VerdictKind, WaitKind
from qtrace.model.snapshot import Frame

_LIBRARY = re.compile(r"/python3\.\d+t?/(?!site-packages/|dist-packages/)|^<frozen |/qtrace/queue/")

EXPLAIN_SCHEMA = "qtrace.explain/1"


@dataclass(frozen=True, slots=True)
class Provider:
    """A thread that could end a wait."""

    pid: Tgid
    tid: Tid | None
    """None where only the process is known, or where it is dead."""
    certainty: Certainty
    why: str


@dataclass(frozen=True, slots=True)
class NamedObject:
    """What is waited on, in words."""

    kind: str
    object_id: ObjectId
    label: str
    """As a person would say it: "queue pipe", "queue's read lock", "child Process-1"."""
    bytes: int | None = None
    capacity: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """A blocked thread, what it waits on, and who could end that."""

    pid: Tgid
    tid: Tid
    process: str
    thread: str
    role: Role
    kind: WaitKind
    since_ns: int | None
    call_name: str
    call_text: str
    target: NamedObject | None
    providers: tuple[Provider, ...] = ()
    python: tuple[Frame, ...] = ()
    """Innermost first; empty if not Python."""
    unfinished: bool = True

    @property
    def own_frame(self) -> Frame | None:
        """The innermost frame that is not of the standard library or of a queue; else the innermost of all."""
        own = (frame for frame in self.python if not _LIBRARY.search(frame.file))
        return next(own, self.python[0] if self.python else None)


@dataclass(frozen=True, slots=True)
class LiveThread:
    """A thread that can go on, and why."""

    pid: Tgid
    tid: Tid
    process: str
    thread: str
    why: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the program that advice speaks of."""

    file: str
    line: int
    function: str
    source: str
    note: str
    """What it does in the hang: "waits for the child", "still has 61,500 bytes to send"."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: what holds the program up, how sure that is, and what to change."""

    kind: VerdictKind
    certainty: Certainty
    headline: str
    """One sentence with names, not numbers."""
    pattern: PatternId | None = None
    advice: str | None = None
    chain: tuple[Wait, ...] = ()
    """From the thread that the user sees hanging to the root; each one's next is among its providers."""
    cycle: bool = False
    """Whether the last of the chain waits for one in the chain."""
    waits: tuple[Wait, ...] = ()
    live: tuple[LiveThread, ...] = ()
    unseen: tuple[tuple[Tgid, str], ...] = ()
    assumptions: tuple[str, ...] = ()
    """What `likely` rests on, a sentence each."""
    evidence: Mapping[str, object] = field(default_factory=dict)
    lines: tuple[Line, ...] = ()
    """The lines to change, the first the most important."""
    stuck_tids: frozenset[Tid] = frozenset()
    at_ns: int = 0
    """The moment, CLOCK_MONOTONIC."""
    start_ns: int | None = None
    """The recording's beginning, to print times as seconds since; None for a live look."""

    @property
    def back_to(self) -> int | None:
        """Place in the chain, from 0, of the link that the last one of a circle waits for; None without a circle."""
        if not self.cycle or not self.chain:
            return None
        places = {link.tid: place for place, link in reversed(tuple(enumerate(self.chain)))}
        # Who the chain goes on to is the first of the providers.
        return next((places[one.tid] for one in self.chain[-1].providers if one.tid in places), None)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the headline, the chain as a list, the advice."""
        sure = "" if self.certainty is Certainty.PROVEN else f", {self.certainty}"
        known = f", {self.pattern}" if self.pattern is not None else ""
        parts = [f"<p><b>{escape(f'{self.kind}{sure}{known}')}</b>: {escape(self.headline)}</p>"]
        links = [
            f"<li>{escape(link.process)}, {escape(link.thread)}: {escape(link.kind)}"
            + (f" on {escape(link.target.label)}" if link.target is not None else "")
            + f"<br><code>{escape(link.call_text)}</code>{_place(link)}</li>"
            for link in self.chain
        ]
        if links:
            parts.append(f"<ol>{''.join(links)}</ol>")
        if self.back_to is not None:
            parts.append(f"<p>The last waits for number {self.back_to + 1}: a circle.</p>")
        if self.advice:
            parts.append(f"<p><b>advice</b>: {escape(self.advice)}</p>")
        return "".join(parts)


def _place(link: Wait) -> str:
    frame = link.own_frame
    return "" if frame is None else f"<br><code>{escape(f'{frame.file}:{frame.line} {frame.source}')}</code>"
