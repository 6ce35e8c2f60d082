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
        Action,
        typer.Argument(
            help="show prints the path and the size of the cache and lists the environments of releases (verify --matrix), clear removes all of it."
        ),
    ] = Action.SHOW,
) -> int:
    """Show or clear the cache of exports, outputs and environments."""
    from bnexport.system import cache, environments

    root = cache.folder()
    if action == Action.CLEAR:
        entries, size = cache.clear(root)
        typer.echo(f"{root}: {entries} entries removed, {size / 1e6:.1f} MB")
        count, size = environments.clear()
        if count:
            typer.echo(f"{environments.folder()}: {count} environments removed, {size / 1e6:.1f} MB")
        return 0
    entries, size = cache.size(root)
    typer.echo(f"{root}: {entries} entries, {size / 1e6:.1f} MB (limit {cache.LIMIT / 1e6:.0f} MB)")
    if kept := [(environment, environments.size(path)) for environment, path in environments.kept()]:
        total = sum(size for _, size in kept)
        typer.echo(f"{environments.folder()}: {len(kept)} environments, {total / 1e6:.1f} MB (no limit)")
    for environment, size in kept:
        typer.echo(f"  {environment.package} {environment.release}, Python {environment.version}: {size / 1e6:.1f} MB")
    return 0
