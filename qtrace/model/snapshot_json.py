"""Snapshots to JSON text and back: how a recording keeps the moment at which a program hung.

The text follows the dataclasses of `qtrace.model.snapshot` field by field; mappings with keys that
are no text become lists of pairs. Unknown fields of a newer writer are ignored, missing ones take
their defaults.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

from qtrace.model.snapshot import Snapshot


def dump_snapshot(snapshot: Snapshot) -> str:
    """Return a snapshot as JSON text."""
    return json.dumps(_plain(snapshot), separators=(",", ":"))


def load_snapshot(text: str) -> Snapshot:
    """Return the snapshot of a JSON text.

    Raises:
        ValueError: The text is no snapshot.
    """
    try:
        found = _built(Snapshot, json.loads(text))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a snapshot: {error}") from error
    assert isinstance(found, Snapshot)
    return found


def _plain(thing: Any) -> Any:
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        # Defaults are left out: most threads of a large tree are alike.
        return {
            field.name: _plain(value)
            for field in dataclasses.fields(thing)
            if not _is_default(field, value := getattr(thing, field.name))
        }
    if isinstance(thing, enum.Enum):
        return thing.value
    if isinstance(thing, Mapping):
        if all(isinstance(key, str) for key in thing):
            return {key: _plain(value) for key, value in thing.items()}
        return [[_plain(key), _plain(value)] for key, value in thing.items()]
    if isinstance(thing, tuple | list):
        return [_plain(part) for part in thing]
    return thing


def _is_default(field: dataclasses.Field[Any], value: object) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(value == field.default)
    return field.default_factory is not dataclasses.MISSING and not value


@cache
def _hints(cls: type) -> Mapping[str, Any]:
    return typing.get_type_hints(cls)


def _built(kind: Any, plain: Any) -> Any:
    origin = typing.get_origin(kind)
    if isinstance(kind, typing.NewType):
        return _built(kind.__supertype__, plain)
    if plain is None or kind is Any:
        return plain
    if origin in (types.UnionType, typing.Union):
        inner = next(part for part in typing.get_args(kind) if part is not type(None))
        return _built(inner, plain)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        known = {field.name for field in dataclasses.fields(kind)}
        return kind(**{name: _built(hints[name], value) for name, value in plain.items() if name in known})
    if origin is tuple:
        parts = typing.get_args(kind)
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(_built(parts[0], value) for value in plain)
        return tuple(_built(part, value) for part, value in zip(parts, plain, strict=True))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        key, value_kind = typing.get_args(kind)
        pairs = plain.items() if isinstance(plain, dict) else plain
        return {_built(key, name): _built(value_kind, value) for name, value in pairs}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(plain)
    return plain
