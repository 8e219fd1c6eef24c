"""The CPythons of this machine, from 3.7 to 3.13, to run recorded programs with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

VERSIONS = ("3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")


def _candidates() -> Iterator[Path]:
    root = os.environ.get("PYENV_ROOT") or str(Path.home() / ".pyenv")
    yield from sorted(Path(root, "versions").glob("3.*/bin/python3"), reverse=True)
    for version in VERSIONS:
        found = shutil.which(f"python{version}")
        if found:
            yield Path(found)
    # The interpreter of the tests comes last: its own environment is a virtual one.
    yield Path(sys.executable)


def _version(python: Path) -> str | None:
    ask = "import sys, platform; print(platform.python_implementation(), '%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    implementation, _, version = answer.stdout.strip().partition(" ")
    return version if implementation == "CPython" else None


@cache
def found_pythons() -> dict[str, Path]:
    """Return "3.11"-like versions and the interpreter of each that is on this machine."""
    found: dict[str, Path] = {}
    for python in _candidates():
        version = _version(python)
        if version in VERSIONS:
            found.setdefault(version, python)
    return found


def python_params() -> list[object]:
    """Return a pytest parameter for each version, skipped with the reason where it is not found."""
    found = found_pythons()
    return [
        pytest.param(found[version], id=version)
        if version in found
        else pytest.param(None, id=version, marks=pytest.mark.skip(reason=f"no CPython {version} on this machine"))
        for version in VERSIONS
    ]
