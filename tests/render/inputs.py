"""Report inputs built by hand: the join-before-get hang, and a recording of millions of calls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from qtrace.model.columns import TABLES
from qtrace.model.ids import ObjectId, Tgid, Tid
from qtrace.model.kinds import Certainty, PatternId, Role, VerdictKind, WaitKind
from qtrace.model.records import CALL_FIELDS, CallFlag
from qtrace.model.snapshot import Frame
from qtrace.model.verdict import Line, LiveThread, NamedObject, Provider, Verdict, Wait
from qtrace.render.report_input import CallArray, ReportInput

START = 8_000_000_000_000
MS = 1_000_000
QUEUE = "pipe:[40961]"
NR = {"read": 0, "write": 1, "poll": 7, "wait4": 61, "futex": 202, "pipe2": 293, "clone": 56, "exit_group": 231}
HOSTILE = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=2"> & "quoted"'
"""What a thread, a path or an argument may be called."""


def table(name: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a public table, with the dtypes that `qtrace.model.columns` declares."""
    rows = list(rows)
    columns = {column.name: [row.get(column.name) for row in rows] for column in TABLES[name]}
    return pd.DataFrame({column.name: pd.Series(columns[column.name], dtype=column.dtype) for column in TABLES[name]})


def calls_of(rows: Iterable[tuple[int, int, int, int, str, int, tuple[int, ...], bool]]) -> CallArray:
    """Return calls from (start_ns, dur_ns, tid, pid, name, ret, args, unfinished), in the order of entry."""
    packed = []
    for start, dur, tid, pid, name, ret, args, unfinished in rows:
        six = (*args, 0, 0, 0, 0, 0, 0)[:6]
        packed.append((start, dur, tid, pid, NR[name], int(CallFlag.UNFINISHED) if unfinished else 0, ret, *six, 0))
    calls = np.array(packed, dtype=np.dtype(CALL_FIELDS))
    return calls[np.argsort(calls["start_ns"], kind="stable")]


def _main_stack(file: str) -> tuple[Frame, ...]:
    return (
        Frame(
            "/usr/lib/python3.11/multiprocessing/popen_fork.py",
            27,
            "Popen.poll",
            "pid, sts = os.waitpid(self.pid, flag)",
        ),
        Frame(
            "/usr/lib/python3.11/multiprocessing/popen_fork.py",
            43,
            "Popen.wait",
            "return self.poll(os.WNOHANG if timeout == 0.0 else 0)",
        ),
        Frame(
            "/usr/lib/python3.11/multiprocessing/process.py", 149, "BaseProcess.join", "res = self._popen.wait(timeout)"
        ),
        Frame(
            file,
            22,
            "<module>",
            "p.join()  # before get(): the child cannot end while its message does not fit into the pipe",
        ),
    )


def _child_stack() -> tuple[Frame, ...]:
    return (
        Frame(
            "/usr/lib/python3.11/threading.py", 1139, "Thread._wait_for_tstate_lock", "if lock.acquire(block, timeout):"
        ),
        Frame("/usr/lib/python3.11/threading.py", 1119, "Thread.join", "self._wait_for_tstate_lock()"),
        Frame("/usr/lib/python3.11/multiprocessing/queues.py", 199, "Queue._finalize_join", "thread.join()"),
        Frame(
            "/usr/lib/python3.11/multiprocessing/util.py",
            224,
            "Finalize.__call__",
            "res = self._callback(*self._args, **self._kwargs)",
        ),
    )


def _feeder_stack() -> tuple[Frame, ...]:
    return (
        Frame(
            "/usr/lib/python3.11/multiprocessing/connection.py", 379, "Connection._send", "n = write(self._handle, buf)"
        ),
        Frame("/usr/lib/python3.11/multiprocessing/connection.py", 404, "Connection._send_bytes", "self._send(buf)"),
        Frame("/usr/lib/python3.11/multiprocessing/queues.py", 247, "Queue._feed", "send_bytes(obj)"),
    )


