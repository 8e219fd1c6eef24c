"""JSON out of a recording: what does not parse, or is not what it should be, is empty."""

from __future__ import annotations

import json
from typing import Any


def mapping_of(text: str | None) -> dict[str, Any]:
    """Return a JSON object, or an empty one."""
    found = _parsed(text)
    return found if isinstance(found, dict) else {}


def list_of(text: str | None) -> list[Any]:
    """Return a JSON list, or an empty one."""
    found = _parsed(text)
    return found if isinstance(found, list) else []


def numbers_of(text: str | None) -> list[int]:
    """Return the numbers of a JSON list."""
    return [number for number in list_of(text) if isinstance(number, int)]


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
