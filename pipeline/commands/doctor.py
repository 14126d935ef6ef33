"""`pipeline doctor`: what this machine can and cannot give."""

import json

import click

from pipeline.commands.options import Duration
from pipeline.commands.options import as_json as json_option


@click.command()
@click.option(
    "--noise", "noise_s", type=Duration(), metavar="10s", help="Listen to each core for so long; 2 s for all."
)
@json_option
def doctor(noise_s: float | None, as_json: bool) -> int:
    """Look at what costs latency on this machine, and listen to the noise of each core. Changes nothing.

    Each finding says what was found, why it costs latency, and what to do. The exit code is 0 whatever was found.
    """
    from launch.doctor import examine
    from launch.host.machine import Machine

    examination = examine(Machine(), noise_s)
    if as_json:
        click.echo(
            json.dumps({
                "findings": [finding.document() for finding in examination.findings],
                "noise": [core.document() for core in examination.noise],
            })
        )  # fmt: skip
        return 0
    from pipeline.reports.examination import print_examination

    print_examination(examination)
    return 0
