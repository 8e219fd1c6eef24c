"""What a pattern is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from qtrace.analyse.activity import library_path, own_frame
from qtrace.analyse.chain import Chain
from qtrace.analyse.graph import Node, WaitGraph
from qtrace.analyse.naming import Names
from qtrace.analyse.scene import Actor, Scene
from qtrace.model.ids import Tid
from qtrace.model.kinds import PatternId, VerdictKind
from qtrace.model.snapshot import Frame, Snapshot
from qtrace.model.verdict import Line


@dataclass(frozen=True, slots=True)
class Case:
    """A hang that the general rule has found, to be given a name."""

    graph: WaitGraph
    names: Names
    chain: Chain
    part: Collection[Tid]
    """Everyone who is stuck with it."""
    kind: VerdictKind

    @property
    def scene(self) -> Scene:
        """The moment."""
        return self.graph.scene

    @property
    def snapshot(self) -> Snapshot:
        """The facts of the moment."""
        return self.graph.scene.snapshot

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The links of the chain."""
        return self.chain.nodes

    @property
    def last(self) -> Node:
        """The link at the root of the trouble."""
        return self.chain.nodes[-1]

    @property
    def circle(self) -> tuple[Node, ...]:
        """The links that wait for one another; empty without a circle."""
        if self.chain.back_to is None:
            return ()
        return self.chain.nodes[self.chain.back_to :]


@dataclass(frozen=True, slots=True)
class Finding:
    """A known cause."""

    pattern: PatternId
    advice: str
    lines: tuple[Line, ...] = ()
    evidence: Mapping[str, object] = field(default_factory=dict)
    headline: str | None = None
    """A better sentence than the general one, where the pattern knows more."""
    assumption: str = ""


def line_of(frame: Frame | None, note: str) -> tuple[Line, ...]:
    """Return a frame as a line that advice speaks of; empty without a frame."""
    if frame is None:
        return ()
    return (Line(frame.file, frame.line, frame.function, frame.source, note),)


def own_line(actor: Actor, note: str) -> tuple[Line, ...]:
    """Return the innermost line of the program's own code in a thread, with a note."""
    return line_of(own_frame(actor.stack), note)


def first_own_line(actor: Actor, note: str) -> tuple[Line, ...]:
    """Return the thread's own line, or the innermost at all where all is library."""
    return own_line(actor, note) or line_of(next(iter(actor.stack), None), note)


def is_own(frame: Frame) -> bool:
    """Whether a frame is of the program and not of the library."""
    return library_path(frame.file) is None
