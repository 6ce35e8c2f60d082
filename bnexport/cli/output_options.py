"""The options for output that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.cli.progress import show_progress
from bnexport.results.options import OUTPUT, Flag, option, options_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from bnexport.progress import Progress


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


_FORMAT_HELP = "The format of the result on standard output."


PLAIN = Flag(name="format", kind=PlainFormat, default=PlainFormat.TEXT, panel=OUTPUT, help=_FORMAT_HELP)

VERBOSE = Flag(
    name="verbose",
    short="v",
    kind=bool,
    default=False,
    panel=OUTPUT,
    help="Show everything in the text on standard output. Without it, the text fits on one screen.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressOptions:
    """Whether a command shows its progress."""

    quiet: bool = option(
        Flag(
            name="quiet",
            short="q",
            kind=bool,
            default=False,
            panel=OUTPUT,
            help="Show no progress on standard error.",
        )
    )

    def show_progress(self) -> AbstractContextManager[Progress]:
        """The progress on standard error."""
        return show_progress(quiet=self.quiet)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOutput(ProgressOptions):
    """How much of a result is text on standard output, and whether there is progress."""

    verbose: bool = option(VERBOSE)

    def show_progress(self) -> AbstractContextManager[Progress]:
        """The progress on standard error; where everything is wanted, what each stage cost stays there."""
        return show_progress(quiet=self.quiet, verbose=self.verbose)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainOutput(ProgressOptions):
    """What a command writes: its result in a format, and its progress."""

    form: PlainFormat = option(PLAIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerboseOutput(TextOutput):
    """The same for a command whose text may be more than one screen."""

    form: PlainFormat = option(PLAIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutput(TextOutput):
    """What a check writes: its report in a format, in files, and its progress."""

    form: OutputFormat = option(
        Flag(name="format", kind=OutputFormat, default=OutputFormat.TEXT, panel=OUTPUT, help=_FORMAT_HELP)
    )
    reports: list[Path] = option(
        Flag(
            name="report",
            kind=list[Path],
            metavar="FILE",
            panel=OUTPUT,
            help="Also write the report to this file. The suffix selects the format: .json, .xml (JUnit), .html or .md. "
            "Repeatable.",
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingOptions:
    """Where a result is logged besides."""

    wanted: bool = option(
        Flag(
            name="mlflow",
            kind=bool,
            default=False,
            panel=OUTPUT,
            help="Also log metrics, findings and the HTML report to MLflow.",
        )
    )
    uri: str = option(
        Flag(
            name="mlflow-uri",
            default="",
            metavar="URI",
            panel=OUTPUT,
            help="The MLflow tracking server or store. By default this is $MLFLOW_TRACKING_URI, or sqlite:///mlflow.db "
            "in the current folder.",
        )
    )
    experiment: str = option(
        Flag(
            name="mlflow-experiment",
            default="",
            metavar="NAME",
            panel=OUTPUT,
            help="The MLflow experiment. By default this is $MLFLOW_EXPERIMENT_NAME, or bnexport.",
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedOutput(CheckOutput):
    """The same, and where it is logged."""

    tracking: TrackingOptions = options_of(TrackingOptions)
