"""A call as strace prints it: the same words for a live look, a recording and an export."""

from __future__ import annotations

import errno
import os
import signal
import struct
from collections.abc import Callable, Sequence

from qtrace.model.syscalls import by_name

MemoryReader = Callable[[int, int], bytes]
"""Gives a process's memory by address and size; empty bytes where it is unknown."""

_PATH_BYTES = 256
_MOST_POLLFDS = 8


def no_memory(address: int, size: int) -> bytes:
    """Return nothing: for text of a call whose process is gone."""
    return b""


def call_text(
    name: str,
    args: Sequence[int],
    memory: MemoryReader = no_memory,
    *,
    ret: int | None = None,
) -> str:
    """Return a call as strace prints it.

    An unfinished call breaks off before the first argument that the kernel fills in when it
    returns: ``read(3, ``. Pointers whose memory is unknown are printed as numbers.

    Args:
        name: The call.
        args: Its six raw arguments.
        memory: Reads the process's memory.
        ret: The raw result; None for a call that has not returned.
    """
    row = by_name().get(name)
    if row is None:
        words = [f"{arg:#x}" for arg in args]
    else:
        words = []
        for place, kind in enumerate(row.args):
            if kind in _FILLED_AT_EXIT and ret is None:
                return f"{name}({', '.join(words)}, " if words else f"{name}("
            words.append(_argument(name, place, kind, args, memory))
    if name == "futex":
        words = _futex_words(words, args)
    if ret is None:
        return f"{name}({', '.join(words)}" + (", " if name == "wait4" else "")
    return f"{name}({', '.join(words)}) = {result_text(name, ret)}"


_SENDS = ("write", "pwrite64", "sendto")
_FILLED_AT_EXIT = frozenset({"out", "status", "fdpair"})


def result_text(name: str, ret: int) -> str:
    """Return a raw result as strace prints it: ``-1 EAGAIN (Resource temporarily unavailable)``."""
    if -4095 <= ret < 0:
        number = -ret
        restart = _RESTARTS.get(number)
        if restart is not None:
            return f"? {restart}"
        return f"-1 {errno.errorcode.get(number, str(number))} ({os.strerror(number)})"
    row = by_name().get(name)
    return f"{ret:#x}" if row is not None and name == "mmap" else str(ret)


_RESTARTS = {512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 516: "ERESTART_RESTARTBLOCK"}


def _argument(name: str, place: int, kind: str, args: Sequence[int], memory: MemoryReader) -> str:
    value = args[place] if place < len(args) else 0
    if kind == "in" and place == 1 and value == 0 and name in _SENDS:
        return '""...'  # a log of strace, which shows what is sent and not where it lies
    drawer = _DRAWERS.get(kind)
    if drawer is not None:
        return drawer(value)
    if kind == "pollfds":
        return _pollfds(value, args[1], memory)
    if kind in ("timespec", "timeval"):
        return _time(value, memory, kind)
    if kind == "str":
        raw = memory(value, _PATH_BYTES) if value else b""
        text = raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")
        return f'"{text}"' if raw else _pointer(value)
    if kind == "fdset":
        return _fdset(value, args[0], memory)
    return _pointer(value)


def _signed(value: int) -> int:
    low = value & 0xFFFFFFFF
    return low - ((low & 0x80000000) << 1)


def _pointer(value: int) -> str:
    return "NULL" if value == 0 else f"{value:#x}"


def _flags(value: int, names: Sequence[tuple[int, str]], nothing: str = "0") -> str:
    found = []
    for bit, name in names:
        if value & bit == bit:
            found.append(name)
            value &= ~bit
    if value:
        found.append(f"{value:#x}")
    return "|".join(found) or nothing


_FUTEX = (
    "FUTEX_WAIT", "FUTEX_WAKE", "FUTEX_FD", "FUTEX_REQUEUE", "FUTEX_CMP_REQUEUE", "FUTEX_WAKE_OP", "FUTEX_LOCK_PI",
    "FUTEX_UNLOCK_PI", "FUTEX_TRYLOCK_PI", "FUTEX_WAIT_BITSET", "FUTEX_WAKE_BITSET", "FUTEX_WAIT_REQUEUE_PI",
    "FUTEX_CMP_REQUEUE_PI", "FUTEX_LOCK_PI2",
)  # fmt: skip


