"""`bnexport explain`."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from bnexport.cli.guard import guarded


@guarded
def command(
    code: Annotated[
        str | None, typer.Argument(metavar="[CODE]", help="A finding's code, such as BN001; without one, all of them.")
    ] = None,
) -> int:
    """Say what a finding means, how it is measured, and what to do."""
    from bnexport.errors import UsageError
    from bnexport.rules.codes import CODES

    if code is None:
        for known, explanation in CODES.items():
            typer.echo(f"{known}  {explanation.name}")
        return 0
    found = CODES.get(code.upper())
    if found is None:
        raise UsageError(f"there is no finding {code}", expected=", ".join(CODES))
    typer.echo(f"{code.upper()}: {found.name}")
    for title, text in (
        ("what it means", found.meaning),
        ("how it is measured", found.measured),
        ("its neighbours", found.neighbours),
        ("what to do", found.remedy),
    ):
        typer.echo(f"\n{title}\n{textwrap.indent(textwrap.fill(text, 100), '  ')}")
    return 0
