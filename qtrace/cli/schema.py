"""`qtrace schema`: what is in a recording, and in the tables made from it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from qtrace import pipeline


def schema(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object (schema qtrace.schema/1).")] = False,
) -> None:
    """Print the documented schema: the recording's tables, the record of a call, the pandas tables."""
    if as_json:
        print(json.dumps(pipeline.schema_object(), indent=2))
    else:
        print(pipeline.schema_text(), end="")
