"""`bnexport doctor`."""

from __future__ import annotations

from typing import Annotated

from bnexport.cli import stdio
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.output_options import PlainFormat, PlainOutput
from bnexport.cli.records import Chosen, with_options
from bnexport.comparison.options import CheckOptions


@with_exit_code
@with_options
def command(
    how: Annotated[CheckOptions, Chosen({"require"})],
    output: Annotated[PlainOutput, Chosen({"form"})],
) -> int:
    """Show what this machine can run, and why not the rest.

    The exit code is 3 if something is broken, or if a required target does not work.
    """
    from bnexport.environment.doctor import doctor
    from bnexport.reporting import health

    machine = doctor(how.require)
    if output.form == PlainFormat.JSON:
        from bnexport.reporting import json

        stdio.print_json(json.dumps(health.as_dict(machine)))
    else:
        from rich.console import Console

        health.show(machine, Console(highlight=False))
    return 0 if machine else 3
