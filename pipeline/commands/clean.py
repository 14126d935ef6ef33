"""`pipeline clean`: remove what dead runs left in shared memory and of control sockets, and only that."""

import json

import click

from pipeline.commands.options import as_json as json_option


@click.command()
@json_option
def clean(as_json: bool) -> int:
    """Remove the segments, semaphores and control sockets whose run is dead. Live runs, and what is not ours, stay."""
    from pipeline.run.directory import sweep_control_sockets
    from shm import doorbell, segment
    from shm.inspection import find

    semaphores = doorbell.sweep()  # first: a semaphore is judged by its segment
    segments = segment.sweep()
    sockets = [str(path) for path in sweep_control_sockets()]
    kept = [found.name for found in find()]
    if as_json:
        click.echo(json.dumps({"segments": segments, "semaphores": semaphores, "sockets": sockets, "kept": kept}))
        return 0
    for kind, names in (("segment", segments), ("semaphore", semaphores), ("control socket", sockets)):
        for name in names:
            click.echo(f"removed {kind} {name}")
    click.echo(f"{len(segments) + len(semaphores) + len(sockets)} removed, {len(kept)} segments kept", err=True)
    return 0
