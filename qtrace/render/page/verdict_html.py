"""The verdict as HTML that needs no script: headline, chain as cards, advice, lines to change.

Everything that comes from the program passes through `html.escape`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import escape

from qtrace.model.kinds import STUCK, VerdictKind
from qtrace.model.snapshot import Frame
from qtrace.model.verdict import Line, Verdict, Wait
from qtrace.render.page.texts import unfinished
from qtrace.render.wording import count, duration, wait_sentence

_NAME_WITH_NUMBER = re.compile(r"\b[A-Za-z]\w{0,30}-\d{1,8}\b")
FRAMES_SHOWN = 12
LONG_HEADLINE = 110
"""Letters from which a headline is set smaller."""
SIDE_BY_SIDE = 4
"""Longer chains stand one card under the other."""
_LABELS: Mapping[VerdictKind, str] = {
    VerdictKind.DEADLOCK: "Deadlock",
    VerdictKind.ORPHANED: "Orphaned wait",
    VerdictKind.LIVELOCK: "Livelock",
    VerdictKind.EXTERNAL: "Waits for the outside",
    VerdictKind.TIMED: "Waits for the clock",
    VerdictKind.RUNNING: "Running",
    VerdictKind.FINISHED: "Finished",
}


def _tag(name: str, css: str, text: str) -> str:
    return f'<{name} class="{css}">{escape(text)}</{name}>'


def _since(wait: Wait, verdict: Verdict) -> str:
    if wait.since_ns is None:
        return ""
    waited = f"for {duration(verdict.at_ns - wait.since_ns)}" if verdict.at_ns else ""
    if verdict.start_ns is None:
        return waited
    return f"{waited}, since {(wait.since_ns - verdict.start_ns) / 1e9:.3f} s".lstrip(", ")


def _own_frame(frames: tuple[Frame, ...]) -> Frame | None:
    # The program's own innermost line says more than the library's that it called into.
    own = [frame for frame in frames if not _is_library(frame.file)]
    return next(iter(own or frames), None)


def _is_library(file: str) -> bool:
    return "/lib/python" in file or "site-packages" in file or "/qtrace/queue/" in file or file.startswith("<")


def _frame_html(frame: Frame, css: str = "frame") -> str:
    place = f"{frame.file.rsplit('/', 1)[-1]}:{frame.line}"
    source = f"<code>{escape(frame.source)}</code>" if frame.source else ""
    where = f'<span class="place" title="{escape(frame.file, quote=True)}">{escape(place)}</span>'
    return f'<div class="{css}">{where} <span class="fn">{escape(frame.function)}</span>{source}</div>'


def _stack_html(wait: Wait) -> str:
    if not wait.python:
        return ""
    own = _own_frame(wait.python)
    first = _frame_html(own, "frame own") if own else ""
    if len(wait.python) < 2:
        return first
    rows = "".join(_frame_html(frame) for frame in wait.python[:FRAMES_SHOWN])
    more = len(wait.python) - FRAMES_SHOWN
    rest = f'<div class="frame more">{count(more, "more frame")}</div>' if more > 0 else ""
    return f"{first}<details><summary>Python stack, {count(len(wait.python), 'frame')}</summary>{rows}{rest}</details>"


def _card(wait: Wait, place: int, verdict: Verdict, next_why: str, rail: str) -> str:
    since = _since(wait, verdict)
    head = (
        f'<span class="step">{place}</span><span class="who"><b>{_whole_names(escape(wait.process))}</b>'
        f'<span class="sep">/</span><wbr>{_whole_names(escape(wait.thread))}</span>'
        f'<span class="ids">pid {wait.pid}, tid {wait.tid}</span>'
        f'<span class="kind" data-kind="{wait.kind}"><i></i>{wait.kind}</span>'
    )
    state = _tag("p", "does", wait_sentence(wait)) + (_tag("p", "since", since) if since else "")
    text = wait.call_text or wait.call_name
    text = unfinished(text) if wait.unfinished else text
    call = f'<code class="call">{escape(text)}</code>' if wait.call_name else ""
    why = f'<p class="why">{escape(next_why)}</p>' if next_why else ""
    return (
        f'<li class="card" data-tid="{wait.tid}" tabindex="0"><div class="head">{head}</div>'
        f'<div class="body">{state}{call}{_stack_html(wait)}</div>{why}{rail}</li>'
    )


def _why_next(verdict: Verdict, place: int) -> str:
    chain = verdict.chain
    wait = chain[place]
    if place + 1 < len(chain):
        follower, closing = chain[place + 1], ""
    elif verdict.cycle:
        follower = chain[verdict.back_to or 0]
        closing = f", which closes the circle at {(verdict.back_to or 0) + 1}"
    else:
        lost = verdict.kind in STUCK and not wait.providers
        return "nobody is left who could end this wait" if lost else ""
    reason = next((provider.why for provider in wait.providers if provider.tid == follower.tid), "")
    return f"needs {follower.process} / {follower.thread}{closing}" + (f": {reason}" if reason else "")


def chain_html(verdict: Verdict) -> str:
    """Return the chain as an ordered list of cards, or an empty text where there is none."""
    if not verdict.chain:
        return ""
    rails = _rails(verdict)
    cards = "".join(
        _card(wait, place + 1, verdict, _why_next(verdict, place), rails[place])
        for place, wait in enumerate(verdict.chain)
    )
    css = (
        "chain"
        + ("" if verdict.kind in STUCK else " calm")
        + (" cycle" if verdict.cycle else "")
        + (" long" if len(verdict.chain) > SIDE_BY_SIDE else "")
    )
    return f'<ol class="{css}">{cards}</ol>'


def _rails(verdict: Verdict) -> list[str]:
    # Pieces of the line that leads from the last card of a circle back to its first.
    last = len(verdict.chain) - 1
    if not verdict.cycle or last < 1:
        return [""] * (last + 1)
    first = verdict.back_to or 0  # the circle need not begin at the thread that the user sees
    words = f"and so the circle is closed: {last + 1} waits for {first + 1}"
    pieces = [""] * first + ['<span class="rail first"></span>'] + ['<span class="rail"></span>'] * (last - first)
    pieces[last] = f'<span class="rail last" data-text="{words}"></span>' if first < last else pieces[last]
    return pieces


def _merged(lines: tuple[Line, ...]) -> list[Line]:
    # A line that several threads stand at, or that does two things, is one line to change.
    notes: dict[tuple[str, int], list[str]] = {}
    first: dict[tuple[str, int], Line] = {}
    for line in lines:
        place = (line.file, line.line)
        first.setdefault(place, line)
        known = notes.setdefault(place, [])
        known += [line.note] if line.note not in known else []
    return [replace(line, note="; ".join(notes[place])) for place, line in first.items()]


def _line_html(line: Line) -> str:
    place = f"{line.file.rsplit('/', 1)[-1]}:{line.line}"
    return (
        f'<li><span class="place" title="{escape(line.file, quote=True)}">{escape(place)}</span> '
        f'<span class="fn">{escape(line.function)}</span><code>{escape(line.source)}</code>'
        f'<span class="note">{escape(line.note)}</span></li>'
    )


def _value_text(name: str, value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_value_text("pid" if isinstance(each, int) else name, each) for each in value) or "none"
    if name.endswith(("pid", "tid")):
        return str(value)  # a number that names something is not one to be read with commas
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unknown"}[value]
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def advice_html(verdict: Verdict) -> str:
    """Return what to change, which lines, and what the verdict rests on."""
    parts = []
    if verdict.advice:
        parts.append(f'<h3>What to change</h3><p class="advice">{escape(verdict.advice)}</p>')
    if verdict.lines:
        parts.append(f'<ul class="lines">{"".join(map(_line_html, _merged(verdict.lines)))}</ul>')
    if verdict.evidence:
        rows = "".join(
            f"<div><dt>{escape(str(name).replace('_', ' '))}</dt><dd>{escape(_value_text(str(name), value))}</dd></div>"
            for name, value in verdict.evidence.items()
        )
        parts.append(f'<h3>Evidence</h3><dl class="evidence">{rows}</dl>')
    parts += _sentences("Assumes", verdict.assumptions)
    parts += _sentences("Not seen", tuple(f"pid {pid}: {why}" for pid, why in verdict.unseen))
    return "".join(parts)


def _sentences(title: str, sentences: tuple[str, ...]) -> list[str]:
    if not sentences:
        return []
    return [f"<h3>{title}</h3><ul>{''.join(f'<li>{escape(text)}</li>' for text in sentences)}</ul>"]


def _whole_names(markup: str) -> str:
    # "Process-1" is one word: a browser would break the line after its hyphen.
    return _NAME_WITH_NUMBER.sub(r'<span class="whole">\g<0></span>', markup)


def headline_html(verdict: Verdict, finished: Callable[[], str]) -> str:
    """Return badge and headline.

    Args:
        verdict: The answer.
        finished: Gives the headline of a program that ended by itself: where its time went.
    """
    mood = "bad" if verdict.kind in STUCK else "good" if verdict.kind is VerdictKind.FINISHED else "calm"
    badges = [_tag("span", f"badge {mood}", _LABELS[verdict.kind]), _tag("span", "badge plain", str(verdict.certainty))]
    if verdict.pattern:
        badges.append(_tag("span", "badge plain mono", str(verdict.pattern)))
    text = verdict.headline or _LABELS[verdict.kind]
    css = ' class="long"' if len(text) > LONG_HEADLINE else ""
    extra = finished() if verdict.kind is VerdictKind.FINISHED else ""
    more = _tag("p", "where-time", extra) if extra else ""
    headline = f'<h1 id="headline"{css}>{_whole_names(escape(text.strip()))}</h1>'
    return f'<div class="badges">{"".join(badges)}</div>{headline}{more}'
