"""The options for output that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

OUTPUT = "Output"
"""The panel that groups these options in the help."""


class OutputFormat(StrEnum):
    """The format of a check on standard output."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    """JUnit XML, as CI systems read it"""
    NDJSON = "ndjson"
    """one line of JSON for each image, run, comparison, layer and finding, and one for the verdict"""
    GITHUB = "github"
    """annotations of GitHub Actions, and the step summary"""


class PlainFormat(StrEnum):
    """The format of any other result on standard output."""

    TEXT = "text"
    JSON = "json"


Format = Annotated[
    OutputFormat,
    typer.Option("--format", rich_help_panel=OUTPUT, help="The format of the result on standard output."),
]
TextOrJson = Annotated[
    PlainFormat,
    typer.Option("--format", rich_help_panel=OUTPUT, help="The format of the result on standard output."),
]
Reports = Annotated[
    list[Path],
    typer.Option(
        "--report",
        metavar="FILE",
        rich_help_panel=OUTPUT,
        help="Also write the report to this file. The suffix selects the format: .json, .xml (JUnit), .html or .md. "
        "Repeatable.",
    ),
]
Mlflow = Annotated[
    bool,
    typer.Option("--mlflow", rich_help_panel=OUTPUT, help="Also log metrics, findings and the HTML report to MLflow."),
]
MlflowUri = Annotated[
    str,
    typer.Option(
        "--mlflow-uri",
        metavar="URI",
        rich_help_panel=OUTPUT,
        help="The MLflow tracking server or store. By default this is $MLFLOW_TRACKING_URI, or sqlite:///mlflow.db "
        "in the current folder.",
    ),
]
Experiment = Annotated[
    str,
    typer.Option(
        "--mlflow-experiment",
        metavar="NAME",
        rich_help_panel=OUTPUT,
        help="The MLflow experiment. By default this is $MLFLOW_EXPERIMENT_NAME, or bnexport.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="Show no progress on standard error.")
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache", rich_help_panel=OUTPUT, help="Compute everything again, and store nothing in the cache."
    ),
]
