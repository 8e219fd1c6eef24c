"""What a queue raises beside the exceptions of the standard one."""

from __future__ import annotations

__all__ = ["PipeSizeError", "TruncatedMessage"]


class TruncatedMessage(OSError):
    """A message that its writer began and will never finish.

    Raised once by the reader that meets it; the next `get` returns the next whole
    message. An `OSError`, because that is what a standard Connection raises for
    "got end of file during message": a handler written for that one sees this one.

    Attributes:
        pid: process id of the writer that died or left.
        expected_bytes: length of the message body its header announced.
        received_bytes: bytes of the body that reached the pipe.
    """

    def __init__(self, pid: int, expected_bytes: int, received_bytes: int) -> None:
        super().__init__(f"message cut short: process {pid} ended after {received_bytes} of {expected_bytes} bytes")
        self.pid = pid
        self.expected_bytes = expected_bytes
        self.received_bytes = received_bytes

    def __reduce__(self) -> tuple[type[TruncatedMessage], tuple[int, int, int]]:
        return type(self), (self.pid, self.expected_bytes, self.received_bytes)


class PipeSizeError(ValueError):
    """The system refuses a pipe of the size asked for; the message says its limit."""
