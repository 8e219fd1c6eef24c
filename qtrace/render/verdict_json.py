"""The verdict as the JSON object of the contract ``qtrace.explain/1``."""

from __future__ import annotations

from qtrace.model.snapshot import Frame
from qtrace.model.verdict import EXPLAIN_SCHEMA, NamedObject, Verdict, Wait


def verdict_object(
    verdict: Verdict, target_kind: str, target_value: object, at_ns: int | None = None
) -> dict[str, object]:
    """Return the verdict as JSON-ready plain values; keys and their order are the contract.

    Args:
        verdict: What `explain_snapshot` gave.
        target_kind: ``pid`` or ``recording``.
        target_value: The pid, or the path of the file.
        at_ns: The moment asked for; the verdict's own where not given.
    """
    return {
        "schema": EXPLAIN_SCHEMA,
        "target": {
            "kind": target_kind,
            "value": target_value,
            "at_ns": verdict.at_ns if at_ns is None else at_ns,
        },
        "verdict": str(verdict.kind),
        "certainty": str(verdict.certainty),
        "pattern": None if verdict.pattern is None else str(verdict.pattern),
        "headline": verdict.headline,
        "advice": verdict.advice,
        "chain": [_wait(wait) for wait in verdict.chain],
        "cycle": verdict.cycle,
        "waits": [_wait(wait) for wait in verdict.waits],
        "live": [
            {
                "pid": int(live.pid),
                "tid": int(live.tid),
                "process": live.process,
                "thread": live.thread,
                "why": live.why,
            }
            for live in verdict.live
        ],
        "unseen": [{"pid": int(pid), "why": why} for pid, why in verdict.unseen],
        "evidence": dict(verdict.evidence),
        "assumptions": list(verdict.assumptions),
        "lines": [
            {
                "file": line.file,
                "line": line.line,
                "function": line.function,
                "source": line.source,
                "note": line.note,
            }
            for line in verdict.lines
        ],
    }


def _wait(wait: Wait) -> dict[str, object]:
    return {
        "pid": int(wait.pid),
        "tid": int(wait.tid),
        "process": wait.process,
        "thread": wait.thread,
        "role": str(wait.role),
        "kind": str(wait.kind),
        "since_ns": wait.since_ns,
        "unfinished": wait.unfinished,
        "syscall": {"name": wait.call_name, "text": wait.call_text},
        "object": _object(wait.target),
        "providers": [
            {
                "pid": int(provider.pid),
                "tid": None if provider.tid is None else int(provider.tid),
                "certainty": str(provider.certainty),
                "why": provider.why,
            }
            for provider in wait.providers
        ],
        "python": [_frame(frame) for frame in wait.python],
    }


def _object(target: NamedObject | None) -> dict[str, object] | None:
    if target is None:
        return None
    return {
        "kind": target.kind,
        "id": str(target.object_id),
        "label": target.label,
        "bytes": target.bytes,
        "capacity": target.capacity,
    }


def _frame(frame: Frame) -> dict[str, object]:
    return {
        "file": frame.file,
        "line": frame.line,
        "function": frame.function,
        "source": frame.source,
    }
