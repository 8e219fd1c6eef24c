"""Snapshots built by hand, a few words a thread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from qtrace.model.ids import Fd, ObjectId, Tgid, Tid
from qtrace.model.kinds import ObjectKind, WaitKind
from qtrace.model.snapshot import (
    Call,
    Frame,
    History,
    Holder,
    Process,
    Snapshot,
    Thread,
    WaitObject,
    Want,
)

LIBRARY = "/usr/lib/python3.11/"


def frame(place: str, source: str = "", *around: str, **variables: str) -> Frame:
    """Return a frame from ``file:line function``; files without a slash are the library's."""
    where, _, function = place.partition(" ")
    file, _, line = where.partition(":")
    name = file if file.startswith("/") else LIBRARY + file
    return Frame(name, int(line or 1), function, source, variables, around)


@dataclass
class SceneBuilder:
    """Collects processes, threads and objects."""

    root: int = 100
    processes: dict[Tgid, Process] = field(default_factory=dict)
    threads: dict[Tid, Thread] = field(default_factory=dict)
    objects: dict[ObjectId, WaitObject] = field(default_factory=dict)
    history: History = field(default_factory=History)
    apart_ns: int | None = 100_000_000

    def process(self, pid: int, ppid: int = 1, name: str = "", **facts: object) -> None:
        """Add a process."""
        known: dict[str, object] = {
            "argv": ("python", "app.py"),
            "exe": "/usr/bin/python3",
            "python": True,
        }
        known.update(facts)
        self.processes[Tgid(pid)] = Process(
            Tgid(pid),
            Tgid(ppid),
            name or f"P{pid}",
            **known,  # type: ignore[arg-type]
        )

    def thread(
        self,
        tid: int,
        pid: int,
        call: str | None,
        *wants: Want,
        name: str = "",
        stack: Sequence[Frame] = (),
        state: str = "S",
        moved: bool | None = False,
        timeout_ns: int | None = None,
        needs_all: bool = False,
        owns_gil: bool | None = None,
        start_ns: int | None = None,
    ) -> None:
        """Add a thread."""
        made = Call(call, (), f"{call}(...") if call is not None else None
        self.threads[Tid(tid)] = Thread(
            Tid(tid),
            Tgid(pid),
            name or ("MainThread" if tid == pid else f"Thread-{tid}"),
            state,
            made,
            tuple(wants),
            needs_all,
            timeout_ns,
            moved=moved,
            stack=tuple(stack),
            owns_gil=owns_gil,
            start_ns=start_ns,
        )

    def pipe(
        self, number: int, readers: Iterable[int], writers: Iterable[int], bytes: int = 0, writer_fd: int = 4
    ) -> ObjectId:
        """Add a pipe with its holders."""
        object_id = ObjectId(f"pipe:[{number}]")
        holders = [Holder(Tgid(pid), Fd(3), "r") for pid in readers]
        holders += [Holder(Tgid(pid), Fd(writer_fd), "w") for pid in writers]
        self.objects[object_id] = WaitObject(object_id, ObjectKind.PIPE, "pipe", bytes, 65536, holders=tuple(holders))
        return object_id

    def semaphore(self, number: int, pids: Iterable[int], value: int = 0) -> ObjectId:
        """Add a shared word with the processes that map it."""
        object_id = ObjectId(f"shared:0:{number}:0x0")
        self.objects[object_id] = WaitObject(
            object_id,
            ObjectKind.SEMAPHORE,
            "semaphore",
            value=value,
            mapping="/dev/shm/sem.x (deleted)",
            holders=tuple(Holder(Tgid(pid)) for pid in pids),
        )
        return object_id

    def snapshot(self) -> Snapshot:
        """Return what was collected."""
        return Snapshot(
            10_000_000_000,
            Tgid(self.root),
            self.processes,
            self.threads,
            self.objects,
            self.history,
            looks_apart_ns=self.apart_ns,
        )


def wants_read(object_id: ObjectId, requested_bytes: int = 4) -> Want:
    """Return the want of a blocked read."""
    return Want(WaitKind.PIPE_EMPTY, object_id, Fd(3), "r", requested_bytes)


def wants_write(object_id: ObjectId) -> Want:
    """Return the want of a blocked write."""
    return Want(WaitKind.PIPE_FULL, object_id, Fd(4), "w", 65592)


def wants_child(pid: int) -> Want:
    """Return the want of a wait4."""
    return Want(WaitKind.CHILD_EXIT, ObjectId(f"child:{pid}"))


def wants_futex(pid: int, address: int = 0x1000) -> Want:
    """Return the want of a private futex."""
    return Want(WaitKind.LOCK, ObjectId(f"futex:{pid}:{address:#x}"))


def wants_shared(object_id: ObjectId) -> Want:
    """Return the want of a futex in shared memory."""
    return Want(WaitKind.LOCK, object_id)


