"""The verdict for a terminal: a headline, the chain, the advice, at most twelve lines."""

from __future__ import annotations

import textwrap

from qtrace.model.kinds import STUCK, Certainty, VerdictKind, WaitKind
from qtrace.model.snapshot import Frame
from qtrace.model.verdict import NamedObject, Verdict, Wait

MOST_LINES = 12
_MOST_LINKS = 8
_WIDTH = 100
_NARROWEST = 40
_COLOURS = {
    VerdictKind.DEADLOCK: "1;31",
    VerdictKind.ORPHANED: "1;31",
    VerdictKind.LIVELOCK: "1;31",
    VerdictKind.EXTERNAL: "1;33",
    VerdictKind.TIMED: "1;33",
    VerdictKind.RUNNING: "1;32",
    VerdictKind.FINISHED: "1;32",
}
_BOLD, _DIM = "1", "2"


def verdict_text(verdict: Verdict, *, colour: bool = False, width: int = _WIDTH) -> str:
    """Return the verdict in at most twelve lines, without a newline at the end.

    Args:
        verdict: What `explain_snapshot` gave.
        colour: Whether to use ANSI colours: only on a terminal.
        width: Columns; longer lines are cut, never wrapped, except the headline and the advice.
    """
    paint = _painter(colour)
    width = max(width, _NARROWEST)
    head = _headline(verdict, width, paint)
    advice = _advice(verdict, width, paint)
    room = MOST_LINES - len(head) - len(advice)
    return "\n".join([*head, *_chain(verdict, room, width, paint), *advice])


class _painter:
    """Puts a colour around words, or nothing."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and text else text


def _headline(verdict: Verdict, width: int, paint: _painter) -> list[str]:
    sure = "" if verdict.certainty is Certainty.PROVEN else f", {verdict.certainty}"
    stuck = verdict.kind in STUCK
    sure = f", {verdict.certainty}" if stuck else sure
    pattern = f", {verdict.pattern}" if verdict.pattern is not None else ""
    label = f"{verdict.kind}{sure}{pattern}:"
    lines = _wrapped(f"{label} {verdict.headline}", width, 3 if width >= _WIDTH else 4)
    painted = label if lines[0].startswith(label) else str(verdict.kind)  # a narrow terminal breaks the label
    lines[0] = paint(painted, _COLOURS[verdict.kind]) + lines[0][len(painted) :]
    return lines


def _advice(verdict: Verdict, width: int, paint: _painter) -> list[str]:
    lines = []
    if verdict.advice:
        lines += _wrapped(f"advice: {verdict.advice}", width, 2)
        lines[0] = paint("advice:", _BOLD) + lines[0][len("advice:") :]
    if verdict.assumptions:
        lines += _wrapped(f"assumed: {verdict.assumptions[0]}", width, 1)
    for pid, why in verdict.unseen[:1]:
        more = f" (and {len(verdict.unseen) - 1} more)" if len(verdict.unseen) > 1 else ""
        lines.append(_cut(f"not seen: pid {pid}: {why}{more}", width))
    return lines


def _wrapped(text: str, width: int, most: int) -> list[str]:
    lines = textwrap.wrap(text, width, subsequent_indent="  ") or [""]
    if len(lines) > most:
        lines = lines[:most]
        lines[-1] = _cut(lines[-1] + " ...", width)
    return lines


def _chain(verdict: Verdict, room: int, width: int, paint: _painter) -> list[str]:
    links = verdict.chain
    if not links or room < 1:
        return []
    closing = 1 if verdict.cycle else 0
    if 2 * len(links) == room:
        closing = 0  # that it is a circle is the headline's last word, too
    shown = min(len(links), max(1, min(_MOST_LINKS, room - closing)))
    # Two lines a link, call and Python line apart, where there is room for them.
    two = 2 * shown + closing <= room and shown == len(links)
    lines = []
    for place, link in enumerate(links[:shown], 1):
        lines += _link(place, link, two, width, paint)
    if shown < len(links):
        lines[-1] = _cut(f"     ... and {len(links) - shown + 1} more links", width)
    elif closing:
        back = _back(verdict)
        lines.append(_cut(f"  -> which waits for {back}: a circle", width))
    return lines


def _back(verdict: Verdict) -> str:
    place = verdict.back_to
    return "one of these" if place is None else f"link {place + 1}, {_who(verdict.chain[place])}"


def _who(link: Wait) -> str:
    if int(link.pid) == int(link.tid) and link.thread in ("MainThread", "", link.process):
        return f"{link.process} main"
    return f"{link.process} {link.thread}"


def _link(place: int, link: Wait, two: bool, width: int, paint: _painter) -> list[str]:
    who = f"{place:>2}. {_who(link)} [{link.pid}/{link.tid}]"
    line = _python_line(link.own_frame)
    call = link.call_text or link.call_name
    words = f"{link.kind}: {object_words(link.target, link.kind)}" if link.target else str(link.kind)
    if two:
        first = _cut(f"{who} {words}", width)
        second = _cut("    " + "  ".join(part for part in _fitting(line, call, width - 6) if part), width)
        first = first.replace(who, paint(who, _BOLD), 1)
        return [first, paint(second, _DIM)] if second.strip() else [first]
    text = _cut("  ".join(part for part in (who, words, line, call) if part), width)
    return [text.replace(who, paint(who, _BOLD), 1)]


def _fitting(line: str, call: str, width: int) -> tuple[str, str]:
    """A source line can be as long as it likes: the call beside it keeps its place."""
    if len(line) + len(call) <= width or not line or not call:
        return line, call
    share = max(width // 2, width - len(line))
    call = _cut(call, share)
    return _cut(line, width - len(call)), call


def object_words(target: NamedObject, kind: WaitKind) -> str:
    """Return an object as a person would say it, with its level where it has one."""
    words = target.label
    if target.bytes is not None and target.capacity:
        words += f", {target.bytes:,} of {target.capacity:,} bytes"
        if kind in (WaitKind.PIPE_FULL, WaitKind.SOCKET_FULL):
            words += ", full for this message"
    return words


def _python_line(frame: Frame | None) -> str:
    if frame is None:
        return ""
    name = frame.file.rpartition("/")[2]
    return f"{name}:{frame.line} {frame.source or frame.function}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
