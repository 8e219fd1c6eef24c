"""Facts about processes and threads, read from /proc: nothing here stops or changes them.

Field numbers are those of proc(5). A process can end between two reads: whatever is gone is None
or missing, and what may not be read raises PermissionError, which the caller turns into words.
"""

from __future__ import annotations

import os
import re
import stat as stat_modes
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import cache

from qtrace.model import i386
from qtrace.model.syscalls import Architecture, by_number

_ELFCLASS32 = 1
_NO_CALL = 1 << 30
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Stat:
    """/proc/PID/stat, as far as it is used."""

    __slots__ = ("comm", "cpu_ticks", "exit_status", "flags", "pgid", "ppid", "sid", "start_ns", "state")

    comm: str
    state: str
    ppid: int
    pgid: int
    sid: int
    flags: int
    cpu_ticks: int
    start_ns: int
    """CLOCK_MONOTONIC, to the kernel's tick of 10 ms."""
    exit_status: int
    """Raw wait status of a zombie; 0 where it may not be seen."""

    def __init__(
        self,
        comm: str,
        state: str,
        ppid: int,
        pgid: int,
        sid: int,
        flags: int,
        cpu_ticks: int,
        start_ns: int,
        exit_status: int,
    ) -> None:
        self.comm = comm
        self.state = state
        self.ppid = ppid
        self.pgid = pgid
        self.sid = sid
        self.flags = flags
        self.cpu_ticks = cpu_ticks
        self.start_ns = start_ns
        self.exit_status = exit_status


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(65536)
    except (FileNotFoundError, ProcessLookupError):
        return None


@cache
def _monotonic_minus_boot_ns() -> int:
    # starttime counts from boot, suspended time included; CLOCK_MONOTONIC leaves that out.
    import time

    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def stat(pid: int, tid: int | None = None) -> Stat | None:
    """Return a process's or thread's stat, or None if it is gone."""
    raw = _read(f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat")
    if not raw:
        return None
    end = raw.rindex(b")")
    comm = raw[raw.index(b"(") + 1 : end].decode("utf-8", "replace")
    fields = raw[end + 2 :].split()
    start = int(fields[19]) * TICK_NS + _monotonic_minus_boot_ns()
    status = int(fields[49]) if len(fields) > 49 else 0
    return Stat(
        comm, fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[6]),
        int(fields[11]) + int(fields[12]), start, status,
    )  # fmt: skip


