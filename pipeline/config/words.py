"""Settings in words: the range of one, the description of one, and one clear line for each thing wrong with them."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pipeline.config.sources import field_at


def type_words(field: FieldInfo) -> str:
    """The type of a setting, as a user writes it."""
    annotation: Any = field.annotation
    if get_origin(annotation) is Literal:
        return " | ".join(str(value) for value in get_args(annotation))
    names = {int: "whole number", float: "number", str: "text", bool: "true | false"}
    if annotation in names:
        return names[annotation]
    if get_origin(annotation) in (list, tuple):
        return "list"
    return "table" if get_origin(annotation) is dict else str(annotation).replace("typing.", "")


def range_words(field: FieldInfo) -> str:
    """The limits of a setting; empty when it has none."""
    words = []
    for item in field.metadata:
        for attribute, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
            limit = getattr(item, attribute, None)
            if limit is not None:
                words.append(f"{sign} {limit}")
        for attribute, text in (("min_length", "at least {} long"), ("max_length", "at most {} long")):
            limit = getattr(item, attribute, None)
            if limit is not None:
                words.append(text.format(limit))
        pattern = getattr(item, "pattern", None)
        if pattern is not None:
            words.append(f"like {pattern}")
    return ", ".join(words)


def dotted(location: Sequence[str | int]) -> str:
    """("venue", "symbols", 0, "tick_size") is venue.symbols[0].tick_size."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def error_lines(error: ValidationError, model: type[BaseModel], sources: Mapping[str, str]) -> list[str]:
    """One line per error: source, key, what is wrong, what is allowed, a hint."""
    lines = []
    for item in error.errors(include_url=False):
        location = [part for part in item["loc"] if isinstance(part, int) or not part.startswith("function-")]
        key = dotted(location)
        source = _source_of(key, sources)
        lines.append(f"{source}: {key}{_shown(item)}: {_what(item, location, model)}")
    return lines


def _source_of(key: str, sources: Mapping[str, str]) -> str:
    """Where the key, or else the nearest thing around or within it, was given."""
    while key:
        for known, source in sources.items():
            if known == key or known.startswith((f"{key}.", f"{key}[")):
                return source
        key = key.rpartition(".")[0]
    return "configuration"


def _shown(item: ErrorDetails) -> str:
    value = item["input"]
    if item["type"] in ("extra_forbidden", "missing") or isinstance(value, dict):
        return ""
    text = repr(value)
    return f" = {text if len(text) <= 60 else text[:57] + '...'}"


def _what(item: ErrorDetails, location: Sequence[str | int], model: type[BaseModel]) -> str:
    names = [str(part) for part in location]
    if item["type"] == "extra_forbidden":
        return _unknown(names, model)
    field = field_at(model, [name for name in names if not name.isdigit()])
    message = item["msg"].removeprefix("Value error, ")
    if field is None or (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
        return message  # of a section as a whole
    allowed = type_words(field) + (f", {limits}" if (limits := range_words(field)) else "")
    help_text = f"; {field.description}" if field.description else ""
    return f"{message[:1].lower()}{message[1:]} ({allowed}; default {default_of(field)!r}){help_text}"


def default_of(field: FieldInfo) -> Any:
    """The default value, made if it has a factory."""
    value = field.get_default(call_default_factory=True, validated_data={})
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _unknown(names: Sequence[str], model: type[BaseModel]) -> str:
    *parents, name = names
    owner: Any = model
    for parent in parents:
        field = owner.model_fields.get(parent) if isinstance(owner, type) and issubclass(owner, BaseModel) else None
        owner = field.annotation if field is not None else None
    known = list(owner.model_fields) if isinstance(owner, type) and issubclass(owner, BaseModel) else []
    what = "unknown section" if not parents else "unknown key"
    close = difflib.get_close_matches(name, known, 1, 0.5)
    if close:
        return f"{what}; hint: did you mean {'.'.join([*parents, close[0]])}?"
    for section, field in model.model_fields.items():
        inner: Any = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and name in inner.model_fields:
            return f"{what}; hint: there is {section}.{name}"
    return f"{what}; hint: known here: {', '.join(sorted(known))}" if known else what
