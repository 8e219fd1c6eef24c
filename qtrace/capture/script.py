"""What a command line runs."""

from __future__ import annotations


def script_name(argv: tuple[str, ...]) -> str:
    """Return what a command line runs, in a word or two: a script, ``-m module``, or the command."""
    if not argv:
        return ""
    command = argv[0].rpartition("/")[2]
    if not command.startswith(("python", "pypy")):
        return command
    for place, argument in enumerate(argv[1:], 1):
        if argument == "-m" and place + 1 < len(argv):
            return f"-m {argv[place + 1]}"
        if argument == "-c":
            return f"{command} -c"
        if not argument.startswith("-"):
            return argument.rpartition("/")[2]
    return command
