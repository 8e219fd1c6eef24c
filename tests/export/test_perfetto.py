"""The Perfetto export, field by field against the Trace Event Format."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from qtrace import pipeline
from qtrace.model.records import CallFlag

Event = dict[str, Any]

FIELDS = {
    "M": {"name", "ph", "ts", "pid", "args"},
    "X": {"name", "ph", "ts", "pid", "tid", "cat", "dur", "args"},
    "B": {"name", "ph", "ts", "pid", "tid", "cat", "args"},
    "s": {"name", "ph", "ts", "pid", "tid", "cat", "id"},
    "f": {"name", "ph", "ts", "pid", "tid", "cat", "id", "bp"},
    "C": {"name", "ph", "ts", "pid", "args"},
    "i": {"name", "ph", "ts", "pid", "s"},
}


@pytest.fixture(scope="module", params=["finished", "hung"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pipeline.Trace, list[Event]]:
    """A recording's trace, and the events of its export; times as exact fractions of a microsecond."""
    path = request.getfixturevalue(request.param)
    out = pipeline.export_recording(path, "perfetto", tmp_path_factory.mktemp("out") / "a.json.gz")
    import gzip

    whole = json.loads(gzip.decompress(out.read_bytes()), parse_float=Fraction)
    assert set(whole) == {"displayTimeUnit", "otherData", "traceEvents"}
    assert whole["displayTimeUnit"] == "ns"
    return pipeline.load(path), whole["traceEvents"]


def _of(events: list[Event], *phases: str) -> list[Event]:
    return [event for event in events if event["ph"] in phases]


def _ns(trace: pipeline.Trace, microseconds: Fraction) -> int:
    exact = microseconds * 1000
    assert exact == int(exact)
    return trace.start_ns + int(exact)


def test_every_event_has_the_fields_of_its_phase(exported: tuple[pipeline.Trace, list[Event]]) -> None:
    """Names are text, ids and times numbers; nothing beside what the format has."""
    _, events = exported
    for event in events:
        optional = {"tid"} if event["ph"] == "M" else set()
        assert set(event) - optional == FIELDS[event["ph"]], event
        assert isinstance(event["name"], str)
        assert isinstance(event["ts"], Fraction | int)
        assert isinstance(event["pid"], int)
        assert isinstance(event.get("tid", 0), int)


def test_processes_and_threads_have_their_names(exported: tuple[pipeline.Trace, list[Event]]) -> None:
    """In the order in which they came to be."""
    trace, events = exported
    named = {event["pid"]: event["args"]["name"] for event in _of(events, "M") if event["name"] == "process_name"}
    assert named == dict(zip(trace.processes["pid"], trace.processes["name"], strict=True))
    threads = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in _of(events, "M")
        if event["name"] == "thread_name"
    }
    assert set(threads) == set(zip(trace.threads["pid"], trace.threads["tid"], strict=True))
    order = [event["pid"] for event in _of(events, "M") if event["name"] == "process_sort_index"]
    assert order == trace.processes["pid"].drop_duplicates(keep="last").tolist()


def test_each_call_is_a_slice_of_its_thread(exported: tuple[pipeline.Trace, list[Event]]) -> None:
    """Begin and length to the nanosecond; what had not returned at the end has no end."""
    trace, events = exported
    slices = _of(events, "X", "B")
    calls = trace.syscalls
    assert [(_ns(trace, one["ts"]), one["pid"], one["tid"]) for one in slices] == list(
        zip(calls["start_ns"], calls["pid"], calls["tid"], strict=True)
    )
    assert [one["name"].split(":")[0] for one in slices] == calls["name"].astype(str).tolist()
    for one, record in zip(slices, trace.calls, strict=True):
        unfinished = bool(record["flags"] & int(CallFlag.UNFINISHED))
        assert one["args"].get("unfinished", False) is unfinished
        assert one["args"]["start_ns"] == record["start_ns"]
        assert one["args"]["dur_ns"] == record["dur_ns"]
        assert one["args"]["call"].startswith(one["name"].split(":")[0] + "(")
        if one["ph"] == "X":
            assert one["dur"] * 1000 == record["dur_ns"]
    ends: dict[int, int] = {}
    for one in _of(events, "X"):
        assert _ns(trace, one["ts"]) >= ends.get(one["tid"], 0), "slices of a thread do not overlap"
        ends[one["tid"]] = _ns(trace, one["ts"] + one["dur"])


