"""Where the time went, by thread, and the one sentence on what holds the program up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from qtrace.model.kinds import Role, WaitKind

if TYPE_CHECKING:
    from qtrace.analyse.trace import Trace

WORTH_SAYING = 0.2
"""A thread that waited for less than a fifth of its life is not held up."""

_LOCKS = (WaitKind.GIL, WaitKind.SEMAPHORE, WaitKind.LOCK, WaitKind.FILE_LOCK)
_WHY: dict[WaitKind, tuple[str, str]] = {
    WaitKind.PIPE_FULL: ("for room in the pipe", "the consumer is slower than the producer"),
    WaitKind.SOCKET_FULL: ("for room in the socket", "the receiver is slower than the sender"),
    WaitKind.GIL: ("for the interpreter lock", "threads of one process compete for one interpreter"),
    WaitKind.SEMAPHORE: ("for a semaphore", "those that hold it keep it too long, or it counts too few"),
    WaitKind.LOCK: ("for a lock", "those that hold it keep it too long"),
    WaitKind.FILE_LOCK: ("for a file lock", "those that hold it keep it too long"),
    WaitKind.PIPE_EMPTY: ("for data in the pipe", "the producer is slower than the consumer"),
    WaitKind.SOCKET_EMPTY: ("for data on the socket", "the sender is slower than the receiver"),
}
"""What the kind says, the most telling first: a full pipe proves that its reader is the slow side, an
empty one may only mean that there is nothing to do."""
_BETWEEN_PROCESSES = (
    "for a lock or semaphore between processes",
    "those that hold it keep it too long, or, as the free places of a bounded queue, it counts too few",
)
"""The kernel's view of both is the same; Python stacks, which tell them apart, are taken of long waits only."""
_RANK = {kind: 1 if kind in _LOCKS else 2 * (place >= 2) for place, kind in enumerate(_WHY)}
"""Full pipes and sockets, then locks, then empty ones."""


def time_by_thread(trace: Trace) -> pd.DataFrame:
    """Return where each thread's life went.

    Columns: tid, pid, kind of wait (NA: it ran, or was ready to), ns, and share of the thread's life.
    """
    return _spent(trace, trace.waits)


def _spent(trace: Trace, waits: pd.DataFrame) -> pd.DataFrame:
    waited = (waits["end_ns"] - waits["start_ns"]).groupby([waits["tid"], waits["kind"]], observed=True).sum()
    lives = _lives(trace)
    rows = []
    for tid, pid, life in lives.itertuples(index=False):
        by_kind = waited.loc[tid] if tid in waited.index.get_level_values(0) else pd.Series(dtype="int64")
        spent = {str(kind): min(int(ns), life) for kind, ns in by_kind.items()}
        running = max(life - sum(spent.values()), 0)
        rows += [(tid, pid, kind, ns, ns / max(life, 1)) for kind, ns in [(None, running), *spent.items()]]
    frame = pd.DataFrame(rows, columns=["tid", "pid", "kind", "ns", "share"])
    return frame.astype({"tid": "int64", "pid": "int64", "kind": "string", "ns": "int64", "share": "float64"})


def _lives(trace: Trace) -> pd.DataFrame:
    threads = trace.threads
    life = (threads["end_ns"].fillna(trace.end_ns) - threads["start_ns"]).clip(lower=0)
    frame = pd.DataFrame({"tid": threads["tid"], "pid": threads["pid"], "life": life.astype("int64")})
    return frame.groupby(["tid", "pid"], sort=False)["life"].sum().reset_index()


def bottleneck(trace: Trace) -> str:
    """Return what most of the time was lost to, in a sentence, or nothing where nothing stands out.

    ``the feeder of child 1 of app.py waited 71 % of the time for room in the pipe: the consumer is
    slower than the producer``
    """
    spent = _spent(trace, _telling(trace))
    # Of the kinds of lock the one that took most from all threads together.
    lost = {kind: int(spent["ns"][spent["kind"] == str(kind)].sum()) for kind in _LOCKS}
    lives = _lives(trace)
    lasting = set(lives["tid"][lives["life"] >= WORTH_SAYING * (trace.end_ns - trace.start_ns)].tolist())
    order = sorted(_WHY, key=lambda kind: (_RANK[kind], -lost.get(kind, 0)))
    for kind in order:
        what, why = _WHY[kind]
        rows = spent[(spent["kind"] == str(kind)) & (spent["share"] >= WORTH_SAYING)]
        rows = rows[rows["tid"].isin(lasting)]
        if kind in (WaitKind.PIPE_EMPTY, WaitKind.SOCKET_EMPTY):
            rows = rows[rows["tid"].isin(_receivers(trace))]
        if rows.empty:
            continue
        place = int(rows["share"].to_numpy().argmax())
        who, share = _who(trace, int(rows["tid"].iloc[place])), float(rows["share"].iloc[place])
        if kind is WaitKind.LOCK and _is_shared(trace, int(rows["tid"].iloc[place])):
            what, why = _BETWEEN_PROCESSES
        return f"{who} waited {100 * share:.0f} % of the time {what}: {why}"
    return ""


def _is_shared(trace: Trace, tid: int) -> bool:
    # Whether the lock that a thread waited for longest is one between processes.
    mine = trace.waits[(trace.waits["tid"] == tid) & (trace.waits["kind"] == str(WaitKind.LOCK))]
    spent = (mine["end_ns"] - mine["start_ns"]).groupby(mine["object_id"], observed=True).sum()
    return bool(len(spent)) and str(spent.idxmax()).startswith("shared:")


def _telling(trace: Trace) -> pd.DataFrame:
    # Waits that may be what held the program up. One for ever is a hang, not slowness. Who alone waits on a lock
    # of its process is told something by it (a condition, a queue of threads): one that is kept too long makes
    # several wait. Helpers of a library idle where they wait.
    waits = trace.waits[~trace.waits["unfinished"]]
    locks = waits["kind"] == str(WaitKind.LOCK)
    waiters = waits[locks].groupby("object_id", observed=True)["tid"].nunique()
    told = locks & waits["object_id"].isin(waiters.index[waiters == 1])
    told &= waits["object_id"].str.startswith("futex:", na=False)
    helpers = trace.threads["tid"][trace.threads["role"].isin([str(Role.HANDLER), str(Role.MANAGER)])]
    return waits[~told & ~waits["tid"].isin(helpers)]


def _receivers(trace: Trace) -> set[int]:
    # A thread that waits for data that never comes is idle, not held up.
    return set(trace.messages["receiver_tid"].dropna().unique().tolist())


def _who(trace: Trace, tid: int) -> str:
    thread = trace.threads[trace.threads["tid"] == tid].iloc[-1]
    names = trace.processes[trace.processes["pid"] == thread["pid"]]["name"]
    process = str(names.iloc[-1]) if len(names) else f"pid {thread['pid']}"
    if thread["tid"] == thread["pid"]:
        return process
    name = str(thread["name"])
    title = (
        "the feeder" if thread["role"] == str(Role.FEEDER) else name if name.startswith("thread ") else f"thread {name}"
    )
    return f"{title} of {process}"
