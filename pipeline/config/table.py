"""Every setting as a row: key, value, default, source, type, range, help; derived from the declarations."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from pipeline.config.tree import Loaded
from pipeline.config.words import default_of, range_words, type_words


def settings_table(loaded: Loaded) -> list[dict[str, Any]]:
    """Rows in the order of the sections."""
    return list(_rows(loaded, loaded.config, ""))


def _rows(loaded: Loaded, owner: BaseModel, prefix: str) -> Iterator[dict[str, Any]]:
    values = owner.model_dump(mode="json")
    for name, field in type(owner).model_fields.items():
        key = f"{prefix}{name}"
        inner = getattr(owner, name)
        if isinstance(inner, BaseModel):
            yield from _rows(loaded, inner, f"{key}.")
            continue
        default = default_of(field)
        yield {
            "key": key,
            "value": values[name],
            "default": _plain(default),
            "source": _source(loaded, key),
            "type": type_words(field),
            "range": range_words(field),
            "help": field.description or "",
        }


def _source(loaded: Loaded, key: str) -> str:
    """Of the key itself, or of what was given within it (tables of free keys)."""
    given = [source for known, source in loaded.sources.items() if known == key or known.startswith(f"{key}.")]
    return given[-1] if given else loaded.source(key)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, dict) else value
