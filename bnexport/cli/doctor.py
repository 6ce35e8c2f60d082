"""`bnexport doctor`."""

from __future__ import annotations

import typer

from bnexport.cli import options
from bnexport.cli.guard import guarded
from bnexport.cli.options import PlainFormat


@guarded
def command(
    require: options.Require = [],  # noqa: B006 - typer reads the default, nobody writes to it
    form: options.TextOrJson = PlainFormat.TEXT,
) -> int:
    """Say what this machine can run, and why not the rest. Exits with 3 where something is broken, or required and absent."""
    from bnexport.environment.doctor import doctor
    from bnexport.reporting import health

    found = doctor([r.value for r in require])
    if form == PlainFormat.JSON:
        from bnexport.reporting import json

        typer.echo(json.dumps(health.as_dict(found)))
    else:
        from rich.console import Console

        health.show(found, Console(highlight=False))
    return 0 if found else 3
