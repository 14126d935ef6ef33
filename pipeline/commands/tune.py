"""`pipeline tune`: the kernel's low-latency settings, shown, made, taken back, or as a script."""

import json
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import click

from pipeline.commands.options import as_json as json_option
from pipeline.errors import MachineRefusedError, UsageError

if TYPE_CHECKING:
    from launch.tuning.setting import Setting


@click.command()
@click.option("--apply", "applying", is_flag=True, help="Make the settings; what was there is kept, for --revert.")
@click.option("--revert", "reverting", is_flag=True, help="Restore what was there before the first --apply.")
@click.option("--script", "as_script", is_flag=True, help="Print a shell script that does the same.")
@click.option("--only", multiple=True, metavar="NAME", help="These settings alone; may be repeated, and hold *.")
@click.option("--skip", multiple=True, metavar="NAME", help="All but these.")
@json_option
def tune(
    applying: bool, reverting: bool, as_script: bool, only: tuple[str, ...], skip: tuple[str, ...], as_json: bool
) -> int:
    """Show what the low-latency settings of this machine are, what they would become, and why. Changes nothing
    unless told to.

    --apply and --revert need root; exit code 4 when the machine refused any of it. A reboot undoes everything.
    """
    if applying + reverting + as_script > 1:
        raise UsageError("--apply, --revert and --script exclude each other")
    settings = _selected(only, skip)
    if as_script:
        from launch.tuning.script import render

        click.echo(render(settings), nl=False)
        return 0
    if reverting and (only or skip):
        raise UsageError("--revert restores all that was changed", "leave --only and --skip out")
    if applying or reverting:
        return _change(settings, reverting=reverting, as_json=as_json)
    return _show(settings, as_json=as_json)


def _selected(only: tuple[str, ...], skip: tuple[str, ...]) -> "list[Setting]":
    from launch.tuning.catalogue import SETTINGS

    for pattern in (*only, *skip):
        if not any(fnmatch(setting.id, pattern) for setting in SETTINGS):
            raise UsageError(f"no setting is called {pattern}", f"there are {', '.join(one.id for one in SETTINGS)}")
    return [
        setting for setting in SETTINGS
        if (not only or any(fnmatch(setting.id, pattern) for pattern in only))
        and not any(fnmatch(setting.id, pattern) for pattern in skip)
    ]  # fmt: skip


def _show(settings: "list[Setting]", *, as_json: bool) -> int:
    from launch.host.machine import Machine
    from launch.tuning.boot import boot_advice
    from launch.tuning.survey import survey
    from pipeline.reports.tuning import plan_document, print_plan

    machine = Machine()
    rows, advice = survey(machine, settings), boot_advice(machine)
    if as_json:
        click.echo(json.dumps(plan_document(rows, advice)))
    else:
        print_plan(rows, advice)
    return 0


def _change(settings: "list[Setting]", *, reverting: bool, as_json: bool) -> int:
    from launch.errors import MachineError
    from launch.host.machine import Machine
    from launch.tuning.change import apply, revert
    from launch.tuning.survey import survey
    from pipeline.reports.tuning import outcome_document, print_outcomes

    machine = Machine()
    try:
        outcomes = revert(machine) if reverting else apply(machine, settings)
    except MachineError as error:
        left = dict.fromkeys(row.setting.id for row in survey(machine, settings) if row.state == "differs")
        raise MachineRefusedError(
            str(error) if reverting else f"{error}\nnot made: {', '.join(left)}", error.hint
        ) from None
    if as_json:
        click.echo(json.dumps({"changes": [outcome_document(outcome) for outcome in outcomes]}))
    else:
        print_outcomes(outcomes, reverting=reverting)
    refused = [outcome for outcome in outcomes if outcome.state == "refused"]
    if refused:
        raise MachineRefusedError(
            f"{len(refused)} of {len(outcomes)} places were refused: {', '.join(item.path for item in refused[:3])}"
            f"{' …' if len(refused) > 3 else ''}",
            "run it as root on the host; what was changed is saved: pipeline tune --revert",
        )
    return 0
