"""`bnexport explain`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bnexport.cli.exit_codes import with_exit_code
from bnexport.results.options import OUTPUT


class ExplanationFormat(StrEnum):
    """The format of explanations on standard output."""

    TEXT = "text"
    MARKDOWN = "markdown"


@with_exit_code
def command(
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="[CODE]", help="The code of a finding, for example BN001. Without a code, all codes are listed."
        ),
    ] = None,
    output_format: Annotated[
        ExplanationFormat,
        typer.Option(
            "--format",
            rich_help_panel=OUTPUT,
            help="The format of the result on standard output. markdown is a section for each code.",
        ),
    ] = ExplanationFormat.TEXT,
) -> int:
    """Explain what a finding means and what to do about it."""
    from bnexport.errors import UsageError
    from bnexport.reporting import catalogue
    from bnexport.rules.catalogue import CATALOGUE
    from bnexport.system.suggestions import suggest

    if code is None:
        render = catalogue.page if output_format == ExplanationFormat.MARKDOWN else catalogue.listing
        typer.echo(render(CATALOGUE.values()))
        return 0
    rule = CATALOGUE.get(code.upper())
    if rule is None:
        question = suggest(code, CATALOGUE)
        expected = "" if question else ", ".join(CATALOGUE)
        raise UsageError(f"there is no finding {code}", expected=expected, fix=question)
    one = catalogue.section if output_format == ExplanationFormat.MARKDOWN else catalogue.explanation
    typer.echo(one(rule))
    return 0
