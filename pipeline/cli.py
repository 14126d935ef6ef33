"""The `pipeline` command. Import-light: a verb's code, and the compiler below it, is loaded when the verb runs."""

import contextlib
import errno
import importlib
import os
import sys

import click

from pipeline.errors import USAGE, PipelineError

COMMANDS = {
    "up": "pipeline.commands.up:up",
    "down": "pipeline.commands.down:down",
    "status": "pipeline.commands.status:status",
    "restart": "pipeline.commands.restart:restart",
    "stop": "pipeline.commands.stop:stop",
    "start": "pipeline.commands.start:start",
    "logs": "pipeline.commands.logs:logs",
    "latency": "pipeline.commands.latency:latency",
    "orders": "pipeline.commands.orders:orders",
    "positions": "pipeline.commands.positions:positions",
    "book": "pipeline.commands.book:book",
    "config": "pipeline.commands.config:config",
    "inspect": "pipeline.commands.inspect:inspect",
    "clean": "pipeline.commands.clean:clean",
    "record": "pipeline.commands.record:record",
    "verify": "pipeline.commands.verify:verify",
    "export": "pipeline.commands.export:export",
    "doctor": "pipeline.commands.doctor:doctor",
    "tune": "pipeline.commands.tune:tune",
}
"""Verb: where it is; one file each."""


class Verbs(click.Group):
    """Loads a verb's file when it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        """In the order of the table."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The verb, or None."""
        target = COMMANDS.get(name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


def keep_libraries_single_threaded() -> None:
    """Before numpy loads: its linear algebra would start a thread per core, and the supervisor forks."""
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[variable] = "1"


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tickpipe", prog_name="pipeline")
def cli() -> None:
    """A low-latency trading pipeline: market data to order in microseconds, each step measured."""


def main() -> None:
    """Entry point: errors become one line each, a hint and an exit code."""
    keep_libraries_single_threaded()
    code = _run()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            pass  # its reader left; that is its affair, and the exit code ours
        except OSError as error:
            code = code or _cannot_write(error)
    # Not by sys.exit: once an interrupt has crossed code that was compiled from text (numpy and Numba have such code),
    # the interpreter ends itself by SIGINT however that interrupt was handled.
    os._exit(code)


def _run() -> int:
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except PipelineError as error:
        for line in str(error).splitlines():
            click.secho(f"error: {line}", err=True, fg=None if "NO_COLOR" in os.environ else "red")
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        return error.exit_code
    except BrokenPipeError:
        return 0
    except OSError as error:
        if error.filename is not None:
            click.echo(f"error: {error.filename}: {error.strerror}", err=True)
            return USAGE
        if error.errno == errno.ENOSPC:
            return _cannot_write(error)
        raise
    return code if isinstance(code, int) else 0


def _cannot_write(error: OSError) -> int:
    with contextlib.suppress(OSError):
        click.echo(f"error: standard output cannot be written: {error.strerror}", err=True)
    return USAGE


if __name__ == "__main__":
    main()
