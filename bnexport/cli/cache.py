"""`bnexport cache`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bnexport.cli.exit_codes import with_exit_code


class Action(StrEnum):
    """An action on the cache."""

    SHOW = "show"
    CLEAR = "clear"


@with_exit_code
def command(
    action: Annotated[
        Action, typer.Argument(help="show prints the path and the size of the cache, clear removes all entries.")
    ] = Action.SHOW,
) -> int:
    """Show or clear the cache of exports and Keras outputs."""
    from bnexport.system import cache

    root = cache.folder()
    if action == Action.CLEAR:
        entries, size = cache.clear(root)
        typer.echo(f"{root}: {entries} entries removed, {size / 1e6:.1f} MB")
        return 0
    entries, size = cache.size(root)
    typer.echo(f"{root}: {entries} entries, {size / 1e6:.1f} MB (limit {cache.LIMIT / 1e6:.0f} MB)")
    return 0