def _chain(at_ns: int, file: str, thread: str) -> tuple[Wait, ...]:
    main, child = Tgid(4100), Tgid(4101)
    pipe = NamedObject("pipe", ObjectId(QUEUE), "queue pipe", 61_500, 65_536)
    return (
        Wait(
            main,
            Tid(4100),
            "join_before_get",
            thread,
            Role.MAIN,
            WaitKind.CHILD_EXIT,
            START + 62 * MS,
            "wait4",
            "wait4(4101, ",
            NamedObject("child", ObjectId("child:4101"), "child Process-1"),
            (Provider(child, Tid(4101), Certainty.PROVEN, "the child ends when its main thread returns"),),
            _main_stack(file),
        ),
        Wait(
            child,
            Tid(4101),
            "Process-1",
            "MainThread",
            Role.MAIN,
            WaitKind.THREAD_JOIN,
            START + 74 * MS,
            "futex",
            "futex(0x7f3c1c000b60, FUTEX_WAIT_BITSET|FUTEX_CLOCK_REALTIME, 0, NULL, FUTEX_BITSET_MATCH_ANY",
            NamedObject("futex", ObjectId("futex:4101:0x7f3c1c000b60"), "thread QueueFeederThread"),
            (Provider(child, Tid(4102), Certainty.PROVEN, "it is the joined thread"),),
            _child_stack(),
        ),
        Wait(
            child,
            Tid(4102),
            "Process-1",
            "QueueFeederThread",
            Role.FEEDER,
            WaitKind.PIPE_FULL,
            START + 71 * MS,
            "write",
            'write(4, "\\0\\1\\0\\30"..., 65592',
            pipe,
            (
                Provider(
                    main, Tid(4100), Certainty.PROVEN, "it is the only thread that reads this pipe, and it is in join()"
                ),
            ),
            _feeder_stack(),
        ),
    )


def _verdict(end_ns: int, file: str, thread: str) -> Verdict:
    chain = _chain(end_ns, file, thread)
    return Verdict(
        VerdictKind.DEADLOCK,
        Certainty.PROVEN,
        "join_before_get waits for Process-1 to exit, and Process-1 cannot exit before join_before_get reads its queue",
        PatternId.JOIN_BEFORE_DRAIN,
        "Call get() before join(): take everything out of the queue first, then wait for the process that put it in.",
        chain,
        True,
        chain,
        evidence={"message_bytes": 65_592, "in_pipe_bytes": 61_500, "capacity_bytes": 65_536},
        lines=(
            Line(file, 22, "<module>", "p.join()", "waits for the child, which waits for its queue to be read"),
            Line(
                file,
                23,
                "<module>",
                "print(len(queue.get()))",
                "would make room, and is never reached: move it above the join",
            ),
        ),
        stuck_tids=frozenset({Tid(4100), Tid(4101), Tid(4102)}),
        at_ns=end_ns,
        start_ns=START,
    )