def all_pids() -> list[int]:
    """Return every process that this one can list."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def thread_ids(pid: int) -> list[int]:
    """Return a process's threads, ended ones left out; empty if it is gone."""
    try:
        return sorted(int(entry) for entry in os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return []


def status_fields(pid: int, tid: int | None = None) -> dict[str, str]:
    """Return /proc/PID/status as text by name; empty if it is gone."""
    raw = _read(f"/proc/{pid}/status" if tid is None else f"/proc/{pid}/task/{tid}/status")
    lines = raw.decode("utf-8", "replace").splitlines() if raw else []
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def argv(pid: int) -> tuple[str, ...]:
    """Return the command line; empty for a zombie, a kernel thread, or one that is gone."""
    raw = _read(f"/proc/{pid}/cmdline")
    return tuple(part.decode("utf-8", "replace") for part in raw.rstrip(b"\0").split(b"\0")) if raw else ()


def link(path: str) -> str:
    """Return a symbolic link of /proc, or an empty string."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def tracer_of(pid: int, tid: int) -> int:
    """Return the thread that traces a thread; 0 if none does, or it has ended (TracerPid, proc(5))."""
    return int(status_fields(pid, tid).get("TracerPid", "0"))


def cpu_and_switches(pid: int, tid: int) -> tuple[int, int] | None:
    """Return CPU time in nanoseconds and how often the thread was put on a CPU (schedstat)."""
    found = _schedstat(pid, tid)
    return (found[0], found[2]) if found is not None else None


def runnable_ns(pid: int, tid: int) -> int | None:
    """Return for how many nanoseconds a thread has been on a CPU or waited for one (schedstat), since it was made."""
    found = _schedstat(pid, tid)
    return found[0] + found[1] if found is not None else None


def has_idle_cpu() -> bool:
    """Return whether fewer tasks than there are CPUs can run now, but for the calling thread (proc(5), loadavg)."""
    found = (_read("/proc/loadavg") or b"").split()
    return len(found) < 4 or int(found[3].split(b"/")[0]) <= (os.cpu_count() or 1)


def _schedstat(pid: int, tid: int) -> tuple[int, int, int] | None:
    raw = _read(f"/proc/{pid}/task/{tid}/schedstat")
    if not raw:
        return None
    ran, waited, switches = map(int, raw.split()[:3])
    return ran, waited, switches


def syscall_line(pid: int, tid: int) -> str | None:
    """Return /proc/PID/task/TID/syscall: ``running``, ``-1 SP PC``, or number, arguments, SP and PC.

    Raises:
        PermissionError: It may not be read (PTRACE_MODE_ATTACH, see ptrace(2)).
    """
    raw = _read(f"/proc/{pid}/task/{tid}/syscall")
    return raw.decode().strip() if raw else None


def parse_syscall(line: str, architecture: Architecture) -> tuple[str, tuple[int, ...]] | None:
    """Return name and arguments of the call that a syscall line shows; None if it is in none."""
    found = parse_numbers(line)
    if found is None:
        return None
    number, args = found
    row = by_number(architecture).get(number)
    return (row.name if row is not None else f"syscall_{number}"), args


class ImageKind(StrEnum):
    """What the calls of a process's program are like, as its ELF header tells."""

    NATIVE = "native"
    I386 = "i386"
    X32 = "x32"
    OTHER = "32-bit"


def image_kind(pid: int) -> ImageKind:
    """Return what kind of program a process runs; NATIVE where that cannot be seen."""
    try:
        with open(f"/proc/{pid}/exe", "rb", buffering=0) as file:
            head = file.read(20)
    except OSError:
        return ImageKind.NATIVE
    return kind_of(head)


def kind_of(head: bytes) -> ImageKind:
    """Return what kind of program an ELF file is, by its first 20 bytes (elf(5))."""
    if len(head) < 20 or head[4] != _ELFCLASS32:
        return ImageKind.NATIVE
    return {3: ImageKind.I386, 62: ImageKind.X32}.get(int.from_bytes(head[18:20], "little"), ImageKind.OTHER)


def native_call(kind: ImageKind, number: int, args: Sequence[int], memory: i386.Memory) -> list[int]:
    """Return number and arguments of a process's call in the machine's numbers; one that no call has if it has none.

    Args:
        kind: The process's program.
        number: As /proc/PID/syscall has it.
        args: The same.
        memory: Reads the process's memory.
    """
    if kind is ImageKind.NATIVE:
        return [number, *args]
    found = i386.native_call(number, args, memory) if kind is ImageKind.I386 else None
    return found if found is not None else [number | _NO_CALL, *args]


def parse_numbers(line: str) -> tuple[int, tuple[int, ...]] | None:
    """Return number and arguments of the call that a syscall line shows; None if it is in none."""
    fields = line.split()
    if len(fields) < 9 or fields[0] == "-1":
        return None
    return int(fields[0]), tuple(int(field, 16) for field in fields[1:7])


class Mapping:
    """A line of /proc/PID/maps."""

    __slots__ = ("device", "end", "inode", "offset", "path", "shared", "start")

    start: int
    end: int
    shared: bool
    offset: int
    device: str
    inode: int
    path: str

    def __init__(self, start: int, end: int, shared: bool, offset: int, device: str, inode: int, path: str) -> None:
        self.start = start
        self.end = end
        self.shared = shared
        self.offset = offset
        self.device = device
        self.inode = inode
        self.path = path


def _mapping(line: str) -> Mapping:
    fields = line.split(None, 5)
    start, _, end = fields[0].partition("-")
    path = fields[5] if len(fields) > 5 else ""
    return Mapping(
        int(start, 16), int(end, 16), fields[1][3] == "s", int(fields[2], 16), fields[3], int(fields[4]), path
    )


_HEAP_BYTES = 64 << 20
_HEAP = r"(?m)^([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0 *\n\2-([0-9a-f]+) ---p 0+ 00:00 0 *$"
"""What is in use of a heap, and behind it what is reserved."""


class Maps:
    """A /proc/PID/maps, of which only those lines are parsed that are asked for."""

    __slots__ = ("text",)

    text: str

    def __init__(self, text: str) -> None:
        self.text = text

    def at(self, address: int) -> Mapping | None:
        """Return the mapping that an address lies in."""
        for line in self.text.splitlines():
            start, _, rest = line.partition("-")
            if int(start, 16) > address:
                return None  # lines are in the order of addresses
            if address < int(rest[: rest.index(" ")], 16):
                return _mapping(line)
        return None

    def ending_at(self, address: int) -> Mapping | None:
        """Return the mapping whose end is this address."""
        found = re.search(rf"^[0-9a-f]+-0*{address:x} .*$", self.text, re.MULTILINE)
        return _mapping(found.group()) if found else None

    @property
    def thread_heap(self) -> bool:
        """Whether there is a heap that the C library made for another thread than the main one.

        glibc keeps it when that thread has ended. It begins at a multiple of 64 MiB, and reserves as much
        (malloc/arena.c, HEAP_MAX_SIZE on 64-bit machines).
        """
        for found in re.finditer(_HEAP, self.text):
            start, end = int(found[1], 16), int(found[3], 16)
            if start % _HEAP_BYTES == 0 and end - start == _HEAP_BYTES:
                return True
        return False

    def shares(self, device: str, inode: int) -> bool:
        """Whether a file, or shared memory, is mapped for sharing."""
        words = f" {device} {inode} "
        if words not in self.text:
            return False
        return any(words in line and line.split(None, 2)[1][3] == "s" for line in self.text.splitlines())


NO_MAPS = Maps("")
"""Nothing is known."""


def maps_of(pid: int) -> Maps:
    """Return a process's mappings, to be asked; empty if it is gone.

    Raises:
        PermissionError: They may not be read.
    """
    try:
        with open(f"/proc/{pid}/maps", errors="replace") as file:
            return Maps(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return Maps("")


def descriptors(pid: int) -> dict[int, str]:
    """Return descriptor to link (``pipe:[7]``); empty if the process is gone.

    Raises:
        PermissionError: They may not be read.
    """
    try:
        entries = os.listdir(f"/proc/{pid}/fd")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    links = {}
    for entry in entries:
        try:
            links[int(entry)] = os.readlink(f"/proc/{pid}/fd/{entry}")
        except OSError:
            continue
    return links


def access(pid: int, fd: int) -> str:
    """Return ``r``, ``w`` or ``rw``: the link's own mode bits say how it was opened (proc(5))."""
    try:
        mode = os.lstat(f"/proc/{pid}/fd/{fd}").st_mode
    except OSError:
        return "rw"
    return ("r" if mode & stat_modes.S_IRUSR else "") + ("w" if mode & stat_modes.S_IWUSR else "")


def fdinfo(pid: int, fd: int) -> list[str]:
    """Return the lines of /proc/PID/fdinfo/FD; empty if it is gone."""
    raw = _read(f"/proc/{pid}/fdinfo/{fd}")
    return raw.decode("utf-8", "replace").splitlines() if raw else []


def fdinfo_field(lines: list[str], name: str) -> str | None:
    """Return the text of one field of an fdinfo."""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name + ":")), None)


def locks() -> Iterator[tuple[str, bool, int, str]]:
    """Yield /proc/locks: number, whether it is waiting, process, and ``MAJ:MIN:INODE``.

    A waiting one (``->``) has the number of the lock that blocks it, and follows it.
    """
    raw = _read("/proc/locks")
    for line in raw.decode().splitlines() if raw else ():
        fields = line.split()
        waiting = fields[1] == "->"
        rest = fields[2:] if waiting else fields[1:]
        if len(rest) > 4:
            yield fields[0], waiting, int(rest[3]), rest[4]
