"""Levels of pipes as the recorder's snapshots had them from the kernel."""

from __future__ import annotations

from qtrace.decode.json_text import mapping_of
from qtrace.tracefile.reader import TraceReader


def seen_levels(reader: TraceReader, until_ns: int) -> dict[str, tuple[int, int]]:
    """Return (time, bytes) by object id, of the latest snapshot up to a time that shows the object."""
    found: dict[str, tuple[int, int]] = {}
    for time, _, text in sorted(reader.rows("snapshots"), key=lambda row: int(row[0])):
        objects = mapping_of(text).get("objects")
        if time > until_ns or not isinstance(objects, dict):
            continue
        for name, facts in objects.items():
            level = facts.get("bytes") if isinstance(facts, dict) else None
            if isinstance(level, int):
                found[name] = (time, level)
    return found
