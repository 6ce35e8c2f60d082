"""`bnexport explain`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bnexport.cli.guard import guarded


class ExplanationFormat(StrEnum):
    """How explanations are written."""

    TEXT = "text"
    MARKDOWN = "markdown"


@guarded
def command(
    code: Annotated[
        str | None, typer.Argument(metavar="[CODE]", help="A finding's code, such as BN001; without one, all of them.")
    ] = None,
    output_format: Annotated[
        ExplanationFormat,
        typer.Option("--format", help="markdown: one section for each code, with everything about it."),
    ] = ExplanationFormat.TEXT,
) -> int:
    """Say what a finding means, how it is measured, and what to do."""
    from bnexport.errors import UsageError
    from bnexport.reporting import catalogue
    from bnexport.rules.catalogue import CATALOGUE

    if code is None:
        render = catalogue.page if output_format == ExplanationFormat.MARKDOWN else catalogue.listing
        typer.echo(render(CATALOGUE.values()))
        return 0
    rule = CATALOGUE.get(code.upper())
    if rule is None:
        raise UsageError(f"there is no finding {code}", expected=", ".join(CATALOGUE))
    one = catalogue.section if output_format == ExplanationFormat.MARKDOWN else catalogue.explanation
    typer.echo(one(rule))
    return 0
