"""`bnexport doctor`."""

from __future__ import annotations

import typer

from bnexport.cli import options, output_options, parsing
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.output_options import PlainFormat


@with_exit_code
def command(
    require_target: options.RequireTargets = [],  # noqa: B006 - typer reads the default, nobody writes to it
    form: output_options.TextOrJson = PlainFormat.TEXT,
) -> int:
    """Show what this machine can run, and why not the rest.

    The exit code is 3 if something is broken, or if a required target does not work.
    """
    from bnexport.environment.doctor import doctor
    from bnexport.reporting import health

    machine = doctor(parsing.parse_required_targets(require_target))
    if form == PlainFormat.JSON:
        from bnexport.reporting import json

        typer.echo(json.dumps(health.as_dict(machine)))
    else:
        from rich.console import Console

        health.show(machine, Console(highlight=False))
    return 0 if machine else 3
