"""`python -m qtrace.queue SCRIPT [ARGUMENT ...]`: run a program with our queues in place of the standard ones."""

from __future__ import annotations

import runpy
import sys

from qtrace.queue import install


def main() -> None:
    """Install our queues and run the script as `__main__`."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m qtrace.queue SCRIPT [ARGUMENT ...]")
    install()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