def test_waits_are_named_by_their_kind(exported: tuple[pipeline.Trace, list[Event]]) -> None:
    """The same waits as in the table."""
    trace, events = exported
    waiting = [one for one in _of(events, "X", "B") if one["cat"].startswith("wait,")]
    waits = trace.waits
    assert sorted((_ns(trace, one["ts"]), one["tid"], one["cat"].removeprefix("wait,")) for one in waiting) == sorted(
        zip(waits["start_ns"], waits["tid"], waits["kind"].astype(str), strict=True)
    )
    assert len(waiting) >= 3  # those of the chain, at least


def test_arrows_go_from_the_waker_to_the_end_of_the_wait(exported: tuple[pipeline.Trace, list[Event]]) -> None:
    """Both ends lie inside of slices, on which the viewers hang them; none goes back in time."""
    trace, events = exported
    slices = _of(events, "X", "B")
    begins = {event["id"]: event for event in _of(events, "s")}
    ends = {event["id"]: event for event in _of(events, "f")}
    wakes = trace.wakes.set_index("wait_id")
    assert begins.keys() == ends.keys() == set(wakes.index)
    assert begins
    for wait_id, begin in begins.items():
        end = ends[wait_id]
        assert (begin["tid"], end["tid"]) == (wakes["waker_tid"][wait_id], wakes["wakee_tid"][wait_id])
        assert begin["name"] == end["name"] == f"wakes: {wakes['kind'][wait_id]}"
        assert begin["ts"] <= end["ts"]
        assert end["bp"] == "e"
        for event in (begin, end):
            inside = [
                one
                for one in slices
                if (one["pid"], one["tid"]) == (event["pid"], event["tid"])
                and one["ts"] <= event["ts"]
                and (one["ph"] == "B" or event["ts"] < one["ts"] + one["dur"])
            ]
            assert len(inside) == 1, event


def test_levels_of_pipes_are_counters(exported: tuple[pipeline.Trace, list[Event]]) -> None:
    """Each change of the table, under the process that made the pipe."""
    trace, events = exported
    fill = trace.fill
    makers = trace.objects.set_index("object_id")["creator_pid"]
    found = [(event["name"].rpartition(" ")[2], event["pid"], _ns(trace, event["ts"]), event["args"]["bytes"])
             for event in _of(events, "C")]  # fmt: skip
    expected = [(row.object_id, makers[row.object_id], row.time_ns, row.bytes) for row in fill.itertuples()]
    assert found == expected
    assert max(one[3] for one in found) > 61_000


def test_the_end_of_a_hang_is_open(hung: Path, tmp_path: Path) -> None:
    """The last calls of the stuck threads are drawn to the edge, which is marked."""
    trace = pipeline.load(hung)
    events = json.loads(pipeline.export_recording(hung, "perfetto", tmp_path / "a.json").read_text())["traceEvents"]
    open_ones = {event["name"] for event in _of(events, "B")}
    killed = {event["name"] for event in _of(events, "X") if event["args"].get("unfinished")}
    assert {"wait4: child-exit", "write: pipe-full"} <= open_ones | killed
    assert _of(events, "i") == [
        {
            "name": "end of the recording",
            "ph": "i",
            "ts": (trace.end_ns - trace.start_ns) / 1000,
            "pid": int(trace.meta["root_pid"]),
            "s": "g",
        }
    ]
