"""The `qtrace` command: it finds the verb, imports that verb's module only, and runs it.

Drawing `--help` and starting a verb must not wait for pandas, Plotly or rich: verbs are registered
by the names of their modules, and a verb's module is imported when its name is typed.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import signal
import sys

from qtrace.errors import QtraceError
from qtrace.model.blas import keep_to_one_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    import typer

VERBS: dict[str, str] = {
    "record": "record",
    "explain": "explain",
    "report": "report",
    "summary": "summary",
    "diff": "diff",
    "export": "export",
    "import": "import_log",
    "schema": "schema",
    "doctor": "doctor",
}
"""Verb to the module in `qtrace.cli` whose function of the module's name is the command."""

_ON_TABLES = ("report", "summary", "diff", "export")


def build_app(argv: list[str]) -> typer.Typer:
    """Return the application with the verb that `argv` names, or with all of them for the help."""
    import importlib.util

    import typer

    app = typer.Typer(
        name="qtrace",
        help="Who waits for whom, and why: trace and explain Python multiprocessing on Linux.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_show_locals=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(lambda: None)
    named = next((word for word in argv if not word.startswith("-")), None)
    for verb, module_name in VERBS.items():
        if named in VERBS and verb != named:
            continue
        if importlib.util.find_spec(f"qtrace.cli.{module_name}") is None:
            continue
        module = importlib.import_module(f"qtrace.cli.{module_name}")
        settings = getattr(module, "CONTEXT_SETTINGS", None)
        app.command(verb, context_settings=settings)(getattr(module, module_name))
    return app


def _prepared(words: list[str]) -> list[str]:
    if not words or words[0] not in VERBS:
        return words
    module = importlib.import_module(f"qtrace.cli.{VERBS[words[0]]}")
    prepare = getattr(module, "prepare", None)
    return [words[0], *prepare(words[1:])] if prepare is not None else words


def _record_at_once(words: list[str]) -> None:
    """Record, and end this process, if the command line is a plain one; else do nothing."""
    from qtrace.cli import plain

    options = plain.understood(words)
    if options is not None:
        gc.set_threshold(_RARELY)
        from qtrace.cli import recording

        try:
            _leave(recording.run(**options))  # type: ignore[arg-type]
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)  # as Typer does


_RARELY = 100_000
"""So many objects more than before lie between two looks for garbage: loading modules makes none, and looking takes
2 ms of it, and a recording makes next to none."""
_LOOK_ON = {"cProfile", "profile", "pdb", "trace"}
"""Modules that run a program, and have something to say when it is over."""


def _leave(status: int) -> NoReturn:
    """End this process, without taking the interpreter apart, which takes 2 ms, and with NumPy 10."""
    import threading

    alone = all(thread.daemon or thread is threading.main_thread() for thread in threading.enumerate())
    if alone and _LOOK_ON.isdisjoint(sys.modules):
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):  # the ordinary end says what is wrong
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            os._exit(status)
    sys.exit(status)


def main() -> None:
    """Run the command line and end the process with its exit status."""
    words = sys.argv[1:]
    if words[:1] != ["record"]:
        keep_to_one_thread()
    if words[:1] == ["explain"]:
        from qtrace.cli import early

        early.begin(words[1:])
    elif words[:1] and words[0] in _ON_TABLES:
        from qtrace.cli import memory

        memory.for_large_tables()
    try:
        if words[:1] == ["record"]:
            _record_at_once(words[1:])
        build_app(words)(_prepared(words))
    except QtraceError as error:
        print(f"qtrace: {error.message}", file=sys.stderr)
        if error.help_text:
            print(error.help_text, file=sys.stderr)
        sys.exit(error.exit_code)
