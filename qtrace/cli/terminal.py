"""What a stream can show: colours and columns."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_NOT_A_TERMINAL = 140
_WIDEST = 160


def colour_of(stream: TextIO) -> bool:
    """Whether to use colours: on a terminal that has them, unless NO_COLOR is set."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def width_of(stream: TextIO) -> int:
    """Return the columns of a terminal; a readable width where there is none."""
    if not stream.isatty():
        return _NOT_A_TERMINAL
    import shutil  # few lines are that long, but loading it takes 2 ms

    return min(shutil.get_terminal_size((_NOT_A_TERMINAL, 24)).columns, _WIDEST)
