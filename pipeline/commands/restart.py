"""`pipeline restart STAGE`: end a stage of a live run and start it anew."""

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import run_name


@click.command()
@click.argument("stage")
@run_name
@json_option
def restart(stage: str, run: str, as_json: bool) -> int:
    """End a stage and start it anew; the others go on."""
    from pipeline.asking.stage_verbs import act

    return act("restart", stage, run, as_json=as_json)