def join_before_get(
    name: str = "join_before_get", thread: str = "MainThread", file: str = "/home/ada/join_before_get.py"
) -> ReportInput:
    """Return the hang of the first example: three threads in a circle, after some work.

    Args:
        name: The recording's name.
        thread: Name of the first process's main thread.
        file: The program's path.
    """
    end = START + 3_120 * MS
    ms = lambda number: START + int(number * MS)  # noqa: E731
    threads = [
        {"tid": 4100, "pid": 4100, "name": thread, "role": "main", "start_ns": ms(0)},
        {"tid": 4101, "pid": 4101, "name": "MainThread", "role": "main", "start_ns": ms(60), "creator_tid": 4100},
        {
            "tid": 4102,
            "pid": 4101,
            "name": "QueueFeederThread",
            "role": "feeder",
            "start_ns": ms(70),
            "creator_tid": 4101,
        },
    ]
    processes = [
        {
            "pid": 4100,
            "image": 0,
            "ppid": 4000,
            "name": "join_before_get",
            "argv": ["python3", file],
            "start_ns": ms(0),
        },
        {"pid": 4101, "image": 0, "ppid": 4100, "name": "Process-1", "argv": ["python3", file], "start_ns": ms(60)},
    ]
    objects = [
        {
            "object_id": QUEUE,
            "kind": "pipe",
            "label": "queue pipe",
            "capacity": 65_536,
            "creator_pid": 4100,
            "created_ns": ms(52),
        },
        {
            "object_id": "child:4101",
            "kind": "child",
            "label": "child Process-1",
            "creator_pid": 4100,
            "created_ns": ms(60),
        },
        {"object_id": "futex:4101:0x7f3c1c000b60", "kind": "futex", "label": "thread QueueFeederThread"},
        {"object_id": "futex:4101:0x55d0", "kind": "futex", "label": "interpreter lock of Process-1"},
    ]
    waits: list[dict[str, Any]] = [
        _wait(4102, 4101, ms(70.4), ms(70.9), "gil", "futex:4101:0x55d0", "futex", 4101),
        _wait(4101, 4101, ms(71.6), ms(73.1), "gil", "futex:4101:0x55d0", "futex", 4102),
        _wait(4100, 4100, ms(20), ms(34), "external", None, "read", None),
        _wait(4100, 4100, ms(62), end, "child-exit", "child:4101", "wait4", None, stack_id=1),
        _wait(4102, 4101, ms(71), end, "pipe-full", QUEUE, "write", None, stack_id=3),
        _wait(4101, 4101, ms(74), end, "thread-join", "futex:4101:0x7f3c1c000b60", "futex", None, stack_id=2),
    ]
    for number, wait in enumerate(waits):
        wait |= {"wait_id": number, "unfinished": wait["end_ns"] == end}
    op = 137 | 256
    calls = calls_of(
        [
            (ms(20), 14 * MS, 4100, 4100, "read", 832, (3, 0x7FFD0, 832), False),
            (ms(52), 40_000, 4100, 4100, "pipe2", 0, (0x7FFD00, 0x80000), False),
            (ms(60), 400_000, 4100, 4100, "clone", 4101, (0x1200011,), False),
            (ms(62), end - ms(62), 4100, 4100, "wait4", 0, (4101, 0x7FFD10, 0, 0), True),
            (ms(70.4), MS // 2, 4102, 4101, "futex", 0, (0x55D0, 137, 0, 0, 0, 0xFFFFFFFF), False),
            (ms(71), end - ms(71), 4102, 4101, "write", 0, (4, 0x7F00, 65592), True),
            (ms(71.6), MS * 3 // 2, 4101, 4101, "futex", -110, (0x55D0, 137, 0, 0x7F10, 0, 0xFFFFFFFF), False),
            (ms(74), end - ms(74), 4101, 4101, "futex", 0, (0x7F3C1C000B60, op, 0, 0, 0, 0xFFFFFFFF), True),
        ]
    )
    messages = [
        {"object_id": QUEUE, "seq": 0, "size": 65_588, "sender_tid": 4102, "write_start_ns": ms(71), "complete": False},
    ]
    fill = [
        {"object_id": QUEUE, "time_ns": ms(52), "bytes": 0, "capacity": 65_536},
        {"object_id": QUEUE, "time_ns": ms(71), "bytes": 61_500, "capacity": 65_536},
    ]
    return ReportInput(
        name=name,
        verdict=_verdict(end, file, thread),
        processes=table("processes", processes),
        threads=table("threads", threads),
        waits=table("waits", waits),
        objects=table("objects", objects),
        messages=table("messages", messages),
        fill=table("fill", fill),
        calls=calls,
        stacks={1: _main_stack(file), 2: _child_stack(), 3: _feeder_stack()},
        meta=_meta(["python3", file], START, end),
    )


def empty() -> ReportInput:
    """Return a recording in which nothing was seen: no thread, no call, no wait."""
    tables = {name: table(name, []) for name in ("processes", "threads", "waits", "objects", "messages", "fill")}
    verdict = Verdict(VerdictKind.FINISHED, Certainty.UNKNOWN, "")
    return ReportInput(name="empty", verdict=verdict, calls=calls_of([]), **tables)


def lock_order() -> ReportInput:
    """Return two threads of one process that each hold the lock that the other one wants, for the shortest circle."""
    report = join_before_get("lock_order")
    end = int(report.verdict.at_ns)
    tids = (4100, 4103)
    locks = [NamedObject("futex", ObjectId(f"futex:4100:0x{n}"), f"lock {'ab'[n]}") for n in (0, 1)]
    chain = tuple(
        Wait(
            Tgid(4100),
            Tid(tid),
            "lock_order",
            ("MainThread", "Thread-1 (worker)")[n],
            Role.THREAD,
            WaitKind.LOCK,
            START + 90 * MS,
            "futex",
            "futex(0x7f, FUTEX_WAIT_BITSET, 0, NULL",
            locks[n],
            (Provider(Tgid(4100), Tid(tids[1 - n]), Certainty.LIKELY, "it took the lock last"),),
        )
        for n, tid in enumerate(tids)
    )
    waits = [
        {
            **_wait(tid, 4100, START + 90 * MS, end, "lock", locks[n].object_id, "futex", None),
            "wait_id": n,
            "unfinished": True,
        }
        for n, tid in enumerate(tids)
    ]
    threads = [
        {"tid": tid, "pid": 4100, "name": chain[n].thread, "role": "thread", "start_ns": START + n * MS}
        for n, tid in enumerate(tids)
    ]
    objects = [{"object_id": lock.object_id, "kind": "futex", "label": lock.label} for lock in locks]
    verdict = replace(
        report.verdict,
        headline="the main thread and Thread-1 each wait for the lock that the other one holds",
        pattern=PatternId.LOCK_ORDER,
        certainty=Certainty.LIKELY,
        assumptions=("who took a lock last still holds it",),
        advice="Take the two locks in the same order everywhere.",
        chain=chain,
        waits=chain,
        lines=(),
        evidence={},
        stuck_tids=frozenset(Tid(tid) for tid in tids),
    )
    return replace(
        report,
        verdict=verdict,
        threads=table("threads", threads),
        waits=table("waits", waits),
        objects=table("objects", objects),
        messages=table("messages", []),
        fill=table("fill", []),
        processes=report.processes.head(1),
        stacks={},
    )


def _meta(argv: list[str], start: int, end: int) -> dict[str, str]:
    return {
        "qtrace": "0.1.0",
        "python": "3.11.2",
        "kernel": "6.18.5",
        "architecture": "x86_64",
        "engine": "ptrace",
        "target": "script",
        "argv": json.dumps(argv),
        "cwd": "/home/ada",
        "start_ns": str(start),
        "end_ns": str(end),
        "end_reason": "hang",
        "complete": "1",
    }


def _wait(
    tid: int,
    pid: int,
    start: int,
    end: int,
    kind: str,
    target: str | None,
    call: str,
    waker: int | None,
    stack_id: int | None = None,
) -> dict[str, Any]:
    return {
        "tid": tid,
        "pid": pid,
        "start_ns": start,
        "end_ns": end,
        "kind": kind,
        "object_id": target,
        "name": call,
        "woken_by": waker,
        "stack_id": stack_id,
    }


def hostile() -> ReportInput:
    """Return the same hang in a program whose names are written to break a page."""
    report = join_before_get(HOSTILE, HOSTILE, f"/tmp/{HOSTILE}/a.py")
    objects = report.objects.assign(label=HOSTILE)
    processes = report.processes.assign(name=HOSTILE)
    evidence = {HOSTILE: HOSTILE}
    verdict = replace(report.verdict, headline=HOSTILE, advice=HOSTILE, evidence=evidence, assumptions=(HOSTILE,))
    return replace(report, objects=objects, processes=processes, verdict=verdict, meta={**report.meta, "cwd": HOSTILE})


def finished(calls: int = 40_000, workers: int = 6, seed: int = 7) -> ReportInput:
    """Return a program that ended by itself: a parent that feeds idle workers through a queue.

    Args:
        calls: How many system calls, half of them waits.
        workers: Processes that read from the queue.
        seed: Of the random numbers.
    """
    generator = np.random.default_rng(seed)
    end = START + 4_000 * MS
    tids = np.array([5000, *range(5001, 5001 + workers)])
    # Two of three go to the parent; the last worker never gets anything to do.
    per_thread = np.r_[calls // 2, np.full(workers, calls // (2 * workers))]
    starts, durations, owners = [], [], []
    for tid, count in zip(tids, per_thread, strict=True):
        edges = np.sort(generator.integers(START + 20 * MS, end - 20 * MS, 2 * int(count)))
        starts.append(edges[0::2])
        durations.append(np.maximum(edges[1::2] - edges[0::2], 1))
        owners.append(np.full(int(count), tid))
    start, dur, tid = np.concatenate(starts), np.concatenate(durations), np.concatenate(owners)
    size = len(start)
    kind = np.where(tid == 5000, "pipe-full", np.where(generator.random(size) < 0.7, "pipe-empty", "semaphore"))
    pid = tid.astype(np.int64)
    waits = pd.DataFrame(
        {
            "wait_id": np.arange(size, dtype=np.int64),
            "tid": pid,
            "pid": pid,
            "start_ns": start,
            "end_ns": start + dur,
            "kind": pd.Categorical(kind),
            "object_id": pd.array(np.where(kind == "semaphore", "shared:26:77:0x0", QUEUE), dtype="string"),
            "name": pd.Categorical(np.where(kind == "semaphore", "futex", np.where(tid == 5000, "write", "read"))),
            "woken_by": pd.array(np.where(tid == 5000, 5001 + np.arange(size) % workers, 5000), dtype="Int64"),
            "stack_id": pd.array(np.full(size, pd.NA), dtype="Int64"),
            "unfinished": np.zeros(size, dtype=bool),
        }
    )
    array = np.zeros(size, dtype=np.dtype(CALL_FIELDS))
    array["start_ns"], array["dur_ns"], array["tid"], array["pid"] = start, dur, tid, tid
    array["nr"] = np.where(kind == "semaphore", 202, np.where(tid == 5000, 1, 0))
    array["a0"], array["a1"], array["ret"] = 4, np.where(kind == "semaphore", 137, 0x7F00), 104
    processes = [
        {
            "pid": 5000,
            "image": 0,
            "ppid": 4000,
            "name": "pipeline",
            "argv": ["python3", "pipeline.py"],
            "start_ns": START,
            "end_ns": end,
            "exit_code": 0,
        },
        *(
            {
                "pid": int(t),
                "image": 0,
                "ppid": 5000,
                "name": f"Worker-{n}",
                "argv": ["python3", "pipeline.py"],
                "start_ns": START + (4 + n) * MS,
                "end_ns": end - 5 * MS,
                "exit_code": 0,
            }
            for n, t in enumerate(tids[1:], 1)
        ),
    ]
    threads = [
        {
            "tid": row["pid"],
            "pid": row["pid"],
            "name": "MainThread",
            "role": "main" if row["pid"] == 5000 else "worker",
            "start_ns": row["start_ns"],
            "end_ns": row["end_ns"],
        }
        for row in processes
    ]
    objects = [
        {"object_id": QUEUE, "kind": "pipe", "label": "queue pipe", "capacity": 65_536, "creator_pid": 5000},
        {"object_id": "shared:26:77:0x0", "kind": "semaphore", "label": "queue's read lock"},
    ]
    return ReportInput(
        name="pipeline",
        verdict=Verdict(
            VerdictKind.FINISHED,
            Certainty.PROVEN,
            "pipeline ended by itself with exit status 0",
            at_ns=end,
            start_ns=START,
        ),
        processes=table("processes", processes),
        threads=table("threads", threads),
        waits=waits,
        objects=table("objects", objects),
        messages=_messages(generator, end, calls // 10, tids),
        fill=_fill(generator, end, calls // 5),
        calls=array[np.argsort(start, kind="stable")],
        critical=_critical(end, tids),
        meta={**_meta(["python3", "pipeline.py"], START, end), "end_reason": "exit"},
    )


def _messages(generator: np.random.Generator, end: int, count: int, tids: Any) -> pd.DataFrame:
    sent = np.sort(generator.integers(START + 20 * MS, end - 40 * MS, count))
    send = generator.gamma(2, 8_000, count).astype(np.int64)
    transit = generator.gamma(2, 60_000, count).astype(np.int64)
    receive = generator.gamma(2, 9_000, count).astype(np.int64)
    return pd.DataFrame(
        {
            "object_id": pd.array(np.full(count, QUEUE), dtype="string"),
            "seq": np.arange(count),
            "size": np.full(count, 1_024),
            "sender_tid": pd.array(np.full(count, 5000), dtype="Int64"),
            "receiver_tid": pd.array(tids[1 + np.arange(count) % (len(tids) - 1)], dtype="Int64"),
            "write_start_ns": pd.array(sent, dtype="Int64"),
            "write_end_ns": pd.array(sent + send, dtype="Int64"),
            "read_start_ns": pd.array(sent + send + transit - receive, dtype="Int64"),
            "read_end_ns": pd.array(sent + send + transit, dtype="Int64"),
            "complete": np.ones(count, dtype=bool),
        }
    )


def _fill(generator: np.random.Generator, end: int, count: int) -> pd.DataFrame:
    time = np.sort(generator.integers(START + 10 * MS, end, count))
    level = np.clip(np.cumsum(generator.integers(-3, 4, count)) * 1_028 + 20_000, 0, 65_536)
    return pd.DataFrame(
        {
            "object_id": pd.array(np.full(count, QUEUE), dtype="string"),
            "time_ns": time,
            "bytes": level,
            "capacity": pd.array(np.full(count, 65_536), dtype="Int64"),
        }
    )


def _critical(end: int, tids: Any) -> pd.DataFrame:
    edges = np.linspace(START, end, 41).astype(np.int64)
    kinds = [None if place % 3 else "pipe-full" for place in range(40)]
    return pd.DataFrame(
        {
            "start_ns": edges[:-1],
            "end_ns": edges[1:],
            "tid": [int(tids[place % len(tids)]) for place in range(40)],
            "kind": pd.Series(kinds, dtype="string"),
            "object_id": pd.Series([QUEUE if kind else None for kind in kinds], dtype="string"),
        }
    )


def pool(workers: int = 24) -> ReportInput:
    """Return the hang beside a pool whose workers all wait for work: what lanes and graph fold."""
    report = join_before_get("pool")
    end = int(report.verdict.at_ns)
    made = [
        {
            "pid": 6000 + n,
            "image": 0,
            "ppid": 4100,
            "name": f"ForkPoolWorker-{n}",
            "argv": ["python3", "pool.py"],
            "start_ns": START + (80 + n) * MS,
        }
        for n in range(workers)
    ]
    threads = [
        {"tid": row["pid"], "pid": row["pid"], "name": "MainThread", "role": "worker", "start_ns": row["start_ns"]}
        for row in made
    ]
    lock = NamedObject("semaphore", ObjectId("shared:26:9:0x0"), "task queue's read lock")
    waits = [
        {
            **_wait(row["pid"], row["pid"], row["start_ns"] + MS, end, "semaphore", lock.object_id, "futex", None),
            "wait_id": 100 + n,
            "unfinished": True,
        }
        for n, row in enumerate(made)
    ]
    blocked = tuple(
        Wait(
            Tgid(row["pid"]),
            Tid(row["pid"]),
            row["name"],
            "MainThread",
            Role.WORKER,
            WaitKind.SEMAPHORE,
            row["start_ns"],
            "futex",
            "futex(0x7f00, FUTEX_WAIT_BITSET, 0, NULL",
            lock,
            (Provider(Tgid(4100), Tid(4100), Certainty.LIKELY, "it hands out the work"),),
        )
        for row in made
    )
    live = (
        LiveThread(
            Tgid(4100), Tid(4150), "join_before_get", "Thread-3 (_handle_workers)", "it sleeps 0.1 s and looks again"
        ),
    )
    verdict = replace(report.verdict, waits=(*report.verdict.waits, *blocked), live=live)
    handler = {
        "tid": 4150,
        "pid": 4100,
        "name": "Thread-3 (_handle_workers)",
        "role": "handler",
        "start_ns": START + 79 * MS,
    }
    beats = [
        {
            **_wait(4150, 4100, at, min(at + 99 * MS, end), "sleep", "clock", "poll", None),
            "wait_id": 1000 + n,
            "unfinished": False,
        }
        for n, at in enumerate(range(START + 80 * MS, end, 100 * MS))
    ]
    objects = {"object_id": lock.object_id, "kind": "semaphore", "label": lock.label}
    return replace(
        report,
        verdict=verdict,
        processes=pd.concat([report.processes, table("processes", made)], ignore_index=True),
        threads=pd.concat([report.threads, table("threads", [handler, *threads])], ignore_index=True),
        waits=pd.concat([report.waits, table("waits", [*waits, *beats])], ignore_index=True),
        objects=pd.concat([report.objects, table("objects", [objects])], ignore_index=True),
    )


def crowded(pipes: int = 9) -> ReportInput:
    """Return the pool's hang with more pipes than a page shows at first, and a pipe that everybody holds."""
    report = pool()
    names = [f"pipe:[{50_000 + n}]" for n in range(pipes)]
    objects = [{"object_id": name, "kind": "pipe", "label": f"pipe {n}"} for n, name in enumerate(names)]
    levels = [
        {"object_id": name, "time_ns": START + n * MS, "bytes": 100 + n, "capacity": 65_536}
        for n, name in enumerate(names)
    ]
    holders = tuple(Provider(Tgid(tid), Tid(tid), Certainty.LIKELY, "holds a read end") for tid in range(6000, 6024))
    chain = tuple(
        replace(wait, providers=(*wait.providers, *holders)) if wait.kind is WaitKind.PIPE_FULL else wait
        for wait in report.verdict.chain
    )
    others = tuple(wait for wait in report.verdict.waits if wait.tid not in {link.tid for link in chain})
    return replace(
        report,
        verdict=replace(report.verdict, chain=chain, waits=(*chain, *others)),
        objects=pd.concat([report.objects, table("objects", objects)], ignore_index=True),
        fill=pd.concat([report.fill, table("fill", levels)], ignore_index=True),
    )
