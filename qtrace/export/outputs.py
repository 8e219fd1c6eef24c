"""Files that exports go to."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


@contextlib.contextmanager
def text_output(path: Path) -> Iterator[TextIO]:
    """Yield a text file that takes its name only when it is whole; compressed if that ends with ``.gz``."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        if path.suffix == ".gz":
            with gzip.open(part, "wt", encoding="utf-8", compresslevel=1) as zipped:
                yield zipped
        else:
            with part.open("w", encoding="utf-8") as file:
                yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
