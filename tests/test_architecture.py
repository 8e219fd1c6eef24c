"""The walls between the rooms: who may import whom, and how large a file may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "qtrace"
LONGEST_FILE = 700
LONGEST_FUNCTION = 80

MAY_IMPORT = {
    "queue": set(),
    "capture": {"tracefile", "model", "errors"},
    "tracefile": {"model", "errors"},
    "decode": {"tracefile", "model", "errors"},
    "model": {"errors"},
    "analyse": {"model", "errors"},
    "render": {"model", "errors"},
    "export": {"model", "errors"},
    "pipeline": {"queue", "capture", "tracefile", "decode", "model", "analyse", "render", "export", "errors"},
    "cli": {"pipeline", "model", "errors"},
    "errors": set(),
    "__init__": {"pipeline"},
    "__main__": {"cli"},
}
"""Room to the rooms that it may import, itself aside."""

ONLY_IN = {"plotly": "render", "typer": "cli", "ptrace": "capture", "click": None, "rich": "cli"}
"""Package to the one room that imports it; None: nobody does (Typer brings its own click)."""

NEVER_IN = {"capture": {"pandas"}, "model": {"numpy", "pandas"}, "queue": {"numpy", "pandas"}}


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[str]:
    package = ["qtrace", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield module
            if module == "qtrace":
                yield from (f"qtrace.{name.name}" for name in node.names)


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    """Data goes one way and the rooms in the middle share the vocabulary only."""
    room = _room(path)
    allowed = MAY_IMPORT[room] | {room}
    for module in _imports(path):
        top, *rest = module.split(".")
        if top == "qtrace" and rest:
            assert rest[0] in allowed, f"{room} imports {module}"
        elif top != "qtrace":
            assert room == ONLY_IN.get(top, room), f"{room} imports {module}"
            assert top not in NEVER_IN.get(room, set()), f"{room} imports {module}"
            if room == "queue":
                assert top in sys.stdlib_module_names, f"the queue needs the standard library only, not {module}"


def test_one_file_imports_python_ptrace() -> None:
    """One thin file wraps python-ptrace, whose licence and quirks stay behind it."""
    users = [path.name for path in SOURCES if any(name.split(".")[0] == "ptrace" for name in _imports(path))]
    assert len(users) == 1, users


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    """No file over 700 lines, no function over 80."""
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{node.name} in {path.name}"


def test_the_path_of_a_verdict_imports_neither_pandas_nor_plotly() -> None:
    """Explaining starts at once: pandas alone would cost half a second."""
    modules = ["qtrace.pipeline", "qtrace.capture.snapshot", "qtrace.analyse.explain", "qtrace.render.text"]
    modules += ["qtrace.render.verdict_json", "qtrace.cli.explain", "qtrace.decode.moment"]
    code = f"import sys\nfor name in {modules!r}: __import__(name)\n"
    code += "print([name for name in ('pandas', 'plotly') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
