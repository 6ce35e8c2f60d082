"""The commands of bnexport, of which a process imports and builds the one that was asked for: all of them take a tenth of a second."""

from __future__ import annotations

from collections import UserDict
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from bnexport.cli.command import Command
from bnexport.cli.mistyped import refuse_unknown_command, suggesting_options

if TYPE_CHECKING:  # click's own classes in releases of typer that have no copy of it
    from typer._click.core import Command as ClickCommand, Context

NAMES = (
    "demo",
    "train",
    "export",
    "check",
    "recalibrate",
    "fold",
    "pack",
    "verify",
    "reduce",
    "batch",
    "doctor",
    "explain",
    "config",
    "cache",
)
"""In the order of the help. `bnexport.cli.NAME` has the function `command`."""


class Group(TyperGroup):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _OnDemand()

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parses the options before the command."""
        with suggesting_options(lambda: self.get_params(ctx), args):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, ClickCommand | None, list[str]]:
        """The command that the arguments begin with, and the rest of them."""
        if args and not (ctx.resilient_parsing or args[0].startswith("-")):
            refuse_unknown_command(ctx, args[0], NAMES)
        return super().resolve_command(ctx, args)


class _OnDemand(UserDict[str, Any]):
    """The commands by name, each made when it is first looked up."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(NAMES))

    def __getitem__(self, name: str) -> object:
        if self.data[name] is None:
            single = typer.Typer(add_completion=False, rich_markup_mode=None)
            single.command(name, cls=Command)(import_module(f"bnexport.cli.{name}").command)
            self.data[name] = typer.main.get_command(single)
        return self.data[name]
