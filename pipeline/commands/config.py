"""`pipeline config`: what the settings are, whether they are valid, and where each value comes from."""

import json
from pathlib import Path

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import configured
from pipeline.errors import UsageError


@click.group()
def config() -> None:
    """Show, check and explain the configuration."""


@config.command()
@configured
@json_option
def show(file: Path | None, assignments: tuple[str, ...], as_json: bool) -> int:
    """The configuration as concluded, as a TOML file."""
    from pipeline.config.toml_text import to_toml
    from pipeline.config.tree import document, load

    loaded = load(file, assignments)
    if as_json:
        click.echo(json.dumps({"config": document(loaded), "sources": dict(loaded.sources)}))
    else:
        click.echo(to_toml(document(loaded)), nl=False)
    return 0


@config.command()
@configured
@json_option
def check(file: Path | None, assignments: tuple[str, ...], as_json: bool) -> int:
    """Whether the configuration is valid; exit code 2 and one line per error when it is not."""
    from pipeline.config.tree import load

    loaded = load(file, assignments)
    if as_json:
        click.echo(json.dumps({"valid": True, "settings_given": len(loaded.sources)}))
    else:
        click.echo(f"valid; {len(loaded.sources)} settings differ in source from the defaults", err=True)
    return 0


@config.command()
@click.argument("prefix", default="")
@configured
@json_option
def explain(prefix: str, file: Path | None, assignments: tuple[str, ...], as_json: bool) -> int:
    """Every setting, or those whose key starts with PREFIX: type, range, default, help, value and its source."""
    from pipeline.config.table import settings_table
    from pipeline.config.tree import load

    rows = [row for row in settings_table(load(file, assignments)) if row["key"].startswith(prefix)]
    if not rows:
        raise UsageError(f"no setting starts with {prefix!r}", "`pipeline config explain` lists them all")
    if as_json:
        click.echo(json.dumps({"settings": rows}))
        return 0
    for row in rows:
        limits = f", {row['range']}" if row["range"] else ""
        click.echo(f"{row['key']} = {json.dumps(row['value'])}    [{row['source']}]")
        click.echo(f"    {row['help']} ({row['type']}{limits}; default {json.dumps(row['default'])})")
    return 0
