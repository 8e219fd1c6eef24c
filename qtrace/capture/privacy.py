"""What of a snapshot is stored: never the data that the program works on.

py-spy shows the values of local variables, and these can be anything: a password, a message. The
analysis needs addresses (which lock, which thread) and numbers (how long a message is), so text is
left out of every recording. `--redact` also leaves out command lines, folders and source lines.
"""

from __future__ import annotations

import re
from dataclasses import replace

from qtrace.model.snapshot import Frame, Snapshot

_HARMLESS = re.compile(r"<[\w.]+ (?:object )?at 0x[0-9a-f]+>|-?\d{1,20}|None|True|False")

_INTERRUPTED = re.compile(r"<frame (?:object )?at 0x[0-9a-f]+>")
"""Among the arguments of a signal handler (``*_``): that it is one."""
_METHOD_NAME = re.compile(r"[\"']?[A-Za-z_]\w{0,60}[\"']?")
"""Of a manager's request: which method is called says whether its thread waits for a lock."""


def for_storing(snapshot: Snapshot, redact: bool = False) -> Snapshot:
    """Return a snapshot without the values of text; with `redact`, without words of the program."""
    threads = {
        tid: replace(thread, stack=tuple(_frame(frame, redact) for frame in thread.stack))
        for tid, thread in snapshot.threads.items()
    }
    processes = snapshot.processes
    if redact:
        processes = {pid: replace(process, argv=(), exe="") for pid, process in processes.items()}
    return replace(snapshot, threads=threads, processes=processes)


def _frame(frame: Frame, redact: bool) -> Frame:
    variables = {name: kept for name, text in frame.variables.items() if (kept := _kept(name, text))}
    if redact:
        return Frame(frame.file, frame.line, frame.function, variables=variables)
    return replace(frame, variables=variables)


def _kept(name: str, text: str) -> str:
    if (_METHOD_NAME if name == "methodname" else _HARMLESS).fullmatch(text):
        return text
    interrupted = _INTERRUPTED.search(text)
    return interrupted.group() if interrupted else ""
