"""From the words on the command line to the program that is run: script, module, code or command."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from qtrace.capture.launch import Program
from qtrace.errors import TargetError, UsageError


def resolve(words: Sequence[str], python: str = "") -> Program:
    """Return the program that the words name.

    What ends in ``.py``, and a folder or zip file with a ``__main__.py``, is run by an interpreter,
    as are ``-m MODULE`` and ``-c CODE``; anything else is a command, looked up on PATH.

    Args:
        words: The target and its arguments.
        python: The interpreter; the one that runs qtrace if empty.

    Raises:
        UsageError: Nothing is named.
        TargetError: There is no such file or command, or it cannot be executed.
    """
    if not words:
        raise UsageError("there is nothing to record", "Name a program: qtrace record SCRIPT.py [ARGS...]")
    first = words[0]
    if first in ("-m", "-c"):
        if len(words) < 2:
            raise UsageError(f"{first} needs an argument", f"For example: qtrace record {first} {_EXAMPLES[first]}")
        return _interpreted(python, words)
    if first.startswith("-"):
        raise UsageError(f"unknown option {first}", "See: qtrace record --help. A program's own options follow it.")
    if first.endswith(".py") or _has_main(first):
        _check_script(Path(first))
        return _interpreted(python, words)
    return Program(_executable(first), tuple(words))


_EXAMPLES = {"-m": "package.module", "-c": "'print(1)'"}


def _interpreted(python: str, words: Sequence[str]) -> Program:
    interpreter = python or sys.executable
    path = _executable(interpreter)
    return Program(path, (interpreter, *words))


def _check_script(path: Path) -> None:
    _check_there(path, str(path))
    if path.is_file() and not os.access(path, os.R_OK):
        raise TargetError(f"{path} may not be read", f"See its rights with: ls -l {path}")


def _check_there(path: Path, name: str) -> None:
    try:
        there = path.exists()
    except OSError as error:  # a folder on the way may not be entered
        raise TargetError(
            f"cannot reach {name}: {error.strerror}", f"See the rights on the way with: namei -l {path.absolute()}"
        ) from None
    if not there:
        raise TargetError(f"there is no file {name}", f"You are in {Path.cwd()}; check the name.")


def _has_main(name: str) -> bool:
    path = Path(name)
    if path.is_dir():
        return (path / "__main__.py").is_file()
    if not path.is_file():
        return False
    import zipfile

    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return "__main__.py" in archive.namelist()


def _executable(name: str) -> str:
    if "/" not in name:
        found = shutil.which(name)
        if found is None:
            raise TargetError(f"there is no command {name} on PATH", "Check the name, or give its path.")
        return found
    path = Path(name)
    _check_there(path, name)
    if path.is_dir():
        raise TargetError(f"{name} is a folder without a __main__.py", "Name the script inside of it.")
    if not os.access(path, os.X_OK):
        raise TargetError(f"{name} is not executable", f"Make it so (chmod +x {name}), or name its interpreter.")
    return name