def join_before_get() -> SceneBuilder:
    """Return the moment of the article: the parent joins, the child's feeder cannot flush."""
    scene = SceneBuilder()
    scene.process(100, name="app.py")
    scene.process(200, 100, name="Process-1")
    queue = scene.pipe(7, readers=(100, 200), writers=(100, 200), bytes=61_500)
    join = frame("multiprocessing/process.py:149 BaseProcess.join")
    scene.thread(
        100, 100, "wait4", wants_child(200),
        stack=[
            frame("multiprocessing/popen_fork.py:27 Popen.poll"),
            frame("multiprocessing/popen_fork.py:43 Popen.wait"),
            join,
            frame("/home/u/app.py:9 <module>", "p.join()"),
        ],
    )  # fmt: skip
    scene.thread(
        200, 200, "futex", wants_futex(200),
        stack=[
            frame("threading.py:1139 Thread._wait_for_tstate_lock", self="<Thread at 0xabc>"),
            frame("threading.py:1119 Thread.join", self="<Thread at 0xabc>"),
            frame("multiprocessing/queues.py:199 Queue._finalize_join"),
            frame("multiprocessing/util.py:224 Finalize.__call__"),
            frame("multiprocessing/util.py:360 _exit_function"),
            frame("multiprocessing/process.py:317 BaseProcess._bootstrap"),
            frame("multiprocessing/popen_fork.py:71 Popen._launch"),
            frame("/home/u/app.py:8 <module>", "p.start()"),
        ],
    )  # fmt: skip
    scene.thread(
        201, 200, "write", wants_write(queue), name="QueueFeederThread",
        stack=[
            frame("multiprocessing/connection.py:384 Connection._send"),
            frame("multiprocessing/connection.py:427 Connection._send_bytes"),
            frame("multiprocessing/connection.py:206 _ConnectionBase.send_bytes"),
            frame("multiprocessing/queues.py:271 Queue._feed"),
            frame("threading.py:982 Thread.run", self="<Thread at 0xabc>"),
            frame("threading.py:1045 Thread._bootstrap_inner", self="<Thread at 0xabc>"),
            frame("threading.py:1002 Thread._bootstrap", self="<Thread at 0xabc>"),
        ],
    )  # fmt: skip
    return scene


def get_from_queue(line: int = 5, **variables: str) -> list[Frame]:
    """Return the stack of a thread in the read of `multiprocessing.Queue.get`, called by line `line`."""
    return [
        frame("multiprocessing/connection.py:398 Connection._recv", **{"size": "4", "remaining": "4", **variables}),
        frame("multiprocessing/connection.py:430 Connection._recv_bytes"),
        frame("multiprocessing/connection.py:215 _ConnectionBase.recv_bytes"),
        frame("multiprocessing/queues.py:103 Queue.get", self="<Queue at 0x51>"),
        frame(f"/home/u/app.py:{line} worker", "item = q.get()"),
    ]


def wait_for_read_lock(line: int = 5) -> list[Frame]:
    """Return the stack of a thread that waits for a queue's read lock."""
    return [
        frame("multiprocessing/synchronize.py:95 SemLock.__enter__", self="<Lock at 0x61>"),
        frame("multiprocessing/queues.py:102 Queue.get", self="<Queue at 0x51>"),
        frame(f"/home/u/app.py:{line} worker", "item = q.get()"),
    ]


def join_process(line: int = 9) -> list[Frame]:
    """Return the stack of `Process.join` under fork."""
    return [
        frame("multiprocessing/popen_fork.py:27 Popen.poll"),
        frame("multiprocessing/popen_fork.py:43 Popen.wait"),
        frame("multiprocessing/process.py:149 BaseProcess.join"),
        frame(f"/home/u/app.py:{line} <module>", "p.join()"),
    ]


def feeding() -> list[Frame]:
    """Return the stack of a feeder that is in the middle of a write."""
    return [
        frame("multiprocessing/connection.py:384 Connection._send"),
        frame("multiprocessing/connection.py:427 Connection._send_bytes"),
        frame("multiprocessing/connection.py:206 _ConnectionBase.send_bytes"),
        frame("multiprocessing/queues.py:271 Queue._feed"),
        *bootstrap("0xabc"),
    ]


def bootstrap(address: str) -> list[Frame]:
    """Return the frames that every thread begins with, of the Thread object at an address."""
    return [
        frame("threading.py:982 Thread.run", self=f"<Thread at {address}>"),
        frame("threading.py:1045 Thread._bootstrap_inner", self=f"<Thread at {address}>"),
        frame("threading.py:1002 Thread._bootstrap", self=f"<Thread at {address}>"),
    ]


def join_thread(address: str, line: int = 9) -> list[Frame]:
    """Return the stack of `Thread.join` on the Thread object at an address."""
    return [
        frame("threading.py:1139 Thread._wait_for_tstate_lock", self=f"<Thread at {address}>"),
        frame("threading.py:1119 Thread.join", self=f"<Thread at {address}>"),
        frame(f"/home/u/app.py:{line} <module>", "t.join()"),
    ]


def take_lock(name: str, *around: str, line: int = 5, **variables: str) -> list[Frame]:
    """Return the stack of a thread that waits in ``with NAME:``, inside of other statements."""
    return [frame(f"/home/u/app.py:{line} work", f"with {name}:", *around, **variables)]
