"""Options that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipeline.config.durations import parse_duration_s

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


class Duration(click.ParamType[float]):
    """500ms, 10s, 2m, 1h; in seconds."""

    name = "duration"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        """Seconds; a usage error otherwise."""
        try:
            return parse_duration_s(str(value))
        except ValueError as error:
            self.fail(str(error), parameter, context)
