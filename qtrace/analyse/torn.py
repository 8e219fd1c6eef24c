"""Readers in the middle of a message: by the recording's framing, or by the library's own locals.

`multiprocessing.connection` reads a length first and then the body, so between the two it knows how
much is missing. Whoever is in the middle of a message can only be helped by the one who began to
send it: others that merely hold the write end would begin a message of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from qtrace.analyse.activity import Doing, base_name, library_path
from qtrace.analyse.scene import Actor, Scene
from qtrace.model.ids import Tgid
from qtrace.model.kinds import WaitKind
from qtrace.model.snapshot import Frame, Framing

_HEADER_BYTES, _LONG_HEADER_BYTES = 4, 12
_LONGEST_SHORT = 0x7FFFFFFF
_READS = (WaitKind.PIPE_EMPTY, WaitKind.SOCKET_EMPTY)


@dataclass(frozen=True, slots=True)
class Torn:
    """A message of which a part has been received; the header is not counted."""

    message_bytes: int
    received_bytes: int
    writer_pid: Tgid | None


def torn_message_of(scene: Scene, actor: Actor) -> Torn | None:
    """Return the message in the middle of which a thread waits for bytes, or None."""
    wants = actor.thread.wants
    if len(wants) != 1 or wants[0].kind not in _READS:
        return None
    framing = scene.snapshot.history.framing.get(wants[0].object_id)
    if framing is not None and 0 < framing.received_bytes < framing.message_bytes:
        missing = framing.message_bytes - framing.received_bytes
        # A Connection asks for exactly what is missing: other programs' bytes, which may look like a
        # length too, are read by whole buffers.
        if wants[0].requested_bytes in (None, missing):
            return _by_framing(framing)
    return _by_frames(actor)


def _by_framing(framing: Framing) -> Torn:
    header = _HEADER_BYTES
    if framing.message_bytes > _LONGEST_SHORT + _HEADER_BYTES:
        header = _LONG_HEADER_BYTES
    received = max(framing.received_bytes - header, 0)
    return Torn(framing.message_bytes - header, received, framing.writer_pid)


def _by_frames(actor: Actor) -> Torn | None:
    # _recv(size, ...) counts down `remaining`; its caller _recv_bytes has a local `size` only when
    # the header has been read (connection.py, CPython 3.7 to 3.13). qtrace.queue's reader has the
    # same locals.
    frames = [f for f in actor.stack if library_path(f.file) in ("multiprocessing/connection.py", "queue/wire.py")]
    inner = next((f for f in frames if base_name(f.function) == "_recv"), None)
    outer = next((f for f in frames if base_name(f.function) in ("_recv_bytes", "recv_bytes")), None)
    if inner is None or outer is None:
        return None
    size, remaining = _number(inner, "size"), _number(inner, "remaining")
    if size is None or remaining is None or remaining <= 0:
        return None
    if _number(outer, "size") is None:
        return None
    return Torn(size, size - remaining, None)


def _number(frame: Frame, name: str) -> int | None:
    text = frame.variables.get(name, "")
    return int(text) if text.isdigit() else None


def may_send_rest(other: Actor) -> bool:
    """Whether a thread may be in the middle of sending: by its frames, or because it has none."""
    if not other.stack:
        return True
    if other.within(Doing.CONNECTION_SEND, Doing.SIMPLEQ_PUT) is not None:
        return True
    if other.within(Doing.MPQ_FEED) is not None:
        return not other.idle
    return any(want.access == "w" for want in other.thread.wants)
