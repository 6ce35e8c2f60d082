"""`bnexport cache`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bnexport.cli.guard import guarded


class Action(StrEnum):
    """What to do with the cache."""

    SHOW = "show"
    CLEAR = "clear"


@guarded
def command(
    action: Annotated[
        Action, typer.Argument(help="show: where it is and how large; clear: remove everything in it.")
    ] = Action.SHOW,
) -> int:
    """Show or clear what earlier checks computed. That is exports and Keras' outputs."""
    from bnexport.system import cache

    root = cache.folder()
    if action == Action.CLEAR:
        entries, size = cache.clear(root)
        typer.echo(f"{root}: {entries} entries removed, {size / 1e6:.1f} MB")
        return 0
    entries, size = cache.size(root)
    typer.echo(f"{root}: {entries} entries, {size / 1e6:.1f} MB of at most {cache.LIMIT / 1e6:.0f}")
    return 0