def _futex_op(value: int) -> str:
    command = value & 0x7F
    name = _FUTEX[command] if command < len(_FUTEX) else f"{command:#x}"
    return name + ("_PRIVATE" if value & 128 else "") + ("|FUTEX_CLOCK_REALTIME" if value & 256 else "")


_MATCH_ANY = "FUTEX_BITSET_MATCH_ANY"


def _futex_words(words: list[str], args: Sequence[int]) -> list[str]:
    # Each operation has arguments of its own (futex(2)); strace prints those, and not the rest.
    uaddr, op, val, timeout, uaddr2, val3 = words
    bits = _MATCH_ANY if args[5] & 0xFFFFFFFF == 0xFFFFFFFF else val3
    count = str(_signed(args[3]))
    by_command = {
        0: [val, timeout],
        1: [val],
        2: [val],
        3: [val, count, uaddr2],
        4: [val, count, uaddr2, str(args[5] & 0xFFFFFFFF)],
        6: [timeout],
        7: [],
        8: [],
        9: [val, timeout, bits],
        10: [val, bits],
        11: [val, timeout, uaddr2],
        12: [val, count, uaddr2, str(args[5] & 0xFFFFFFFF)],
        13: [timeout],
    }
    return [uaddr, op, *by_command.get(args[1] & 0x7F, words[2:])]


_WAIT = ((1, "WNOHANG"), (2, "WUNTRACED"), (4, "WEXITED"), (8, "WCONTINUED"), (0x1000000, "WNOWAIT"),
         (0x20000000, "__WNOTHREAD"), (0x40000000, "__WALL"), (0x80000000, "__WCLONE"))  # fmt: skip
_OPEN = ((0o100, "O_CREAT"), (0o200, "O_EXCL"), (0o400, "O_NOCTTY"), (0o1000, "O_TRUNC"), (0o2000, "O_APPEND"),
         (0o4000, "O_NONBLOCK"), (0o40000, "O_DIRECT"), (0o200000, "O_DIRECTORY"), (0o400000, "O_NOFOLLOW"),
         (0o2000000, "O_CLOEXEC"))  # fmt: skip
_FLOCK = ((4, "LOCK_NB"), (1, "LOCK_SH"), (2, "LOCK_EX"), (8, "LOCK_UN"))
_CLONE = (
    (0x100, "CLONE_VM"), (0x200, "CLONE_FS"), (0x400, "CLONE_FILES"), (0x800, "CLONE_SIGHAND"),
    (0x2000, "CLONE_PTRACE"), (0x4000, "CLONE_VFORK"), (0x8000, "CLONE_PARENT"), (0x10000, "CLONE_THREAD"),
    (0x40000, "CLONE_SYSVSEM"), (0x80000, "CLONE_SETTLS"), (0x100000, "CLONE_PARENT_SETTID"),
    (0x200000, "CLONE_CHILD_CLEARTID"), (0x800000, "CLONE_UNTRACED"), (0x1000000, "CLONE_CHILD_SETTID"),
)  # fmt: skip
_POLL = ((1, "POLLIN"), (2, "POLLPRI"), (4, "POLLOUT"), (8, "POLLERR"), (16, "POLLHUP"), (32, "POLLNVAL"),
         (0x40, "POLLRDNORM"), (0x100, "POLLWRNORM"), (0x2000, "POLLRDHUP"))  # fmt: skip
_FCNTL = {0: "F_DUPFD", 1: "F_GETFD", 2: "F_SETFD", 3: "F_GETFL", 4: "F_SETFL", 5: "F_GETLK", 6: "F_SETLK",
          7: "F_SETLKW", 36: "F_OFD_GETLK", 37: "F_OFD_SETLK", 38: "F_OFD_SETLKW", 1030: "F_DUPFD_CLOEXEC",
          1031: "F_SETPIPE_SZ", 1032: "F_GETPIPE_SZ"}  # fmt: skip
