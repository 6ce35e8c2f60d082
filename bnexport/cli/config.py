"""`bnexport config`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import options, settings
from bnexport.cli.guard import guarded
from bnexport.cli.options import PlainFormat
from bnexport.errors import UsageError


@guarded
def command(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[COMMAND]", help="Only the options of this command.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is as it would be anyway.")] = False,
    form: options.TextOrJson = PlainFormat.TEXT,
) -> int:
    """Show what options are set to, and by what. Read are bnexport.toml, [tool.bnexport] in pyproject.toml and BNEXPORT_*."""
    parent = context.parent
    if parent is None:
        raise UsageError("config is a command of bnexport")
    known = settings.options_of(parent.command, parent)
    found = settings.settings(known, Path.cwd(), os.environ)
    if name is not None:
        if name not in {setting.command for setting in found}:
            raise UsageError(f"there is no command {name}", expected=", ".join(sorted({s.command for s in found})))
        found = [setting for setting in found if setting.command == name]
    shown = found if everything or name is not None else [s for s in found if s.origin != "default"]
    rows = [(s.command, s.option.replace("_", "-"), s.value, s.origin) for s in shown]
    if form == PlainFormat.JSON:
        from bnexport.reporting import json

        told = [{"command": c, "option": o, "value": v, "origin": where} for c, o, v, where in rows]
        typer.echo(json.dumps({"schema_version": json.SCHEMA_VERSION, "settings": told}))
        return 0
    if not rows:
        typer.echo("nothing is set: every option has its default (bnexport config --all shows them)")
        return 0
    width = [max(len(str(row[column])) for row in rows) for column in (0, 1)]
    for command_name, option, value, origin in rows:
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        typer.echo(f"{command_name:{width[0]}}  --{option:{width[1]}}  {'' if text is None else text}  ({origin})")
    return 0
