"""`pipeline stop STAGE`: end one stage of a live run."""

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import run_name


@click.command()
@click.argument("stage")
@run_name
@json_option
def stop(stage: str, run: str, as_json: bool) -> int:
    """End a stage and leave it out until it is started."""
    from pipeline.asking.stage_verbs import act

    return act("stop", stage, run, as_json=as_json)
