"""Python stacks of a running process, by py-spy: the process is neither stopped nor changed.

py-spy is called as a program (``dump --json --locals --nonblocking``, 30 ms a process). Up to CPython
3.10 it does not know the kernel's thread id, only ``pthread_self()``: the address of the C
library's ``struct pthread``, in which the tid lies. Where in it is found by looking, not trusted.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from qtrace.capture.memory import MemoryReader
from qtrace.model.around import heads_around
from qtrace.model.loops import calls_ahead, calls_behind, ending_calls, loop_calls, made_as
from qtrace.model.snapshot import Frame

_SECONDS = 10.0
_AT_ONCE = 4
_GLIBC_TID_OFFSET = 0x2D0
"""Where struct pthread keeps the tid on x86_64 glibc 2.2 to 2.40: looked at first."""
_PTHREAD_BYTES = 0x500
_MOST_TEXT = 120
"""A local's text is cut to so many characters."""


@dataclass(frozen=True, slots=True)
class PythonThread:
    """What py-spy says of one thread."""

    name: str
    frames: tuple[Frame, ...]
    owns_gil: bool | None


@dataclass(frozen=True, slots=True)
class Dump:
    """What py-spy says of one process."""

    threads: Mapping[int, PythonThread]
    """By kernel thread id."""
    failure: str = ""
    """Why there are none; empty if there are."""


_ATTEMPTS = (True, True, True, True, False, False)
"""Whether to ask for local variables, one try after the other. A thread that moves while its frames
are copied makes py-spy fail for the whole process: of 15 tries on a pool whose worker handler spins
under the tracer, 10 failed. Without locals there is less to copy."""


@cache
def py_spy() -> str | None:
    """Return the py-spy program: beside this interpreter, else on PATH; None if there is none."""
    beside = Path(sys.executable).parent / "py-spy"
    # os.access says no, where Path.exists raises, if a folder on the way may not be entered.
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")


def dump_all(targets: Mapping[int, Collection[int]]) -> dict[int, Dump]:
    """Return the Python stacks of several processes.

    Args:
        targets: Process to its thread ids.
    """
    if not targets:
        return {}
    with ThreadPoolExecutor(min(_AT_ONCE, len(targets)), "qtrace-stacks") as pool:
        dumps = pool.map(lambda item: dump(*item), targets.items())
        return dict(zip(targets, dumps, strict=True))


def dump(pid: int, tids: Collection[int]) -> Dump:
    """Return the Python stacks of one process by kernel thread id."""
    program = py_spy()
    if program is None:
        return Dump({}, "py-spy is not installed")
    command = [program, "dump", "--pid", str(pid), "--json", "--nonblocking"]
    found = Dump({}, "not asked")
    for locals_too in _ATTEMPTS:
        found = _ask([*command, "--locals"] if locals_too else command, pid, tids)
        if not found.failure:
            break
    return found


def _ask(command: Sequence[str], pid: int, tids: Collection[int]) -> Dump:
    try:
        answer = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Dump({}, f"py-spy: {error}")
    if answer.returncode != 0:
        lines = answer.stderr.decode("utf-8", "replace").strip().splitlines()
        return Dump({}, f"py-spy: {lines[0] if lines else answer.returncode}")
    try:
        threads = json.loads(answer.stdout)
    except ValueError as error:
        return Dump({}, f"py-spy: {error}")
    return Dump(_by_tid(pid, frozenset(tids), threads))


def _by_tid(pid: int, tids: frozenset[int], threads: list[dict[str, Any]]) -> dict[int, PythonThread]:
    folder = _folder(pid)
    owner_known = any(thread.get("owns_gil") for thread in threads)
    found = {}
    for thread in threads:
        tid = thread.get("os_thread_id") or _tid_of(pid, tids, thread["thread_id"])
        if tid is None:
            continue
        frames = tuple(_frame(raw, folder) for raw in thread["frames"])
        owns = bool(thread.get("owns_gil")) if owner_known else None
        found[int(tid)] = PythonThread(thread.get("thread_name") or "", frames, owns)
    return found


def _folder(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def _tid_of(pid: int, tids: frozenset[int], pthread_self: int) -> int | None:
    """The kernel's id of a thread by its pthread_self, read from the C library's own record."""
    raw = MemoryReader()(pid, pthread_self + _GLIBC_TID_OFFSET, 8)
    if len(raw) == 8:
        tid = int(struct.unpack_from("<i", raw)[0])
        if tid in tids:
            return tid
    raw = MemoryReader()(pid, pthread_self, _PTHREAD_BYTES)
    words = struct.unpack(f"<{len(raw) // 4}i", raw[: len(raw) // 4 * 4])
    candidates = {word for word in words if word in tids and word != pid}
    if len(candidates) == 1:
        return int(candidates.pop())
    return pid if pid in words else None


def _frame(raw: Mapping[str, Any], folder: str) -> Frame:
    file = raw["filename"]
    if file == "<string>" and raw["name"] in _PROPERTIES:
        file = "<multiprocessing.sharedctypes>"
    if not file.startswith(("/", "<")):
        file = os.path.normpath(os.path.join(folder, file))
    line = int(raw["line"])
    lines = _source(file)
    source = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    variables = dict(_variables(raw.get("locals") or ()))
    if _is_library(file):
        return Frame(file, line, raw["name"], source, variables)
    return Frame(file, line, raw["name"], source, variables, *_told_by_text(file, line))


_PROPERTIES = frozenset({"getvalue", "setvalue", "getraw", "setraw"})
"""Functions that multiprocessing.sharedctypes compiles from a text of its own: value and raw of a Value or an Array."""
_TEXT_FACTS = (heads_around, loop_calls, ending_calls, calls_ahead, calls_behind, made_as)
"""In the order of the fields of a Frame."""


@lru_cache(maxsize=4096)
def _told_by_text(file: str, line: int) -> tuple[tuple[str, ...], ...]:
    lines = _source(file)
    return tuple(told(lines, line) for told in _TEXT_FACTS)


def _variables(variables: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    return ((local["name"], (local.get("repr") or "")[:_MOST_TEXT]) for local in variables)


def _is_library(file: str) -> bool:
    return "/lib/python3" in file and "-packages/" not in file


@lru_cache(maxsize=512)
def _source(file: str) -> tuple[str, ...]:
    try:
        return tuple(Path(file).read_text(errors="replace").splitlines())
    except (OSError, ValueError):
        return ()
