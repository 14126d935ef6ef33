"""Options that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

config_file = click.option(
    "-c", "--config", "file", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file, TOML or YAML."
)
assignments = click.option(
    "-s", "--set", "assignments", multiple=True, metavar="section.key=value", help="One setting; may be repeated."
)
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")

run_name = click.option(
    "--run", default="default", show_default=True, metavar="NAME", help="Name or id of the run that is meant."
)


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """-c and -s."""
    return config_file(assignments(command))
