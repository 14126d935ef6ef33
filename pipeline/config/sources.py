"""Where settings come from: a TOML or YAML file, then `-s section.key=value`, then options. Later ones win."""

import contextlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from pipeline.errors import UsageError

Tree = dict[str, Any]


def read_file(path: Path) -> Tree:
    """The settings of a .toml, .yaml or .yml file. Raises UsageError naming the file and the place."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text: byte {error.start}", "save it as UTF-8") from None
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", "name a readable file with -c, or none for the defaults"
        ) from None
    try:
        tree = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}", "strings need quotes, sections look like [risk]") from None
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" (at line {place.line + 1}, column {place.column + 1})" if place else ""
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise UsageError(f"{path}: not YAML: {problem}{where}", "sections look like `risk:`") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read: {error}", "no setting has such a value") from None
    if tree is None:
        return {}
    try:
        json.dumps(tree, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: holds what is no setting: {error}", "keys are text") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: holds a {type(tree).__name__}, sections were expected", "sections look like [risk]")
    return tree


def read_assignments(assignments: Sequence[str], model: type[BaseModel]) -> Tree:
    """The tree of `section.key=value` texts; values in TOML, strings with or without quotes, lists with commas."""
    tree: Tree = {}
    for text in assignments:
        key, equals, raw = text.partition("=")
        path = key.strip().split(".")
        if not equals or len(path) < 2 or not all(path):
            raise UsageError(f"-s {text}: not of the form section.key=value", "for example -s risk.collar_bps=50")
        put(tree, path, _value(raw.strip(), field_at(model, path)))
    return tree


def _value(raw: str, field: FieldInfo | None) -> Any:
    candidates: list[Any] = []
    with contextlib.suppress(ValueError, RecursionError):
        candidates.append(tomllib.loads(f"value = {raw}")["value"])
    candidates.append(raw)
    candidates.append([part.strip() for part in raw.split(",") if part.strip()])
    if field is not None:
        annotation: Any = field.annotation
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        for candidate in candidates:
            try:
                adapter.validate_json(json.dumps(candidate, default=str), strict=True)
            except ValidationError:
                continue
            return candidate
        if get_origin(annotation) in (list, tuple):
            return next(candidate for candidate in candidates if isinstance(candidate, list))  # its items are wrong
    return candidates[0]


def field_at(model: type[BaseModel], path: Sequence[str]) -> FieldInfo | None:
    """The declaration of a setting by its path; None when there is none or it lies within free-form settings."""
    field: FieldInfo | None = None
    owner: Any = model
    for name in path:
        if not (isinstance(owner, type) and issubclass(owner, BaseModel)):
            return None
        field = owner.model_fields.get(name)
        if field is None:
            return None
        owner = field.annotation
    return field


def put(tree: Tree, path: Sequence[str], value: Any) -> None:
    """Set a leaf of a tree, making the branches."""
    for name in path[:-1]:
        following = tree.setdefault(name, {})
        if not isinstance(following, dict):
            raise UsageError(f"{'.'.join(path)}: {name} is a value, not a section")
        tree = following
    tree[path[-1]] = value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """`base` with the leaves of `over` on top; tables merge, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key: value, of every leaf."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
