"""`pipeline start STAGE`: start a stage that was stopped."""

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import run_name


@click.command()
@click.argument("stage")
@run_name
@json_option
def start(stage: str, run: str, as_json: bool) -> int:
    """Start a stage that was stopped."""
    from pipeline.asking.stage_verbs import act

    return act("start", stage, run, as_json=as_json)