_CLOCKS = {0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC", 7: "CLOCK_BOOTTIME"}
_EPOLL_OPS = {1: "EPOLL_CTL_ADD", 2: "EPOLL_CTL_DEL", 3: "EPOLL_CTL_MOD"}
_IDS = {0: "P_ALL", 1: "P_PID", 2: "P_PGID", 3: "P_PIDFD"}


def _open_flags(value: int) -> str:
    mode = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[value & 3]
    rest = _flags(value & ~3, _OPEN, "")
    return f"{mode}|{rest}" if rest else mode


def clone_flags(value: int) -> str:
    """Return the flags of clone, with the signal that the child's end sends."""
    end = value & 0xFF
    return _flags(value & ~0xFF, _CLONE, "") + (f"|{signal_name(end)}" if end else "")


def signal_name(value: int) -> str:
    """Return a signal's name; its number where it has none."""
    try:
        return signal.Signals(value).name
    except ValueError:
        return str(value)


_DRAWERS: dict[str, Callable[[int], str]] = {
    "fd": lambda value: str(_signed(value)),
    "int": lambda value: str(_signed(value)),
    "msec": lambda value: str(_signed(value)),
    "pid": lambda value: str(_signed(value)),
    "dirfd": lambda value: "AT_FDCWD" if _signed(value) == -100 else str(_signed(value)),
    "uint": lambda value: str(value & 0xFFFFFFFF),
    "size": str,
    "long": lambda value: str(value if value < 1 << 63 else value - (1 << 64)),
    "hex": lambda value: f"{value:#x}",
    "flags": lambda value: f"{value:#x}" if value else "0",
    "mode": lambda value: f"0{value & 0o7777:o}",
    "futex_op": _futex_op,
    "wait_options": lambda value: _flags(value & 0xFFFFFFFF, _WAIT),
    "open_flags": _open_flags,
    "flock_op": lambda value: _flags(value, _FLOCK),
    "clone_flags": clone_flags,
    "fcntl_command": lambda value: _FCNTL.get(value, str(value)),
    "clock": lambda value: _CLOCKS.get(value, str(value)),
    "epoll_op": lambda value: _EPOLL_OPS.get(value, str(value)),
    "id_type": lambda value: _IDS.get(value, str(value)),
    "signal": signal_name,
}


def _pollfds(address: int, count: int, memory: MemoryReader) -> str:
    raw = memory(address, min(count, _MOST_POLLFDS) * 8) if address and count else b""
    if len(raw) < 8:
        return _pointer(address)
    shown = []
    for fd, events, _ in struct.iter_unpack("<iHH", raw[: len(raw) // 8 * 8]):
        shown.append(f"{{fd={fd}, events={_flags(events, _POLL)}}}")
    if count > _MOST_POLLFDS:
        shown.append("...")
    return f"[{', '.join(shown)}]"


def _fdset(address: int, count: int, memory: MemoryReader) -> str:
    size = (min(count, 4096) + 63) // 64 * 8
    raw = memory(address, size) if address and size else b""
    if len(raw) < size or not raw:
        return _pointer(address)
    bits = int.from_bytes(raw, "little")
    return "[" + " ".join(str(fd) for fd in range(min(count, 4096)) if bits >> fd & 1) + "]"


def _time(address: int, memory: MemoryReader, kind: str) -> str:
    raw = memory(address, 16) if address else b""
    if len(raw) < 16:
        return _pointer(address)
    seconds, rest = struct.unpack("<qq", raw)
    return f"{{tv_sec={seconds}, {'tv_nsec' if kind == 'timespec' else 'tv_usec'}={rest}}}"


def constants() -> dict[str, int]:
    """Return the number of every symbolic constant that call texts have, by name."""
    named = {name: number for number, name in enumerate(_FUTEX)}
    named |= {f"{name}_PRIVATE": number | 128 for name, number in named.items()}
    named |= {"FUTEX_CLOCK_REALTIME": 256, "O_RDONLY": 0, "O_WRONLY": 1, "O_RDWR": 2}
    for flags in (_WAIT, _OPEN, _FLOCK, _CLONE, _POLL):
        named |= {name: bit for bit, name in flags}
    for words in (_FCNTL, _CLOCKS, _EPOLL_OPS, _IDS):
        named |= {name: number for number, name in words.items()}
    return named | {one.name: int(one) for one in signal.Signals}
