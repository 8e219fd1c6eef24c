"""From the words on the command line to the program that is run: script, module, code or command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

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
        _check_script(first)
        return _interpreted(python, words)
    return Program(_executable(first), tuple(words))


_EXAMPLES = {"-m": "package.module", "-c": "'print(1)'"}


def _interpreted(python: str, words: Sequence[str]) -> Program:
    interpreter = python or sys.executable
    path = _executable(interpreter)
    return Program(path, (interpreter, *words))


def _check_script(path: str) -> None:
    _check_there(path)
    if os.path.isfile(path) and not os.access(path, os.R_OK):
        raise TargetError(f"{path} may not be read", f"See its rights with: ls -l {path}")


def _check_there(path: str) -> None:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise TargetError(f"there is no file {path}", f"You are in {os.getcwd()}; check the name.") from None
    except OSError as error:  # a folder on the way may not be entered
        way = os.path.join(os.getcwd(), path)
        raise TargetError(
            f"cannot reach {path}: {error.strerror}", f"See the rights on the way with: namei -l {way}"
        ) from None


def _has_main(path: str) -> bool:
    if os.path.isdir(path):
        return os.path.isfile(os.path.join(path, "__main__.py"))
    if not os.path.isfile(path) or not _may_be_an_archive(path):
        return False
    import zipfile

    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return "__main__.py" in archive.namelist()


def _may_be_an_archive(path: str) -> bool:
    """Whether what zip files end with is there: most programs have it not, and zipfile takes 7 ms to load."""
    try:
        with open(path, "rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LONGEST_END))
            return _END_OF_ARCHIVE in file.read()
    except OSError:
        return False  # it may not be read


_END_OF_ARCHIVE, _LONGEST_END = b"PK\5\6", 22 + (1 << 16)
"""The signature of the last record, and how long that is with the longest comment (APPNOTE.TXT, 4.3.16)."""


def _executable(name: str) -> str:
    if "/" not in name:
        found = _on_path(name)
        if not found:
            raise TargetError(f"there is no command {name} on PATH", "Check the name, or give its path.")
        return found
    _check_there(name)
    if os.path.isdir(name):
        raise TargetError(f"{name} is a folder without a __main__.py", "Name the script inside of it.")
    if not os.access(name, os.X_OK):
        raise TargetError(f"{name} is not executable", f"Make it so (chmod +x {name}), or name its interpreter.")
    return name


def _on_path(name: str) -> str:
    """Return the file of a command, or nothing: `shutil.which`, which takes 2 ms to load."""
    if not name or not os.environ.get("PATH", os.defpath):
        return ""
    for folder in os.get_exec_path():
        file = os.path.join(folder, name)
        if os.access(file, os.X_OK) and not os.path.isdir(file):
            return file
    return ""
