"""The verdict's wait-for graph as text for Graphviz and for Mermaid."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from qtrace.model.ids import Tid
from qtrace.model.kinds import STUCK
from qtrace.model.verdict import Verdict

_STUCK, _LIVE, _THING = "stuck", "live", "thing"
_DOT_STYLE = {
    _STUCK: 'shape=box, style="filled,bold", fillcolor="#fbe3d6", color="#b3410e"',
    _LIVE: 'shape=box, style=filled, fillcolor="#eeeeee", color="#777777"',
    _THING: 'shape=ellipse, color="#777777"',
}
_MERMAID_STYLE = (
    "classDef stuck fill:#fbe3d6,stroke:#b3410e,stroke-width:2px",
    "classDef live fill:#eeeeee,stroke:#777777",
    "classDef thing fill:#ffffff,stroke:#777777",
)


@dataclass(slots=True)
class _Graph:
    nodes: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Label and class by name."""
    edges: dict[tuple[str, str], tuple[str, bool]] = field(default_factory=dict)
    """Label, and whether it is part of the chain, by ends."""


def dot_text(verdict: Verdict) -> str:
    """Return the graph for ``dot``: threads as boxes, objects as ellipses; the stuck part in colour.

    An arrow from a thread is what it waits on, an arrow from an object is who could end the wait;
    the chain of the verdict is drawn in bold.
    """
    graph = _graph_of(verdict)
    lines = ["digraph waits {", "    rankdir=LR;", f"    label={_dot(verdict.headline)};", "    labelloc=t;"]
    for name, (label, kind) in graph.nodes.items():
        lines.append(f"    {name} [label={_dot(label)}, {_DOT_STYLE[kind]}];")
    for (source, target), (label, chained) in graph.edges.items():
        style = ', style=bold, color="#b3410e"' if chained else ', color="#777777"'
        lines.append(f"    {source} -> {target} [label={_dot(label)}{style}];")
    return "\n".join([*lines, "}"]) + "\n"


def mermaid_text(verdict: Verdict) -> str:
    """Return the same for Mermaid, as GitHub and most wikis draw it."""
    graph = _graph_of(verdict)
    lines = ["---", f"title: {json.dumps(verdict.headline, ensure_ascii=False)}", "---", "flowchart LR"]
    for name, (label, kind) in graph.nodes.items():
        opening, closing = ("([", "])") if kind == _THING else ("[", "]")
        lines.append(f"    {name}{opening}{_mermaid(label)}{closing}:::{kind}")
    for (source, target), (label, chained) in graph.edges.items():
        arrow = "==>" if chained else "-->"
        lines.append(f"    {source} {arrow}{f'|{_mermaid(label)}|' if label else ''} {target}")
    lines += [f"    {style}" for style in _MERMAID_STYLE]
    return "\n".join(lines) + "\n"


def _graph_of(verdict: Verdict) -> _Graph:
    graph = _Graph()
    chained = {int(wait.tid): place for place, wait in enumerate(verdict.chain)}
    steps = {
        (int(one.tid), int(following.tid)) for one, following in zip(verdict.chain, verdict.chain[1:], strict=False)
    }
    if verdict.back_to is not None:
        steps.add((int(verdict.chain[-1].tid), int(verdict.chain[verdict.back_to].tid)))
    stuck = verdict.stuck_tids or (frozenset(Tid(tid) for tid in chained) if verdict.kind in STUCK else frozenset())
    for wait in verdict.waits or verdict.chain:
        kind = _STUCK if wait.tid in stuck else _LIVE
        graph.nodes[f"t{wait.tid}"] = (
            f"{wait.process}\n{wait.thread}\npid {wait.pid}, tid {wait.tid}\n{wait.call_text}",
            kind,
        )
    for live in verdict.live:
        graph.nodes.setdefault(
            f"t{live.tid}", (f"{live.process}\n{live.thread}\npid {live.pid}, tid {live.tid}\n{live.why}", _LIVE)
        )
    things: dict[str, str] = {}
    for wait in verdict.waits or verdict.chain:
        source = f"t{wait.tid}"
        thing = ""
        if wait.target is not None:
            thing = things.setdefault(wait.target.object_id, f"o{len(things)}")
            graph.nodes[thing] = (
                f"{wait.target.label}\n{_level(wait.target.bytes, wait.target.capacity)}".strip(),
                _THING,
            )
            graph.edges[source, thing] = (
                str(wait.kind),
                wait.tid in chained and any(one == wait.tid for one, _ in steps),
            )
        for provider in wait.providers:
            target = f"t{provider.tid}" if provider.tid is not None else f"p{provider.pid}"
            graph.nodes.setdefault(target, (f"pid {provider.pid}", _LIVE))
            begin = thing or source
            is_step = provider.tid is not None and (int(wait.tid), int(provider.tid)) in steps
            before = graph.edges.get((begin, target), ("", False))[1]
            graph.edges[begin, target] = ("" if thing else str(wait.kind), is_step or before)
    if not graph.nodes:
        graph.nodes["nobody"] = ("nobody waits at the end of this recording", _LIVE)
    return graph


def _level(level: int | None, capacity: int | None) -> str:
    if level is None:
        return ""
    return f"{level:,} of {capacity:,} bytes" if capacity is not None else f"{level:,} bytes"


def _dot(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _mermaid(text: str) -> str:
    # Quoted text, in which Mermaid knows entities by number; angle brackets would be taken for HTML.
    escaped = "".join(f"#{ord(letter)};" if letter in '"#<>&;`' else letter for letter in text)
    return '"' + escaped.replace("\n", "<br/>") + '"'
