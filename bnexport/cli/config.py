"""`bnexport config`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import settings, stdio
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.output_options import PlainFormat, PlainOutput
from bnexport.cli.records import Chosen, with_options
from bnexport.errors import UsageError
from bnexport.results.option_names import FORMER_NAMES
from bnexport.system.suggestions import suggest


@with_exit_code
@with_options
def command(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[COMMAND]", help="Show only the options of this command.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also show the options that have their default value.")
    ] = False,
    *,
    output: Annotated[PlainOutput, Chosen({"form"})],
) -> int:
    """Show the values of options and where each is set.

    Options are set in bnexport.toml, in [tool.bnexport] of pyproject.toml, and by environment variables BNEXPORT_*.
    """
    parent = context.parent
    if parent is None:
        raise UsageError("config is a command of bnexport")
    options = settings.list_options(parent)
    values = settings.read_settings(options, Path.cwd(), os.environ)
    if name is not None:
        commands = sorted({setting.command for setting in values})
        if name not in commands:
            raise UsageError(f"there is no command {name}", expected=", ".join(commands), fix=suggest(name, commands))
        values = [setting for setting in values if setting.command == name]
    shown = values if everything or name is not None else [s for s in values if s.origin != "default"]
    rows = [(s.command, s.option.replace("_", "-"), s.value, s.origin) for s in shown]
    if output.form == PlainFormat.JSON:
        from bnexport.reporting import json

        entries = []
        for command_name, option, value, origin in rows:
            entry = {"command": command_name, "option": option, "value": value, "origin": origin}
            entries.append(entry)
            if former := FORMER_NAMES.get(option):
                entries.append({**entry, "option": former, "alias_of": option})
        stdio.print_json(json.dumps({"schema_version": json.SCHEMA_VERSION, "settings": entries}))
        return 0
    if not rows:
        typer.echo("Every option has its default value. bnexport config --all lists them.")
        return 0
    width = [max(len(str(row[column])) for row in rows) for column in (0, 1)]
    for command_name, option, value, origin in rows:
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        typer.echo(f"{command_name:{width[0]}}  --{option:{width[1]}}  {'' if text is None else text}  ({origin})")
    return 0
